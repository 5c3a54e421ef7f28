"""A cell whose workers have pages, slots and host memory with modelled contents, and stow, give, take and load.

Image orders run one after the other on each worker, whenever the test says, beside its ops. What is read must be just
what the stream wrote, in canonical order; whatever is moved while an op names it, or read where it is not, is an error.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

from longtake.core.effects import Discard, Dispatch, Effect, Emit, Forget, Give, Load, PrepareStream, Stow, Take
from longtake.core.events import Ack, Ending, Event, ImageFailed, Loaded, Open, Stowed, StreamPrepared
from longtake.core.flow import Pace
from longtake.core.work import DecodeWork, ForwardWork, ImageId, Role, SessionId, SlotId, WorkerId
from tests.core.support.image_model import Content
from tests.core.support.world import SETTINGS, Cell, works_of

State = tuple[SessionId, int]
"""Session and next block of a decoder slot."""
ImageOrder = Stow | Load | Give | Take | Discard | PrepareStream


@dataclass(slots=True)
class Image:
    session: SessionId
    contents: list[Content | None] | State


@dataclass
class ImageCell(Cell):
    """A cell that executes image effects."""

    orders: dict[WorkerId, deque[ImageOrder]] = field(default_factory=dict)
    stored: dict[tuple[WorkerId, ImageId], Image] = field(default_factory=dict)
    transit: dict[ImageId, Image] = field(default_factory=dict)
    slot_states: dict[tuple[WorkerId, SlotId], State] = field(default_factory=dict)
    parents: dict[SessionId, tuple[SessionId, int]] = field(default_factory=dict)
    """Of a fork: its parent and the first frame of its own."""
    first_blocks: dict[SessionId, int] = field(default_factory=dict)
    acknowledged: dict[SessionId, int] = field(default_factory=dict)
    copies: list[tuple[int, PrepareStream]] = field(default_factory=list)
    """Slots to be filled from others, and how many dispatches of their worker come before."""
    moved: int = 0
    """Images that went from one worker to another."""

    def join(self, worker: WorkerId, role: Role, capacity: int) -> None:
        self.orders[worker] = deque()
        super().join(worker, role, capacity)

    def lose(self, worker: WorkerId) -> None:
        """The worker is gone with all it holds; who waits for an image of it is disappointed."""
        self.orders[worker].clear()
        self.stored = {key: image for key, image in self.stored.items() if key[0] != worker}
        self.slot_states = {key: state for key, state in self.slot_states.items() if key[0] != worker}
        self.copies = [(ahead, order) for ahead, order in self.copies if order.worker != worker]
        for key in [key for key in self.holds if key[0] == worker]:
            del self.holds[key]
        super().lose(worker)

    def _perform(self, effect: Effect) -> None:
        match effect:
            case Stow() | Load() | Give() | Take() | Discard():
                if effect.worker in self.orders:
                    self._check_quiet(effect)
                    self.orders[effect.worker].append(effect)
            case PrepareStream() if effect.image is not None:
                self.orders[effect.worker].append(effect)
            case PrepareStream() if effect.origin is not None:
                self.copies.append((len(self.queues[effect.worker]), effect))
                self._copy(effect.worker, 0)
            case PrepareStream():
                self._fill(effect.worker, effect.slot, (effect.session, 0))
                super()._perform(effect)
            case Forget(version=None):
                self._forget(effect.worker, effect.session)
                super()._perform(effect)
            case Emit():
                super()._perform(effect)
                blocks = self.segments[effect.session]
                first = self.first_blocks.get(effect.session, 0)
                assert blocks == list(range(first, first + len(blocks))), f"segments {blocks[-2:]} of {effect.session}"
            case _:
                super()._perform(effect)

    # --- what is asked for while something else happens ------------------------------------------------------------

    def _check_quiet(self, order: Stow | Load | Give | Take | Discard) -> None:
        """No dispatch names the pages or the slot that an order is about."""
        for work in (work for dispatch in self.queues[order.worker] for work in works_of(dispatch)):
            if isinstance(work, ForwardWork):
                if isinstance(order, Stow) and isinstance(order.source, tuple):  # others may read what they share
                    named = set(order.source) & set(work.writes)
                else:
                    named = set(order.target if isinstance(order, Load) else ()) & {*work.reads, *work.writes}
                assert not named, f"{order} while {work} is dispatched"
            elif isinstance(order, Stow):
                assert order.source != work.slot, f"{order} while {work} is dispatched"

    def _check_dispatch(self, dispatch: Dispatch) -> None:
        super()._check_dispatch(dispatch)
        for order in self.orders[dispatch.worker]:
            if isinstance(order, Stow | Load):
                self._check_quiet(order)

    def _forget(self, worker: WorkerId, session: SessionId) -> None:
        self.stored = {key: image for key, image in self.stored.items() if key[0] != worker or image.session != session}
        for key in [key for key, state in self.slot_states.items() if key[0] == worker and state[0] == session]:
            del self.slot_states[key]

    def _fill(self, worker: WorkerId, slot: SlotId, state: State) -> None:
        assert (worker, slot) not in self.slot_states, f"slot {slot} of {worker} is taken"
        self.slot_states[worker, slot] = state

    # --- image orders -----------------------------------------------------------------------------------------------

    @property
    def ordered(self) -> list[WorkerId]:
        """Workers that can do an image order now."""
        return [worker for worker, orders in self.orders.items() if orders and self._can(orders[0])]

    def _can(self, order: ImageOrder) -> bool:
        if not isinstance(order, Take) or order.image in self.transit:
            return True
        giver = self.orders.get(order.origin, ())
        return not any(isinstance(other, Give) and other.image == order.image for other in giver)

    def carry_out(self, worker: WorkerId, *, fails: bool = False) -> None:
        """The worker does its oldest image order, or cannot."""
        order = self.orders[worker].popleft()
        answer = self._answer(order, fails=fails)
        if answer is not None:
            self.send(answer)

    def _answer(self, order: ImageOrder, *, fails: bool) -> Event | None:
        worker = order.worker
        image = None if order.image is None else self.stored.get((worker, order.image))
        match order:
            case Stow() if not fails:
                self.stored[worker, order.image] = Image(order.session, self._contents(order))
                return Stowed(now_s=self.now_s, worker=worker, image=order.image)
            case Stow(source=int() as slot):
                del self.slot_states[worker, SlotId(slot)]  # given up before it could be copied
            case Give() if image is not None:
                self.transit[order.image] = self.stored.pop((worker, order.image))
                self.moved += 1
                return None
            case Take() if order.image in self.transit:
                self.stored[worker, order.image] = self.transit.pop(order.image)
                return None
            case Give() | Take():
                return None
            case Discard():
                self.stored.pop((worker, order.image), None)
                return None
            case Load() if image is not None and not fails:
                assert isinstance(image.contents, list) and image.session == order.session
                for page, content in zip(order.target, image.contents, strict=True):
                    self.holds[worker, page] = content
                del self.stored[worker, order.image]
                return Loaded(now_s=self.now_s, worker=worker, image=order.image)
            case PrepareStream() if image is not None and not fails:
                assert isinstance(image.contents, tuple)
                self._fill(worker, order.slot, image.contents)
                assert order.image is not None
                del self.stored[worker, order.image]
                return StreamPrepared(
                    now_s=self.now_s, worker=worker, session=order.session, header=b"h", media_type="video/x"
                )
        assert order.image is not None
        self.stored.pop((worker, order.image), None)
        return ImageFailed(now_s=self.now_s, worker=worker, image=order.image, reason="no memory")

    def _contents(self, order: Stow) -> list[Content | None] | State:
        if isinstance(order.source, tuple):
            return [self.holds.get((order.worker, page)) for page in order.source]
        return self.slot_states.pop((order.worker, order.source))

    # --- ops --------------------------------------------------------------------------------------------------------

    def finish(self, worker: WorkerId, *, seconds: float = 0.0) -> Dispatch:
        work = self.queues[worker][0].work
        if isinstance(work, DecodeWork):
            state = self.slot_states.get((worker, work.slot))
            assert state == (work.session, work.block), f"slot {work.slot} holds {state}, {work} needs its own"
            self.slot_states[worker, work.slot] = (work.session, work.block + 1)
        self._copy(worker, 1)
        return super().finish(worker, seconds=seconds)

    def _copy(self, worker: WorkerId, done: int) -> None:
        """Fill the slots whose turn it is when the worker has done so many dispatches more."""
        waiting, self.copies = self.copies, []
        for ahead, order in waiting:
            left = ahead - done if order.worker == worker else ahead
            if left:
                self.copies.append((left, order))
                continue
            if order.session not in self.there:
                continue
            session = self.session(order.session)
            assert order.origin is not None
            state = self.slot_states[order.worker, order.origin]
            assert state == (session.request.fork, session.kin.first_block), (
                f"slot {order.origin} holds {state} when it is copied"
            )
            self._fill(order.worker, order.slot, (order.session, state[1]))
            super()._perform(order)

    def fork(self, name: str, parent: SessionId, *, pictures: int | None = None, window: int = 4, seed: int = 1) -> int:
        """Fork a session; the first block of the new one. Refused: -1."""
        session = SessionId(name)
        before = self.session(parent) if parent in self.there else None
        block = -1 if before is None else before.next_block
        self.parents[session] = (parent, block * self.recipe.frames_per_block)
        self.first_blocks[session] = block
        self.done |= {(session, self.graph.op(chain.number, block - 1)) for chain in self.graph.chains if before}
        self.send(
            Open(now_s=self.now_s, session=session, prompt="f", seed=seed, pace=Pace.FAST, window=window,
                 picture_limit=pictures, settings=SETTINGS, fork=parent)
        )  # fmt: skip
        return block if session in self.there else -1

    def writer(self, session: SessionId, frame: int) -> SessionId:
        """Who wrote a frame that the session reads: it, or whom it was forked from."""
        while session in self.parents and frame < self.parents[session][1]:
            session = self.parents[session][0]
        return session

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
        assert all(worker.free == worker.ability.capacity for worker in self.scheduler.workers())
        assert (self.stored, self.transit, self.slot_states) == ({}, {}, {})
        assert not any(self.orders.values())
        assert not any(view.sessions for view in self.scheduler.workers())

    def ended_with(self, session: SessionId, ending: Ending) -> bool:
        """How the session ended."""
        return session in self.closed and self.closed[session].ending is ending
