"""The identity matrix: every way to lay out and run a session must leave the very latents of the sequential oracle.

python -m tests.identity --seeds 20 --blocks 60        # all layouts, the pocket model and the simulated one; minutes
python -m tests.identity --recipes all                 # by every recipe that ships, not by the models' own alone
python -m tests.identity --recipes altered             # by recipes of which none ships
python -m tests.identity --break                       # one page is swapped for another: every row must fail

The denoise workers are real ones under the real engine, link messages and scheduler, as threads of this process; the
decode worker encodes prompts and makes no pictures, because the x0 of every block is compared by its SHA-256.
"""

from __future__ import annotations

import asyncio
import contextlib
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from itertools import combinations
from pathlib import Path

import click
import torch

from benchmarks.simulated_streams import small_pictures
from cluster.cell.engine import Engine
from cluster.cell.journal import GivenPictures
from cluster.cell.outbox import Outbox, SegmentOut
from cluster.launch.plan import POCKET, model_path, split
from cluster.render import in_process_workers
from longtake.core.effects import Closed, CueApplied, Dispatch, Emit, LoadImage, Refused, Stow
from longtake.core.endings import Ending
from longtake.core.errors import Declined
from longtake.core.events import Ack, Pause, Play, Tick
from longtake.core.facts import Renewed
from longtake.core.recipe.cues import CueRule
from longtake.core.recipe.given import plan_with
from longtake.core.scheduler import Scheduler
from longtake.core.sessions.life import State
from longtake.core.work import Ability, DecodeWork, Fork, Role, SessionId
from longtake.recipes import shipped
from tests.cluster.cell.threaded import over_threads
from tests.cluster.cell.world import Hashes, open_event
from tests.core.support.batches import is_fused, is_joint
from tests.identity.layouts import LAYOUTS, Layout
from tests.identity.streams import (
    FORK_BY,
    SIMULATED,
    Right,
    altered_recipes,
    encoded,
    given_frames,
    recipes,
    served_info,
)
from tests.identity.workers import OnePageSwapped, Ready, WithoutPictures
from workers.link.dial import Weights
from workers.messages import Introduction
from workers.models import weights
from workers.models.api import Compute
from workers.models.text import load_text_encoder
from workers.peers import MeetingPoint
from workers.simulated.workers import JOINT_OPS
from workers.start.loading import load_worker
from workers.start.spec import WorkerSpec

SWAP_EVERY = 5
FORK_AFTER = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """What a layout really did, so that a row cannot be equal for want of what it is about."""

    hashes: Mapping[int, Sequence[str]]
    """Of the x0 of every block, by seed."""
    largest_batch: int
    mixed: int
    """Forwards of commits and denoise ops together."""
    fused: int
    """Pairs of a commit and the next denoise op of its lane in one forward."""
    stowed: int
    """Lanes and decoder slots that were copied to host memory."""
    loaded: int
    """Lanes that came back from host memory, on the same worker or on another one."""
    forks: Mapping[int, Sequence[str]]
    """As `hashes`, of each session's fork, from its first block on."""
    turns: int
    """Cues that a segment was the first to show."""
    renewed: int
    """Lanes that were committed anew before a block."""
    joint: int
    """Forwards over ops that read what later ones of them write."""
    given: int
    """Latent frames that were given."""
    shots: int
    """That began with a cue."""

    def __str__(self) -> str:
        blocks = sum(len(fork) for fork in self.forks.values())
        return (
            f"batches up to {self.largest_batch}, {self.mixed} mixed, {self.fused} fused, {self.joint} joint; "
            f"{self.stowed} stowed, {self.loaded} loaded; {len(self.forks)} forks of {blocks} blocks; "
            f"{self.turns} cues, {self.renewed} lanes renewed, {self.shots} cuts, {self.given} frames given"
        )

    def wrong_blocks(self, right: Right) -> int:
        """Blocks that are missing, too many or other ones."""
        pairs = [(hashes, right.of(seed, given=self.given > 0)) for seed, hashes in self.hashes.items()]
        for seed, fork in self.forks.items():
            first = right.blocks - len(fork)
            pairs.append((fork, right.of(seed, fork=first) if 0 < first < FORK_BY else []))
        return sum(_differing(*pair) for pair in pairs)

    def missing(self, layout: Layout, right: Right) -> list[str]:
        """What the row is about and has not come to pass, so that it says nothing."""
        recipe = right.info.recipe
        is_joint = recipe.context.both_ways or recipe.cues.change is CueRule.JOINT
        live = 1 if recipe.joint is None else recipe.joint.live
        is_shared = min(layout.together, len(self.hashes)) > layout.workers
        there = {
            "cues": self.turns > 0,
            "batches": self.largest_batch > 1 or layout.batch_limit == 1 or not is_shared,
            "renewals": self.renewed > 0 or not (recipe.cues.cut or recipe.cues.change is not CueRule.SWAP),
            "cuts": self.shots > 0 or not recipe.cues.cut,
            "joint ops": self.joint > 0 or not is_joint,
            "iterations of all live blocks": self.largest_batch >= live,
            "parking": self.loaded > 0 or not layout.swapped,
            "moves": self.loaded > 0 or not layout.moved,
            "forks": len(self.forks) == len(self.hashes) or not layout.forked,
            "given frames": self.given > 0 or not layout.given,
        }
        return [what for what, is_there in there.items() if not is_there]


