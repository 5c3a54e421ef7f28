"""What a client shows a server, and what it wants to see of it: a token, a CA, a certificate of its own."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple
from urllib.parse import unquote

import grpc

from longtake.net.addresses import DEFAULT_PORT, LAST_PORT, WrongAddress, parse_address

_SCHEMES = ("dns", "ipv4", "ipv6", "xds")
"""Of targets that gRPC reads in its own way."""
Metadata = tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Credentials:
    """How a client identifies itself, and how it knows the server. Files are PEM files; None means that there is
    none."""

    token: str = field(default="", repr=False)
    """The token is sent with each call as `authorization: Bearer …`, and never unencrypted to another machine."""
    ca: Path | None = None
    """Certificates that may have signed the server's; None means those of the system, if `tls` is set."""
    tls: bool = False
    """Encrypt, trusting what the system trusts; with `ca` or `certificate` the connection is encrypted in any case."""
    certificate: Path | None = None
    """The client's own certificate, for servers that ask for one."""
    key: Path | None = field(default=None, repr=False)

    @property
    def encrypted(self) -> bool:
        """Whether the connection is to be encrypted."""
        return self.tls or self.ca is not None or self.certificate is not None

    def metadata(self) -> Metadata:
        """What goes along with each call."""
        return (("authorization", f"Bearer {self.token}"),) if self.token else ()


@dataclass(frozen=True, slots=True)
class Way:
    """How gRPC reaches a server."""

    target: str
    options: Sequence[tuple[str, int | str]]
    encryption: grpc.ChannelCredentials | None

    def open(self) -> grpc.aio.Channel:
        """A connection for calls of an event loop."""
        if self.encryption is None:
            return grpc.aio.insecure_channel(self.target, options=self.options)
        return grpc.aio.secure_channel(self.target, self.encryption, options=self.options)

    def open_for_threads(self) -> grpc.Channel:
        """A connection for calls that block a thread."""
        if self.encryption is None:
            return grpc.insecure_channel(self.target, options=self.options)
        return grpc.secure_channel(self.target, self.encryption, options=self.options)


def way_to(target: str, credentials: Credentials, options: Sequence[tuple[str, int | str]]) -> Way:
    """The way to `target`, encrypted if the credentials say so.

    Raises ValueError if `target` is no address, if a token would go unencrypted to another machine, or is none, or a
    certificate comes without its key; OSError names a file that cannot be read.
    """
    if (credentials.certificate is None) is not (credentials.key is None):
        given, missing = ("certificate", "key") if credentials.key is None else ("key", "certificate")
        raise ValueError(f"{given} is given and {missing} is not: a certificate is of use with its key only")
    if not credentials.token.isascii() or not credentials.token.isprintable() or " " in credentials.token:
        raise ValueError("token: what is given is not allowed; allowed: printable ASCII without spaces")
    place = place_of(target)
    if place.is_local:  # a proxy of the environment could not reach it
        options = (*options, ("grpc.enable_http_proxy", 0))
    if not credentials.encrypted:
        if credentials.token and not place.is_local:
            reason = "everybody on the way could read the token; give a CA, or ask for TLS"
            raise ValueError(f"a token is given and server {target!r} may be another machine: {reason}")
        return Way(place.target, options, None)
    encryption = grpc.ssl_channel_credentials(
        root_certificates=_read(credentials.ca),
        private_key=_read(credentials.key),
        certificate_chain=_read(credentials.certificate),
    )
    return Way(place.target, options, encryption)


class Dialled(NamedTuple):
    """Where gRPC connects."""

    target: str
    is_local: bool
    """Whether what is sent there certainly stays on this machine."""


def place_of(target: str) -> Dialled:
    """The place that `target` names: HOST, HOST:PORT, or a target of gRPC's such as `dns:///host` or `unix:/path`."""
    scheme, _, rest = target.partition(":")
    if scheme in ("unix", "unix-abstract"):
        return Dialled(target, True)
    is_named = scheme in _SCHEMES
    try:
        text = unquote(rest.removeprefix("///")) if is_named else target
        address = parse_address(text, port=DEFAULT_PORT)
    except WrongAddress as error:
        if is_named:  # it may be several addresses, or something that only gRPC can read
            return Dialled(target, False)
        raise ValueError(f"server: {error}") from None
    if not address.port:
        raise ValueError(f"server: {target!r} is not allowed; allowed: a port of 1 to {LAST_PORT}")
    return Dialled(target if is_named else str(address), address.is_local and scheme != "xds")


def _read(path: Path | None) -> bytes | None:
    return None if path is None else path.read_bytes()
