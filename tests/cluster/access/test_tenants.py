"""The tenants file: what it may hold, what is told of a wrong one, and that nothing secret is told."""

from __future__ import annotations

import os
import tomllib
from pathlib import Path

import pytest

from cluster.access.callers import Caller, CallerRole, hash_of, new_token
from cluster.access.identity import Access
from cluster.access.tenants import TenantsFile, parse_tenants
from cluster.config import AuthSection
from longtake.cli.main import run
from longtake.core.errors import InvalidField, InvalidFields, NotAuthenticated
from longtake.core.quotas import Quota

TOKEN = new_token()
FILE = f"""
[tenants.acme]
[tenants.acme.quota]
streams = 4
prompts_per_minute = 30
device_seconds_per_day = 3600
bytes_per_day = 10_000_000_000
[[tenants.acme.tokens]]
id = "laptop"
hash = "{hash_of(TOKEN)}"
expires = 2030-01-01T00:00:00Z
[[tenants.acme.tokens]]
id = "boss"
role = "operator"
hash = "{hash_of("other")}"
[[tenants.acme.certificates]]
id = "pod"
name = "URI:spiffe://cluster.local/ns/acme/sa/player"
role = "viewer"
[tenants.umbrella.oidc]
role = "viewer"
"""


def test_a_file_with_everything() -> None:
    tenants = parse_tenants(tomllib.loads(FILE))
    laptop = tenants.of_token(TOKEN)
    assert laptop == Caller(
        tenant="acme", role=CallerRole.CLIENT, credential="token laptop", key=hash_of(TOKEN), expires_s=1893456000.0
    )
    assert tenants.of_token(TOKEN + "x") is None and tenants.of_token(hash_of(TOKEN)) is None
    pod = tenants.find("URI:spiffe://cluster.local/ns/acme/sa/player")
    assert pod is not None and (pod.role, pod.credential) == (CallerRole.VIEWER, "certificate pod")
    umbrella = tenants.find("oidc:umbrella")
    assert umbrella is not None and umbrella.role is CallerRole.VIEWER
    assert tenants.find("oidc:acme") is None
    assert tenants.quotas == {
        "acme": Quota(streams=4, prompts_per_minute=30, device_seconds_per_day=3600.0, bytes_per_day=10**10),
        "umbrella": Quota(),
    }


def test_no_token_passes_for_a_certificate_or_a_tenant() -> None:
    """All stand in one table, so what a caller sends must not reach it as it is."""
    tenants = parse_tenants(tomllib.loads(FILE))
    for key in ("URI:spiffe://cluster.local/ns/acme/sa/player", "oidc:umbrella", hash_of(TOKEN)):
        assert tenants.find(key) is not None and tenants.of_token(key) is None


