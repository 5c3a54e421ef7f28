"""The identity matrix: every way to lay out and run a session must leave the very latents of the sequential oracle.

python -m tests.identity --seeds 20 --blocks 60        # all layouts, the pocket model and the simulated one; minutes
python -m tests.identity --recipes all                 # by every recipe that ships, not by the models' own alone
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
from hashlib import sha256
from itertools import combinations, islice
from pathlib import Path

import click
import torch

from benchmarks.simulated_streams import expected_latents, small_pictures
from cluster.cell.chains import Chains
from cluster.cell.engine import Engine
from cluster.cell.outbox import Outbox, SegmentOut
from cluster.launch.in_process import ThreadPort
from cluster.launch.plan import POCKET, model_path, split
from cluster.render import in_process_workers
from longtake.core.effects import Closed, Dispatch, LoadImage, Refused, Stow
from longtake.core.endings import Ending
from longtake.core.errors import Declined
from longtake.core.events import Ack, Pause, Play
from longtake.core.flow import Pace
from longtake.core.limits import Limits, MoveRules
from longtake.core.scheduler import Scheduler
from longtake.core.sessions.life import State
from longtake.core.work import Ability, DecodeWork, Fork, Role, SessionId
from longtake.recipes import shipped
from tests.cluster.cell.world import Hashes, expected_hashes, open_event
from tests.core.support.batches import is_fused
from tests.identity.workers import OnePageSwapped, Ready, WithoutPictures, give_reference
from workers.link.dial import Weights
from workers.messages import Introduction, Shutdown
from workers.models import weights
from workers.models.api import Compute
from workers.models.text import load_text_encoder
from workers.models.weights import ModelInfo
from workers.peers import MeetingPoint
from workers.simulated.workers import JOINT_OPS
from workers.start.loading import load_worker
from workers.start.spec import WorkerSpec

PROMPTS = ("a red ball circling in the fog", "a blue box swaying at night", "a green ring bobbing at dusk")
SIMULATED = "simulated:0ms"
SWAP_EVERY = 5
FORK_AFTER = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """How sessions are spread and run."""

    name: str
    workers: int = 1
    batch_limit: int = 1
    together: int = 1
    """Sessions open at once."""
    packed: bool = False
    """All lanes of a session are on one worker."""
    fused: bool = False
    """A commit and the next block's denoise op of its lane may be one forward."""
    swapped: bool = False
    """Sessions are paused, parked and played again all the time."""
    moved: bool = False
    """Lanes move to another worker all the time."""
    split: int = 1
    """Workers that one replica's layers are shared out to."""
    forked: bool = False
    """Half of the sessions are forks of the others, of the same prompt and seed, from some block on."""
    recipe: str = ""
    """The name of a recipe that ships, by which the streams are made; empty: the model's own."""
    broken: bool = False
    """Two pages change places once, in every worker: what is compared must not be equal."""

    @property
    def limits(self) -> Limits:
        """What the scheduler is told: every tick moves whatever lane may move, worth while or not; or none ever."""
        worth = -1e9 if self.moved else 1e9
        return Limits(
            park_after_s=0.0 if self.swapped else 3600.0,
            packed=frozenset({Pace.FAST}) if self.packed else frozenset(),
            moves=MoveRules(worth=worth, worth_of_slow=worth, rest_s=0.0, blocks_left=1),
            fused_passes=self.fused,
        )


def served_info(model: Path, recipe: str) -> ModelInfo:
    """A model as if it were its own recipe."""
    info = weights.load_info(model)
    if not recipe:
        return info
    made = shipped()[recipe].recipe
    return replace(info, recipe=made, geometry=info.geometry.divided(made.blocks))


LAYOUTS = (
    Layout(name="sequential"),
    Layout(name="step pipeline", workers=4),
    Layout(name="data parallel", workers=2, together=4, packed=True),
    Layout(name="paired", batch_limit=2),
    Layout(name="fused, step pipeline", workers=4, batch_limit=8, together=4, fused=True),
    Layout(name="fused, batched 16", batch_limit=16, together=8, fused=True),
    Layout(name="layer split 2", split=2, together=2),
    Layout(name="layer split 4", split=4, together=4),
    Layout(name="steps x layers x replicas", workers=2, split=2, batch_limit=4, together=4),
    Layout(name="swapped", workers=2, together=4, swapped=True),
    Layout(name="swapped, layer split 2", split=2, batch_limit=4, together=4, swapped=True),
    Layout(name="moved", workers=3, together=4, moved=True),
    Layout(name="moved, fused, layer split 2", workers=2, split=2, batch_limit=4, together=4, moved=True, fused=True),
    Layout(name="forked", workers=2, together=4, forked=True),
    Layout(name="forked, fused, batched 8", batch_limit=8, together=4, forked=True, fused=True),
    *(Layout(name=f"batched {size}", batch_limit=size, together=8) for size in range(2, 9)),
    Layout(name="step pipeline, batched 4", workers=4, batch_limit=4, together=8),
)


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

    def __str__(self) -> str:
        blocks = sum(len(fork) for fork in self.forks.values())
        return (
            f"batches up to {self.largest_batch}, {self.mixed} mixed, {self.fused} fused; {self.stowed} stowed, "
            f"{self.loaded} loaded; {len(self.forks)} forks of {blocks} blocks"
        )

    def wrong_blocks(self, right: Mapping[int, Sequence[str]]) -> int:
        """Blocks that are missing, too many or other ones."""
        ends = [(fork, right[seed][-len(fork) :]) for seed, fork in self.forks.items()]
        return sum(_differing(*pair) for pair in [*((self.hashes[seed], right[seed]) for seed in right), *ends])


