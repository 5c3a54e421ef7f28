"""Addresses are read and written in one way: with brackets where there must be some, and nothing before them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from longtake.net.addresses import LAST_PORT, Address, WrongAddress, is_host, parse_address, parse_host

PORTS = st.integers(0, LAST_PORT)
HOSTS = st.one_of(
    st.ip_addresses(v=4).map(str),
    st.ip_addresses(v=6).map(str),
    st.from_regex(r"[a-z][a-z0-9-]{0,20}(\.[a-z0-9-]{1,20})?", fullmatch=True),
)


@given(host=HOSTS, port=PORTS)
def test_what_is_written_is_read_again(host: str, port: int) -> None:
    address = Address(host=host, port=port)
    assert parse_address(str(address)) == address
    assert parse_address(str(address), host="other", port=1) == address
    assert str(address).startswith("[") is (":" in host)


@pytest.mark.parametrize(
    ("text", "host", "port"),
    [
        ("127.0.0.1", "127.0.0.1", 7),
        ("[::1]", "::1", 7),
        ("[::1]:51000", "::1", 51000),
        ("server.example", "server.example", 7),
        ("server.example:1", "server.example", 1),
        (":1", "here", 1),
    ],
)
def test_what_is_left_out_is_what_was_said_before(text: str, host: str, port: int) -> None:
    assert parse_address(text, host="here", port=7) == Address(host=host, port=port)


@pytest.mark.parametrize(
    "text",
    [
        "http://127.0.0.1:51000", "127.0.0.1:99999", "127.0.0.1:", "127.0.0.1:-1", "127.0.0.1:٣", "::1:51000", "::1",
        "[::1", "[::1]51000", "[127.0.0.1]:1", "[]:1", "a b:1", "a/b:1", "a@b:1", "a%20:1", "ü:1", "a\n:1", "[::1]:1:2",
    ],
)  # fmt: skip
def test_what_is_none_is_refused_with_what_is_allowed(text: str) -> None:
    with pytest.raises(WrongAddress, match=r"^.* is not allowed; allowed: HOST:PORT"):
        parse_address(text, host="here", port=7)


@pytest.mark.parametrize("text", ["", "127.0.0.1", ":1", "[::1]"])
def test_both_must_be_there_where_nothing_stands_for_them(text: str) -> None:
    with pytest.raises(WrongAddress, match="allowed: HOST:PORT, with"):
        parse_address(text)


def test_a_scheme_is_named_as_what_is_wrong() -> None:
    with pytest.raises(WrongAddress, match="nothing like http:// before it"):
        parse_address("https://longtake.example:443", port=50051)


@pytest.mark.parametrize(("text", "host"), [("::1", "::1"), ("[::1]", "::1"), ("0.0.0.0", "0.0.0.0"), ("a.b", "a.b")])
def test_a_host_may_have_its_brackets(text: str, host: str) -> None:
    assert parse_host(text) == host


@pytest.mark.parametrize("text", ["", "a:1", "[a]", "::g", "a b", "[::1]:1"])
def test_a_host_is_no_address(text: str) -> None:
    assert not is_host(text)
    with pytest.raises(WrongAddress, match="without a port"):
        parse_host(text)