@pytest.mark.parametrize(
    ("line", "field"),
    [
        ("[tenants.acme]\nquta = 1", "tenants.acme.quta"),
        ("[tenants.ACME]", "tenants.ACME"),
        ('[[tenants.acme.tokens]]\nid = "a"\nhash = "lt_secret"', "tenants.acme.tokens.0.hash"),
        ('[[tenants.acme.tokens]]\nid = "a"\nhash = "sha256:secret"', "tenants.acme.tokens.0.hash"),
        ('[[tenants.acme.tokens]]\nid = "a"\ntoken = "lt_secret"', "tenants.acme.tokens.0"),
        ('[[tenants.acme.tokens]]\nid = "a"\nrole = "secret"\nhash = "sha256:' + 64 * "0" + '"', "tokens.0.role"),
        ('[[tenants.acme.tokens]]\nid = "a"\nexpires = 2030-01-01\nhash = "sha256:' + 64 * "0" + '"', "0.expires"),
        ('[[tenants.acme.tokens]]\nid = "a"\nexpires = 2030-01-01T00:00:00\nhash = "sha256:' + 64 * "0" + '"', "0.exp"),
        ('[[tenants.acme.certificates]]\nid = "a"\nname = "secret.example.org"', "tenants.acme.certificates.0.name"),
        ("[tenants.acme.quota]\nstreams = -1", "tenants.acme.quota.streams"),
        ("[tenants.acme.quota]\nstreams = true", "tenants.acme.quota.streams"),
        ("[tenants.acme.quota]\nprompts_per_minute = 0", "tenants.acme.quota.prompts_per_minute"),
        ("[tenants.acme.quota]\ndevice_seconds_per_day = nan", "tenants.acme.quota.device_seconds_per_day"),
        ("", "tenants"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_named_and_not_repeated(line: str, field: str) -> None:
    with pytest.raises((InvalidField, InvalidFields)) as wrong:
        parse_tenants(tomllib.loads(line))
    assert f"{field}" in str(wrong.value)
    assert "secret" not in str(wrong.value)


@pytest.mark.parametrize(
    ("line", "keys"),
    [
        ("x = 1\n[tenants.acme]", "tenants"),
        ("[tenants.acme]\nx = 1", "tokens, certificates, oidc, quota"),
        ('[[tenants.acme.tokens]]\nid = "a"\nx = 1\nhash = "sha256:' + 64 * "0" + '"', "id, hash, role, expires"),
        ("[tenants.acme.oidc]\nx = 1", "role"),
    ],
)
def test_of_an_unknown_key_it_is_told_which_there_are(line: str, keys: str) -> None:
    with pytest.raises(InvalidField, match=f"one of the keys {keys}$"):
        parse_tenants(tomllib.loads(line))


def test_two_tenants_cannot_have_one_token() -> None:
    entry = f'id = "a"\nhash = "{hash_of(TOKEN)}"\n'
    with pytest.raises(InvalidField, match=r"tenants\.umbrella\.tokens\.0\.hash: .*nobody else has"):
        parse_tenants(tomllib.loads(f"[[tenants.acme.tokens]]\n{entry}[[tenants.umbrella.tokens]]\n{entry}"))


def test_the_file_is_read_again_when_it_changes_also_behind_a_link(tmp_path: Path) -> None:
    old, new, link = tmp_path / "old", tmp_path / "new", tmp_path / "link"
    old.write_text(FILE)
    new.write_text(FILE.replace("boss", "chef"))
    os.utime(new, ns=(old.stat().st_atime_ns, old.stat().st_mtime_ns))
    link.symlink_to(old)
    file = TenantsFile(link)
    assert not file.refresh()
    link.unlink()
    link.symlink_to(new)
    assert file.refresh() and not file.refresh()
    chef = file.tenants.of_token("other")
    assert chef is not None and chef.credential == "token chef"
    link.unlink()
    assert not file.refresh() and file.tenants.of_token("other") == chef


@pytest.mark.parametrize(
    ("text", "what"), [(None, "a readable file"), ("[", "a TOML file"), ("[tenants.A]", "tenants.A")]
)
def test_a_server_does_not_start_with_a_wrong_file(tmp_path: Path, text: str | None, what: str) -> None:
    path = tmp_path / "tenants.toml"
    if text is not None:
        path.write_text(text)
    with pytest.raises(InvalidField, match=r"tenants\.toml") as wrong:
        Access.of(AuthSection(tenants=str(path)))
    assert what in str(wrong.value)


async def test_a_token_of_an_issuer_is_refused_where_none_is_trusted(tmp_path: Path) -> None:
    (tmp_path / "tenants.toml").write_text(FILE)
    access = Access.of(AuthSection(tenants=str(tmp_path / "tenants.toml")))
    with pytest.raises(NotAuthenticated, match="none is trusted here"):
        await access.identify((("authorization", "Bearer a.b.c"),), {})


def test_longtake_token_makes_a_token_and_the_lines_that_fit(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["token", "--tenant", "acme", "--id", "laptop", "--role", "viewer", "--days", "30"]) == 0
    made = capsys.readouterr()
    token = made.out.strip()
    assert token not in made.err
    caller = parse_tenants(tomllib.loads(made.err)).of_token(token)
    assert caller is not None and caller.expires_s is not None
    assert (caller.tenant, caller.role, caller.credential) == ("acme", CallerRole.VIEWER, "token laptop")
    assert run(["token"]) == 0
    assert capsys.readouterr().out.strip() != token


def test_tokens_have_256_random_bits() -> None:
    tokens = {new_token() for _ in range(1000)}
    assert len(tokens) == 1000
    assert {len(token) for token in tokens} == {len("lt_") + 43}  # 43 characters of 6 bits hold 256
