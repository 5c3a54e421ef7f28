"""How sessions end, and what of them must still be found afterwards."""

from __future__ import annotations

from enum import Enum


class Ending(Enum):
    """Why a session ended."""

    COMPLETED = "completed"
    """Its length limit was reached and every segment sent."""
    CLIENT = "client"
    """The client closed it, or its connection broke before the session was opened."""
    OPERATOR = "operator"
    """CloseSession was called."""
    DRAINED = "drained"
    """The server shuts down; the blocks already begun were delivered."""
    LOST = "lost"
    """The server drains, and a worker was lost for whose part of the session there was no room elsewhere. At any other
    time the session waits for room."""
    FAILED = "failed"
    """An op failed twice, or the session could not be prepared."""
    ACCESS = "access"
    """What its client showed does not hold any more."""
    QUOTA = "quota"
    """Its tenant has used up what it may have."""
    ABANDONED = "abandoned"
    """Its client was away for longer than it may be."""
    KEPT = "kept"
    """The server shuts down, and has kept the stream: it goes on with the next one."""
    MOVED = "moved"
    """It goes on at another server."""
    ORPHANED = "orphaned"
    """It is a fork, and the session it was forked from ended before the fork had its share of it."""


class AtDeadline(Enum):
    """What becomes of open streams when the grace of a drain is over."""

    END = "end"
    """No further block begins anywhere, those begun are delivered, every session is closed."""
    KEEP = "keep"
    """They stop where they are, and what they follow from stays on disk for the next server."""


class Remains(Enum):
    """What of a session that has left an engine must still be found by the next one."""

    NOTHING = "nothing"
    UNREAD = "unread"
    """For a while, all of it: its client may not have got the end of it."""
    ALL = "all"
    """It goes on there."""
