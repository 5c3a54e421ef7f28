"""A cell whose sessions are forked and parked, and whose clients acknowledge when the test says."""

from __future__ import annotations

from dataclasses import dataclass, field

from longtake.core.endings import Ending
from longtake.core.events import Ack, CueRequest, Open
from longtake.core.flow import Pace
from longtake.core.work import Fork, SessionId
from tests.core.support.parts import SETTINGS
from tests.core.support.world import Cell


@dataclass
class ImageCell(Cell):
    """A cell with forks, in which everything is counted in the end."""

    acknowledged: dict[SessionId, int] = field(default_factory=dict)

    def fork(
        self,
        name: str,
        parent: SessionId,
        *,
        at: int | None = None,
        pictures: int | None = None,
        window: int = 4,
        seed: int = 1,
        own_clock: bool = False,
        cues: tuple[CueRequest, ...] = (),
    ) -> int:
        """Fork a session, where it is or at a block of its past; the first block of the new one. Refused: -1."""
        session = SessionId(name)
        before = self.session(parent) if parent in self.there else None
        block = at if at is not None else -1 if before is None else before.next_block
        if at is not None:
            self.struck.add(session)  # what it begins with is computed once more
        self.contents.parents[session] = (parent, block)
        self.images.shares_pages = True
        self.done |= {
            (session, self.graph.op(chain.number, past)) for chain in self.graph.chains for past in range(-1, block)
        }
        self.send(
            Open(now_s=self.now_s, session=session, prompt="f", seed=seed, pace=Pace.FAST, window=window,
                 picture_limit=pictures, settings=SETTINGS, cues=cues,
                 fork=Fork(session=parent, block=at, own_clock=own_clock))
        )  # fmt: skip
        return block if session in self.there else -1

    # --- the whole of it --------------------------------------------------------------------------------------------

    def owing(self) -> list[SessionId]:
        """Sessions whose clients could acknowledge something."""
        return [
            name
            for name, blocks in self.segments.items()
            if name not in self.closed and len(blocks) > self.acknowledged.get(name, 0)
        ]

    def acknowledge(self, session: SessionId) -> None:
        """All that was sent."""
        self.acknowledged[session] = len(self.segments[session])
        self.send(Ack(now_s=self.now_s, session=session, segment=self.segments[session][-1]))

    def settle(self, *, acknowledge: bool = True) -> None:
        """Let everything finish that is under way."""
        self.run(acknowledge=False)
        while acknowledge and (owing := self.owing()):
            for session in owing:
                self.acknowledge(session)
            self.run(acknowledge=False)

    def check_empty(self) -> None:
        """Nothing is left of any session."""
        self.settle()
        assert self.scheduler.sessions() == ()
        assert all(worker.free == worker.ability.capacity for worker in self.scheduler.workers())
        assert not (self.images.stored or self.images.sent or self.images.slots)
        assert not any(self.images.orders.values())
        assert not any(view.sessions for view in self.scheduler.workers())

    def ended_with(self, session: SessionId, ending: Ending) -> bool:
        """How the session ended."""
        return session in self.closed and self.closed[session].ending is ending
