"""Names of the sessions that begin here."""

from __future__ import annotations

from secrets import token_hex

from longtake.core.work import SessionId
from longtake.net.cells import session_name

_BYTES = 12


def new_session(cell: str) -> SessionId:
    """A name that nobody can guess, and no other session has, whichever server of whichever cell it was made by."""
    return SessionId(session_name(cell, token_hex(_BYTES)))
