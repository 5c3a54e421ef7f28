"""Tokens of an OpenID Connect issuer: every way they can be wrong, and keys that come, go and cannot be had."""

from __future__ import annotations

import asyncio
import base64
import hmac
import json
import threading
import time
import tomllib
from collections.abc import Callable
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Any

import grpc
import jwt
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from jwt.algorithms import ECAlgorithm, RSAAlgorithm

from cluster.access import guard, oidc
from cluster.access.callers import CallerRole
from cluster.access.oidc import LEEWAY_S, IssuerKeys, OidcVerifier, fetch_url
from cluster.access.tenants import parse_tenants
from cluster.config import OidcSection
from longtake.client import Client, StreamOptions
from longtake.client.credentials import Credentials
from longtake.core.errors import NotAuthenticated, Unavailable
from tests.cluster.access.asking import ends, open_one, refusal
from tests.cluster.access.doors import House, guarded_cell

ISSUER = "https://issuer.example.org"
TENANTS = parse_tenants(tomllib.loads('[tenants.acme.oidc]\nrole = "viewer"\n[tenants.closed]\n'))
_RSA = rsa.generate_private_key(65537, 2048)
_RSA_2 = rsa.generate_private_key(65537, 2048)
_EC = ec.generate_private_key(ec.SECP256R1())


def public(key: rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey, key_id: str, **more: str) -> dict[str, Any]:
    if isinstance(key, rsa.RSAPrivateKey):
        found: dict[str, Any] = json.loads(RSAAlgorithm.to_jwk(key.public_key()))
    else:
        found = json.loads(ECAlgorithm.to_jwk(key.public_key()))
    return found | {"kid": key_id, "use": "sig"} | more


def claims(**changes: object) -> dict[str, object]:
    """A token's contents that hold; a change to None leaves a claim out."""
    now = int(time.time())
    good: dict[str, object] = {
        "iss": ISSUER, "aud": "longtake", "sub": "alice", "iat": now, "nbf": now, "exp": now + 600, "tenant": "acme",
    }  # fmt: skip
    return {name: value for name, value in (good | changes).items() if value is not None}


def signed(
    key: rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey | bytes = _RSA,
    key_id: str | None = "one",
    algorithm: str = "RS256",
    **changes: object,
) -> str:
    return jwt.encode(claims(**changes), key, algorithm, headers={"kid": key_id} if key_id else {})


@dataclass
class Issuer:
    """An issuer's web server, without the web."""

    keys: list[dict[str, Any]] = field(default_factory=lambda: [public(_RSA, "one"), public(_EC, "two")])
    fetched: list[str] = field(default_factory=list)
    broken: bool = False
    discovery: dict[str, object] = field(
        default_factory=lambda: {"issuer": ISSUER, "jwks_uri": "https://keys.example.org/set"}
    )
    threads: set[int] = field(default_factory=set)

    def __call__(self, url: str) -> bytes:
        self.fetched.append(url)
        self.threads.add(threading.get_ident())
        if self.broken:
            raise OSError("no route")
        document = self.discovery if url.endswith("/.well-known/openid-configuration") else {"keys": self.keys}
        return json.dumps(document).encode()


def verifier(
    issuer: Issuer | None = None, clock: Callable[[], float] = time.monotonic, section: OidcSection | None = None
) -> OidcVerifier:
    section = section or OidcSection(issuer=ISSUER)
    return OidcVerifier(section, IssuerKeys(section.issuer, section.jwks, fetch=issuer or Issuer(), clock=clock))


async def test_a_token_of_the_issuer_names_the_tenant_and_holds_as_long_as_it_says() -> None:
    exp = int(time.time()) + 77
    for token in (signed(exp=exp), signed(_EC, "two", "ES256", exp=exp), signed(aud=["x", "longtake"], exp=exp)):
        caller = await verifier().caller(token, TENANTS)
        assert (caller.tenant, caller.role, caller.credential) == ("acme", CallerRole.VIEWER, "oidc alice")
        assert caller.expires_s == exp
        assert TENANTS.holds(caller, exp - 1) and not TENANTS.holds(caller, exp)


def forged_by_public_key() -> str:
    """The classical confusion: HS256 with the issuer's public key, which everybody has, as the secret."""
    pem = _RSA.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    return by_hand({"alg": "HS256", "kid": "one"}, lambda text: hmac.new(pem, text, sha256).digest())


