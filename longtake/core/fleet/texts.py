"""Texts: which worker encodes which prompt, and what becomes of prompts whose worker is lost.

Where encoding takes no time to speak of, a session's decode worker does it. Else text workers do nothing else, so no
stream waits for it: a prompt goes to the one with the fewest, and waits if there is none. A text depends on nothing but
its prompt, so one that was with a lost worker is encoded anew, and its session notices only that it takes longer.
"""

from __future__ import annotations

from dataclasses import dataclass

from longtake.core.effects import EncodeText
from longtake.core.errors import InternalFault
from longtake.core.fleet.worker import Worker
from longtake.core.sessions.cues import TextsWanted
from longtake.core.work import ConditioningRef, Role, SessionId, WorkerId


@dataclass(frozen=True, slots=True)
class _Wanted:
    """A prompt that a text worker is to encode."""

    prompt: str
    since_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class PromptsView:
    """What others may know of the prompts that are not encoded yet, those that no text worker is there for included."""

    count: int = 0
    oldest_s: float = 0.0
    """How long the oldest has waited; 0 if there is none."""


class Texts:
    """The prompts of a cell that are being encoded."""

    def __init__(self) -> None:
        self._encoders: dict[WorkerId, dict[ConditioningRef, _Wanted]] = {}
        """The prompts that each text worker has, by what will be made of them."""
        self._waiting: dict[ConditioningRef, _Wanted] = {}
        """Prompts that no text worker is there for, oldest first."""

    def ask(self, wanted: TextsWanted, decoder: Worker, *, now_s: float) -> list[EncodeText]:
        """Have prompts encoded for a session whose slot is on `decoder`."""
        if decoder.joined.ability.encodes_text:
            return [EncodeText(worker=decoder.id, conditioning=ref, prompt=prompt) for ref, prompt in wanted.items()]
        self._waiting |= {ref: _Wanted(prompt, now_s) for ref, prompt in wanted.items()}
        return self._hand_out()

    def view(self, *, now_s: float) -> PromptsView:
        """The prompts that wait, with whatever text worker."""
        since_s = [wanted.since_s for held in (*self._encoders.values(), self._waiting) for wanted in held.values()]
        return PromptsView(count=len(since_s), oldest_s=max(0.0, now_s - min(since_s, default=now_s)))

    def held_by(self, worker: WorkerId) -> int:
        """How many prompts this text worker has: one that it encodes, the others behind it."""
        return len(self._encoders.get(worker, ()))

    def encoded(self, ref: ConditioningRef) -> None:
        """A text has arrived; nothing if it was made by a decode worker."""
        for held in self._encoders.values():
            held.pop(ref, None)

    def forget(self, session: SessionId) -> None:
        """A session has ended; what is being encoded for it is not needed."""
        for held in (*self._encoders.values(), self._waiting):
            for ref in [ref for ref in held if ref.session == session]:
                del held[ref]

    def joined(self, worker: Worker) -> list[EncodeText]:
        """A worker is new; if it is a text worker it gets what waits."""
        if worker.role is not Role.TEXT:
            return []
        self._encoders[worker.id] = {}
        return self._hand_out()

    def lost(self, worker: WorkerId) -> list[EncodeText]:
        """A worker has gone; what it had goes to others, before what waits already."""
        self._waiting = self._encoders.pop(worker, {}) | self._waiting
        return self._hand_out()

    def check(self, sessions: frozenset[SessionId]) -> None:
        """State that prompts wait for nobody but a text worker, and for no session that is gone."""
        if self._waiting and self._encoders:
            raise InternalFault(f"{len(self._waiting)} prompts wait, and {sorted(self._encoders)} could encode them")
        gone = {ref.session for held in (*self._encoders.values(), self._waiting) for ref in held} - sessions
        if gone:
            raise InternalFault(f"prompts of sessions that have ended are encoded: {sorted(gone)}")

    def _hand_out(self) -> list[EncodeText]:
        orders = []
        while self._waiting and self._encoders:
            ref = next(iter(self._waiting))
            worker = min(self._encoders, key=lambda name: (len(self._encoders[name]), name))
            wanted = self._encoders[worker][ref] = self._waiting.pop(ref)
            orders.append(EncodeText(worker=worker, conditioning=ref, prompt=wanted.prompt))
        return orders