def _differing(found: Sequence[str], right: Sequence[str]) -> int:
    return sum(one != other for one, other in zip(found, right, strict=False)) + abs(len(found) - len(right))


def _seen(hashes: Hashes, seeds: Sequence[int], given: int) -> Seen:
    batches = [
        effect.work
        for effect in hashes.effects
        if isinstance(effect, Dispatch) and not isinstance(effect.work, DecodeWork)
    ]
    return Seen(
        hashes={seed: hashes.of(f"s{seed}") for seed in seeds},
        largest_batch=max(len(items) for items in batches),
        mixed=sum(len({item.kind for item in items}) > 1 for items in batches),
        fused=sum(is_fused(*pair) for items in batches for pair in combinations(items, 2)),
        stowed=sum(isinstance(effect, Stow) for effect in hashes.effects),
        loaded=sum(isinstance(effect, LoadImage) for effect in hashes.effects),
        forks={seed: fork for seed in seeds if (fork := hashes.of(f"fork of s{seed}"))},
        turns=sum(isinstance(effect, CueApplied) for effect in hashes.effects),
        renewed=sum(isinstance(effect, Renewed) for effect in hashes.effects),
        joint=sum(map(is_joint, batches)),
        given=given,
        shots=len(
            {(effect.session, effect.shot) for effect in hashes.effects if isinstance(effect, Emit) and effect.shot}
        ),
    )


def loaded_workers(layout: Layout, model: Path, device: str, meeting_point: str) -> list[Weights]:
    """The layout's workers; a batch limit is set, not measured, so that every size is tried."""
    info = served_info(model, layout.recipe)
    sessions = layout.together * (
        1 + layout.fused + layout.forked + layout.moved
    )  # room for spare blocks, forks, moves
    specs = in_process_workers(
        model, info.recipe, denoise=layout.workers, sessions=sessions, compute=Compute(device=device), max_batch=1
    )
    parts = [
        replace(part, meeting_point=meeting_point)
        for spec in specs
        for part in (split(spec, layout.split) if spec.role is Role.DENOISE else (spec,))
    ]
    # All at once: those of a chain agree on who holds what.
    with ThreadPoolExecutor(len(parts)) as threads:
        return list(threads.map(partial(_loaded, layout), parts))


def _loaded(layout: Layout, spec: WorkerSpec) -> Weights:
    torch.set_num_threads(1)
    return _denoiser(spec, layout) if spec.role is Role.DENOISE else _texts(spec, layout)


def _denoiser(spec: WorkerSpec, layout: Layout) -> Ready:
    loaded = load_worker(spec)
    mixes = layout.batch_limit > 1
    ability = Ability(capacity=spec.capacity, batch_limit=layout.batch_limit, mixes_kinds=mixes, joint_ops=JOINT_OPS)
    introduction = replace(loaded.introduction, ability=ability)
    if not layout.broken:
        return Ready(introduction, loaded.fresh, spec.meeting_point)

    return Ready(introduction, lambda: OnePageSwapped(loaded.fresh()), spec.meeting_point)


