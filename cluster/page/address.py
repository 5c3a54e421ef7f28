"""Where the page listens."""

from __future__ import annotations

from dataclasses import dataclass

from longtake.core.errors import InvalidField

FIELD = "http.address"
ALLOWED = "HOST:PORT, or :PORT for the host of listen, with a port from 0 (any free one) to 65535"
_LAST_PORT = 65535


@dataclass(frozen=True, slots=True, kw_only=True)
class Address:
    """A host and a port to listen on; port 0: any free one."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def parse_address(text: str, default_host: str) -> Address:
    """The address in `text`; InvalidField, for `http.address`, if it is none."""
    host, colon, port = text.rpartition(":")
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
    elif ":" in host:
        raise InvalidField(FIELD, text, f"{ALLOWED}; an IPv6 address in brackets")
    if not colon or not (port.isascii() and port.isdigit()) or int(port) > _LAST_PORT or not host.isprintable():
        raise InvalidField(FIELD, text, ALLOWED)
    return Address(host=host or default_host, port=int(port))
