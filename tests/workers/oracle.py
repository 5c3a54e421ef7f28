"""The oracle: AR video diffusion as a plain sequential loop over contiguous keys and values, without pages.

Itself checked by the goldens (test_goldens.py). Shape suffixes: B item, F latent frame, C channel, H row,
W column, L token of the item's frames, S attended key, N head, D channel of one head.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Protocol

import torch
from torch import Tensor

from longtake.core.recipe.blocks import BlockPlan
from longtake.core.recipe.context import Level
from workers.models.api import Conditioning, Denoiser, Inputs, TextKV

Attend = Callable[[Tensor, Tensor, Tensor], Tensor]
NoiseFn = Callable[[int, int], Tensor]
"""noise(block, draw) -> [B, F, C, H, W]; draw 0 starts the block, draw s + 1 is added after step s."""


class RecipeLike(Protocol):
    """What the oracle needs of a recipe; longtake.core.recipe.Recipe has it."""

    @property
    def level(self) -> Level: ...
    @property
    def blocks(self) -> BlockPlan: ...
    @property
    def window_frames(self) -> int | None: ...
    @property
    def sink_frames(self) -> int: ...
    @property
    def sigmas(self) -> tuple[float, ...]: ...
    @property
    def timesteps(self) -> tuple[float, ...]: ...


class Lanes(Protocol):
    """Where blocks are denoised and committed: the oracle's own lists, or a pool of pages."""

    def denoise(self, lane: str, first_frame: int, x_BFCHW: Tensor, timestep: float, text: TextKV) -> Tensor:
        """Flow of a block, seeing the lane's window; leaves the block's own K/V in the lane."""
        ...

    def commit(self, lane: str, first_frame: int, x_BFCHW: Tensor, timestep: float, text: TextKV) -> None:
        """Replace the block's K/V in the lane by those of this latent at this timestep."""
        ...


def explicit_attention(q_BLND: Tensor, k_BSND: Tensor, v_BSND: Tensor) -> Tensor:
    """Attention written out: softmax(q k / sqrt(D)) v."""
    score_BNLS = torch.einsum("blnd,bsnd->bnls", q_BLND, k_BSND) * q_BLND.shape[-1] ** -0.5
    return torch.einsum("bnls,bsnd->blnd", score_BNLS.softmax(-1), v_BSND)


@dataclass
class LanePass:
    """One forward's self-attention: own frames are put into the lane, then everything visible is joined."""

    lane: dict[int, dict[int, tuple[Tensor, Tensor]]]  # layer -> latent frame -> its k, v [B, tokens, N, D]
    own: list[int]
    visible: list[int]
    attention: Attend

    def store(self, layer: int, k_BLND: Tensor, v_BLND: Tensor) -> None:
        frames = self.lane.setdefault(layer, {})
        count = len(self.own)
        frames.update(zip(self.own, zip(k_BLND.chunk(count, 1), v_BLND.chunk(count, 1), strict=True), strict=True))
        for gone in frames.keys() - set(self.visible):
            del frames[gone]

    def attend(self, layer: int, q_BLND: Tensor, k_BLND: Tensor, v_BLND: Tensor) -> Tensor:
        self.store(layer, k_BLND, v_BLND)
        pairs = [self.lane[layer][frame] for frame in self.visible]
        return self.attention(q_BLND, torch.cat([k for k, _ in pairs], 1), torch.cat([v for _, v in pairs], 1))


