"""Addresses: how they are read and written, and sockets that listen there."""

from __future__ import annotations

import socket
from dataclasses import dataclass

from longtake.core.errors import InvalidField

_LAST_PORT = 65535
_BACKLOG = 128


@dataclass(frozen=True, slots=True, kw_only=True)
class Address:
    """A host and a port to listen on; port 0: any free one."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def parse_address(text: str, default_host: str, *, field: str) -> Address:
    """The address in `text`; InvalidField about `field` if it is none."""
    allowed = f"HOST:PORT, or :PORT for {default_host}, with a port from 0 (any free one) to {_LAST_PORT}"
    host, colon, port = text.rpartition(":")
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
    elif ":" in host:
        raise InvalidField(field, text, f"{allowed}; an IPv6 address in brackets")
    if not colon or not (port.isascii() and port.isdigit()) or int(port) > _LAST_PORT or not host.isprintable():
        raise InvalidField(field, text, allowed)
    return Address(host=host or default_host, port=int(port))


def listen(address: Address, *, field: str) -> socket.socket:
    """A socket that listens; InvalidField about `field` if there can be none."""
    try:
        family = socket.getaddrinfo(address.host, address.port, type=socket.SOCK_STREAM)[0][0]
        return socket.create_server((address.host, address.port), family=family, backlog=_BACKLOG)
    except (OSError, UnicodeError):
        raise InvalidField(field, str(address), "an address of this machine and a port that is free") from None
