"""A whole cell without devices: the real scheduler against workers that report whatever, whenever the test says."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from fractions import Fraction
from typing import TypeVar

from longtake.core.effects import (
    Closed,
    Discard,
    Dispatch,
    Effect,
    Emit,
    EncodeText,
    Forget,
    Give,
    Load,
    PrepareStream,
    Stow,
    Take,
)
from longtake.core.events import (
    Ack,
    CueRequest,
    Event,
    OpDone,
    Open,
    StreamPrepared,
    TextEncoded,
    Tick,
    WorkerJoined,
    WorkerLost,
)
from longtake.core.fleet.worker import Worker
from longtake.core.flow import Pace
from longtake.core.limits import Limits
from longtake.core.recipe.geometry import Geometry
from longtake.core.recipe.graph import Graph, Kind, Op
from longtake.core.recipe.recipe import Level, Recipe
from longtake.core.scheduler import Scheduler
from longtake.core.sessions.session import Session
from longtake.core.work import (
    Ability,
    CueId,
    DecodeWork,
    ForwardWork,
    FromLane,
    FromLatent,
    Role,
    SegmentSettings,
    SessionId,
    WorkerId,
)
from tests.core.support.image_model import Content, Images

T = TypeVar("T")
SETTINGS = SegmentSettings(codec="raw", quality=0)


def recipe(level: Level = Level.OUTPUT, *, window: int | None = 9, sinks: int = 0, steps: int = 4) -> Recipe:
    entries = tuple(1000 - 1000 * step // steps for step in range(steps))
    return Recipe(
        steps=entries, shift=5.0, level=level, frames_per_block=3, window_frames=window, sink_frames=sinks,
        block_limit=None if window else 8,
    )  # fmt: skip


def geometry(frames_per_block: int = 3) -> Geometry:
    return Geometry(width=64, height=64, fps=Fraction(16), latent_channels=16, frames_per_block=frames_per_block)


@dataclass
class Cell:
    """Drives a scheduler, checks every dispatch against the op order, and models what each page holds."""

    recipe: Recipe
    denoisers: int = 2
    decoders: int = 1
    pages: int = 400
    slots: int = 16
    batch_limit: int = 1
    mixes_kinds: bool = True
    chain_length: int = 1
    limits: Limits = field(default_factory=Limits)
    now_s: float = 0.0
    effects: list[Effect] = field(default_factory=list)
    queues: dict[WorkerId, deque[Dispatch]] = field(default_factory=dict)
    answers: deque[Event] = field(default_factory=deque)
    done: set[tuple[SessionId, Op]] = field(default_factory=set)
    sent: set[tuple[SessionId, Op]] = field(default_factory=set)
    holds: dict[tuple[WorkerId, int], Content | None] = field(default_factory=dict)
    """(worker, page) -> what was written last."""
    texts: set[tuple[WorkerId, SessionId, int]] = field(default_factory=set)
    """Which worker holds which version of whose prompt."""
    stuck: set[WorkerId] = field(default_factory=set)
    """Workers whose running dispatch takes for ever."""
    journal: set[tuple[SessionId, int, int]] = field(default_factory=set)
    """(session, block, step): outputs of denoise ops that something may still start from."""
    segments: dict[SessionId, list[int]] = field(default_factory=dict)
    closed: dict[SessionId, Closed] = field(default_factory=dict)
    versions: dict[tuple[SessionId, int], set[int]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.images = Images(self.holds)
        self.graph = Graph(self.recipe)
        self.scheduler = Scheduler(self.recipe, geometry(self.recipe.frames_per_block), self.limits)
        for number in range(self.denoisers):
            self.join(WorkerId(f"denoise-{number}"), Role.DENOISE, self.pages)
        for number in range(self.decoders):
            self.join(WorkerId(f"decode-{number}"), Role.DECODE, self.slots)

    def join(self, worker: WorkerId, role: Role, capacity: int) -> None:
        self.queues[worker] = deque()
        self.images.lose(worker)
        ability = Ability(
            capacity=capacity,
            batch_limit=self.batch_limit,
            mixes_kinds=self.mixes_kinds,
            chain_length=self.chain_length if role is Role.DENOISE else 1,
        )
        self.send(WorkerJoined(now_s=self.now_s, worker=worker, role=role, ability=ability))

    def lose(self, worker: WorkerId) -> None:
        """The worker is gone, with what it holds and was told to do."""
        self.texts = {text for text in self.texts if text[0] != worker}
        self.queues[worker].clear()
        self.images.lose(worker)
        self.answers = deque(
            answer
            for answer in self.answers
            if not isinstance(answer, StreamPrepared | TextEncoded) or answer.worker != worker
        )
        self.send(WorkerLost(now_s=self.now_s, worker=worker, reason="test"))

    def open(
        self,
        name: str,
        *,
        pictures: int | None = None,
        window: int = 4,
        cues: tuple[CueRequest, ...] = (),
        pace: Pace = Pace.FAST,
        prompt: str = "p",
    ) -> SessionId:
        session = SessionId(name)
        self.send(
            Open(now_s=self.now_s, session=session, prompt=prompt, seed=1, pace=pace, window=window,
                 picture_limit=pictures, settings=SETTINGS, cues=cues)
        )  # fmt: skip
        return session

    def send(self, event: Event) -> list[Effect]:
        return self.follow(self.scheduler.handle(event))

    def follow(self, effects: list[Effect]) -> list[Effect]:
        """Do what the scheduler has decided."""
        self.effects += effects
        for effect in effects:
            self._perform(effect)
        self.check()
        return effects

    def move(self, session: SessionId, lane: int, target: WorkerId) -> list[Effect]:
        """Begin a move by hand, as the balance does."""
        return self.follow(self.scheduler.move(session, lane, target))

    def session(self, name: str) -> Session:
        """The record of a session."""
        return self.scheduler.inspect(SessionId(name))

    def worker(self, name: str) -> Worker:
        """The record of a worker."""
        return self.scheduler.worker(WorkerId(name))

    @property
    def there(self) -> list[SessionId]:
        """The sessions that the scheduler has, in the order they were opened."""
        return [view.session for view in self.scheduler.sessions()]

    @property
    def records(self) -> list[Session]:
        """Those of all sessions, in the order they were opened."""
        return [self.session(name) for name in self.there]

    @property
    def fleet(self) -> list[Worker]:
        """The records of all workers, by id."""
        return [self.worker(view.worker) for view in self.scheduler.workers()]

    def later(self, seconds: float) -> None:
        """Let time pass."""
        self.now_s += seconds
        self.send(Tick(now_s=self.now_s))

    def check(self) -> None:
        """After every event."""
        self.scheduler.check()

    def _perform(self, effect: Effect) -> None:
        match effect:
            case Dispatch():
                self._check_dispatch(effect)
                self.queues[effect.worker].append(effect)
            case PrepareStream():
                self.answers.append(
                    StreamPrepared(now_s=self.now_s, worker=effect.worker, session=effect.session, header=b"h",
                                   media_type="video/x")
                )  # fmt: skip
            case EncodeText():
                self.answers.append(
                    TextEncoded(now_s=self.now_s, worker=effect.worker, conditioning=effect.conditioning, notice="")
                )
            case Forget():
                self.texts = {
                    text
                    for text in self.texts
                    if text[:2] != (effect.worker, effect.session) or effect.version not in (None, text[2])
                }
            case Stow() | Load() | Give() | Take() | Discard():
                self.images.order(effect)
            case Emit():
                self.segments.setdefault(effect.session, []).append(effect.block)
            case Closed():
                self.closed[effect.session] = effect
            case _:
                pass

    def _check_dispatch(self, dispatch: Dispatch) -> None:
        works, queue = works_of(dispatch), self.queues[dispatch.worker]
        runs = 1 if isinstance(dispatch.work, DecodeWork) else self.chain_length
        assert len(queue) < 1 + runs, "more than are running and one queued dispatch"
        ahead = {(work.session, op_of(work)) for other in queue for work in works_of(other)}
        mates = [(work.session, op_of(work)) for work in works]
        for work in works:
            op = op_of(work)
            assert (work.session, op) not in self.sent, f"{op} was dispatched twice"
            self.sent.add((work.session, op))
            beside = mates[: mates.index((work.session, op))] if self.limits.fused_passes else []
            for need in self.graph.needs(op):
                before = any((work.session, need) in ops for ops in (self.done, ahead, beside))
                assert before, f"{op} was dispatched before {need}"
            self._check_input(work)
        self.journal -= {(ref.session, ref.block, ref.step) for ref in dispatch.spent}
        self._check_batch(dispatch)

    def _check_input(self, work: ForwardWork | DecodeWork) -> None:
        """Latents that travel must have arrived and not been given up; a chain of workers keeps none."""
        if isinstance(work, DecodeWork):
            ref = work.latents
        elif isinstance(work.input, FromLatent):
            ref = work.input.ref
        else:
            assert not (isinstance(work.input, FromLane) and self.chain_length > 1)
            return
        assert (ref.session, ref.block, ref.step) in self.journal, f"{op_of(work)} starts from latents that are missing"

    def _check_batch(self, dispatch: Dispatch) -> None:
        if isinstance(dispatch.work, DecodeWork):
            return
        items = dispatch.work
        assert 1 <= len(items) <= self.batch_limit, f"a batch of {len(items)}"
        assert len(dispatch.attach_conditioning) == len(items)
        for item, attached in zip(items, dispatch.attach_conditioning, strict=True):
            text = (dispatch.worker, item.session, item.conditioning.version)
            assert attached == (text not in self.texts), f"{text} is there already, or is not sent"
            self.texts.add(text)
        assert len({(len(item.reads), len(item.positions)) for item in items}) == 1, "unequal shapes"
        assert self.mixes_kinds or len({item.kind for item in items}) == 1, "ops of two kinds"
        lanes = {(item.session, item.lane) for item in items}
        assert self.limits.fused_passes or len(lanes) == len(items), "two ops of one lane in a batch"
        pages = [page for item in items for page in item.writes]
        for number, item in enumerate(items):
            others = {
                page
                for other in (*items[:number], *items[number + 1 :])
                if not is_fused(other, item)
                for page in other.writes
            }
            assert not others & set(item.reads), "an item reads what its mate writes"
        assert len(set(pages)) == len(pages)

    def answer(self) -> None:
        """Deliver what decode workers owe to openings and cues."""
        while self.answers:
            self.send(self.answers.popleft())

    def finish(self, worker: WorkerId, *, seconds: float = 0.0) -> Dispatch:
        """The worker finishes its oldest dispatch, and says that it took `seconds`."""
        dispatch = self.queues[worker].popleft()
        for work in works_of(dispatch):
            if isinstance(work, ForwardWork):
                self.run_forward(dispatch.worker, work)
            self.done.add((work.session, op_of(work)))
        works = works_of(dispatch)
        denoised = [work for work in works if isinstance(work, ForwardWork) and work.kind is Kind.DENOISE]
        done = OpDone(
            now_s=self.now_s,
            worker=worker,
            sequence=dispatch.sequence,
            sha256=("x",) * len(denoised),
            seconds=seconds,
            ops=len(works),
        )
        self.send(done)
        return dispatch

    def run_forward(self, worker: WorkerId, work: ForwardWork) -> None:
        """Writes tag pages with what they hold, reads must find exactly the window of the own lane."""
        follower = (work.session, Op(Kind.DENOISE, work.step + 1, work.block))
        if work.kind is Kind.DENOISE and follower not in self.sent:  # else it starts from what the worker keeps
            self.journal.add((work.session, work.block, work.step + 1))
        self.versions.setdefault((work.session, work.block), set()).add(work.conditioning.version)
        for page, frame in zip(work.writes, work.positions, strict=True):
            self.holds[worker, page] = Content(work.session, work.lane, frame, work.kind)
        window = self.graph.window
        frames = sorted(window.frames(work.block), key=window.slot)
        sealed = self.graph.sealing_op(work.lane, work.block).kind
        expected = [
            Content(
                self.writer(work.session, frame), work.lane, frame, work.kind if frame in work.positions else sealed
            )
            for frame in frames
        ]
        found = [self.holds.get((worker, page)) for page in work.reads]
        assert found == expected, f"{op_of(work)} reads {found}, should read {expected}"

    def writer(self, session: SessionId, frame: int) -> SessionId:
        """Who wrote a frame that the session reads."""
        return session

    def finish_and_acknowledge(self, worker: WorkerId) -> None:
        work = self.finish(worker).work
        if isinstance(work, DecodeWork) and work.session not in self.closed:
            self.send(Ack(now_s=self.now_s, session=work.session, segment=work.block))

    def steps(self, count: int) -> None:
        """Finish `count` dispatches, workers in turn, acknowledging every segment."""
        for turn in range(count):
            self.finish_and_acknowledge(self.busy[turn % len(self.busy)])

    def copy(self, *, fail: bool = False) -> None:
        """Every worker that can do an order about an image does one."""
        for worker in self.images.ready:
            if worker in self.images.ready:
                answer = self.images.step(worker, now_s=self.now_s, fail=fail)
                if answer is not None:
                    self.send(answer)

    @property
    def busy(self) -> list[WorkerId]:
        """Workers that can finish a dispatch."""
        return [worker for worker, queue in self.queues.items() if queue and worker not in self.stuck]

    def run(self, *, acknowledge: bool = True, limit: int = 100_000) -> None:
        """Let everything finish in round-robin order, acknowledging each segment, until nothing is left to do."""
        for _ in range(limit):
            self.answer()
            self.copy()
            workers = self.busy
            if not workers and not self.images.ready:
                return
            for worker in workers:
                if self.queues[worker]:
                    self.finish_and_acknowledge(worker) if acknowledge else self.finish(worker)
                self.answer()
        raise AssertionError("the cell does not come to rest")


def is_fused(commit: ForwardWork, denoise: ForwardWork) -> bool:
    """Whether they are the two halves of a fused pass: a commit, and what denoises the lane's next block."""
    same_lane = (commit.session, commit.lane) == (denoise.session, denoise.lane)
    kinds = (commit.kind, denoise.kind) == (Kind.COMMIT, Kind.DENOISE)
    return same_lane and kinds and commit.block + 1 == denoise.block


def works_of(dispatch: Dispatch) -> tuple[ForwardWork, ...] | tuple[DecodeWork]:
    """The ops of a dispatch."""
    return (dispatch.work,) if isinstance(dispatch.work, DecodeWork) else dispatch.work


def forwards_of(cell: Cell) -> list[ForwardWork]:
    """Every denoise and commit op that was dispatched, in order."""
    return [work for d in effects_of(cell, Dispatch) if not isinstance(d.work, DecodeWork) for work in d.work]


def cue(name: str, *, block: int | None = None, picture: int | None = None, prompt: str = "q") -> CueRequest:
    return CueRequest(cue=CueId(name), prompt=prompt, block=block, picture=picture)


def op_of(work: ForwardWork | DecodeWork) -> Op:
    if isinstance(work, DecodeWork):
        return Op(Kind.DECODE, 0, work.block)
    return Op(work.kind, work.step, work.block)


def effects_of(cell: Cell, kind: type[T]) -> list[T]:
    return [effect for effect in cell.effects if isinstance(effect, kind)]