def _texts(spec: WorkerSpec, layout: Layout) -> Ready:
    info = served_info(spec.model, layout.recipe)
    text = load_text_encoder(spec.model, info, spec.compute)
    giving = partial(encoded, info)
    ability = Ability(capacity=spec.capacity)
    introduction = Introduction(worker=spec.worker, role=spec.role, ability=ability, model_digest="")
    return Ready(introduction, partial(WithoutPictures, text, giving), spec.meeting_point)


@contextlib.asynccontextmanager
async def running(layout: Layout, model: Path, device: str, hashes: Hashes) -> AsyncIterator[Engine]:
    """An engine with the layout's workers as threads."""
    info = weights.load_info(model)
    scheduler = Scheduler(info.recipe, info.geometry, layout.limits)
    if layout.recipe:
        scheduler.serve(layout.recipe, recipes()[layout.recipe])
    engine = Engine(scheduler, hashes)
    hashes.listen(engine)
    meeting_point = MeetingPoint()
    async with over_threads(
        engine, await asyncio.to_thread(loaded_workers, layout, model, device, meeting_point.address)
    ):
        yield engine


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """What all sessions of one layout have in common."""

    layout: Layout
    engine: Engine
    right: Right
    pictures: int
    """Of each."""
    given_frames: int

    async def session(self, seed: int, parent: SessionId | None = None) -> None:
        """A session from its beginning to its end; a fork of `parent`, if that is given."""
        session, outbox = SessionId(f"s{seed}" if parent is None else f"fork of {parent}"), Outbox()
        self.engine.attach(session, outbox)
        asked = self.right.asked(seed, given=self.given_frames > 0, is_fork=parent is not None)
        name = (str(seed).encode(),)  # in place of a picture
        count = 1 + self.engine.scheduler.cell.geometry.stride_time * (self.given_frames - 1)
        given = GivenPictures(
            given=name * (count if self.given_frames else 0),
            references=name * self.right.info.recipe.context.reference_frames,
        )
        if given.all:
            self.engine.journal.give(session, given)
        opening = {
            "seed": seed,
            "picture_limit": self.pictures,
            "fork": None if parent is None else Fork(session=parent),
            "window": 2 if self.layout.forked else 4,
            "recipe": self.layout.recipe,
            "cues": asked.cues,
            "given_frames": self.given_frames,
        }
        self.engine.submit(open_event(self.engine, session, asked.prompt, **opening))
        await self._consume(session, outbox, seed, is_parent=self.layout.forked and parent is None)

    async def _consume(self, session: SessionId, outbox: Outbox, seed: int, *, is_parent: bool) -> None:
        engine, fork = self.engine, asyncio.create_task(asyncio.sleep(0))
        while True:
            match await outbox.get():
                case SegmentOut(emit=emit):
                    if self.layout.swapped and emit.block % SWAP_EVERY == 0:
                        await _swap(engine, session)
                    if is_parent and emit.block == FORK_AFTER:
                        fork = asyncio.create_task(self.session(seed, session))
                        await asyncio.sleep(0)  # the fork is asked for before the parent may go on
                    if self.layout.moved:  # lanes move when the clock ticks, and blocks may take no time
                        engine.submit(Tick(now_s=engine.now_s()))
                    engine.submit(Ack(now_s=engine.now_s(), session=session, segment=emit.block))
                case Closed(ending=ending, reason=reason):
                    assert ending is Ending.COMPLETED, reason
                    await fork
                    return
                case Refused(problem=problem):
                    raise Declined(problem)
                case _:
                    pass


async def _swap(engine: Engine, session: SessionId) -> None:
    """Pause a session, wait until it lies in host memory, and let it go on."""
    engine.submit(Pause(now_s=engine.now_s(), session=session))
    while any(view.session == session and view.state is not State.PARKED for view in engine.scheduler.sessions()):
        await asyncio.sleep(0.002)
    engine.submit(Play(now_s=engine.now_s(), session=session))


