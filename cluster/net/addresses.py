"""Addresses in configurations and requests, and sockets that listen there."""

from __future__ import annotations

import socket

from longtake.core.errors import InvalidField
from longtake.net.addresses import Address, WrongAddress, parse_address

_BACKLOG = 128


def address_in(text: str, *, field: str, host: str = "", port: int | None = None) -> Address:
    """See longtake.net.addresses.parse_address; InvalidField about `field` if it is none."""
    try:
        return parse_address(text, host=host, port=port)
    except WrongAddress as error:
        raise InvalidField(field, text, error.allowed) from None


def listen(address: Address, *, field: str) -> socket.socket:
    """A socket that listens; InvalidField about `field` if there can be none."""
    try:
        family = socket.getaddrinfo(address.host, address.port, type=socket.SOCK_STREAM)[0][0]
        return socket.create_server((address.host, address.port), family=family, backlog=_BACKLOG)
    except (OSError, UnicodeError):
        raise InvalidField(field, str(address), "an address of this machine and a port that is free") from None
