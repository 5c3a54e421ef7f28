"""Texts: which worker encodes which prompt, and what becomes of prompts whose worker is lost.

Where encoding takes no time to speak of, a session's decode worker does it. Else text workers do nothing else, so no
stream waits for it: a prompt goes to the one with the fewest, and waits if there is none. A text depends on nothing but
its prompt, so one that was with a lost worker is encoded anew, and its session notices only that it takes longer.
"""

from __future__ import annotations

from longtake.core.effects import EncodeText
from longtake.core.errors import InternalFault
from longtake.core.fleet.worker import Worker
from longtake.core.sessions.cues import TextsWanted
from longtake.core.work import ConditioningRef, Role, SessionId, WorkerId


class Texts:
    """The prompts of a cell that are being encoded."""

    def __init__(self) -> None:
        self._encoders: dict[WorkerId, dict[ConditioningRef, str]] = {}
        """The prompts that each text worker has, by what will be made of them."""
        self._waiting: dict[ConditioningRef, str] = {}
        """Prompts that no text worker is there for, oldest first."""

    def ask(self, wanted: TextsWanted, decoder: Worker) -> list[EncodeText]:
        """Have prompts encoded for a session whose slot is on `decoder`."""
        if decoder.joined.ability.encodes_text:
            return [EncodeText(worker=decoder.id, conditioning=ref, prompt=prompt) for ref, prompt in wanted.items()]
        self._waiting |= wanted
        return self._hand_out()

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
            self._encoders[worker][ref] = self._waiting.pop(ref)
            orders.append(EncodeText(worker=worker, conditioning=ref, prompt=self._encoders[worker][ref]))
        return orders
