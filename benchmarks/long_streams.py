"""One stream of 10^5 blocks by each recipe: what it holds in the end, and that every latent is the one it must be.

python -m benchmarks.long_streams --recipe longlive --blocks 100000 --json
python -m benchmarks.long_streams --recipes all

The real engine, scheduler and journal, stepped by hand on a clock that does not wait, over two simulated denoise
workers and a decoder. All the time the client cues (cues recache, cut or go back where the recipe can), takes its time,
pauses until the stream is parked, and now and then a worker is lost; what is shed is drawn. Every block is compared
with the one that is computed by hand (by_hand.py). What the stream and its engine hold is the most that was seen within
the first tenth of the blocks, and within the last.
"""

from __future__ import annotations

import json
import random
import sys
import time
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from fractions import Fraction

import click

from benchmarks.by_hand import Model, text_of
from benchmarks.held import Held, held_by
from cluster.cell.engine import Engine
from cluster.cell.inbox import Inbox
from cluster.cell.journal import GivenPictures
from cluster.cell.outbox import ClientMessage, Outbox, SegmentOut
from longtake.core.cell import Cell
from longtake.core.effects import Closed, CueAccepted, Effect, Recovered, Refused, Take
from longtake.core.endings import Ending
from longtake.core.errors import InternalFault
from longtake.core.events import Ack, Cue, CueRequest, Event, Open, Pause, Play, Tick
from longtake.core.facts import Renewed
from longtake.core.flow import Pace
from longtake.core.limits import Limits
from longtake.core.recipe.blocks import BlockPlan
from longtake.core.recipe.cues import Back, CueChange, CueEffect, CueRule
from longtake.core.recipe.geometry import Geometry
from longtake.core.recipe.recipe import Recipe
from longtake.core.scheduler import Scheduler
from longtake.core.sessions.life import State
from longtake.core.sessions.session import Session
from longtake.core.work import Ability, Continuity, CueId, ImageId, Loss, Role, SegmentSettings, SessionId, WorkerId
from longtake.recipes import find_recipe, shipped
from workers.messages import Down, Introduction
from workers.simulated import arithmetic
from workers.simulated.arithmetic import REACH
from workers.simulated.fake import FakeWorker, Image
from workers.simulated.lanes import SimulatedLanes

SESSION = SessionId("long")
GEOMETRY = Geometry(width=16, height=16, fps=Fraction(16), latent_channels=1, blocks=BlockPlan(frames=3))
"""The smallest there is: latents are only names."""
SEED = 11
WINDOW = 4
CUE_EVERY, PARK_EVERY, LOSE_EVERY, LOOK_EVERY = 23, 509, 1009, 41
TENTHS = 10
BACK = 5
"""So many shots before its own a stream may go back."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One stream."""

    recipe: str
    blocks: int
    wrong: int
    """Blocks whose latents are others than those by hand."""
    cues: int
    renewals: int
    parks: int
    losses: int
    shed: int
    """Blocks that took fewer steps than usual."""
    first: Held
    last: Held
    us_a_block: tuple[float, float]
    """Time of engine, workers and what is computed by hand: within the first tenth, and within the last."""

    @property
    def is_flat(self) -> bool:
        """Whether the end holds no more than the beginning, but for an eighth of what varies with the moment."""
        first, last = asdict(self.first), asdict(self.last)
        return all(last[name] <= first[name] * 1.125 + 1 for name in first)


class Port:
    """The engine's end of the link to a worker."""

    def __init__(self) -> None:
        self.messages: deque[Down] = deque()

    def send(self, message: Down) -> None:
        """See cluster.cell.attached.Port."""
        self.messages.append(message)

    def end(self, reason: str) -> None:
        """See cluster.cell.attached.Port."""
        self.messages.clear()


@dataclass(slots=True)
class Worker:
    """A worker without a thread."""

    introduction: Introduction
    fake: FakeWorker
    port: Port