def by_hand(header: dict[str, object], sign: Callable[[bytes], bytes], **changes: object) -> str:
    def coded(part: bytes) -> bytes:
        return base64.urlsafe_b64encode(part).rstrip(b"=")

    text = b".".join(coded(json.dumps(part).encode()) for part in (header, claims(**changes)))
    return (text + b"." + coded(sign(text))).decode()


def tampered() -> str:
    """Another tenant written into a good token."""
    header, _, signature = signed().split(".")
    return f"{header}.{by_hand({}, lambda _: b'', tenant='umbrella').split('.')[1]}.{signature}"


PAST = int(time.time()) - LEEWAY_S - 5
WRONG: dict[str, Callable[[], str]] = {
    "expired": lambda: signed(exp=PAST),
    "not yet valid": lambda: signed(nbf=int(time.time()) + LEEWAY_S + 60),
    "another issuer": lambda: signed(iss="https://other.example.org"),
    "issuer with a slash": lambda: signed(iss=ISSUER + "/"),
    "another audience": lambda: signed(aud="other"),
    "no audience": lambda: signed(aud=None),
    "no expiry": lambda: signed(exp=None),
    "no issuer": lambda: signed(iss=None),
    "no subject": lambda: signed(sub=None),
    "no tenant": lambda: signed(tenant=None),
    "unknown tenant": lambda: signed(tenant="umbrella"),
    "a tenant that takes none": lambda: signed(tenant="closed"),
    "a list of tenants": lambda: signed(tenant=["acme"]),
    "signed by a stranger": lambda: signed(_RSA_2),
    "unknown key": lambda: signed(key_id="three"),
    "no key id": lambda: signed(key_id=None),
    "alg none": lambda: by_hand({"alg": "none", "kid": "one"}, lambda _: b""),
    "alg None": lambda: by_hand({"alg": "NoNe", "kid": "one"}, lambda _: b""),
    "HS256 by the public key": forged_by_public_key,
    "alg of another kind of key": lambda: by_hand({"alg": "ES256", "kid": "one"}, lambda _: b"\0" * 64),
    "tampered": tampered,
    "critical extension": lambda: jwt.encode(claims(), _RSA, "RS256", headers={"kid": "one", "crit": ["x"], "x": 1}),
    "not JSON": lambda: "e30.e30",
    "garbage": lambda: "a.b.c",
    "empty": lambda: "..",
    "exp as text": lambda: signed(exp="soon"),
}


@pytest.mark.parametrize("how", WRONG)
async def test_a_token_that_is_wrong_in_one_way_lets_nobody_in(how: str) -> None:
    token = WRONG[how]()
    with pytest.raises(NotAuthenticated) as refused:
        await verifier().caller(token, TENANTS)
    assert token not in str(refused.value)


async def test_a_symmetric_key_in_the_issuers_set_is_no_key() -> None:
    """Everybody can read the set, so everybody could sign with it."""
    secret = b"s" * 32
    issuer = Issuer()
    coded = base64.urlsafe_b64encode(secret).rstrip(b"=").decode()
    issuer.keys.append({"kty": "oct", "k": coded, "kid": "three", "alg": "HS256"})
    assert await IssuerKeys(ISSUER, "", fetch=issuer).find("three") is None
    with pytest.raises(NotAuthenticated):
        await verifier(issuer).caller(signed(secret, "three", "HS256"), TENANTS)
    issuer.keys.append(public(_RSA_2, "four", use="enc"))
    with pytest.raises(NotAuthenticated):
        await verifier(issuer).caller(signed(_RSA_2, "four"), TENANTS)


async def test_a_new_key_is_fetched_and_a_withdrawn_one_is_forgotten() -> None:
    now_s = [0.0]
    issuer = Issuer()
    verify = verifier(issuer, lambda: now_s[0])
    await verify.caller(signed(), TENANTS)
    issuer.keys = [public(_RSA_2, "new")]
    now_s[0] += oidc.RETRY_S
    await verify.caller(signed(_RSA_2, "new"), TENANTS)
    with pytest.raises(NotAuthenticated):
        await verify.caller(signed(), TENANTS)
    issuer.keys = []
    now_s[0] += oidc.KEEP_S + 1
    with pytest.raises(NotAuthenticated):
        await verify.caller(signed(_RSA_2, "new"), TENANTS)


