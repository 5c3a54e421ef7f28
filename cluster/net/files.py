"""Files of the configuration: those that are read again when they change, and secrets that others can read."""

from __future__ import annotations

import logging
import os
import stat
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from cluster.config import ServerConfig
from longtake.core.errors import InvalidField


class Watched:
    """Tells whether files have changed since they were last asked about."""

    def __init__(self, paths: Iterable[Path]) -> None:
        """Take the files as they are now for the state in which they were read."""
        self._paths = tuple(paths)
        self._seen = self._states()

    def changed(self) -> bool:
        """Whether any file has changed since this was last asked, so that a wrong file is not read again and again."""
        before, self._seen = self._seen, self._states()
        return self._seen != before

    def _states(self) -> tuple[tuple[int, int, int] | None, ...]:
        return tuple(_state(path) for path in self._paths)


def _state(path: Path) -> tuple[int, int, int] | None:
    """A value that changes with a file's content, also where a link is turned to another file, as Kubernetes does.

    None if there is no file, or none that may be looked at.
    """
    try:
        found = os.stat(path)
    except OSError:
        return None
    return found.st_ino, found.st_mtime_ns, found.st_size


_log = logging.getLogger("longtake.serve")


def warn_of_readable_secrets(config: ServerConfig) -> None:
    """Log a warning for each file of a secret that every user of this machine may read.

    InvalidField if every user may write one: then anybody here chooses who is let in.
    """
    for field, path in _secrets(config, os.environ):
        try:
            mode = os.stat(path).st_mode
        except OSError:
            continue  # whoever reads it says so
        if mode & stat.S_IWOTH:
            allowed = f"a file that not everybody on this machine may write: chmod 600 {path}"
            raise InvalidField(field, str(path), allowed)
        if mode & stat.S_IROTH:
            _log.warning("%s: every user of this machine may read %s; chmod 600 it", field, path)


def _secrets(config: ServerConfig, environment: Mapping[str, str]) -> Iterator[tuple[str, Path]]:
    named = (("tls.key", config.tls.key), ("link.key", config.link.key), ("auth.tenants", config.auth.tenants))
    yield from ((field, Path(path)) for field, path in named if path)
    if config.cluster.launch == "ray" and (token := ray_token_file(environment)) is not None:
        yield token


def ray_token_file(environment: Mapping[str, str]) -> tuple[str, Path] | None:
    """Where Ray would read its token, by the name that people know; None if it has it from elsewhere, or nowhere."""
    if "RAY_AUTH_TOKEN" in environment:
        return None
    named = environment.get("RAY_AUTH_TOKEN_PATH")
    if named:
        return "RAY_AUTH_TOKEN_PATH", Path(named)
    try:
        return "Ray's token", Path.home() / ".ray" / "auth_token"
    except RuntimeError:  # nobody knows where home is
        return None


def everybody_reads(path: Path) -> bool:
    """Whether every user of this machine may read a file that is there."""
    try:
        return bool(os.stat(path).st_mode & stat.S_IROTH)
    except OSError:
        return False