def _differing(found: Sequence[str], right: Sequence[str]) -> int:
    return sum(one != other for one, other in zip(found, right, strict=False)) + abs(len(found) - len(right))


def _seen(hashes: Hashes, seeds: Sequence[int]) -> Seen:
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
    return _denoiser(spec, layout) if spec.role is Role.DENOISE else _texts(spec)


def _denoiser(spec: WorkerSpec, layout: Layout) -> Ready:
    loaded = load_worker(spec)
    mixes = layout.batch_limit > 1
    ability = Ability(capacity=spec.capacity, batch_limit=layout.batch_limit, mixes_kinds=mixes, joint_ops=JOINT_OPS)
    introduction = replace(loaded.introduction, ability=ability)
    if not layout.broken:
        return Ready(introduction, loaded.fresh, spec.meeting_point)

    return Ready(introduction, lambda: OnePageSwapped(loaded.fresh()), spec.meeting_point)


def _texts(spec: WorkerSpec) -> Ready:
    info = weights.load_info(spec.model)
    text = load_text_encoder(spec.model, info, spec.compute)
    ability = Ability(capacity=spec.capacity)
    introduction = Introduction(worker=spec.worker, role=spec.role, ability=ability, model_digest="")
    return Ready(introduction, partial(WithoutPictures, text), spec.meeting_point)


@contextlib.asynccontextmanager
async def running(layout: Layout, model: Path, device: str, hashes: Hashes) -> AsyncIterator[Engine]:
    """An engine with the layout's workers as threads."""
    info = weights.load_info(model)
    scheduler = Scheduler(info.recipe, info.geometry, layout.limits)
    if layout.recipe:
        scheduler.serve(layout.recipe, shipped()[layout.recipe].recipe)
    engine = Engine(scheduler, hashes)
    hashes.listen(engine)
    loop = asyncio.create_task(engine.run())
    meeting_point, chains, ports = MeetingPoint(), Chains(engine), []
    for loaded in await asyncio.to_thread(loaded_workers, layout, model, device, meeting_point.address):
        port = ThreadPort(loaded, chains)
        port.start()
        ports.append(port)
    try:
        yield engine
        engine.scheduler.check()
    finally:
        for port in ports:
            port.send(Shutdown())
            await asyncio.to_thread(port.runner.join, 10.0)
        loop.cancel()


async def one_session(
    layout: Layout, engine: Engine, seed: int, pictures: int, parent: SessionId | None = None
) -> None:
    """A session from its beginning to its end; a fork of `parent`, if that is given."""
    session, outbox = SessionId(f"s{seed}" if parent is None else f"fork of {parent}"), Outbox()
    engine.attach(session, outbox)
    prompt = PROMPTS[seed % len(PROMPTS)]
    asked = {
        "seed": seed,
        "picture_limit": pictures,
        "fork": None if parent is None else Fork(session=parent),
        "window": 2 if layout.forked else 4,
        "recipe": layout.recipe,
    }
    if parent is None:
        give_reference(engine, session, layout.recipe)
    engine.submit(open_event(engine, session, prompt, **asked))
    fork: asyncio.Task[None] | None = None
    while True:
        match await outbox.get():
            case SegmentOut(emit=emit):
                if layout.swapped and emit.block % SWAP_EVERY == 0:
                    await _swap(engine, session)
                if layout.forked and parent is None and emit.block == FORK_AFTER:
                    fork = asyncio.create_task(one_session(layout, engine, seed, pictures, session))
                    await asyncio.sleep(0)  # the fork is asked for before the parent may go on
                engine.submit(Ack(now_s=engine.now_s(), session=session, segment=emit.block))
            case Closed() if fork is not None:
                await fork
                return
            case Closed(ending=ending, reason=reason):
                assert ending is Ending.COMPLETED, reason
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


