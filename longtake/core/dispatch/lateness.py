"""Lateness: which REALTIME streams stand still again and again, and what follows from it for those that would come.

Theory of operation. A stream stands still while its next block is overdue: for so long its client shows nothing new.
Each stream has a sum of such times, in which what is longer ago counts less. One that is higher than a hiccup explains
makes the stream late; it is on time again once no block of it was late for a while. So a single long standstill makes
it late at once, and blocks that are each a little late make it late within a minute.

What its client causes does not count. A block is judged only if the client's credit for it was there so early that
there was time for it: twice what making a block takes if nothing comes between, or half of the client's window; and
only if that window is longer than it takes to make a block. Nor is a stream judged that is paused, parked, or whose
client is away.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from longtake.core.cell import Cell
from longtake.core.dispatch.urgency import least_latency_s
from longtake.core.effects import Emit
from longtake.core.facts import Overdue
from longtake.core.sessions.life import GENERATING
from longtake.core.sessions.overdue import DueTimes
from longtake.core.sessions.session import Session
from longtake.core.work import SessionId

HICCUP_S = 2.0
"""A stream that stood still for no longer lately had a hiccup."""
MEMORY_S = 60.0
"""After so long a standstill counts for 37 % of what it was."""
CALM_S = 10.0
"""A stream no block of which was late for so long is on time."""
_ENOUGH = 2.0
"""Credit that is there so many times as long before a block is due as it takes to make one was there in time."""
_SPARE = 1.5
"""A window must be so many times as long as it takes to make a block."""


@dataclass(slots=True)
class _Standing:
    """How long one stream stood still."""

    seconds: float = 0.0
    """As of `as_of_s`; what is longer ago counts less."""
    as_of_s: float = -math.inf
    is_late: bool = False

    def add(self, seconds: float, *, now_s: float) -> None:
        """It stood still for so long until now."""
        self.seconds = self.until(now_s) + seconds
        self.as_of_s = now_s

    def until(self, now_s: float) -> float:
        """How long it stood still before now, with its weight."""
        return self.seconds * math.exp((self.as_of_s - now_s) / MEMORY_S)


class Lateness:
    """Knows which blocks are overdue and which streams are late; lowers and raises the cell's load limit."""

    def __init__(self, cell: Cell) -> None:
        self._cell = cell
        self._due = DueTimes(cell.sessions)
        self._standing: dict[SessionId, _Standing] = {}
        """Of the streams that stood still lately."""
        self._overdue: dict[SessionId, Overdue] = {}
        """The overdue blocks that are judged."""

    def left(self, session: Session, emit: Emit, *, now_s: float) -> None:
        """Note that a segment has left."""
        self._overdue.pop(session.id, None)
        if not session.is_realtime:
            return
        slack_s = 0.0 if emit.slack_s is None else emit.slack_s
        if slack_s < 0 and session.state in GENERATING and self._is_ours(session, emit.block, now_s + slack_s):
            self._standing.setdefault(session.id, _Standing()).add(-slack_s, now_s=now_s)
        session.note_credit(now_s=now_s)
        self._due.expect(session)

    def tick(self, *, now_s: float) -> list[Overdue]:
        """The blocks that have become overdue since the last tick; sets the load limit by all that are late."""
        found = self._due.passed(now_s=now_s)
        for overdue in found:
            if self._is_ours(self._cell.sessions[overdue.session], overdue.block, overdue.due_s):
                self._overdue[overdue.session] = overdue
        awaited = {name: one for name, one in self._overdue.items() if self._due.awaits(name, one.block)}
        self._overdue = awaited
        for name in awaited:
            self._standing.setdefault(name, _Standing())
        self._standing = {name: one for name, one in self._standing.items() if self._counts(name, one, now_s=now_s)}
        late = sum(one.is_late for one in self._standing.values())
        self._cell.load_limit.look(late, self._most_reserved, now_s=now_s)
        return found

    def _counts(self, name: SessionId, standing: _Standing, *, now_s: float) -> bool:
        """Look whether a stream that stood still is late; returns whether that is still of interest."""
        session, overdue = self._cell.sessions.get(name), self._overdue.get(name)
        if session is None or session.state not in GENERATING or session.flow.playing_since_s is None:
            return False
        seconds = standing.until(now_s)
        if overdue is not None:
            standing.is_late = standing.is_late or seconds + now_s - overdue.due_s > HICCUP_S
            return True
        if seconds > HICCUP_S:
            standing.is_late = True
        calm_s = max(CALM_S, 2 * session.geometry.block_s) if standing.is_late else 2 * MEMORY_S
        return now_s - standing.as_of_s < calm_s

    def _is_ours(self, session: Session, block: int, due_s: float) -> bool:
        """Whether it is not the client's fault if a block was not there when it was due."""
        credited_s = session.credited_s(block)
        if credited_s is None:
            return False
        takes_s, window_s = least_latency_s(self._cell, session), session.flow.window * session.geometry.block_s
        return window_s >= _SPARE * takes_s and due_s - credited_s >= min(_ENOUGH * takes_s, window_s / 2)

    def _most_reserved(self) -> float:
        """What is reserved of the fullest worker's time."""
        fleet = self._cell.fleet
        return max([fleet.reserved(worker) for worker in self._cell.workers.values()], default=0.0)
