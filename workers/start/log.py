"""The log of a process: one format for the server and its workers, on standard error."""

from __future__ import annotations

import logging
import os
import sys

LEVEL_VARIABLE = "LONGTAKE_LOG_LEVEL"
"""The least level that is logged; workers get it from the server with the rest of its environment."""
_LEVELS = {"debug": logging.DEBUG, "info": logging.INFO, "warning": logging.WARNING, "error": logging.ERROR}


def log_to_stderr() -> None:
    """Log what the environment asks for, from `info` on if it asks for nothing that is known."""
    level = _LEVELS.get(os.environ.get(LEVEL_VARIABLE, "").lower(), logging.INFO)
    # What others log below INFO is for those who work on them.
    logging.basicConfig(level=max(level, logging.INFO), format="%(asctime)s %(name)s %(message)s", stream=sys.stderr)
    logging.getLogger("longtake").setLevel(level)
