"""Bearer tokens of an OpenID Connect issuer, checked against the public keys that it tells."""

from __future__ import annotations

import asyncio
import json
import logging
import time
import urllib.request
from collections.abc import Callable
from dataclasses import replace
from http.client import HTTPException
from pathlib import Path
from typing import NoReturn

import jwt

from cluster.access.callers import Caller
from cluster.access.tenants import Tenants, oidc_key
from cluster.config import OidcSection
from longtake.core.errors import InvalidField, NotAuthenticated, Unavailable

_log = logging.getLogger("longtake.oidc")

KEEP_S = 300.0
"""Keys are fetched again after this time; a key that the issuer has withdrawn works no longer than that."""
STALE_S = 3600.0
"""Keys may still be used for this long if the issuer cannot be reached."""
RETRY_S = 10.0
"""At least this much time lies between two fetches, whatever tokens strangers make up."""
TIMEOUT_S = 5.0
MAX_BYTES = 1 << 20
KINDS = ("RSA", "EC", "OKP")
"""Key types whose verification key is public. A symmetric one in a key set would be a secret that everybody has."""

Fetch = Callable[[str], bytes]


class IssuerKeys:
    """The keys of one issuer, by their ids."""

    def __init__(
        self,
        issuer: str,
        jwks: str,
        *,
        fetch: Fetch | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`jwks` is a file or an https URL; if it is empty, the issuer's discovery document names the URL."""
        self._issuer = issuer
        self._jwks = jwks
        self._fetch = fetch or fetch_url
        self._clock = clock
        self._keys: dict[str, jwt.PyJWK] = {}
        self._fetched_at_s: float | None = None
        self._tried_at_s: float | None = None
        self._fetching = asyncio.Lock()

    async def find(self, key_id: str) -> jwt.PyJWK | None:
        """The key of that id; None if the issuer has no such key, Unavailable if the issuer cannot be asked."""
        if self._needs_fetch(key_id):
            async with self._fetching:
                if self._needs_fetch(key_id):
                    await self._refresh()
        if self._age_s() > STALE_S:
            raise Unavailable(f"the keys of {self._issuer} cannot be had")
        return self._keys.get(key_id)

    def _needs_fetch(self, key_id: str) -> bool:
        now_s = self._clock()
        if self._tried_at_s is not None and now_s - self._tried_at_s < RETRY_S:
            return False
        return key_id not in self._keys or self._age_s() > KEEP_S

    def _age_s(self) -> float:
        return float("inf") if self._fetched_at_s is None else self._clock() - self._fetched_at_s

    async def _refresh(self) -> None:
        try:
            self._keys = await asyncio.to_thread(self._load)
        except (OSError, HTTPException, ValueError, InvalidField) as error:
            _log.warning("the keys of %s cannot be had: %s", self._issuer, error)
        else:
            self._fetched_at_s = self._clock()
        # Only now: whoever comes meanwhile waits for the answer, too.
        self._tried_at_s = self._clock()

    def _load(self) -> dict[str, jwt.PyJWK]:
        place = self._jwks
        if not place:
            discovered = _object(self._fetch(self._issuer.rstrip("/") + "/.well-known/openid-configuration"))
            if discovered.get("issuer") != self._issuer:
                raise ValueError(f"its discovery document is that of {discovered.get('issuer')!r}")
            place = str(discovered.get("jwks_uri", ""))
            if not place.startswith("https://"):
                raise ValueError(f"jwks_uri: {place!r} is no https URL")
        text = self._fetch(place) if "://" in place else Path(place).read_bytes()
        return _keys(_object(text))


def _object(text: bytes) -> dict[str, object]:
    found = json.loads(text)
    if not isinstance(found, dict):
        raise ValueError("not a JSON object")
    return found


def _keys(document: dict[str, object]) -> dict[str, jwt.PyJWK]:
    listed = document.get("keys")
    if not isinstance(listed, list):
        raise ValueError("keys: not a list")
    keys: dict[str, jwt.PyJWK] = {}
    for item in listed:
        if not isinstance(item, dict) or item.get("kty") not in KINDS or item.get("use", "sig") != "sig":
            continue
        try:
            key = jwt.PyJWK.from_dict(item)
        except jwt.PyJWTError as error:
            _log.warning("a key of the issuer is of no use: %s", error)
            continue
        if key.key_id is not None:
            keys[key.key_id] = key
    return keys


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """A redirect could lead anywhere, inside our own network for instance."""

    def redirect_request(self, req: urllib.request.Request, *_answer: object) -> NoReturn:
        """Follow no redirect."""
        raise OSError(f"{req.full_url} redirects to another place")


def fetch_url(url: str) -> bytes:
    """What is at an https URL, up to MAX_BYTES; OSError or ValueError if it cannot be had. Waits."""
    if not url.startswith("https://"):
        raise ValueError(f"{url!r} is no https URL")
    with urllib.request.build_opener(_NoRedirect).open(url, timeout=TIMEOUT_S) as answer:
        text = answer.read(MAX_BYTES + 1)
    if len(text) > MAX_BYTES:
        raise ValueError(f"{url} is larger than {MAX_BYTES} bytes")
    return bytes(text)


ALGORITHMS = ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA")
"""Signatures by a private key. `none` and the HS family are never allowed: there a public key would be the secret."""
LEEWAY_S = 30
"""How far the issuer's clock may be from ours."""
_SUBJECT_LENGTH = 80


class OidcVerifier:
    """Tells who the bearer of a token of the issuer is."""

    def __init__(self, section: OidcSection, keys: IssuerKeys) -> None:
        self._section = section
        self._keys = keys

    async def caller(self, token: str, tenants: Tenants) -> Caller:
        """The caller who shows this token.

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
