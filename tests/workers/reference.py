"""The reference's goldens and its orders of passes, composed from denoise and commit on any lanes.

Goldens are the pairs hiar_tiny_*.json, .safetensors. Shape suffixes as in oracle.py.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from functools import cache, cached_property

import torch
from torch import Tensor

from longtake.core.recipe.blocks import BlockPlan
from longtake.core.recipe.context import Context, Level
from longtake.core.recipe.recipe import Recipe
from longtake.core.recipe.steps import StepPlan
from tests.workers.golden_pair import GoldenPair, goldens, read
from tests.workers.oracle import ContiguousLanes, Lanes, clean, generate, noised
from tests.workers.paged import PagedLanes
from workers.models.api import TextKV

GOLDENS = goldens("hiar_tiny_*")
Blocks = dict[int, Tensor]


@dataclass(frozen=True, kw_only=True)
class Plan:
    """A recipe's numbers, free to be wrong."""

    level: Level
    blocks: BlockPlan
    window_frames: int | None
    sink_frames: int
    sigmas: tuple[float, ...]
    timesteps: tuple[float, ...]


class Golden(GoldenPair):
    """One of them."""

    @staticmethod
    @cache
    def load(name: str) -> "Golden":
        golden = Golden(*read(GOLDENS[name]))
        scheduler = golden.config["scheduler"]
        assert scheduler["warp_denoising_step"] and scheduler["context_noise"] == 0
        return golden

    @cached_property
    def plan(self) -> Plan:
        """That of its right runs."""
        window = self.window_frames
        recipe = Recipe(
            steps=self.steps,
            blocks=BlockPlan(frames=self.block_frames),
            context=Context(
                level=Level.OUTPUT, window_frames=None if window == -1 else window, sink_frames=self.sink_frames
            ),
            block_limit=self.block_count,
        )
        return Plan(
            level=recipe.level,
            blocks=recipe.blocks,
            window_frames=recipe.window_frames,
            sink_frames=recipe.sink_frames,
            sigmas=recipe.sigmas,
            timesteps=recipe.timesteps,
        )

    @property
    def batch(self) -> int:
        return self.tensors["in.noise"].shape[0]

    @property
    def text(self) -> TextKV:
        return self.model.encode_text(self.tensors["in.prompt_embeds"])

    def noise(self, block: int, draw: int) -> Tensor:
        """The reference's noise of a block: its start (draw 0), or what is added after step draw - 1."""
        source = self.tensors["in.noise"] if draw == 0 else self.tensors["in.sde_noise"][draw - 1]
        own = self.plan.blocks.own(block)
        return source[:, own.start : own.stop]

    def lanes(self, mode: str, plan: Plan) -> Lanes:
        """Fresh lanes of one kind."""
        if mode == "oracle":
            return ContiguousLanes(self.model, plan.window_frames, plan.sink_frames)
        latent = self.config["latent"]
        recipe = Recipe(
            steps=StepPlan(ladder=(1000,), shift=1.0),
            blocks=plan.blocks,
            context=Context(level=plan.level, window_frames=plan.window_frames, sink_frames=plan.sink_frames),
            block_limit=self.block_count if plan.window_frames is None else None,
        )
        per_frame = self.model.config.tokens_per_frame(latent["height"], latent["width"])
        pages = 2 * self.batch * recipe.page_count * (len(plan.sigmas) + 1) + 3
        return PagedLanes(self.model, per_frame, recipe, pages, decoys=True)


@dataclass
class Recorder:
    """Lanes that note what goes into and comes out of every denoise pass."""

    inner: Lanes
    seen: dict[tuple[float, int], tuple[Tensor, Tensor]] = field(default_factory=dict)

    def denoise(self, lane: str, first_frame: int, x_BFCHW: Tensor, timestep: float, text: TextKV) -> Tensor:
        flow = self.inner.denoise(lane, first_frame, x_BFCHW, timestep, text)
        self.seen[timestep, first_frame] = (x_BFCHW, flow)
        return flow

    def commit(self, lane: str, first_frame: int, x_BFCHW: Tensor, timestep: float, text: TextKV) -> None:
        self.inner.commit(lane, first_frame, x_BFCHW, timestep, text)


