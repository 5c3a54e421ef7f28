"""A cell whose sessions are forked and parked, and whose clients acknowledge when the test says."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

from longtake.core.events import Ack, Ending, Open
from longtake.core.flow import Pace
from longtake.core.work import SessionId, SlotId, WorkerId
from tests.core.support.images import Order
from tests.core.support.world import SETTINGS, Cell


@dataclass
class ImageCell(Cell):
    """A cell with forks, in which everything is counted in the end."""

    acknowledged: dict[SessionId, int] = field(default_factory=dict)

    @property
    def parents(self) -> dict[SessionId, tuple[SessionId, int]]:
        """Of a fork: its parent and the first block of its own."""
        return self.contents.parents

    @property
    def stored(self) -> list[object]:
        """Images in the memory of workers."""
        return list(self.images.stored)

    @property
    def slot_states(self) -> list[tuple[WorkerId, SlotId]]:
        """Slots that are open."""
        return [(worker, slot) for worker, fake in self.fakes.items() for slot in fake.states]

    @property
    def moved(self) -> int:
        """Images that went from one worker to another."""
        return self.images.given

    @property
    def orders(self) -> dict[WorkerId, deque[Order]]:
        """Image orders that are to be done."""
        return self.images.orders

    @property
    def ordered(self) -> list[WorkerId]:
        """Workers that can do an image order now."""
        return self.images.ready

    def carry_out(self, worker: WorkerId, *, fails: bool = False) -> None:
        """The worker does its oldest image order, or cannot."""
        answer = self.images.step(worker, now_s=self.now_s, fail=fails)
        if answer is not None:
            self.send(answer)

    def fork(self, name: str, parent: SessionId, *, pictures: int | None = None, window: int = 4, seed: int = 1) -> int:
        """Fork a session; the first block of the new one. Refused: -1."""
        session = SessionId(name)
        before = self.session(parent) if parent in self.there else None
        block = -1 if before is None else before.next_block
        self.parents[session] = (parent, block)
        self.images.shares_pages = True
        self.done |= {(session, self.graph.op(chain.number, block - 1)) for chain in self.graph.chains if before}
        self.send(
            Open(now_s=self.now_s, session=session, prompt="f", seed=seed, pace=Pace.FAST, window=window,
                 picture_limit=pictures, settings=SETTINGS, fork=parent)
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
        for _ in range(100_000):
            self.answer()
            for worker in list(self.busy):
                self.finish(worker)
                self.answer()
            for worker in list(self.ordered):
                self.carry_out(worker)
                self.answer()
            owing = self.owing() if acknowledge else []
            for session in owing:
                self.acknowledge(session)
            if not (self.answers or self.busy or self.ordered or owing):
                return
        raise AssertionError("the cell does not come to rest")

    def check_empty(self) -> None:
        """Nothing is left of any session."""
        self.settle()
        assert self.scheduler.sessions() == ()
        assert all(worker.free == worker.capacity for worker in self.scheduler.workers())
        assert not (self.stored or self.images.sent or self.slot_states)
        assert not any(self.images.orders.values())
        assert not any(view.sessions for view in self.scheduler.workers())

    def ended_with(self, session: SessionId, ending: Ending) -> bool:
        """How the session ended."""
        return session in self.closed and self.closed[session].ending is ending
