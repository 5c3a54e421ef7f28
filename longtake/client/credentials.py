"""What a client shows a server, and what it wants to see of it: a token, a CA, a certificate of its own."""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import unquote

import grpc

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


def open_channel(target: str, credentials: Credentials, options: Sequence[tuple[str, int | str]]) -> grpc.aio.Channel:
    """A connection to `target`, encrypted if the credentials say so.

    Raises ValueError if a token would go unencrypted to another machine, or is none, or a certificate comes without its
    key; OSError names a file that cannot be read.
    """
    if (credentials.certificate is None) is not (credentials.key is None):
        given, missing = ("certificate", "key") if credentials.key is None else ("key", "certificate")
        raise ValueError(f"{given} is given and {missing} is not: a certificate is of use with its key only")
    if not credentials.token.isascii() or not credentials.token.isprintable() or " " in credentials.token:
        raise ValueError("token: what is given is not allowed; allowed: printable ASCII without spaces")
    if not credentials.encrypted:
        if credentials.token and not is_local(target):
            reason = "everybody on the way could read the token; give a CA, or ask for TLS"
            raise ValueError(f"a token is given and server {target!r} may be another machine: {reason}")
        return grpc.aio.insecure_channel(target, options=options)
    channel = grpc.ssl_channel_credentials(
        root_certificates=_read(credentials.ca),
        private_key=_read(credentials.key),
        certificate_chain=_read(credentials.certificate),
    )
    return grpc.aio.secure_channel(target, channel, options=options)


def is_local(target: str) -> bool:
    """Whether what is sent to `target` certainly stays on this machine: a unix socket or a loopback address."""
    scheme, _, rest = target.partition(":")
    if scheme in ("unix", "unix-abstract"):
        return True
    if scheme in ("dns", "ipv4", "ipv6"):
        target = rest.removeprefix("///")
    host = unquote(target)
    if host.startswith("["):
        host = host[1:].partition("]")[0]
    elif host.count(":") == 1:
        host = host.partition(":")[0]
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _read(path: Path | None) -> bytes | None:
    return None if path is None else path.read_bytes()
