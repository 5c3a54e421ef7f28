"""Files of secrets that others on this machine can read: named in the log when the server starts."""

from __future__ import annotations

import logging
import os
import stat
from collections.abc import Iterator
from pathlib import Path

from cluster.config import ServerConfig
from longtake.core.errors import InvalidField

_log = logging.getLogger("longtake.serve")


def warn_of_readable_secrets(config: ServerConfig) -> None:
    """Log a warning for each file of a secret that every user of this machine may read.

    InvalidField if every user may write one: then anybody here chooses who is let in.
    """
    for field, path in _secrets(config):
        try:
            mode = os.stat(path).st_mode
        except OSError:
            continue  # whoever reads it says so
        if mode & stat.S_IWOTH:
            allowed = f"a file that not everybody on this machine may write: chmod 600 {path}"
            raise InvalidField(field, str(path), allowed)
        if mode & stat.S_IROTH:
            _log.warning("%s: every user of this machine may read %s; chmod 600 it", field, path)


def _secrets(config: ServerConfig) -> Iterator[tuple[str, Path]]:
    named = (
        ("tls.key", config.tls.key),
        ("link.key", config.link.key),
        ("auth.tenants", config.auth.tenants),
        ("RAY_AUTH_TOKEN_PATH", os.environ.get("RAY_AUTH_TOKEN_PATH", "") if config.cluster.launch == "ray" else ""),
    )
    yield from ((field, Path(path)) for field, path in named if path)
