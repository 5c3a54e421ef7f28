"""Bearer tokens of an OpenID Connect issuer: signature, issuer, audience and times, then whose member it names."""

from __future__ import annotations

from dataclasses import replace

import jwt

from cluster.callers import Caller
from cluster.config import OidcSection
from cluster.jwks import Keys
from cluster.tenants import Tenants, oidc_key
from longtake.core.errors import NotAuthenticated

ALGORITHMS = ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA")
"""Signatures by a private key. Never `none`, never HS…, for which a public key would be the secret."""
LEEWAY_S = 30
"""How far the issuer's clock may be from ours."""
_SUBJECT_LENGTH = 80


class OidcVerifier:
    """Tells who somebody with a token of the issuer is."""

    def __init__(self, section: OidcSection, keys: Keys) -> None:
        self._section = section
        self._keys = keys

    async def caller(self, token: str, tenants: Tenants) -> Caller:
        """Who shows this token.

        Raises NotAuthenticated if it does not hold, Unavailable if the issuer's keys cannot be had.
        """
        claims = await self._claims(token)
        tenant = claims.get(self._section.tenant_claim)
        found = tenants.find(oidc_key(tenant)) if isinstance(tenant, str) else None
        if found is None:
            reason = f"the token's claim {self._section.tenant_claim!r} names no tenant that takes such tokens"
            raise NotAuthenticated("tenant", reason)
        subject = "".join(letter for letter in str(claims["sub"])[:_SUBJECT_LENGTH] if letter.isprintable())
        # The leeway is for the moment of checking; a stream ends at what the token says.
        return replace(found, credential=f"oidc {subject}", expires_s=float(claims["exp"]))

    async def _claims(self, token: str) -> dict[str, str | float]:
        try:
            header = jwt.get_unverified_header(token)
            if header.get("alg") not in ALGORITHMS or not isinstance(header.get("kid"), str):
                raise NotAuthenticated("token", "the token is not signed by a key that the issuer has told")
            key = await self._keys.find(header["kid"])
            if key is None:
                raise NotAuthenticated("token", "the token is signed by a key that the issuer has not told")
            claims: dict[str, str | float] = jwt.decode(
                token,
                key,
                algorithms=list(ALGORITHMS),
                issuer=self._section.issuer,
                audience=self._section.audience,
                leeway=LEEWAY_S,
                options={"require": ["exp", "iss", "aud", "sub"]},
            )
        except jwt.ExpiredSignatureError:
            raise NotAuthenticated("expired", "the token has expired") from None
        except jwt.InvalidIssuerError:
            raise NotAuthenticated("issuer", "the token is that of another issuer") from None
        except jwt.InvalidAudienceError:
            raise NotAuthenticated("audience", "the token is for another audience") from None
        except jwt.PyJWTError:
            # What PyJWT says may quote the token.
            raise NotAuthenticated("token", "the token is malformed, or its signature is not the issuer's") from None
        return claims
