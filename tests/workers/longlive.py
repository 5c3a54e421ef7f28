"""The goldens of LongLive's own code, in both of its models: places that are frame numbers (v1), or window slots.

They are the pairs longlive*_tiny_*.json, .safetensors. Shape suffixes as in oracle.py.
"""

from __future__ import annotations

from functools import cache

import torch
from torch import Tensor

from longtake.core.recipe.blocks import BlockPlan
from longtake.core.recipe.context import Context, Level
from longtake.core.recipe.positions import Numbering, Positions
from longtake.core.recipe.recipe import Recipe
from tests.workers.golden_pair import GoldenPair, goldens, read
from tests.workers.unturned import turned

GOLDENS = goldens("longlive*_tiny_*")
INFINITE = "longlive_infinite_tiny_A"
ATOL = 2e-5


class LongLiveGolden(GoldenPair):
    """One of them."""

    @staticmethod
    @cache
    def load(name: str) -> LongLiveGolden:
        golden = LongLiveGolden(*read(GOLDENS[name]))
        scheduler = golden.config["scheduler"]
        assert scheduler["warp_denoising_step"] and scheduler["context_noise"] == 0
        return golden

    @property
    def places_are_slots(self) -> bool:
        """Whether keys are kept without any rotation and turned by the slots of the window."""
        told: str = self.sidecar["procedure"]["positions"]
        return told.startswith("window slots")

    @property
    def recipe(self) -> Recipe:
        """As our files would have it, without anything that happens at a cue."""
        return Recipe(
            steps=self.steps,
            blocks=BlockPlan(frames=self.block_frames),
            context=Context(level=Level.CLEAN, window_frames=self.window_frames, sink_frames=self.sink_frames),
            positions=Positions(stream=Numbering.LISTED if self.places_are_slots else Numbering.ABSOLUTE),
        )

    @property
    def rows(self) -> int:
        """Rows of tokens of a frame."""
        rows: int = self.config["latent"]["height"] // self.network.patch_size[1]
        return rows

    def text(self, number: int) -> Tensor:
        """Features [T, C] of its first or its second prompt."""
        return self.tensors["in.prompt_embeds" if number == 0 else f"in.prompt_embeds_{number + 1}"][0]

    def noise(self, block: int, draw: int) -> Tensor:
        """The noise [F, C, H, W] that a block starts from (draw 0), or that is added after step draw - 1."""
        source = self.tensors["in.noise"] if draw == 0 else self.tensors["in.sde_noise"][draw - 1]
        own = self.recipe.blocks.own(block)
        return source[0, own.start : own.stop]

    def out(self, run: str, blocks: range) -> Tensor:
        """Latents [frames, C, H, W] of some blocks of a run."""
        first, last = (self.recipe.blocks.own(block) for block in (blocks[0], blocks[-1]))
        return self.tensors[f"out.{run}"][0, first.start : last.stop]

    def page(self, cache_name: str, layer: int, slot: int) -> Tensor:
        """Keys and values [2, L, N, D] of a slot of a cache, as our pages have them: rows and columns rotated."""
        tokens: int = self.config["latent"]["tokens_per_frame"]
        k, v = (
            self.tensors[f"cache.{cache_name}.layer{layer}.{which}"][:, slot * tokens : (slot + 1) * tokens]
            for which in "kv"
        )
        return torch.cat([turned(k, 0, self.rows) if self.places_are_slots else k, v])

    def layers_of(self, cache_name: str) -> list[int]:
        """The layers of which a cache is kept."""
        kept = [name.split(".") for name in self.tensors if name.startswith(f"cache.{cache_name}.layer")]
        return sorted({int(parts[-2].removeprefix("layer")) for parts in kept})
