"""The audit log: a line of JSON for each call that opens, changes or ends something, and for those not let in.

It holds no prompt and no token, and of what strangers send only what is bounded in length. A file is written by a
thread of its own. While that cannot be, lines wait for it; when too many wait, more are left out and counted. Where
nothing may go unwritten (`auth.audit_required`), calls that would cause a line are refused from the first failure on.
"""

from __future__ import annotations

import json
import logging
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime

from cluster.access.callers import Caller
from longtake.core.errors import InvalidField, Unavailable
from longtake.core.sparing import Sparing
from workers.lines import Lines

LOGGER = "longtake.audit"
REFUSED_PER_S = 20
"""So many lines a second tell of callers not let in; more are only counted, so that strangers do not fill the disk."""
CLOSE_S = 5.0
"""How long the end of the server waits for the last lines."""
_TEXT_LENGTH = 200
_REASON_LENGTH = 500

_log = logging.getLogger("longtake.access")


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

    def __init__(
        self, path: str | None = None, clock: Callable[[], float] = time.time, *, required: bool = False
    ) -> None:
        """Append to `path`; empty means the log, None means nowhere. InvalidField if that is not possible.

        With `required` nothing is to happen that is not written.
        """
        self._clock = clock
        self._path = path
        self._required = required
        self._refusals = Sparing(REFUSED_PER_S, 1.0)
        self._complaints = Sparing(1, 60.0)
        self._logger = logging.getLogger(LOGGER)
        self._logger.setLevel(logging.INFO)
        self._file = _File(path) if path else None
        self._lines = Lines("audit", self._file.descriptor, self._lost) if self._file else None

    def close(self) -> None:
        """Write what waits, but not for long, and close the file."""
        if self._lines is not None and self._file is not None:
            if self._lines.close(CLOSE_S):
                self._file.close()
            if self.dropped or self.trouble:
                _log.error("auth.audit: %s does not hold all lines: %s", self._path, self.trouble or "too many waited")

    @property
    def trouble(self) -> str:
        """Why the file cannot be written now; empty if it can, or there is none."""
        return self._lines.trouble if self._lines is not None else ""

    @property
    def dropped(self) -> int:
        """Lines that the file lacks, because it could not be written for too long."""
        return self._lines.dropped if self._lines is not None else 0

    def check(self) -> None:
        """Unavailable while lines cannot be written and nothing may happen that is not."""
        if self._required and self.trouble:
            raise Unavailable("the audit log cannot be written now, and nothing may happen here that is not in it")

    def look(self) -> None:
        """Say so in the log, once a minute, if the file cannot be written."""
        trouble = self.trouble
        if trouble and self._complaints.left_out(self._clock()) is not None:
            follows = "calls are refused meanwhile" if self._required else f"{self.dropped} lines were left out so far"
            _log.error("auth.audit: %s cannot be written: %s; %s", self._path, trouble, follows)

    def write(self, entry: Entry) -> None:
        """Add a line."""
        self._line(entry, {})

    def refused(self, entry: Entry) -> None:
        """Add a line about somebody who was not let in, if there were not too many this second."""
        left_out = self._refusals.left_out(self._clock())
        if left_out is not None:
            self._line(entry, {"left_out_before": left_out} if left_out else {})

    def _line(self, entry: Entry, more: dict[str, int]) -> None:
        if self._path is None:
            return
        caller = entry.caller
        fields = {
            "time": self._time(),
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
        line = json.dumps({key: value for key, value in fields.items() if value is not None} | more)
        if self._lines is None:
            self._logger.info("%s", line)
        else:
            self._lines.add(line)

    def _time(self) -> str:
        return datetime.fromtimestamp(self._clock(), UTC).isoformat(timespec="milliseconds")

    def _lost(self, count: int) -> str:
        return json.dumps({"time": self._time(), "action": "left_out", "lines": count})


class _File:
    """A file that only its owner may read, and a new one of that name when it was moved away."""

    def __init__(self, path: str) -> None:
        self._path = path
        try:
            self._opened = _open(path)
        except OSError as error:
            raise InvalidField("auth.audit", path, f"a file that can be written ({error.strerror})") from None

    def descriptor(self) -> int:
        """Of the file that has the name now; OSError if there can be none."""
        try:
            there = os.stat(self._path)
        except FileNotFoundError:
            there = None
        mine = os.fstat(self._opened)
        if there is None or (there.st_dev, there.st_ino) != (mine.st_dev, mine.st_ino):
            before, self._opened = self._opened, _open(self._path)
            os.close(before)
        return self._opened

    def close(self) -> None:
        os.close(self._opened)


def _open(path: str) -> int:
    return os.open(path, os.O_CREAT | os.O_APPEND | os.O_WRONLY | os.O_CLOEXEC, 0o600)
