"""The oracle of streams with a reference: its K/V are cached once at t = 0, and every block reads them first.

Written from Knot Forcing (arXiv 2512.21734): the cached K/V of a reference image are in view of every chunk, and it is
"running ahead" of what is rolled out. Keys are kept without rotation and turned whole with every read, wherever the
reference stands. Shape suffixes as in oracle.py.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from longtake.core.recipe.context import Level
from longtake.core.recipe.recipe import Recipe
from tests.workers.oracle import NoiseFn, generate
from tests.workers.unturned import UnturnedLanes, placing_of
from workers.models.api import Denoiser, sdpa


def running_ahead(lead: int, stride: int, end: int) -> int:
    """The paper's rule: the place n begins at `lead`, and while a chunk ends beyond it, n grows by `stride`."""
    place = lead
    while end > place:
        place += stride
    return place


@dataclass
class ReferenceLanes(UnturnedLanes):
    """Lanes whose frames -r .. -1 are the reference; the window of the stream itself is what it leaves."""

    references: int = 1

    def visible(self, first: int, count: int) -> list[int]:
        """See ContiguousLanes: the reference comes first, and reads itself alone."""
        before = list(range(-self.references, 0))
        return before if first < 0 else [*before, *super().visible(first, count)]


def lanes_with(model: Denoiser, recipe: Recipe) -> ReferenceLanes:
    """Such lanes for a recipe, with the bits of a server."""
    count, positions = recipe.context.reference_frames, recipe.positions
    stream = placing_of(recipe)

    def placing(own: Sequence[int], seen: Sequence[int]) -> dict[int, int]:
        if positions.reference_lead:
            ahead = running_ahead(positions.reference_lead, positions.reference_stride, max(seen) + 1)
            return {frame: frame if frame >= 0 else ahead + frame + count for frame in seen}
        if positions.plain() == "listed":
            return stream(own, seen)
        return {frame: frame + count for frame in seen}

    window = None if recipe.window_frames is None else recipe.window_frames - count
    return ReferenceLanes(model, window, recipe.sink_frames, attention=sdpa, placing=placing, references=count)


def generate_with(
    model: Denoiser,
    recipe: Recipe,
    text: Mapping[int, Tensor],
    noise: NoiseFn,
    blocks: int,
    reference_BFCHW: Tensor,
    lanes: ReferenceLanes | None = None,
) -> list[Tensor]:
    """The x0 latents of blocks 0..blocks-1; `text` are features by the first block that they apply to."""
    lanes = lanes_with(model, recipe) if lanes is None else lanes
    names = ["clean"] if recipe.level is Level.CLEAN else [f"step {step}" for step in range(len(recipe.sigmas))]
    with torch.inference_mode():
        for lane in names:
            lanes.commit(lane, -reference_BFCHW.shape[1], reference_BFCHW, 0.0, model.encode_text(text[0]))
    return generate(model, recipe, text, noise, blocks, lanes)
