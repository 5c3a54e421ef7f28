"""What HiAR and Self-Forcing made in their own code, for the engine to make: clean starts, given frames."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import cache
from typing import Any
from unittest import mock

import torch
from safetensors.torch import load_file
from torch import Tensor

from cluster.cell.chains import Chains
from cluster.cell.engine import Engine
from cluster.cell.journal import GivenPictures
from cluster.launch.in_process import ThreadPort
from longtake.core.limits import Limits
from longtake.core.recipe.blocks import BlockPlan
from longtake.core.recipe.context import Context, Level
from longtake.core.recipe.geometry import Geometry
from longtake.core.recipe.given import graph_with
from longtake.core.recipe.graph import Graph
from longtake.core.recipe.recipe import Recipe
from longtake.core.recipe.steps import StepPlan
from longtake.core.scheduler import Scheduler
from longtake.core.work import Ability, LatentRef, Role, SessionId, WorkerId
from tests.cluster.cell.world import stream
from tests.identity.workers import Ready, WithoutPictures
from tests.workers.reference import PLACES
from workers.denoise.attention import SdpaBackend
from workers.denoise.noise import BlockNoise, Draw
from workers.denoise.worker import DenoiseWorker, tensor_from_bytes, tensor_to_bytes
from workers.messages import Introduction, Shutdown
from workers.models.api import EncodedText
from workers.models.wan.config import WanConfig
from workers.models.wan.dit import WanModel

FILES = {
    path.stem: path
    for place in PLACES
    for pattern in ("hiar_tiny_*.json", "self_forcing_i2v_tiny_*.json")
    for path in sorted(place.glob(pattern))
}


@dataclass(frozen=True, kw_only=True)
class Run:
    """How the engine is to make what a run of the reference made."""

    name: str
    recipe: Recipe
    given_frames: int = 0
    shift: int | None = None
    """Latent frame f has the noise of frame f - shift; None: shift = given_frames, as generated frames are counted."""


@dataclass(frozen=True)
class BeginningGolden:
    """One sidecar with its tensors and the model they came from."""

    sidecar: dict[str, Any]
    tensors: dict[str, Tensor]
    model: WanModel

    @staticmethod
    @cache
    def load(name: str) -> BeginningGolden:
        path = FILES[name]
        sidecar = json.loads(path.read_text())
        fields = WanConfig.__dataclass_fields__.keys()
        sizes = {key: value for key, value in sidecar["config"]["model"].items() if key in fields}
        model = WanModel(WanConfig(**sizes | {"patch_size": tuple(sizes["patch_size"])}))
        tensors = load_file(path.with_suffix(".safetensors"))
        prefix = "weights.model."
        model.load_state_dict({key.removeprefix(prefix): t for key, t in tensors.items() if key.startswith(prefix)})
        return BeginningGolden(sidecar, tensors, model.eval().requires_grad_(False))

    def run(self, name: str) -> Run | None:
        """How out.`name` is made; None for an order of passes that no recipe is."""
        config = self.sidecar["config"]
        cache_, frames = config["cache"], config["blocks"]["num_frame_per_block"]
        steps = StepPlan(
            ladder=tuple(config["scheduler"]["denoising_step_list"]), shift=config["scheduler"]["timestep_shift"]
        )
        window, sinks = self.sidecar.get("windows", {}).get(
            name, (cache_["local_attn_size_frames"], cache_["sink_size_frames"])
        )
        if "plans" in self.sidecar:
            return self._planned(name, steps, Context(level=Level.CLEAN, window_frames=window, sink_frames=sinks))
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
        recipe = Recipe(steps=steps, blocks=BlockPlan(frames=frames), context=context)
        return Run(name=name, recipe=recipe, given_frames=given)

    def _planned(self, name: str, steps: StepPlan, context: Context) -> Run:
        plan = self.sidecar["plans"][name]
        sizes, given = [frames for _, frames, _ in plan], sum(frames for _, frames, is_given in plan if is_given)
        first = None if given else sizes[0]
        recipe = Recipe(steps=steps, blocks=BlockPlan(frames=sizes[-1], first_frames=first), context=context)
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


class _Text:
    """The stored text features, whatever the prompt."""

    def __init__(self, features_TC: Tensor) -> None:
        self._features_TC = features_TC

    def encode(self, prompt: str) -> EncodedText:
        return EncodedText(features_TC=self._features_TC, notice="")


async def made(golden: BeginningGolden, run: Run, *, denoisers: int = 2) -> Tensor:
    """All latent frames of the stream [1, frames, C, H, W], given ones included, as the engine has them."""
    blocks = (
        Graph(run.recipe).blocks if not run.given_frames else graph_with(Graph(run.recipe), run.given_frames).blocks
    )
    noise = _Noise(golden, run, blocks)
    with mock.patch.object(BlockNoise, "of", lambda _self, draws, frames: noise.of(draws, frames)):
        return await _made(golden, run, denoisers)


async def _made(golden: BeginningGolden, run: Run, denoisers: int) -> Tensor:
    latent, recipe = golden.sidecar["config"]["latent"], run.recipe
    geometry = Geometry(
        width=8 * latent["width"], height=8 * latent["height"], fps=Fraction(16), latent_channels=latent["channels"],
        blocks=recipe.blocks,
    )  # fmt: skip
    scheduler = Scheduler(recipe, geometry, Limits(rewind_blocks=1000))
    engine, chains, ports = Engine(scheduler), None, []
    chains = Chains(engine)
    graph = scheduler.cell.graph_with(scheduler.cell.graphs[""], run.given_frames)
    total = golden.tensors[f"out.{run.name}"].shape[1]
    kept = _kept(engine, graph.step_count)
    pages = 2 * recipe.page_count * recipe.lane_count

    def denoiser() -> DenoiseWorker:
        return DenoiseWorker(golden.model, geometry, SdpaBackend(), pages=pages)

    given = golden.tensors.get("in.initial_latent", torch.zeros(1, 0))[0, : run.given_frames]

    def decoder() -> WithoutPictures:
        return WithoutPictures(text, lambda message: tensor_to_bytes(given[message.order.part][None]))

    text = _Text(golden.tensors["in.prompt_embeds"][0])
    loop = asyncio.create_task(engine.run())
    makes: list[tuple[str, Role, Callable[[], Any], int]] = [
        *((f"denoise-{number}", Role.DENOISE, denoiser, pages) for number in range(denoisers)),
        (
            "decode-0",
            Role.DECODE,
            decoder,
            1,
        ),
    ]
    try:
        for name, role, make, capacity in makes:
            introduction = Introduction(
                worker=WorkerId(name), role=role, ability=Ability(capacity=capacity), model_digest=""
            )
            port = ThreadPort(Ready(introduction, make, ""), chains)
            port.start()
            ports.append(port)
        if run.given_frames:
            engine.journal.give(SessionId("s"), GivenPictures(given=(b"pictures",) * (1 + 4 * (run.given_frames - 1))))
        blocks = graph.blocks.block_of(total - 1) + 1
        pictures = geometry.divided(graph.blocks).first_picture(blocks)
        await stream(engine, "s", "p", picture_limit=pictures, given_frames=run.given_frames)
    finally:
        for port in ports:
            port.send(Shutdown())
            await asyncio.to_thread(port.runner.join, 10.0)
        loop.cancel()
    shape = (-1, *geometry.block_shape[1:])
    return torch.cat([tensor_from_bytes(kept[block], shape) for block in sorted(kept)])[None, :total]


def _kept(engine: Engine, steps: int) -> dict[int, bytes]:
    """The finished latents by block, as they come into the journal."""
    kept: dict[int, bytes] = {}
    put = engine.journal.put_latents

    def put_latents(ref: LatentRef, data: bytes, version: int = 0) -> bool:
        if ref.step == steps:
            kept[ref.block] = data
        return put(ref, data, version)

    engine.journal.put_latents = put_latents  # type: ignore[method-assign]
    return kept


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
