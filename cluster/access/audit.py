"""The audit log: a line of JSON for each call that opens, changes or ends something, and for those not let in.

It holds no prompt and no token, and of what strangers send only what is bounded in length.
"""

from __future__ import annotations

import json
import logging
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from logging.handlers import WatchedFileHandler
from pathlib import Path

from cluster.access.callers import Caller
from longtake.core.errors import InvalidField

LOGGER = "longtake.audit"
REFUSED_PER_S = 20
"""So many lines a second tell of callers not let in; more are only counted, so that strangers do not fill the disk."""
_TEXT_LENGTH = 200
_REASON_LENGTH = 500


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """What one line says."""

    caller: Caller | None
    """Who called; None if they did not say who they are, or not credibly."""
    peer: str
    method: str
    action: str
    session: str = ""
    outcome: str = "OK"
    """How the call ended, as a gRPC status."""
    detail: str = ""
    """A word or two of our own, and never anything that a caller sent."""
    reason: str = ""
    """Why the caller does it, as far as they say it."""


class Audit:
    """Writes entries to a file, or to the log `longtake.audit`, or nowhere."""

    def __init__(self, path: str | None = None, clock: Callable[[], float] = time.time) -> None:
        """Append to `path`; empty means the log, None means nowhere. InvalidField if that is not possible."""
        self._clock = clock
        self._second = 0
        self._refused = 0
        self._logger = logging.getLogger(LOGGER)
        self._handler: WatchedFileHandler | None = None
        if path is None:
            self._logger = logging.Logger(LOGGER)
        elif path:
            # This log is not a child of the ordinary one: its lines belong into this file alone.
            self._logger = logging.Logger(LOGGER)
            self._handler = _file_handler(path)
            self._logger.addHandler(self._handler)
        self._logger.setLevel(logging.INFO)

    def close(self) -> None:
        """Close the file."""
        if self._handler is not None:
            self._handler.close()

    def write(self, entry: Entry) -> None:
        """Add a line."""
        self._line(entry, {})

    def refused(self, entry: Entry) -> None:
        """Add a line about somebody who was not let in, if there were not too many this second."""
        second = int(self._clock())
        left_out = max(0, self._refused - REFUSED_PER_S) if second != self._second else 0
        if second != self._second:
            self._second, self._refused = second, 0
        self._refused += 1
        if self._refused <= REFUSED_PER_S:
            self._line(entry, {"left_out_before": left_out} if left_out else {})

    def _line(self, entry: Entry, more: dict[str, int]) -> None:
        caller = entry.caller
        fields = {
            "time": datetime.fromtimestamp(self._clock(), UTC).isoformat(timespec="milliseconds"),
            "tenant": caller.tenant if caller else None,
            "credential": caller.credential if caller else None,
            "role": caller.role.value if caller else None,
            "peer": entry.peer[:_TEXT_LENGTH],
            "method": entry.method[:_TEXT_LENGTH],
            "action": entry.action,
            "session": entry.session[:_TEXT_LENGTH] or None,
            "outcome": entry.outcome,
            "detail": entry.detail or None,
            "reason": entry.reason[:_REASON_LENGTH] or None,
        }
        self._logger.info("%s", json.dumps({key: value for key, value in fields.items() if value is not None} | more))


def _file_handler(path: str) -> WatchedFileHandler:
    """Appends to a file that only its owner may read, and to a new one when that is moved away."""
    try:
        os.close(os.open(path, os.O_CREAT | os.O_APPEND | os.O_WRONLY, 0o600))
        return WatchedFileHandler(Path(path), encoding="utf-8")
    except OSError as error:
        raise InvalidField("auth.audit", path, f"a file that can be written ({error.strerror})") from None
