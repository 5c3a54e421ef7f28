"""Addresses: the one place where HOST:PORT is read and written, for whoever listens and whoever connects."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass

DEFAULT_PORT = 50051
"""Of the service for clients."""
LAST_PORT = 65535


class WrongAddress(ValueError):
    """A text is no address, or no host."""

    def __init__(self, text: str, allowed: str) -> None:
        super().__init__(f"{text!r} is not allowed; allowed: {allowed}")
        self.allowed = allowed


@dataclass(frozen=True, slots=True, kw_only=True)
class Address:
    """A host, without brackets, and a port."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @property
    def is_local(self) -> bool:
        """Whether what is sent there certainly stays on this machine."""
        return is_this_machine(self.host)


def parse_address(text: str, *, host: str = "", port: int | None = None) -> Address:
    """The address in `text`: HOST:PORT, with an IPv6 address in brackets. WrongAddress if it is none.

    `host` and `port` stand for what may be left out; without them both must be there.
    """
    allowed = f"HOST:PORT{_or(host, port)}, with a port of 0 to {LAST_PORT} and an IPv6 address in brackets"
    if "://" in text:
        raise WrongAddress(text, f"{allowed}, and nothing like http:// before it")
    found, colon, digits = _divided(text)
    if not colon and port is not None:
        digits = str(port)
    if not (digits.isascii() and digits.isdigit()) or int(digits) > LAST_PORT or not is_host(found or host):
        raise WrongAddress(text, allowed)
    return Address(host=found or host, port=int(digits))


def parse_host(text: str) -> str:
    """A host, whose brackets are left out if it is an IPv6 address; WrongAddress if it is none."""
    bare = text[1:-1] if text.startswith("[") and text.endswith("]") and ":" in text else text
    if not is_host(bare):
        raise WrongAddress(text, "a host name or an address, without a port")
    return bare


def is_host(text: str) -> bool:
    """Whether this can be a host: a name, or an IPv4 or IPv6 address without brackets."""
    if ":" in text:
        try:
            return ipaddress.ip_address(text).version == 6
        except ValueError:
            return False
    return bool(text) and text.isascii() and text.isprintable() and not set(text) & set(" /[]@?#%")


def is_this_machine(host: str) -> bool:
    """Whether only this machine answers at `host`, an address or a name."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _divided(text: str) -> tuple[str, str, str]:
    """Host, colon and port; what cannot be divided is a colon without a port."""
    if text.startswith("["):
        host, bracket, rest = text[1:].partition("]")
        if bracket and ":" in host and rest[:1] in ("", ":"):
            return host, rest[:1], rest[1:]
    elif text.count(":") <= 1:
        host, colon, port = text.partition(":")
        return host, colon, port
    return "", ":", ""


def _or(host: str, port: int | None) -> str:
    """What else may be said."""
    ways = [f":PORT for {host}"] * bool(host) + [f"HOST for port {port}"] * (port is not None)
    return f", or {' or '.join(ways)}" if ways else ""