@dataclass
class Orders:
    """The reference's orders of passes, out of denoise and commit; `offset` is the prefix in blocks."""

    golden: Golden
    plan: Plan
    lanes: Lanes
    offset: int = 0

    def __post_init__(self) -> None:
        self.text = self.golden.text
        self.steps = range(len(self.plan.sigmas))

    def first(self, block: int) -> int:
        return self.plan.blocks.first_frame(block + self.offset)

    def denoise(self, lane: str, step: int, block: int, x: Tensor) -> tuple[Tensor, Tensor]:
        """x0 and flow of D(step, block)."""
        flow = self.lanes.denoise(lane, self.first(block), x, self.plan.timesteps[step], self.text)
        return clean(x, flow, self.plan.sigmas[step]), flow

    def commit(self, lane: str, block: int, x: Tensor, timestep: float) -> None:
        self.lanes.commit(lane, self.first(block), x, timestep, self.text)

    def renoise(self, step: int, block: int, x0: Tensor) -> Tensor:
        """What block looks like to step + 1; x0 itself after the last step."""
        if step + 1 == len(self.steps):
            return x0
        return noised(x0, self.golden.noise(block, step + 1), self.plan.sigmas[step + 1])

    def after(self, step: int) -> float:
        """Timestep of a step's output."""
        return (*self.plan.timesteps, 0.0)[step + 1]

    def starts(self, blocks: Iterable[int]) -> Blocks:
        return {block: self.golden.noise(block, 0) for block in blocks}

    def block_first(self, x_of: Blocks, steps: range) -> Blocks:
        """All `steps` of a block, then one commit of what came out, in one lane."""
        out = {}
        for block, x in x_of.items():
            for step in steps:
                x = self.renoise(step, block, self.denoise("one", step, block, x)[0])
            self.commit("one", block, x, self.after(steps[-1]))
            out[block] = x
        return out

    def step(self, step: int, block: int, x: Tensor, lane: str) -> Tensor:
        """D then C of HiAR; returns the block's next latent."""
        x = self.renoise(step, block, self.denoise(lane, step, block, x)[0])
        self.commit(lane, block, x, self.after(step))
        return x

    def step_first(self, x_of: Blocks, steps: range, prefix: Blocks | None = None) -> Blocks:
        """A lane per step, each begun with the clean `prefix`; all blocks of a step before the next step."""
        for step in steps:
            for block, x0 in (prefix or {}).items():
                self.commit(f"step {step}", block, x0, 0.0)
            x_of = {block: self.step(step, block, x, f"step {step}") for block, x in x_of.items()}
        return x_of

    def diagonal(self, x_of: Blocks) -> Blocks:
        """The same by diagonals step + block."""
        current = dict(x_of)
        for diagonal in range(len(self.steps) + len(x_of) - 1):
            for step in self.steps:
                block = diagonal - step
                if block in current:
                    current[block] = self.step(step, block, current[block], f"step {step}")
        return current

    def ode(self, x_of: Blocks) -> Blocks:
        """Step-first along the flow, without noise."""
        sigmas = torch.tensor(self.plan.sigmas)
        for step in self.steps:
            moved = {}
            for block, x in x_of.items():
                x0, flow = self.denoise(f"step {step}", step, block, x)
                last = step + 1 == len(self.steps)
                moved[block] = x0 if last else x + flow * (sigmas[step + 1] - sigmas[step])
                self.commit(f"step {step}", block, moved[block], self.after(step))
            x_of = moved
        return x_of

    def clean_context(self, x_of: Blocks) -> Blocks:
        """Step-first, but every commit is of x0 at t = 0."""
        for step in self.steps:
            moved = {}
            for block, x in x_of.items():
                x0, _ = self.denoise(f"step {step}", step, block, x)
                self.commit(f"step {step}", block, x0, 0.0)
                moved[block] = self.renoise(step, block, x0)
            x_of = moved
        return x_of


def joined(blocks: Blocks | Iterable[Tensor]) -> Tensor:
    return torch.cat(list(blocks.values() if isinstance(blocks, dict) else blocks), 1)


def outcome(golden: Golden, name: str, plan: Plan, lanes: Lanes) -> Tensor:
    """What out.`name` should be; LookupError for an order nobody described."""
    orders = Orders(golden, plan, lanes)
    everything = range(golden.block_count)
    match re.split(r"(?<=hybrid_steps)|(?<=hybrid_block0_n)", name):
        case ["block_first"]:
            return generated(golden, replace(plan, level=Level.CLEAN), lanes)
        case ["timestep_first"]:
            return generated(golden, plan, lanes)
        case ["pipeline_diag"]:
            return joined(orders.diagonal(orders.starts(everything)))
        case ["timestep_first_ode"]:
            return joined(orders.ode(orders.starts(everything)))
        case ["timestep_first_clean_ctx"]:
            return joined(orders.clean_context(orders.starts(everything)))
        case ["hybrid_steps", count] if count.isdigit():
            half = orders.block_first(orders.starts(everything), orders.steps[: int(count)])
            return joined(orders.step_first(half, orders.steps[int(count) :]))
        case ["hybrid_block0_n", count] if count.isdigit():
            begun = orders.block_first(orders.starts(everything[: int(count)]), orders.steps)
            rest = orders.starts(everything[int(count) :])
            return joined(begun | orders.step_first(rest, orders.steps, prefix=begun))
        case ["ext_block_first" | "ext_timestep_first" as order]:
            orders.offset = 1
            prefix = {-1: golden.tensors["in.initial_latent"]}
            starts = orders.starts(everything[:-1])
            if order == "ext_timestep_first":
                return joined(prefix | orders.step_first(starts, orders.steps, prefix))
            orders.commit("one", -1, prefix[-1], 0.0)
            return joined(prefix | orders.block_first(starts, orders.steps))
        case _:
            raise LookupError(f"out.{name} is an order this test does not know")


def generated(golden: Golden, plan: Plan, lanes: Lanes) -> Tensor:
    text = golden.tensors["in.prompt_embeds"]
    return joined(generate(golden.model, plan, text, golden.noise, golden.block_count, lanes))
