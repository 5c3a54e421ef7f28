"""What HiAR and Self-Forcing made in their own code, for the engine to make: clean starts, given frames."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache
from unittest import mock

import torch
from torch import Tensor

from cluster.cell.engine import Engine
from cluster.cell.journal import GivenPictures
from longtake.core.limits import Limits
from longtake.core.recipe.blocks import BlockPlan
from longtake.core.recipe.context import Context, Level
from longtake.core.recipe.given import graph_with
from longtake.core.recipe.graph import Graph
from longtake.core.recipe.recipe import Recipe
from longtake.core.scheduler import Scheduler
from longtake.core.work import SessionId
from tests.cluster.cell.golden_engine import Finished, Text, workers_of
from tests.cluster.cell.threaded import over_threads
from tests.cluster.cell.world import stream
from tests.identity.workers import WithoutPictures
from tests.workers.golden_pair import GoldenPair, goldens, read
from workers.denoise.noise import BlockNoise, Draw
from workers.denoise.worker import tensor_to_bytes

FILES = goldens("hiar_tiny_*", "self_forcing_i2v_tiny_*")


@dataclass(frozen=True, kw_only=True)
class Run:
    """How the engine is to make what a run of the reference made."""

    name: str
    recipe: Recipe
    given_frames: int = 0
    shift: int | None = None
    """Latent frame f has the noise of frame f - shift; None: shift = given_frames, as generated frames are counted."""


class BeginningGolden(GoldenPair):
    """One of them."""

    @staticmethod
    @cache
    def load(name: str) -> BeginningGolden:
        return BeginningGolden(*read(FILES[name]))

    def run(self, name: str) -> Run | None:
        """How out.`name` is made; None for an order of passes that no recipe is."""
        window, sinks = self.sidecar.get("windows", {}).get(name, (self.window_frames, self.sink_frames))
        if "plans" in self.sidecar:
            return self._planned(name, Context(level=Level.CLEAN, window_frames=window, sink_frames=sinks))
        order, _, count = name.rpartition("_n") if name.startswith("hybrid_block0") else (name, "", "")
        known = {
            "hybrid_block0": (Level.OUTPUT, int(count or 0), 0),
            "ext_timestep_first": (Level.OUTPUT, 0, self.tensors["in.initial_latent"].shape[1]),
            "ext_block_first": (Level.CLEAN, 0, self.tensors["in.initial_latent"].shape[1]),
        }
        if order not in known:
            return None
        level, start, given = known[order]
        context = Context(level=level, window_frames=window, sink_frames=sinks, start_blocks=start)
        recipe = Recipe(steps=self.steps, blocks=BlockPlan(frames=self.block_frames), context=context)
        return Run(name=name, recipe=recipe, given_frames=given)

    def _planned(self, name: str, context: Context) -> Run:
        plan = self.sidecar["plans"][name]
        sizes, given = [frames for _, frames, _ in plan], sum(frames for _, frames, is_given in plan if is_given)
        first = None if given else sizes[0]
        recipe = Recipe(steps=self.steps, blocks=BlockPlan(frames=sizes[-1], first_frames=first), context=context)
        return Run(name=name, recipe=recipe, given_frames=given)


class _Noise:
    """The stored noise in place of the keyed one."""

    def __init__(self, golden: BeginningGolden, run: Run, blocks: BlockPlan) -> None:
        self._tensors, self._blocks = golden.tensors, blocks
        self._shift = run.given_frames if run.shift is None else run.shift

    def of(self, draws: Sequence[Draw], frames: int) -> Tensor:
        return torch.stack([self._draw(draw, frames) for draw in draws])

    def _draw(self, draw: Draw, frames: int) -> Tensor:
        source = self._tensors["in.sde_noise"][draw.draw - 1] if draw.draw else self._tensors["in.noise"]
        first = self._blocks.first_frame(draw.block) - self._shift
        return source[0, first : first + frames]


async def made(golden: BeginningGolden, run: Run, *, denoisers: int = 2) -> Tensor:
    """All latent frames of the stream [1, frames, C, H, W], given ones included, as the engine has them."""
    blocks = (
        Graph(run.recipe).blocks if not run.given_frames else graph_with(Graph(run.recipe), run.given_frames).blocks
    )
    noise = _Noise(golden, run, blocks)
    with mock.patch.object(BlockNoise, "of", lambda _self, draws, frames: noise.of(draws, frames)):
        return await _made(golden, run, denoisers)


async def _made(golden: BeginningGolden, run: Run, denoisers: int) -> Tensor:
    recipe, geometry = run.recipe, golden.geometry(run.recipe.blocks)
    engine, finished = Engine(Scheduler(recipe, geometry, Limits(rewind_blocks=1000))), Finished()
    cell = engine.scheduler.cell
    graph = cell.graph_with(cell.graphs[""], run.given_frames)
    finished.listen(engine, graph.step_count, (-1, *geometry.block_shape[1:]))
    given = golden.tensors.get("in.initial_latent", torch.zeros(1, 0))[0, : run.given_frames]
    texts = Text(golden.tensors["in.prompt_embeds"][0])
    giver = WithoutPictures(texts, lambda message: tensor_to_bytes(given[message.order.part][None]))
    total = golden.tensors[f"out.{run.name}"].shape[1]
    async with over_threads(engine, workers_of(golden, recipe, giver, denoisers=denoisers)):
        if run.given_frames:
            engine.journal.give(SessionId("s"), GivenPictures(given=(b"pictures",) * (1 + 4 * (run.given_frames - 1))))
        blocks = graph.blocks.block_of(total - 1) + 1
        pictures = geometry.divided(graph.blocks).first_picture(blocks)
        await stream(engine, "s", "p", picture_limit=pictures, given_frames=run.given_frames)
    return finished.joined()[:, :total]


def mistaken(run: Run, mistake: str) -> Run:
    """The same run with one deliberate mistake, of those that sidecars name."""
    recipe = run.recipe
    window, sinks = recipe.window_frames or 0, recipe.sink_frames
    match mistake:
        case "window_plus_one_frame":
            return replace(run, recipe=replace(recipe, context=replace(recipe.context, window_frames=window + 1)))
        case "window_minus_one_frame":
            return replace(run, recipe=replace(recipe, context=replace(recipe.context, window_frames=window - 1)))
        case "sink_changed":
            return replace(run, recipe=replace(recipe, context=replace(recipe.context, sink_frames=sinks + 1)))
        case "noise_not_shifted":
            return replace(run, shift=0)
        case "start left out":
            return replace(run, recipe=replace(recipe, context=replace(recipe.context, start_blocks=0)))
        case "start one block longer":
            start = recipe.context.start_blocks + 1
            return replace(run, recipe=replace(recipe, context=replace(recipe.context, start_blocks=start)))
        case _:
            raise LookupError(mistake)