async def served(layout: Layout, right: Right, seeds: Sequence[int]) -> Seen:
    """All sessions, one for each seed, as this layout runs them."""
    info, hashes = right.info, Hashes(right.info.recipe.step_count)
    frames = given_frames(info.recipe) if layout.given else 0
    geometry = info.geometry.divided(plan_with(info.recipe.blocks, frames)) if frames else info.geometry
    async with running(layout, right.model, right.device, hashes) as engine:
        run = Run(
            layout=layout,
            engine=engine,
            right=right,
            pictures=geometry.first_picture(right.blocks),
            given_frames=frames,
        )
        gate = asyncio.Semaphore(layout.together)

        async def admitted(seed: int) -> None:
            async with gate:
                await run.session(seed)

        async with asyncio.TaskGroup() as group:
            for seed in seeds:
                group.create_task(admitted(seed))
    return _seen(hashes, seeds, frames)


def can_be(layout: Layout, model: Path) -> bool:
    """Whether the layout is one for its recipe: where blocks step together streams have no forks, and given frames."""
    recipe = served_info(model, layout.recipe).recipe
    return not (layout.forked and recipe.joint is not None) and not (layout.given and not given_frames(recipe))


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One layout against what is right."""

    layout: Layout
    seen: Seen
    blocks: int
    wrong: int
    missing: list[str]
    """What it should have done and has not."""
    took_s: float

    @property
    def is_right(self) -> bool:
        """Whether it has shown that all is equal."""
        return not (self.wrong or self.missing)

    def __str__(self) -> str:
        verdict = f"{self.wrong} of {self.blocks} blocks differ" if self.wrong else f"{self.blocks} blocks equal"
        verdict += "".join(f", WITHOUT {what}" for what in self.missing)
        return f"{self.layout.recipe:18s} {self.layout.name:28s} {self.took_s:6.1f} s  {verdict}; {self.seen}"


def matrix(layouts: Sequence[Layout], right: Right, seeds: Sequence[int]) -> Iterator[Row]:
    """A row for each layout of one recipe as it is done; `right` is what streams by that must be."""
    for layout in layouts:
        began_s = time.perf_counter()
        seen = asyncio.run(served(layout, right, seeds))
        yield Row(
            layout=layout,
            seen=seen,
            blocks=len(seeds) * right.blocks + sum(map(len, seen.forks.values())),
            wrong=seen.wrong_blocks(right),
            missing=seen.missing(layout, right),
            took_s=time.perf_counter() - began_s,
        )


def named(text: str) -> list[str]:
    """The recipes that are asked for."""
    groups = {"all": [*shipped()], "altered": [*altered_recipes()]}
    return [name for each in text.split(",") for name in groups.get(each, [each])]


@click.command()
@click.option("--seeds", default=20, show_default=True)
@click.option("--blocks", default=60, show_default=True)
@click.option("--recipes", "asked", default="", help="Names with commas between; all; altered. Default: the own.")
@click.option("--break", "broken", is_flag=True, help="Swap two pages once: then every layout must differ.")
def main(*, seeds: int, blocks: int, asked: str, broken: bool) -> None:
    """Compare all layouts with the sequential oracle; exit 1 unless all are equal (with --break: all differ)."""
    torch.set_num_threads(1)
    rows = wrong = 0
    with tempfile.TemporaryDirectory() as name:
        folder, pocket = Path(name), model_path(POCKET)
        weights.save_info(folder, small_pictures(weights.load_info(pocket)))
        for model, device in ((folder, SIMULATED), (pocket, "cpu")):
            click.echo(f"{'by hand' if device == SIMULATED else 'pocket'}: {seeds} seeds, {blocks} blocks")
            layouts = [layout for layout in LAYOUTS if layout.split == 1 or device != SIMULATED]
            for recipe in named(asked):
                here = [replace(layout, recipe=recipe, broken=broken) for layout in layouts]
                here = [layout for layout in here if can_be(layout, model)]
                for row in matrix(here, Right(model, device, recipe, blocks), range(seeds)):
                    click.echo(row)
                    rows += 1
                    wrong += not (row.wrong if broken else row.is_right)
    click.echo(f"{rows} rows, {wrong} of them not as they must be")
    sys.exit(1 if wrong else 0)


if __name__ == "__main__":
    main()
