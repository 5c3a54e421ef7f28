"""How the two ends of a link know each other: certificates of a private authority, and the secret of one launch.

The certificates say what their holder is: the engine's is for `longtake-engine`, a worker's for `longtake-worker`, so
that one which the same authority gave to a client of the cell opens nothing here. One certificate may carry both names,
where both ends run on one machine. The secret says that a worker belongs to this launch and no other. It stands in the
metadata of the call, so that it is compared before a byte of a message is asked for.
"""

from __future__ import annotations

import hmac
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

from longtake.core.errors import InvalidField

ENGINE_NAME = "longtake-engine"
WORKER_NAME = "longtake-worker"
_NAMES = "x509_subject_alternative_name"
_MAX_SECRET = 1024
_KEY, _SCHEME = "authorization", "Bearer "


@dataclass(frozen=True, slots=True, kw_only=True)
class LinkFiles:
    """PEM files of one end of the link, on its own machine."""

    certificate: Path
    """The certificate of this end; its subject alternative name is ENGINE_NAME or WORKER_NAME."""
    key: Path
    """The key of the certificate."""
    ca: Path
    """The authority that has signed the certificate of the other end."""

    def contents(self) -> tuple[bytes, bytes, bytes]:
        """What `ca`, `key` and `certificate` hold; InvalidField names a file that cannot be read."""
        files = (("link.ca", self.ca), ("link.key", self.key), ("link.certificate", self.certificate))
        ca, key, certificate = (_content(field, path) for field, path in files)
        return ca, key, certificate


def is_worker(auth_context: Mapping[str, Iterable[bytes]]) -> bool:
    """Whether the certificate that a call came with is a worker's."""
    return WORKER_NAME.encode() in auth_context.get(_NAMES, ())


def shown(secret: str) -> tuple[tuple[str, str], ...]:
    """The metadata with which a worker dials."""
    return ((_KEY, _SCHEME + secret),)


def shows(metadata: Iterable[tuple[str, str | bytes]], secret: str) -> bool:
    """Whether a call came with the secret."""
    given = [value for key, value in metadata if key == _KEY]
    value = given[0] if len(given) == 1 else ""
    return hmac.compare_digest(value.encode() if isinstance(value, str) else value, (_SCHEME + secret).encode())


def write_secret(secret: str) -> bytes:
    """The line that a launcher writes to a worker's standard input: others can see arguments and environment."""
    return f"{secret}\n".encode()


def read_secret(standard_input: TextIO) -> str:
    """The secret of the launch, from whoever starts this worker."""
    return standard_input.readline(_MAX_SECRET).strip()


def _content(field: str, path: Path) -> bytes:
    try:
        content = path.read_bytes()
    except OSError as error:
        raise InvalidField(field, str(path), f"a readable PEM file ({error.strerror})") from None
    if b"-----BEGIN " not in content:
        raise InvalidField(field, str(path), "a PEM file")
    return content