async def served(layout: Layout, model: Path, device: str, seeds: Sequence[int], blocks: int) -> Seen:
    """All sessions, one for each seed, as this layout runs them."""
    info = served_info(model, layout.recipe)
    hashes = Hashes(info.recipe.step_count)
    await _serve(layout, model, device, seeds, info.geometry.first_picture(blocks), hashes)
    return _seen(hashes, seeds)


async def _serve(layout: Layout, model: Path, device: str, seeds: Sequence[int], pictures: int, hashes: Hashes) -> None:
    async with running(layout, model, device, hashes) as engine:
        gate = asyncio.Semaphore(layout.together)

        async def admitted(seed: int) -> None:
            async with gate:
                await one_session(layout, engine, seed, pictures)

        async with asyncio.TaskGroup() as group:
            for seed in seeds:
                group.create_task(admitted(seed))


def can_be(layout: Layout, model: Path) -> bool:
    """Whether the layout is one for its recipe: joint blocks cannot be forked, nor references be computed by hand."""
    made = served_info(model, layout.recipe).recipe
    has_weights = (model / "dit.safetensors").exists() or not made.context.reference_frames
    return has_weights and (not layout.forked or made.joint is None)


def by_hand(model: Path, seed: int, blocks: int, recipe: str = "") -> list[str]:
    """Hashes of the simulated model's x0."""
    latents = expected_latents(served_info(model, recipe), PROMPTS[seed % len(PROMPTS)], seed, blocks=blocks)
    return [sha256(block).hexdigest() for block in islice(latents, blocks)]


def expected(model: Path, device: str, seeds: Sequence[int], blocks: int, recipe: str = "") -> dict[int, list[str]]:
    """What every layout must leave: by the sequential oracle, or by hand."""
    if device == SIMULATED:
        return {seed: by_hand(model, seed, blocks, recipe) for seed in seeds}
    made = shipped()[recipe].recipe if recipe else None
    return {seed: expected_hashes(model, {0: PROMPTS[seed % len(PROMPTS)]}, seed, blocks, made) for seed in seeds}


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One layout against what is right."""

    layout: Layout
    seen: Seen
    blocks: int
    wrong: int
    took_s: float

    def __str__(self) -> str:
        verdict = f"{self.wrong} of {self.blocks} blocks differ" if self.wrong else f"{self.blocks} blocks equal"
        return f"{self.layout.recipe:12s} {self.layout.name:28s} {self.took_s:7.1f} s  {verdict}; {self.seen}"


def matrix(layouts: Sequence[Layout], model: Path, device: str, right: Mapping[int, Sequence[str]]) -> Iterator[Row]:
    """A row for each layout as it is done; `right` is what `expected` says of the same model."""
    blocks = len(next(iter(right.values())))
    for layout in layouts:
        began_s = time.perf_counter()
        seen = asyncio.run(served(layout, model, device, tuple(right), blocks))
        yield Row(
            layout=layout,
            seen=seen,
            blocks=len(right) * blocks,
            wrong=seen.wrong_blocks(right),
            took_s=time.perf_counter() - began_s,
        )


@click.command()
@click.option("--seeds", default=20, show_default=True)
@click.option("--blocks", default=60, show_default=True)
@click.option("--recipes", default="", help="Of those that ship, with commas between, or all. Default: the own.")
@click.option("--break", "broken", is_flag=True, help="Swap two pages once: then every layout must differ.")
def main(*, seeds: int, blocks: int, recipes: str, broken: bool) -> None:
    """Compare all layouts with the sequential oracle; exit 1 unless all are equal (with --break: all differ)."""
    torch.set_num_threads(1)
    names = list(shipped()) if recipes == "all" else recipes.split(",")
    wrong = 0
    with tempfile.TemporaryDirectory() as name:
        folder, pocket = Path(name), model_path(POCKET)
        weights.save_info(folder, small_pictures(weights.load_info(pocket)))
        for model, device in ((folder, SIMULATED), (pocket, "cpu")):
            click.echo(f"{'by hand' if device == SIMULATED else 'pocket'}: {seeds} seeds, {blocks} blocks")
            layouts = [layout for layout in LAYOUTS if layout.split == 1 or device != SIMULATED]
            for recipe in names:
                here = [replace(layout, recipe=recipe, broken=broken) for layout in layouts]
                here = [layout for layout in here if can_be(layout, model)]
                if not here:
                    continue
                for row in matrix(here, model, device, expected(model, device, range(seeds), blocks, recipe)):
                    click.echo(row)
                    wrong += bool(row.wrong) is not broken
    sys.exit(1 if wrong else 0)


if __name__ == "__main__":
    main()