async def test_made_up_key_ids_do_not_make_the_server_ask_the_issuer_each_time() -> None:
    issuer = Issuer()
    verify = verifier(issuer, lambda: 0.0)

    async def guess(number: int) -> None:
        with pytest.raises(NotAuthenticated):
            await verify.caller(signed(key_id=f"guess {number}"), TENANTS)

    await asyncio.gather(*(guess(number) for number in range(50)))
    assert len(issuer.fetched) == 2  # discovery and keys, once


async def test_keys_are_fetched_beside_the_event_loop() -> None:
    issuer = Issuer()
    await verifier(issuer).caller(signed(), TENANTS)
    assert issuer.threads and threading.get_ident() not in issuer.threads


async def test_an_issuer_that_cannot_be_reached_is_waited_for_and_old_keys_serve_for_a_while() -> None:
    now_s = [0.0]
    issuer = Issuer(broken=True)
    verify = verifier(issuer, lambda: now_s[0])
    with pytest.raises(Unavailable):
        await verify.caller(signed(), TENANTS)
    issuer.broken = False
    now_s[0] += oidc.RETRY_S
    await verify.caller(signed(), TENANTS)
    issuer.broken = True
    now_s[0] += oidc.STALE_S - 1
    await verify.caller(signed(), TENANTS)
    now_s[0] += oidc.RETRY_S
    with pytest.raises(Unavailable):
        await verify.caller(signed(), TENANTS)


@pytest.mark.parametrize(
    "discovery",
    [
        {"issuer": "https://other.example.org", "jwks_uri": "https://keys.example.org/set"},
        {"issuer": ISSUER, "jwks_uri": "http://keys.example.org/set"},
        {"issuer": ISSUER, "jwks_uri": "file:///etc/passwd"},
        {"issuer": ISSUER},
    ],
)
async def test_a_discovery_document_that_leads_elsewhere_is_not_followed(discovery: dict[str, object]) -> None:
    issuer = Issuer(discovery=discovery)
    with pytest.raises(Unavailable):
        await verifier(issuer).caller(signed(), TENANTS)
    assert issuer.fetched == [f"{ISSUER}/.well-known/openid-configuration"]


async def test_keys_may_come_from_a_file(tmp_path: Path) -> None:
    path = tmp_path / "jwks.json"
    path.write_text(json.dumps({"keys": [public(_RSA, "one")]}))
    issuer = Issuer()
    await verifier(issuer, section=OidcSection(issuer=ISSUER, jwks=str(path))).caller(signed(), TENANTS)
    assert issuer.fetched == []
    path.write_text("{")
    with pytest.raises(Unavailable):
        await verifier(issuer, section=OidcSection(issuer=ISSUER, jwks=str(path))).caller(signed(), TENANTS)


@pytest.mark.parametrize("url", ["http://localhost/keys", "file:///etc/passwd", "ftp://localhost/x"])
def test_keys_are_fetched_over_https_only(url: str) -> None:
    with pytest.raises(ValueError, match="no https URL"):
        fetch_url(url)


async def test_a_stream_by_an_issuers_token_ends_when_the_token_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(guard, "SWEEP_S", 0.05)
    house = House(tmp_path, more='[tenants.members.oidc]\nrole = "client"\n')
    now_s, ahead_s = time.time(), [0.0]
    token = signed(tenant="members", exp=int(now_s) + 600)
    async with (
        guarded_cell(house, oidc=verifier(), clock=lambda: now_s + ahead_s[0]) as guarded,
        Client(guarded.cell.target, credentials=Credentials(token=token)) as client,
        client.stream("red", StreamOptions(window=1)) as stream,
    ):
        await open_one(client, "")
        (session,) = await client.list_sessions()
        assert session.tenant == "members"
        ahead_s[0] = 601.0
        assert (await ends(stream)).code is grpc.StatusCode.UNAUTHENTICATED
        async with Client(guarded.cell.target, credentials=Credentials(token=WRONG["expired"]())) as late:
            assert (await refusal(open_one(late, ""))).code is grpc.StatusCode.UNAUTHENTICATED
    assert {line["credential"] for line in house.audited() if line.get("tenant") == "members"} == {"oidc alice"}