@dataclass
class ContiguousLanes:
    """Lanes as lists of frames; with `attention=sdpa` results equal a paged server's bit for bit."""

    model: Denoiser
    window_frames: int | None
    sink_frames: int = 0
    attention: Attend = explicit_attention
    lanes: dict[str, dict[int, dict[int, tuple[Tensor, Tensor]]]] = field(default_factory=dict)

    def visible(self, first: int, count: int) -> list[int]:
        """Frames a block sees (HiAR's rule: own frames, sinks, the end of the past), in canonical order."""
        end, sinks = first + count, self.sink_frames
        if self.window_frames is None:
            return list(range(end))
        ring = self.window_frames - sinks
        seen = [g for g in range(end) if g >= first or g < sinks or g >= end - ring]
        return sorted(seen, key=lambda g: g if g < sinks else sinks + (g - sinks) % ring)

    def inputs(self, lane: str, first: int, x_BFCHW: Tensor, timestep: float, text: TextKV) -> Inputs:
        batch, count = x_BFCHW.shape[:2]
        own = list(range(first, first + count))
        return Inputs(
            x_BFCHW=x_BFCHW,
            timestep_BF=torch.full((batch, count), timestep),
            position_BF=torch.tensor([own] * batch),
            conditioning=Conditioning(text=text),
            attention=LanePass(self.lanes.setdefault(lane, {}), own, self.visible(first, count), self.attention),
        )

    def denoise(self, lane: str, first_frame: int, x_BFCHW: Tensor, timestep: float, text: TextKV) -> Tensor:
        """See Lanes."""
        return self.model.denoise(self.inputs(lane, first_frame, x_BFCHW, timestep, text))

    def commit(self, lane: str, first_frame: int, x_BFCHW: Tensor, timestep: float, text: TextKV) -> None:
        """See Lanes."""
        self.model.commit(self.inputs(lane, first_frame, x_BFCHW, timestep, text))

    def contents(self, lane: str, layer: int, frames: Iterable[int]) -> Tensor:
        """Keys and values [2, B, S, N, D] of frames of a lane."""
        pairs = [self.lanes[lane][layer][frame] for frame in frames]
        return torch.stack([torch.cat([pair[unit] for pair in pairs], 1) for unit in range(2)])


def clean(x: Tensor, flow: Tensor, sigma: float) -> Tensor:
    """x0 = x - sigma flow in float64, rounded to float32."""
    return (x.double() - sigma * flow.double()).float()


def noised(x0: Tensor, noise: Tensor, sigma: float) -> Tensor:
    """(1 - sigma) x0 + sigma noise in float32."""
    level = torch.tensor(sigma, dtype=torch.float32)
    return (1 - level) * x0 + level * noise


def generate(
    model: Denoiser,
    recipe: RecipeLike,
    text: Tensor | Mapping[int, Tensor],
    noise: NoiseFn,
    blocks: int,
    lanes: Lanes | None = None,
) -> list[Tensor]:
    """The x0 latents [B, F, C, H, W] of blocks 0..blocks-1 of B sessions that run in step.

    `text` is text features [B, T, text_dim], or for cues a mapping from the first block they apply to.
    `lanes` defaults to contiguous ones; `ContiguousLanes(..., attention=sdpa)` gives the bits of a server.
    """
    if lanes is None:
        lanes = ContiguousLanes(model, recipe.window_frames, recipe.sink_frames)
    cues = text if isinstance(text, Mapping) else {0: text}
    steps = len(recipe.sigmas)
    latents = []
    with torch.inference_mode():
        for block in range(blocks):
            if block in cues:
                text_kv = model.encode_text(cues[block])
            first = recipe.blocks.first_frame(block)
            x = noise(block, 0)
            for step, (sigma, timestep) in enumerate(zip(recipe.sigmas, recipe.timesteps, strict=True)):
                lane = "clean" if recipe.level is Level.CLEAN else f"step {step}"
                x0 = clean(x, lanes.denoise(lane, first, x, timestep, text_kv), sigma)
                last = step + 1 == steps
                x = x0 if last else noised(x0, noise(block, step + 1), recipe.sigmas[step + 1])
                if recipe.level is Level.OUTPUT:
                    lanes.commit(lane, first, x, 0.0 if last else recipe.timesteps[step + 1], text_kv)
            if recipe.level is Level.CLEAN:
                lanes.commit("clean", first, x, 0.0, text_kv)
            latents.append(x)
    return latents
