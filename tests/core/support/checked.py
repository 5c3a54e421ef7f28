"""A cell without devices: the real scheduler over fake workers, with a look at each dispatch and each read."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from cluster.cell.attached import event_of
from longtake.core.effects import (
    Closed,
    CueAccepted,
    Dispatch,
    DropJournal,
    Effect,
    Emit,
    EncodeText,
    Forget,
    Inherit,
    PrepareStream,
    Trim,
)
from longtake.core.events import (
    Cue,
    CueRequest,
    Event,
    Open,
    PicturesEncoded,
    StreamPrepared,
    TextEncoded,
    Tick,
    WorkerJoined,
    WorkerLost,
)
from longtake.core.fleet.worker import Worker
from longtake.core.flow import Pace
from longtake.core.limits import Limits
from longtake.core.parts import EncodePictures
from longtake.core.recipe.cues import CueChange, CueEffect, CueRule
from longtake.core.recipe.given import graph_with
from longtake.core.recipe.graph import Graph
from longtake.core.recipe.ops import Op
from longtake.core.recipe.recipe import Recipe
from longtake.core.scheduler import Scheduler
from longtake.core.sessions.session import Session
from longtake.core.work import (
    Ability,
    Continuity,
    CueId,
    DecodeWork,
    ForwardWork,
    FromLane,
    FromLatent,
    Loss,
    Role,
    SessionId,
    WorkerId,
)
from tests.core.support.batches import check_batch, check_quiet, is_joint
from tests.core.support.contents import SMALLEST, Contents
from tests.core.support.images import Images, Order
from tests.core.support.kept import Kept
from tests.core.support.parts import SETTINGS, geometry, op_of, works_of
from tests.core.support.unbegun import is_unbegun
from workers.messages import Decode, Done, Forward, ImageOrder
from workers.simulated.arithmetic import REACH
from workers.simulated.fake import FakeWorker
from workers.simulated.lanes import SimulatedLanes


@dataclass(frozen=True)
class OfRenewal:
    """What an op is a part of: the renewal before a block, for the first time or to rebuild a lane."""

    block: int
    is_new: bool


@dataclass
class CheckedCell:
    """Drives a scheduler over fake workers, and checks every dispatch and every page and state that an op reads."""

    recipe: Recipe
    denoisers: int = 2
    decoders: int = 1
    texters: int = 0
    """Text workers; with none, decode workers encode."""
    pages: int = 400
    slots: int = 16
    batch_limit: int = 1
    mixes_kinds: bool = True
    chain_length: int = 1
    joint_ops: int = 64
    numerics: Callable[[WorkerId], str] = lambda _: ""
    """The class of each worker."""
    limits: Limits = field(default_factory=Limits)
    now_s: float = 0.0
    effects: list[Effect] = field(default_factory=list)
    queues: dict[WorkerId, deque[Dispatch]] = field(default_factory=dict)
    answers: deque[Event] = field(default_factory=deque)
    done: set[tuple[SessionId, Op]] = field(default_factory=set)
    sent: set[tuple[SessionId, Op]] = field(default_factory=set)
    fakes: dict[WorkerId, FakeWorker] = field(default_factory=dict)
    """The workers that are there."""
    in_flight: dict[tuple[SessionId, Op], Forward | Decode] = field(default_factory=dict)
    """Ops as they were sent, with their bytes, until they are done."""
    copies: list[tuple[int, PrepareStream]] = field(default_factory=list)
    """Slots to be filled from others, and how many dispatches of their worker come before."""
    texts: set[tuple[WorkerId, SessionId, int]] = field(default_factory=set)
    """Which worker holds which version of whose prompt."""
    stuck: set[WorkerId] = field(default_factory=set)
    """Workers whose running dispatch takes for ever."""
    struck: set[SessionId] = field(default_factory=set)
    """Sessions that were there when a worker was lost, or an image: some of their ops may run once more."""
    replays: set[tuple[SessionId, Op]] = field(default_factory=set)
    """Ops in flight that were done before."""
    void: set[tuple[SessionId, Op]] = field(default_factory=set)
    """Ops in flight whose results count for nothing, since one of their session failed before them."""
    kept: Kept = field(default_factory=Kept)
    segments: dict[SessionId, list[int]] = field(default_factory=dict)
    closed: dict[SessionId, Closed] = field(default_factory=dict)
    versions: dict[tuple[SessionId, int], set[int]] = field(default_factory=dict)
    renewals: dict[tuple[SessionId, Op], OfRenewal] = field(default_factory=dict)
    """Ops in flight that commit a block anew."""
    asked: dict[tuple[SessionId, CueId], CueEffect | None] = field(default_factory=dict)
    """What cues have asked for."""

    others: dict[str, Recipe] = field(default_factory=dict)
    """Recipes that sessions may ask for by name."""
    graphs: dict[SessionId, Graph] = field(default_factory=dict)
    """Of sessions that asked for one."""

    def __post_init__(self) -> None:
        self.graph = Graph(self.recipe)
        self.images = Images(self.fakes)
        self.contents = Contents(self.graph_of, self.fakes)
        self.geometry = geometry(self.recipe.blocks.frames)
        self.scheduler = Scheduler(self.recipe, self.geometry, self.limits)
        for name, other in self.others.items():
            self.scheduler.serve(name, other)
        for number in range(self.denoisers):
            self.join(WorkerId(f"denoise-{number}"), Role.DENOISE, self.pages)
        for number in range(self.decoders):
            self.join(WorkerId(f"decode-{number}"), Role.DECODE, self.slots)
        for number in range(self.texters):
            self.join(WorkerId(f"text-{number}"), Role.TEXT, 1)

    def graph_of(self, session: SessionId) -> Graph:
        """The recipe of a session, compiled."""
        return self.graphs.get(session, self.graph)

    def join(self, worker: WorkerId, role: Role, capacity: int) -> None:
        self.queues[worker] = deque()
        ability = Ability(
            joint_ops=self.joint_ops,
            capacity=capacity,
            batch_limit=self.batch_limit,
            mixes_kinds=self.mixes_kinds,
            chain_length=self.chain_length if role is Role.DENOISE else 1,
            encodes_text=not self.texters,
            numerics=self.numerics(worker),
            replay_depth={Role.DENOISE: REACH.layers, Role.DECODE: REACH.latents}.get(role, 0),
        )
        self.send(WorkerJoined(now_s=self.now_s, worker=worker, role=role, ability=ability))

    def lose(self, worker: WorkerId, cause: Loss = Loss.LINK) -> None:
        """The worker is gone, with what it holds and was told to do."""
        self.texts = {text for text in self.texts if text[0] != worker}
        self.struck.update(record.id for record in self.records)
        self.queues[worker].clear()
        self.images.lose(worker)
        self.copies = [(ahead, order) for ahead, order in self.copies if order.worker != worker]
        self.answers = deque(
            answer
            for answer in self.answers
            if not isinstance(answer, StreamPrepared | TextEncoded | PicturesEncoded) or answer.worker != worker
        )
        self.send(WorkerLost(now_s=self.now_s, worker=worker, reason="test", cause=cause))

    def open(
        self,
        name: str,
        *,
        pictures: int | None = None,
        window: int = 4,
        cues: tuple[CueRequest, ...] = (),
        pace: Pace = Pace.FAST,
        prompt: str = "p",
        recipe: str = "",
        given: int = 0,
    ) -> SessionId:
        """`given` are latent frames that are given."""
        session = SessionId(name)
        if recipe in self.others or given:
            self.graphs[session] = graph_with(Graph(self.others.get(recipe, self.recipe)), given)
        self.send(
            Open(now_s=self.now_s, session=session, prompt=prompt, seed=1, pace=pace, window=window,
                 picture_limit=pictures, settings=SETTINGS, cues=cues, recipe=recipe, given_frames=given)
        )  # fmt: skip
        return session

    def send(self, event: Event) -> list[Effect]:
        for request in event.cues if isinstance(event, Open) else (event.request,) if isinstance(event, Cue) else ():
            self.asked.setdefault((event.session, request.cue), request.change)  # type: ignore[union-attr]
        if isinstance(event, WorkerJoined):
            self.images.lose(event.worker)
            pages = event.ability.capacity if event.role is Role.DENOISE else 0
            self.fakes[event.worker] = FakeWorker(SimulatedLanes(SMALLEST, pages=pages), self.images.sent)
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
        return list(self.scheduler.cell.sessions)

    @property
    def records(self) -> list[Session]:
        """Those of all sessions, in the order they were opened."""
        return list(self.scheduler.cell.sessions.values())

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
        parents = self.contents.parents
        vague = {session.id for session in self.records if session.continuity is not Continuity.EXACT}
        vague |= {child for child in self.there if child in parents and parents[child][0] in self.contents.vague}
        self.contents.vague |= {name for name in vague if self.graph_of(name).recipe.memory.folds}

    def _perform(self, effect: Effect) -> None:
        match effect:
            case Dispatch():
                self._check_dispatch(effect)
                self.queues[effect.worker].append(effect)
            case PrepareStream(image=int()):
                self._order(effect)
            case PrepareStream(origin=int()):
                self.copies.append((len(self.queues[effect.worker]), effect))
                self._copy(effect.worker, 0)
            case PrepareStream() | EncodeText() | EncodePictures() | Forget():
                self._tell(effect)
            case Emit():
                blocks = self.segments.setdefault(effect.session, [])
                blocks.append(effect.block)
                _, first = self.contents.parents.get(effect.session, (None, 0))
                assert blocks == list(range(first, first + len(blocks))), f"segments {blocks[-2:]} of {effect.session}"
            case CueAccepted():
                self._accepted(effect)
            case Closed():
                self.closed[effect.session] = effect
            case Trim() | Inherit() | DropJournal():
                self.kept.keep_less(effect)
            case _ if isinstance(effect, ImageOrder):
                self._order(effect)

    def _accepted(self, effect: CueAccepted) -> None:
        """Note whether the lanes of a stream are to be renewed before a block: of two cues the later counts."""
        default = (
            CueChange.SWAP if self.graph_of(effect.session).recipe.cues.change is CueRule.SWAP else CueChange.RECACHE
        )
        does = self.asked.get((effect.session, effect.cue)) or default
        self.contents.told(effect.session, effect.block, does)

    def _check_prompt(self, work: ForwardWork, before: int) -> None:
        """What is committed anew before a block is by its prompt; that of a shot by the one which the shot began by."""
        if self.graph_of(work.session).recipe.cues.cut:
            versions = self.versions.get((work.session, work.block), {work.conditioning.version})
            assert versions == {work.conditioning.version}, "of another prompt than the shot"
            return
        right = self.session(work.session).prompts.turn_at(before)
        assert (right.block, right.version) == (before, work.conditioning.version), "of another prompt"

    def _tell(self, effect: PrepareStream | EncodeText | EncodePictures | Forget) -> None:
        """Have a worker do it between its ops; the test says when its answer comes."""
        order = self.kept.given(effect, self.graph_of(effect.session)) if isinstance(effect, EncodePictures) else effect
        answer = self.fakes[effect.worker].perform(order)
        if isinstance(effect, Forget):
            if effect.version is None:  # slots of the session that are to be filled are given up before
                self.copies = [copy for copy in self.copies if not _is_undone(effect, copy[1])]
            gone, version = (effect.worker, effect.session), effect.version
            self.texts = {text for text in self.texts if text[:2] != gone or version not in (None, text[2])}
        if answer is not None:
            assert not isinstance(answer, Done)
            self.answers.append(event_of(answer, effect.worker, self.now_s))

    def _copy(self, worker: WorkerId, done: int) -> None:
        """Fill the slots whose turn it is when the worker has done so many dispatches more."""
        waiting, self.copies = self.copies, []
        for ahead, order in waiting:
            left = ahead - done if order.worker == worker else ahead
            if left:
                self.copies.append((left, order))
            elif order.session in self.there:
                self.contents.check_copy(order)
                self._tell(order)

    def _order(self, order: Order) -> None:
        for dispatch in self.queues[order.worker]:
            check_quiet(order, works_of(dispatch))
        self.images.order(order)

    def _needs(self, name: SessionId, op: Op) -> Iterator[Op]:
        """What an op waits for; of a step that its block does not take, what that would have waited for."""
        graph = self.graph_of(name)
        for need in graph.needs(op):
            if graph.number_of(need) in self.session(name).steps(need.block).skipped:
                yield from self._needs(name, need)
            else:
                yield need

    def _check_dispatch(self, dispatch: Dispatch) -> None:
        works, queue = works_of(dispatch), self.queues[dispatch.worker]
        runs = 1 if isinstance(dispatch.work, DecodeWork) else self.chain_length
        assert len(queue) < 1 + runs, "more than are running and one queued dispatch"
        ahead = {(work.session, op_of(work)) for other in queue for work in works_of(other)}
        mates = [(work.session, op_of(work)) for work in works]
        for work in works:
            op = op_of(work)
            graph, progress = self.graph_of(work.session), self.session(work.session).progress
            again = progress.is_replay(graph.number_of(op), op.block)
            renewal, is_new = self.session(work.session).renewal(op), progress.again.renews(graph.number_of(op))
            self.renewals.pop((work.session, op), None)
            if renewal is not None:
                self.renewals[work.session, op] = OfRenewal(renewal.block, is_new)
                assert isinstance(work, ForwardWork)
                self._check_prompt(work, renewal.block)
            may_again = is_new or work.session in self.struck or is_unbegun(work, graph, self.sent)
            assert (work.session, op) not in self.sent or may_again, f"{op} was dispatched twice"
            self.sent.add((work.session, op))
            self.void.discard((work.session, op))
            self.replays.discard((work.session, op))
            if again:
                assert may_again, f"{op} is done once more"
                self.replays.add((work.session, op))
            goes_along = self.limits.fused_passes or self.graph_of(work.session).joint is not None
            beside = mates[: mates.index((work.session, op))] if goes_along else []
            for need in self._needs(work.session, op):
                before = any((work.session, need) in ops for ops in (self.done, ahead, beside))
                assert before, f"{op} was dispatched before {need}"
            self.in_flight[work.session, op] = self._order_of(work)
        if not isinstance(dispatch.work, DecodeWork):
            joint = [work for work in works if self.graph_of(work.session).joint is not None]
            if not joint:
                assert len(works) <= self.batch_limit or is_joint(works), f"a batch of {len(works)}"
                check_batch(dispatch.work, mixes_kinds=self.mixes_kinds, fused_passes=self.limits.fused_passes)
            elif len({work.session for work in works}) > 1:  # else they go together, whatever the limit
                assert len(works) <= self.batch_limit, f"a batch of {len(works)}"
                first = {work.session: work for work in reversed(joint)}  # one of each stands for them all
                apart = tuple(item for item in dispatch.work if item not in joint or item is first[item.session])
                check_batch(apart, mixes_kinds=self.mixes_kinds, fused_passes=self.limits.fused_passes)
            for item, attached in zip(dispatch.work, dispatch.attach_conditioning, strict=True):
                text = (dispatch.worker, item.session, item.conditioning.version)
                assert attached == (text not in self.texts), f"{text} is there already, or is not sent"
                self.texts.add(text)
        for order in self.images.wanted(dispatch.worker):
            check_quiet(order, works)

    def _order_of(self, work: ForwardWork | DecodeWork) -> Forward | Decode:
        """Latents that travel must have arrived and not been given up; a chain of workers keeps none."""
        if isinstance(work, DecodeWork):
            return Decode(work=work, latents=self.kept.latents_of(work.latents, work))
        assert not (isinstance(work.input, FromLane) and self.chain_length > 1)
        latents = self.kept.latents_of(work.input.ref, work) if isinstance(work.input, FromLatent) else b""
        ref = work.conditioning
        return Forward(work=work, latents=latents, conditioning=self.kept.features(ref))


def _is_undone(forget: Forget, copy: PrepareStream) -> bool:
    """Whether a slot that is to be filled is given up before."""
    return (forget.worker, forget.session) == (copy.worker, copy.session)