@dataclass
class Asked:
    """The course of the stream (benchmarks.courses.Course), as far as blocks to come need it."""

    blocks: int | None
    turns: dict[int, tuple[bytes, CueEffect]]
    """By block, what stands for the prompt from there on, and what the cue does beside."""
    newest_load: int = 0
    """That of the block that is computed next."""
    given_frames: int = 0
    reference: bytes = b""
    """What it looks at."""

    def given(self, frames: range) -> bytes:
        """See Course."""
        raise NotImplementedError

    def seed(self, block: int) -> int:
        """See Course."""
        return SEED

    def text(self, block: int) -> bytes:
        """See Course."""
        first = max(turn for turn in self.turns if turn <= block)
        for older in [turn for turn in self.turns if turn < first]:
            del self.turns[older]
        return self.turns[first][0]

    def load(self, block: int) -> int:
        """See Course."""
        return self.newest_load

    def change(self, block: int) -> CueEffect | None:
        """See Course."""
        return self.turns[block][1] if block in self.turns else None


class LongStream:
    """One stream on its way through a cell of its own."""

    def __init__(self, recipe: Recipe, blocks: int) -> None:
        geometry = GEOMETRY.divided(recipe.blocks)
        self.blocks, self.now_s, self.draw = blocks, 0.0, random.Random(blocks)
        self._loads = random.Random(f"loads {blocks}")
        scheduler = Scheduler(recipe, geometry, Limits(park_after_s=0.0, rewind_blocks=4))
        scheduler.cell.load_rule = self._load
        self._inbox = Inbox()
        self.engine = Engine(scheduler, self, now_s=lambda: self.now_s, inbox=self._inbox)
        self.workers: dict[WorkerId, Worker] = {}
        self._transit: dict[ImageId, Image] = {}
        self.recipe, self.geometry = recipe, geometry
        for role, count in ((Role.DENOISE, 2), (Role.DECODE, 1)):
            for number in range(count):
                self._join(WorkerId(f"{role.value}-{number}"), role)
        self._outbox = Outbox()
        self.course = Asked(blocks=blocks, turns={0: (text_of(b"first"), CueChange.SWAP)})
        self._by_hand = Model(recipe=recipe, geometry=geometry, reach=REACH).latents(self.course)
        self._decoder = arithmetic.first_state(REACH)
        self._asked: dict[CueId, tuple[str, CueEffect | None]] = {}
        self._owed: list[int] = []
        self.next = self.wrong = self.cues = self.renewals = self.parks = self.losses = self.shed = self.shot = 0
        self.is_over = False
        self._is_parking = False
        self.seen: list[Held] = []
        """The most that was seen, by tenths."""
        self.ended_s: list[float] = [time.perf_counter()]
        """When each tenth was over; before them when the first began."""

    def _load(self, cell: Cell, session: Session, block: int, now_s: float) -> int:
        return self._loads.randint(0, session.graph.recipe.steps.most_load)

    def _join(self, name: WorkerId, role: Role) -> None:
        pages = 2 * self.recipe.lane_count * (self.recipe.page_count + self.recipe.blocks.most)
        depth = REACH.layers if role is Role.DENOISE else REACH.latents
        ability = Ability(capacity=pages if role is Role.DENOISE else 1, joint_ops=64, batch_limit=2, mixes_kinds=True,
                          forward_s=0.001, numerics="simulated", replay_depth=depth)  # fmt: skip
        introduction = Introduction(worker=name, role=role, ability=ability, model_digest="m")
        fake, port = FakeWorker(SimulatedLanes(self.geometry, pages=pages), self._transit), Port()
        self.workers[name] = Worker(introduction, fake, port)
        self.engine.join(introduction, port)

    # --- its way ----------------------------------------------------------------------------------------------------

    def run(self) -> None:
        """From its beginning to its end."""
        self.engine.attach(SESSION, self._outbox)
        if images := (b"an image",) * self.recipe.context.reference_frames:
            self.engine.journal.give(SESSION, GivenPictures(references=images))
            made = self.geometry.divided(BlockPlan(frames=1))
            frames = [arithmetic.latents_of(arithmetic.encoder_after(b"", (image,)), made) for image in images]
            self.course.reference = b"".join(frames)
        pictures, settings = self.geometry.first_picture(self.blocks), SegmentSettings(codec="raw", quality=0)
        self.engine.submit(
            Open(now_s=self.now_s, session=SESSION, prompt="first", seed=SEED, pace=Pace.FAST, window=WINDOW,
                 picture_limit=pictures, settings=settings)
        )  # fmt: skip
        while not self.is_over:
            if not self._work():
                self._stir()
        if any(view.free != view.ability.capacity for view in self.engine.scheduler.workers()):
            raise InternalFault("pages are left behind")

    def _work(self) -> bool:
        """Everything that can go on does, once; whether there was anything."""
        self.now_s += 0.001
        is_busy = False
        while (event := self._inbox.take()) is not None:
            self.engine.step(event)
            is_busy = True
        while len(self._outbox):
            self._hear(_taken(self._outbox))
            is_busy = True
        for worker in list(self.workers.values()):
            is_busy |= self._perform(worker)
        return is_busy

    def _perform(self, worker: Worker) -> bool:
        if not worker.port.messages:
            return False
        message = worker.port.messages.popleft()
        if isinstance(message, Take) and message.image not in self._transit:  # it is being given
            worker.port.messages.append(message)
            return True
        report = worker.fake.perform(message)
        if report is not None:
            self.engine.hear(worker.introduction.worker, worker.port, report)
        return True

    def _stir(self) -> None:
        """Nothing goes on by itself: the client says that it has shown what it has, or plays on."""
        if self._is_parking:
            self.now_s += 1.0
            self.engine.submit(Tick(now_s=self.now_s))
            view = self.engine.scheduler.session(SESSION)
            if view is not None and view.state is State.PARKED:
                self.parks += 1
                self._is_parking = False
                self.engine.submit(Play(now_s=self.now_s, session=SESSION))
        elif self._owed:
            self.engine.submit(Ack(now_s=self.now_s, session=SESSION, segment=self._owed[-1]))
            self._owed.clear()
        else:
            self.now_s += 1.0
            self.engine.submit(Tick(now_s=self.now_s))
            if self.now_s > 1e9:
                raise InternalFault(f"it does not go on after {self.next} blocks")

    # --- what comes -------------------------------------------------------------------------------------------------

    def fold(self, event: Event, effects: Sequence[Effect]) -> None:
        """See monitoring.folding.recorder.Recorder."""
        for effect in effects:
            if isinstance(effect, Renewed):
                self.renewals += 1
            elif isinstance(effect, Recovered) and effect.continuity is not Continuity.EXACT:
                raise InternalFault(f"{effect}")
            elif isinstance(effect, CueAccepted) and effect.cue is not None:
                prompt, change = self._asked.pop(effect.cue)
                self.course.turns[effect.block] = text_of(prompt.encode()), self.recipe.cues.of(change)
                self.cues += 1

    def _hear(self, message: ClientMessage) -> None:
        match message:
            case SegmentOut():
                self._segment(message)
            case Closed(ending=Ending.COMPLETED):
                self.is_over = True
            case Closed() | Refused():
                raise InternalFault(f"{message}")
            case _:
                pass

    def _segment(self, message: SegmentOut) -> None:
        block = message.emit.block
        if block != self.next:
            raise InternalFault(f"segment {block} comes, {self.next} was expected")
        self.next += 1
        self.course.newest_load = message.emit.load
        self.shed += message.emit.load > 0
        self.shot = message.emit.shot
        name, self._decoder = arithmetic.decoded(next(self._by_hand), self._decoder, self.geometry)
        self.wrong += message.data != name
        self._owed.append(block)
        if self.draw.random() < 0.7:
            self.engine.submit(Ack(now_s=self.now_s, session=SESSION, segment=block))
            self._owed.clear()
        self._act(block)
        if not block % LOOK_EVERY:
            self._look(block)

    def _act(self, block: int) -> None:
        """What befalls the stream at this block."""
        if block % CUE_EVERY == 1 and block < self.blocks - 2 * CUE_EVERY:
            change = self.draw.choice(self._changes())
            cue = CueId(f"c{block}")
            self._asked[cue] = f"prompt {block % 1009}", change
            ahead = self.draw.choice([None, block + 9, block + 20])
            request = CueRequest(cue=cue, prompt=self._asked[cue][0], block=ahead, change=change)
            self.engine.submit(Cue(now_s=self.now_s, session=SESSION, request=request))
        if block % PARK_EVERY == PARK_EVERY - 1:
            self._is_parking = True
            self.engine.submit(Pause(now_s=self.now_s, session=SESSION))
        if block % LOSE_EVERY == LOSE_EVERY - 1 and not self.recipe.memory.folds:  # what is rebuilt is approximate then
            lost = self.workers[self.draw.choice(list(self.workers))]
            name = lost.introduction.worker
            self.engine.leave(name, lost.port, "it is lost", Loss.LINK)
            self._join(name, lost.introduction.role)
            self.losses += 1

    def _changes(self) -> list[CueEffect | None]:
        """What a cue may do."""
        can_recache, can_cut = self.recipe.cues.change is not CueRule.SWAP, self.recipe.cues.cut
        shots = range(max(0, self.shot - BACK), self.shot + 1)
        backs: list[CueEffect | None] = [*map(Back, shots), CueChange.CUT, CueChange.CUT]
        return [None, None, CueChange.SWAP, *[CueChange.RECACHE] * can_recache, *backs * can_cut]

    def _look(self, block: int) -> None:
        if SESSION not in self.engine.scheduler.cell.sessions:  # it closed with its last segment
            return
        tenth = block * TENTHS // self.blocks
        held = held_by(self.engine, SESSION)
        if tenth == len(self.seen):
            self.seen.append(held)
            self.ended_s += [time.perf_counter()] * (tenth > 0)
        self.seen[tenth] = self.seen[tenth].or_more(held)


