"""The row of ACDiT (arXiv 2412.07720): a finished block is written by the forward that begins the next one.

Written from the paper. The clean latents of the block before are put in front of the noise of a new one, and the first
denoising step is one forward over both, under its skip-causal mask: clean frames see the past and themselves, noisy
ones the past, the clean frames and themselves. What that leaves of the clean frames is cached; the other steps see the
cache. Nothing else writes it. Shape suffixes as in oracle.py.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor

from tests.workers.oracle import ContiguousLanes, NoiseFn, RecipeLike, clean, noised
from workers.models.api import Conditioning, Denoiser, Inputs


@dataclass
class _SkipCausal:
    """One forward over the frames of some blocks, each of which sees the frames that it may."""

    cache: dict[int, dict[int, tuple[Tensor, Tensor]]]  # layer -> latent frame -> its k, v [B, tokens, N, D]
    blocks: list[list[int]]
    visible: list[list[int]]
    lanes: ContiguousLanes
    own: list[int] = field(init=False)

    def __post_init__(self) -> None:
        self.own = [frame for block in self.blocks for frame in block]

    def store(self, layer: int, k_BLND: Tensor, v_BLND: Tensor) -> None:
        kept, count = self.cache.setdefault(layer, {}), len(self.own)
        kept.update(zip(self.own, zip(k_BLND.chunk(count, 1), v_BLND.chunk(count, 1), strict=True), strict=True))

    def attend(self, layer: int, q_BLND: Tensor, k_BLND: Tensor, v_BLND: Tensor) -> Tensor:
        self.store(layer, k_BLND, v_BLND)
        out = []
        for q, seen in zip(q_BLND.chunk(len(self.blocks), 1), self.visible, strict=True):
            pairs = [self.cache[layer][frame] for frame in seen]
            k, v = (torch.cat([pair[unit] for pair in pairs], 1) for unit in range(2))
            out.append(self.lanes.attention(q.contiguous(), k, v))
        return torch.cat(out, 1)


def generate_prepended(
    model: Denoiser,
    recipe: RecipeLike,
    text: Tensor | Mapping[int, Tensor],
    noise: NoiseFn,
    blocks: int,
    lanes: ContiguousLanes,
) -> list[Tensor]:
    """The x0 latents of blocks 0..blocks-1, as tests.workers.oracle.generate gives them; one text for all blocks."""
    cues = text if isinstance(text, Mapping) else {0: text}
    size, steps = recipe.blocks.frames, len(recipe.sigmas)
    cache: dict[int, dict[int, tuple[Tensor, Tensor]]] = {}
    finished: list[Tensor] = []
    with torch.inference_mode():
        conditioning = Conditioning(text=model.encode_text(cues[0]))
        for block in range(blocks):
            x = noise(block, 0)
            for step in range(steps):
                begins = step == 0 and block > 0
                members = [block - 1, block] if begins else [block]
                owns = [list(range(each * size, (each + 1) * size)) for each in members]
                times = [0.0] * (size * begins) + [recipe.timesteps[step]] * size
                flow = model.denoise(
                    Inputs(
                        x_BFCHW=torch.cat([finished[-1], x], 1) if begins else x,
                        timestep_BF=torch.tensor([times]),
                        position_BF=torch.tensor([[frame for own in owns for frame in own]]),
                        conditioning=conditioning,
                        attention=_SkipCausal(cache, owns, [lanes.visible(own[0], size) for own in owns], lanes),
                    )
                )
                x = clean(x, flow[:, -size:], recipe.sigmas[step])
                if step + 1 < steps:
                    x = noised(x, noise(block, step + 1), recipe.sigmas[step + 1])
            finished.append(x)
    return finished
