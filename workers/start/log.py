"""The log of a process: one format for the server and its workers, on standard error, by a thread of its own."""

from __future__ import annotations

import atexit
import logging
import os
import sys

from workers.lines import Lines

LEVEL_VARIABLE = "LONGTAKE_LOG_LEVEL"
"""The least level that is logged; workers get it from the server with the rest of its environment."""
LAST_S = 1.0
"""How long the end of a process waits for its last lines."""
_LEVELS = {"debug": logging.DEBUG, "info": logging.INFO, "warning": logging.WARNING, "error": logging.ERROR}
_FORMAT = "%(asctime)s %(name)s %(message)s"


class LineHandler(logging.Handler):
    """Hands records over as lines: whoever logs does not wait for who reads."""

    def __init__(self, descriptor: int) -> None:
        super().__init__()
        self.setFormatter(logging.Formatter(_FORMAT))
        self.lines = Lines("log", lambda: descriptor, _lost)

    def emit(self, record: logging.LogRecord) -> None:
        """See logging.Handler."""
        try:
            line = self.format(record)
        except (TypeError, ValueError, KeyError) as error:  # arguments that do not fit their text
            line = f"{record.name}: {record.msg!r} cannot be formatted: {error}"
        self.lines.add(line)


def log_to_stderr() -> None:
    """Log what the environment asks for, from `info` on if it asks for nothing that is known."""
    level = _LEVELS.get(os.environ.get(LEVEL_VARIABLE, "").lower(), logging.INFO)
    root = logging.getLogger()
    if not root.handlers:
        root.addHandler(_handler())
        root.setLevel(max(level, logging.INFO))  # what others log below INFO is for those who work on them
    logging.getLogger("longtake").setLevel(level)


def settle_log(within_s: float = LAST_S) -> None:
    """Wait until what was logged is written, but not long: what is said next, elsewhere, shall come after it."""
    for handler in _handlers():
        handler.lines.settle(within_s)


def log_lines_dropped() -> int:
    """Lines of this process's log that were left out, because nobody took them."""
    return sum(handler.lines.dropped for handler in _handlers())


def _handlers() -> list[LineHandler]:
    return [handler for handler in logging.getLogger().handlers if isinstance(handler, LineHandler)]


def _handler() -> logging.Handler:
    try:
        descriptor = sys.stderr.fileno()
    except (AttributeError, OSError, ValueError):  # it is closed, or no file
        return logging.NullHandler() if sys.stderr is None else logging.StreamHandler(sys.stderr)
    atexit.register(settle_log)
    return LineHandler(descriptor)


def _lost(count: int) -> str:
    record = logging.LogRecord("longtake.log", logging.WARNING, "", 0, "", (), None)
    record.msg = f"{count} lines are missing here: standard error took none"
    return logging.Formatter(_FORMAT).format(record)
