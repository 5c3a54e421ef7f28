"""The cues of one client's stream: what it has asked for, and what it was told of each, in an order that may be."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field

from benchmarks.by_hand import Model
from cluster.cell.outbox import ClientMessage
from longtake.core.effects import CueAccepted, CueApplied, CueSuperseded, RequestRefused
from longtake.core.events import CueRequest
from longtake.core.work import CueId, SessionId
from tests.simulation.asking import cue_of


@dataclass
class ToldCues:
    """Each cue is refused, or accepted and then applied or superseded."""

    requests: dict[CueId, CueRequest] = field(default_factory=dict)
    """What each cue asks for, those of attempts before this one among them."""
    _open: dict[CueId, CueRequest] = field(default_factory=dict)
    """Those without an answer."""
    _told: dict[CueId, list[type[ClientMessage]]] = field(default_factory=dict)

    def begin_anew(self) -> None:
        """Another attempt has cues of its own."""
        self._open.clear()
        self._told.clear()

    def ask(self, session: SessionId, block: int | None, model: Model) -> CueRequest:
        """The next cue, for a block or for whichever is next."""
        request = cue_of(session, len(self.requests), block, model)
        self.requests[request.cue] = self._open[request.cue] = request
        self._told[request.cue] = []
        return request

    @property
    def unanswered(self) -> Collection[CueRequest]:
        """Those of which nothing has come."""
        return self._open.values()

    @property
    def accepted(self) -> set[CueId]:
        """Those that still count: no later one was accepted for their block."""
        return {cue for cue, told in self._told.items() if CueAccepted in told and CueSuperseded not in told}

    @property
    def waiting(self) -> list[CueId]:
        """Those that are accepted, and nothing has come of it yet."""
        return [cue for cue, told in self._told.items() if told == [CueAccepted]]

    def hears(self, cue: CueId, message: ClientMessage, *, may_repeat: bool) -> str:
        """What is wrong with what is told of a cue, if anything is; a new call `may_repeat` what was told."""
        told, before = type(message), self._told[cue]
        if told in before:
            return "" if may_repeat else f"cue {cue}: {told.__name__} again"
        if not before:
            may_follow = told in (CueAccepted, RequestRefused)
        else:
            may_follow = before == [CueAccepted] and told in (CueApplied, CueSuperseded)
        if not may_follow:
            return f"cue {cue}: {told.__name__} after {before}"
        before.append(told)
        self._open.pop(cue, None)
        return ""