def _taken(outbox: Outbox) -> ClientMessage:
    """The oldest message; there is one, so there is nothing to wait for."""
    try:
        outbox.get().send(None)
    except StopIteration as done:
        message: ClientMessage = done.value
        return message
    raise InternalFault("an outbox that holds messages lets its reader wait")


def measure(name: str, recipe: Recipe, blocks: int) -> Row:
    """A stream by this recipe."""
    made = LongStream(recipe, blocks)
    made.run()
    ends = [*made.ended_s, time.perf_counter()]
    tenth = blocks / TENTHS
    return Row(
        recipe=name,
        blocks=made.next,
        wrong=made.wrong,
        cues=made.cues,
        renewals=made.renewals,
        parks=made.parks,
        losses=made.losses,
        shed=made.shed,
        first=made.seen[0],
        last=made.seen[-1],
        us_a_block=(round(1e6 * (ends[1] - ends[0]) / tenth), round(1e6 * (ends[-1] - ends[-2]) / tenth)),
    )


def table(row: Row) -> Iterator[str]:
    """A row as people read it, first tenth → last."""
    yield f"{row.recipe}: {row.blocks} blocks, {row.wrong} wrong, {row.cues} cues, {row.renewals} lanes renewed, "
    yield f"{row.parks} parks, {row.losses} losses, {row.shed} shed; "
    first, last = asdict(row.first), asdict(row.last)
    yield ", ".join(f"{name} {first[name]} → {last[name]}" for name in first)
    yield f", us a block {row.us_a_block[0]:g} → {row.us_a_block[1]:g}{'' if row.is_flat else '; NOT FLAT'}"


@click.command()
@click.option("--recipe", "names", multiple=True, help="Of those that ship, or the path of a file; several allowed.")
@click.option("--recipes", "group", type=click.Choice(["all"]), help="Every recipe that ships.")
@click.option("--blocks", default=100_000, show_default=True, type=click.IntRange(100))
@click.option("--json", "as_json", is_flag=True, help="Print one object a recipe.")
def main(*, names: tuple[str, ...], group: str | None, blocks: int, as_json: bool) -> None:
    """Run long streams; exit 1 if a latent is wrong, or more is held in the end than in the beginning."""
    named = [*shipped().values()] if group == "all" else [find_recipe(name, field="--recipe") for name in names]
    is_right = True
    for each in named:
        row = measure(each.name, each.recipe, min(blocks, each.recipe.block_limit or blocks))
        is_right &= row.is_flat and not row.wrong
        click.echo(json.dumps(asdict(row) | {"is_flat": row.is_flat}) if as_json else "".join(table(row)))
    sys.exit(0 if is_right else 1)


if __name__ == "__main__":
    main()
