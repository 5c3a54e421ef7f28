"""Names of cells and of their sessions: whoever has a session's name knows which cell to ask for it."""

from __future__ import annotations

import re

DEFAULT_CELL = "default"
CELL_PATTERN = "[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?"
"""What a cell may be called, so that it may stand in a header, the path of a URL, and the name of a host or a file."""
CELL_KEY = "longtake-cell"
"""The metadata by which a router finds the cell of a call."""
_SESSION = re.compile(rf"(?P<cell>{CELL_PATTERN})\.[0-9a-f]+")


def session_name(cell: str, own: str) -> str:
    """The name of a session that begins in `cell`; `own`, in hexadecimal digits, tells it from the others there."""
    return f"{cell}.{own}"


def cell_of(session: str) -> str:
    """The cell that a session's name names; empty if it names none: those that older servers gave do not."""
    found = _SESSION.fullmatch(session)
    return found["cell"] if found else ""


def cell_metadata(session: str) -> tuple[tuple[str, str], ...]:
    """What goes along with a call about this session, by which a router before several cells finds the right one."""
    cell = cell_of(session)
    return ((CELL_KEY, cell),) if cell else ()
