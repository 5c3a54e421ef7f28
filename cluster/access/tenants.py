"""The tenants file: who has which credentials, what they may do and how much; read again when it changes."""

from __future__ import annotations

import hmac
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, AwareDatetime, Field
from pydantic_core import PydanticCustomError

from cluster.access.callers import Caller, CallerRole, hash_of
from cluster.net.files import Watched
from cluster.toml_files import NOT_SHOWN, Section, checked
from longtake.core.errors import InvalidField, InvalidFields, LongtakeError
from longtake.core.quotas import Quota
from longtake.net.names import ALLOWED, is_name
from longtake.recipes.toml_reading import read_toml

_log = logging.getLogger("longtake.tenants")


def _name(text: str) -> str:
    """A name of a tenant, or of a credential."""
    if not is_name(text):
        raise PydanticCustomError("name", "{allowed}", {"allowed": ALLOWED})
    return text


Name = Annotated[str, AfterValidator(_name)]
Amount = Annotated[int, Field(ge=0, le=1 << 53)]
Seconds = Annotated[float, Field(ge=0, allow_inf_nan=False, strict=False)]


class _Token(Section):
    """A token, known by its hash; `longtake token` makes both."""

    id: Name
    hash: Annotated[str, Field(pattern=r"^sha256:[0-9a-f]{64}$")]
    role: Annotated[CallerRole, Field(strict=False)] = CallerRole.CLIENT
    expires: AwareDatetime | None = None


class _Certificate(Section):
    """A client certificate, known by a name in it."""

    id: Name
    name: Annotated[str, Field(pattern=r"^((URI|DNS):\S{1,500}|CN:[^\x00-\x1f]{1,200})$")]
    role: Annotated[CallerRole, Field(strict=False)] = CallerRole.CLIENT


class _Oidc(Section):
    """What callers may do whose token from the issuer names this tenant."""

    role: Annotated[CallerRole, Field(strict=False)] = CallerRole.CLIENT


class _Quota(Section):
    """The fields of longtake.core.quotas.Quota; a number that is left out sets no limit."""

    streams: Amount | None = None
    prompts_per_minute: Annotated[int, Field(ge=1, le=1_000_000)] | None = None
    device_seconds_per_day: Seconds | None = None
    bytes_per_day: Amount | None = None


class _Tenant(Section):
    tokens: Annotated[tuple[_Token, ...], Field(strict=False)] = ()
    certificates: Annotated[tuple[_Certificate, ...], Field(strict=False)] = ()
    oidc: _Oidc | None = None
    quota: _Quota = _Quota()


class _File(Section):
    tenants: dict[Name, _Tenant]


class Tenants:
    """Everybody whose credentials are valid, by credential."""

    def __init__(self, callers: Mapping[str, Caller], quotas: Mapping[str, Quota]) -> None:
        self._callers = callers
        self.quotas = quotas
        """The quota of each tenant."""

    def find(self, key: str) -> Caller | None:
        """The caller with the credential `key`, if there is one; the credential may have expired."""
        return self._callers.get(key)

    def of_token(self, token: str) -> Caller | None:
        """The caller who has the token.

        It is looked up by its hash, of which a stranger knows nothing, so the time of that tells nothing either; the
        comparison at the end takes the same time whatever differs.
        """
        key = hash_of(token)
        found = self._callers.get(key)
        return found if found is not None and hmac.compare_digest(found.key, key) else None

    def holds(self, caller: Caller, now_s: float) -> bool:
        """Whether what this caller showed still gives the same rights."""
        found = self._callers.get(caller.key)
        if found is None or (found.tenant, found.role) != (caller.tenant, caller.role):
            return False
        return all(end is None or now_s < end for end in (found.expires_s, caller.expires_s))


def parse_tenants(document: Mapping[str, object]) -> Tenants:
    """The tenants in `document` (a parsed TOML file); InvalidField or InvalidFields name the keys that are wrong."""
    file = checked(_File, document, shows_values=False)  # a value may be a secret in the wrong place
    callers: dict[str, Caller] = {}
    for name, tenant in file.tenants.items():
        for where, caller in _callers_of(name, tenant):
            if caller.key in callers:
                raise InvalidField(f"tenants.{name}.{where}", NOT_SHOWN, "credentials that nobody else has")
            callers[caller.key] = caller
    quotas = {name: Quota(**tenant.quota.model_dump()) for name, tenant in file.tenants.items()}
    return Tenants(callers, quotas)


def _callers_of(name: str, tenant: _Tenant) -> list[tuple[str, Caller]]:
    """The credentials of a tenant, each with its place in the file."""
    found = []
    for number, token in enumerate(tenant.tokens):
        expires_s = None if token.expires is None else token.expires.timestamp()
        caller = Caller(
            tenant=name, role=token.role, credential=f"token {token.id}", key=token.hash, expires_s=expires_s
        )
        found.append((f"tokens.{number}.hash", caller))
    for number, certificate in enumerate(tenant.certificates):
        credential = f"certificate {certificate.id}"
        caller = Caller(tenant=name, role=certificate.role, credential=credential, key=certificate.name)
        found.append((f"certificates.{number}.name", caller))
    if tenant.oidc is not None:
        found.append(("oidc", Caller(tenant=name, role=tenant.oidc.role, credential="oidc", key=oidc_key(name))))
    return found


def oidc_key(tenant: str) -> str:
    """The key of a tenant's members by OpenID Connect; no hash and no name in a certificate looks like it."""
    return f"oidc:{tenant}"


class TenantsFile:
    """The file as it was when it was last right."""

    def __init__(self, path: Path) -> None:
        """Read it; InvalidField names the file, or the key in it, that is wrong."""
        self._path = path
        self._file = Watched((path,))
        self.tenants = _load(path)

    def refresh(self) -> bool:
        """Read the file again if it has changed; returns whether anything is new. A wrong file changes nothing."""
        if not self._file.changed():
            return False
        try:
            self.tenants = _load(self._path)
        except LongtakeError as error:
            _log.error("the tenants stay as they are: %s", error)
            return False
        _log.info("%s was read again: %d tenants", self._path, len(self.tenants.quotas))
        return True


def _load(path: Path) -> Tenants:
    document = read_toml(path, field="auth.tenants")
    try:
        return parse_tenants(document)
    except InvalidField as error:
        raise _in_file(path, error) from None
    except InvalidFields as error:
        raise InvalidFields([_in_file(path, each) for each in error.errors]) from None


def _in_file(path: Path, error: InvalidField) -> InvalidField:
    return InvalidField(f"{path}: {error.field}", error.value, error.allowed)
