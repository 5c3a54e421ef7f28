"""The oracle of positions: contiguous keys that are kept as the network makes them and turned whole with every read.

Written from the papers. A key is kept behind its norm, before any rotation, and each forward that reads it turns all
pairs of its channels (time, rows and columns) at once, by the place that its frame has for that forward: LongLive's
infinite attention does this with the places of the window's slots. For places that never change it is the same as to
rotate when writing, which is how a wrong rotation would show. Shape suffixes as in oracle.py.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cache, partial

import torch
from torch import Tensor

from longtake.core.recipe.recipe import Recipe
from tests.workers.oracle import Attend, ContiguousLanes, explicit_attention
from workers.models.api import Conditioning, Inputs, TextKV
from workers.models.wan.dit import WanModel

Placing = Callable[[Sequence[int], Sequence[int]], dict[int, int]]
"""The place of each frame that a block reads: of the own frames, and of all it reads, in the order of reading."""


def absolute(own: Sequence[int], seen: Sequence[int]) -> dict[int, int]:
    """A frame stands where the stream has it."""
    return {frame: frame for frame in seen}


def listed(own: Sequence[int], seen: Sequence[int]) -> dict[int, int]:
    """Sinks, then the others by age, own frames last, counted from 0."""
    return {frame: place for place, frame in enumerate(sorted(seen))}


def cyclic(period: int, own: Sequence[int], seen: Sequence[int]) -> dict[int, int]:
    """A frame stands where it falls in a circle."""
    return {frame: frame % period for frame in seen}


def shifted(placing: Placing, by: int, own: Sequence[int], seen: Sequence[int]) -> dict[int, int]:
    """The same a way off."""
    return {frame: place + by for frame, place in placing(own, seen).items()}


def placing_of(recipe: Recipe) -> Placing:
    """The places of a recipe."""
    match recipe.positions.plain():
        case "absolute":
            return absolute
        case "listed":
            return listed
        case {"cyclic": int(period)}:
            return partial(cyclic, period)
        case other:
            raise NotImplementedError(other)


@cache
def factors(place: int, rows: int, tokens: int, pairs: int) -> tuple[Tensor, Tensor]:
    """Cosine and sine [T, 1, R] of the angle of each pair of channels of each token of a frame."""
    columns, spatial = tokens // rows, 2 * pairs // 6
    counts = (pairs - 2 * spatial, spatial, spatial)

    def angles(token: int) -> list[float]:
        where = zip((place, token // columns, token % columns), counts, strict=True)
        return [at * math.pow(10000.0, -number / count) for at, count in where for number in range(count)]

    angle_T1R = torch.tensor([angles(token) for token in range(tokens)], dtype=torch.float64)[:, None]
    return angle_T1R.cos().float(), angle_T1R.sin().float()


def turned(k_BTND: Tensor, place: int, rows: int) -> Tensor:
    """Keys of the tokens T of one frame, all pairs of channels rotated at once."""
    cos_T1R, sin_T1R = factors(place, rows, k_BTND.shape[1], k_BTND.shape[-1] // 2)
    even, odd = k_BTND[..., 0::2], k_BTND[..., 1::2]
    out = torch.empty_like(k_BTND)
    out[..., 0::2] = even * cos_T1R - odd * sin_T1R
    out[..., 1::2] = odd * cos_T1R + even * sin_T1R
    return out


@dataclass
class _Pass:
    """One forward's self-attention over what is kept without any rotation."""

    lanes: UnturnedLanes
    lane: dict[int, dict[int, tuple[Tensor, Tensor]]]
    own: list[int]
    visible: list[int]
    place: dict[int, int]
    rows: int

    def store(self, layer: int, k_BLND: Tensor, v_BLND: Tensor) -> None:
        frames = self.lane.setdefault(layer, {})
        bare_BLND, count = self.lanes.made[layer].view(k_BLND.shape), len(self.own)
        frames.update(zip(self.own, zip(bare_BLND.chunk(count, 1), v_BLND.chunk(count, 1), strict=True), strict=True))
        for gone in frames.keys() - set(self.visible):
            del frames[gone]

    def attend(self, layer: int, q_BLND: Tensor, k_BLND: Tensor, v_BLND: Tensor) -> Tensor:
        self.store(layer, k_BLND, v_BLND)
        pairs = [self.lane[layer][frame] for frame in self.visible]
        keys = [turned(k, self.place[frame], self.rows) for frame, (k, _) in zip(self.visible, pairs, strict=True)]
        return self.lanes.attention(q_BLND, torch.cat(keys, 1), torch.cat([v for _, v in pairs], 1))


@dataclass
class UnturnedLanes(ContiguousLanes):
    """Lanes as lists of frames whose keys are turned as they are read; see ContiguousLanes for the rest."""

    attention: Attend = explicit_attention
    placing: Placing = absolute
    made: dict[int, Tensor] = field(default_factory=dict)
    """By layer, the keys [B, L, E] that the network made last, before they were rotated."""

    def __post_init__(self) -> None:
        assert isinstance(self.model, WanModel)
        for layer in self.model.layers:
            norm = self.model.get_submodule(f"blocks.{layer}.self_attn.norm_k")
            norm.register_forward_hook(self._keep(layer))

    def _keep(self, layer: int) -> Callable[[torch.nn.Module, object, Tensor], None]:
        return lambda _module, _inputs, made: self.made.update({layer: made})

    def inputs(self, lane: str, first: int, x_BFCHW: Tensor, timestep: float, text: TextKV) -> Inputs:
        """See ContiguousLanes; queries stand where the own frames do."""
        assert isinstance(self.model, WanModel)
        batch, count = x_BFCHW.shape[:2]
        own = list(range(first, first + count))
        visible = self.visible(first, count)
        place = self.placing(own, visible)
        rows = x_BFCHW.shape[-2] // self.model.config.patch_size[1]
        return Inputs(
            x_BFCHW=x_BFCHW,
            timestep_BF=torch.full((batch, count), timestep),
            position_BF=torch.tensor([[place[frame] for frame in own]] * batch),
            conditioning=Conditioning(text=text),
            attention=_Pass(self, self.lanes.setdefault(lane, {}), own, visible, place, rows),
        )
