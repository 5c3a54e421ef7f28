"""Sockets that listen at an address."""

from __future__ import annotations

import socket

from longtake.core.addresses import Address
from longtake.core.errors import InvalidField

_BACKLOG = 128


def listen(address: Address, *, field: str) -> socket.socket:
    """A socket that listens; InvalidField about `field` if there can be none."""
    try:
        family = socket.getaddrinfo(address.host, address.port, type=socket.SOCK_STREAM)[0][0]
        return socket.create_server((address.host, address.port), family=family, backlog=_BACKLOG)
    except (OSError, UnicodeError):
        raise InvalidField(field, str(address), "an address of this machine and a port that is free") from None
