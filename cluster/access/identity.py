"""Who somebody is by what they show: a bearer token, or the certificate of their connection."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from pathlib import Path

from cryptography import x509
from cryptography.x509.oid import NameOID

from cluster.access.callers import DEFAULT_TENANT, EVERYBODY, Caller
from cluster.access.oidc import IssuerKeys, OidcVerifier
from cluster.access.tenants import TenantsFile
from cluster.config import AuthSection
from longtake.core.errors import NotAuthenticated
from longtake.core.quotas import Quota

_SCHEME = "bearer "
_PEM = "x509_pem_cert"

Shown = Mapping[str, Iterable[bytes]]
"""What gRPC knows of a connection; with mTLS this includes the client's certificate."""


class Access:
    """Tells who calls, and whether what they once showed still holds. Without a tenants file nobody is asked."""

    def __init__(
        self,
        tenants: TenantsFile | None = None,
        oidc: OidcVerifier | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """`clock` tells seconds since 1970."""
        self._tenants = tenants
        self._oidc = oidc
        self._clock = clock

    @classmethod
    def of(cls, section: AuthSection) -> Access:
        """The access rules as configured; InvalidField names what is wrong with the tenants file."""
        if not section.tenants:
            return cls()
        oidc = section.oidc
        verifier = OidcVerifier(oidc, IssuerKeys(oidc.issuer, oidc.jwks)) if oidc.issuer else None
        return cls(TenantsFile(Path(section.tenants)), verifier)

    def now_s(self) -> float:
        """Seconds since 1970."""
        return self._clock()

    async def identify(self, metadata: Iterable[tuple[str, str | bytes]], shown: Shown) -> Caller:
        """The caller. A token comes before a certificate.

        Raises NotAuthenticated for whoever shows nothing that holds, Unavailable if the token's issuer cannot be asked.
        """
        if self._tenants is None:
            return EVERYBODY
        tokens = [value for key, value in metadata if key == "authorization"]
        if len(tokens) > 1:
            raise NotAuthenticated("token", "authorization: given more than once")
        if tokens:
            return await self._by_token(tokens[0])
        pem = b"".join(shown.get(_PEM, ()))
        if pem:
            return self._by_certificate(pem)
        raise NotAuthenticated("missing", "authorization: no token is shown; allowed: Bearer and a token")

    def holds(self, caller: Caller) -> bool:
        """Whether what the caller showed when the call began would still give the same rights."""
        return self._tenants is None or self._tenants.tenants.holds(caller, self._clock())

    def quota(self, tenant: str) -> Quota:
        """What a tenant may have."""
        return Quota() if self._tenants is None else self._tenants.tenants.quotas.get(tenant, Quota())

    def knows(self, tenant: str) -> bool:
        """Whether there is a tenant of this name."""
        return tenant == DEFAULT_TENANT if self._tenants is None else tenant in self._tenants.tenants.quotas

    def refresh(self) -> frozenset[str] | None:
        """Read the tenants file again if it has changed; returns the tenants there are now, None if unchanged."""
        if self._tenants is None or not self._tenants.refresh():
            return None
        return frozenset(self._tenants.tenants.quotas) | {DEFAULT_TENANT}

    async def _by_token(self, value: str | bytes) -> Caller:
        assert self._tenants is not None
        if isinstance(value, bytes) or not value.lower().startswith(_SCHEME):
            raise NotAuthenticated("token", "authorization: not understood; allowed: Bearer and a token")
        token = value[len(_SCHEME) :].strip()
        if token.count(".") == 2:
            if self._oidc is None:
                raise NotAuthenticated("token", "the token is that of an issuer, and none is trusted here")
            return await self._oidc.caller(token, self._tenants.tenants)
        caller = self._tenants.tenants.of_token(token)
        if caller is None:
            raise NotAuthenticated("token", "the token is not known here")
        return self._unexpired(caller, "token")

    def _by_certificate(self, pem: bytes) -> Caller:
        assert self._tenants is not None
        try:
            certificate = x509.load_pem_x509_certificate(pem)
            names = _names(certificate)
        except (ValueError, x509.DuplicateExtension):
            raise NotAuthenticated("certificate", "the certificate cannot be read") from None
        found = [caller for name in names if (caller := self._tenants.tenants.find(name)) is not None]
        if not found:
            raise NotAuthenticated("certificate", "no name in the certificate is known here")
        caller = replace(found[0], expires_s=certificate.not_valid_after_utc.timestamp())
        return self._unexpired(caller, "certificate")

    def _unexpired(self, caller: Caller, what: str) -> Caller:
        if caller.expires_s is not None and self._clock() >= caller.expires_s:
            raise NotAuthenticated("expired", f"the {what} has expired")
        return caller


def _names(certificate: x509.Certificate) -> list[str]:
    """The names in a certificate as the tenants file writes them, the strongest first.

    The common name counts only in certificates without any other name, as everywhere since RFC 6125.
    """
    try:
        others = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        common = certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
        return [f"CN:{name.value}" for name in common if isinstance(name.value, str)]
    uris = others.get_values_for_type(x509.UniformResourceIdentifier)
    hosts = others.get_values_for_type(x509.DNSName)
    return [f"URI:{name}" for name in uris] + [f"DNS:{name}" for name in hosts]
