"""What a client shows a server: never a token in the clear to another machine, and files that are named when wrong."""

from __future__ import annotations

from pathlib import Path

import pytest

from longtake.client import Client
from longtake.client.credentials import Credentials, place_of
from longtake.client.sync import SyncClient
from tests.cluster.frontend.toy import toy_cell

HERE = ("127.0.0.1:1", "127.9.9.9:1", "localhost:1", "[::1]:1", "ipv4:127.0.0.1:1", "ipv6:[::1]:1", "dns:///localhost:1",
        "unix:/run/x.sock", "unix:///run/x.sock", "dns:localhost:1", "ipv6:%5B::1%5D:1")  # fmt: skip
ELSEWHERE = ("10.0.0.1:1", "example.org:1", "localhost.example.org:1", "dns://127.0.0.1/example.org:1", "0.0.0.0:1",
             "[2001:db8::1]:1", "ipv4:10.0.0.1:1", "xds:///127.0.0.1:1", "127.0.0.1.example.org:1",
             "ipv4:127.0.0.1:1,10.0.0.1:1")  # fmt: skip


@pytest.mark.parametrize("target", HERE)
async def test_a_token_may_go_unencrypted_to_this_machine(target: str) -> None:
    assert place_of(target).is_local
    async with Client(target, credentials=Credentials(token="secret")):
        pass


@pytest.mark.parametrize("target", ELSEWHERE)
async def test_a_token_never_goes_unencrypted_to_another_machine(target: str) -> None:
    assert not place_of(target).is_local
    with pytest.raises(ValueError, match="another machine") as refused:
        Client(target, credentials=Credentials(token="secret"))
    assert "secret" not in str(refused.value)
    async with Client("example.org:1", credentials=Credentials(token="secret", tls=True)):
        pass


def test_a_token_is_not_shown_by_the_credentials_that_hold_it() -> None:
    assert "secret" not in repr(Credentials(token="secret"))
    assert Credentials(token="secret").metadata() == (("authorization", "Bearer secret"),)
    assert Credentials().metadata() == ()


@pytest.mark.parametrize("token", ["two words", "line\nbreak", "ümlaut", "nul\0"])
def test_a_token_that_no_header_can_hold_is_refused_without_being_shown(token: str) -> None:
    with pytest.raises(ValueError, match="token") as refused:
        SyncClient("localhost:1", credentials=Credentials(token=token))
    assert token not in str(refused.value)


def test_files_that_are_not_there_and_halves_of_a_pair_are_named(tmp_path: Path) -> None:
    missing = tmp_path / "ca.pem"
    with pytest.raises(FileNotFoundError, match=r"ca\.pem"):
        SyncClient("localhost:1", credentials=Credentials(ca=missing))
    with pytest.raises(ValueError, match="certificate is given and key is not"):
        SyncClient("localhost:1", credentials=Credentials(certificate=missing))
    with pytest.raises(ValueError, match="key is given and certificate is not"):
        SyncClient("localhost:1", credentials=Credentials(key=missing))


@pytest.mark.parametrize(
    ("target", "dialled"),
    [
        ("127.0.0.1", "127.0.0.1:50051"),
        ("[::1]", "[::1]:50051"),
        ("server.example:7", "server.example:7"),
        ("dns:///server.example:7", "dns:///server.example:7"),
        ("unix:/run/a%20b.sock", "unix:/run/a%20b.sock"),
    ],
)
def test_the_default_port_is_dialled_where_none_is_named(target: str, dialled: str) -> None:
    assert place_of(target).target == dialled


@pytest.mark.parametrize("target", ["http://127.0.0.1:51000", "127.0.0.1:99999", "", "::1:51000", "127.0.0.1:0"])
def test_what_is_no_address_is_said_before_anything_is_dialled(target: str) -> None:
    with pytest.raises(ValueError, match=r"^server: .* is not allowed; allowed: "):
        Client(target)


async def test_a_proxy_of_the_environment_is_not_asked_for_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "grpc_proxy", "https_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")  # nobody is there
    for name in ("no_proxy", "NO_PROXY", "no_grpc_proxy"):
        monkeypatch.delenv(name, raising=False)
    async with toy_cell() as cell, Client(cell.target) as client:
        assert (await client.get_model()).name
