"""The goldens of LongLive's own code, in both of its models: places that are frame numbers (v1), or window slots.

They are the pairs longlive*_tiny_*.json, .safetensors where reference.py looks for goldens. Shape suffixes as in
oracle.py.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from fractions import Fraction
from functools import cache
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor

from longtake.core.recipe.blocks import BlockPlan
from longtake.core.recipe.context import Context, Level
from longtake.core.recipe.geometry import Geometry
from longtake.core.recipe.positions import Numbering, Positions
from longtake.core.recipe.recipe import Recipe
from longtake.core.recipe.steps import StepPlan
from tests.workers.reference import PLACES
from tests.workers.unturned import turned
from workers.models.wan.config import WanConfig, WanVAEConfig
from workers.models.weights import ModelInfo, new_decoder, save_model

GOLDENS = {path.stem: path for place in PLACES for path in sorted(place.glob("longlive*_tiny_*.json"))}
INFINITE = "longlive_infinite_tiny_A"
ATOL = 2e-5
_WEIGHTS = "weights.model."


@dataclass(frozen=True)
class LongLiveGolden:
    """One sidecar with its tensors."""

    sidecar: dict[str, Any]
    tensors: dict[str, Tensor]

    @staticmethod
    @cache
    def load(name: str) -> LongLiveGolden:
        path = GOLDENS[name]
        sidecar = json.loads(path.read_text())
        scheduler = sidecar["config"]["scheduler"]
        assert scheduler["warp_denoising_step"] and scheduler["context_noise"] == 0
        return LongLiveGolden(sidecar, load_file(path.with_suffix(".safetensors")))

    @property
    def places_are_slots(self) -> bool:
        """Whether keys are kept without any rotation and turned by the slots of the window."""
        told: str = self.sidecar["procedure"]["positions"]
        return told.startswith("window slots")

    @property
    def recipe(self) -> Recipe:
        """As our files would have it, without anything that happens at a cue."""
        config = self.sidecar["config"]
        return Recipe(
            steps=StepPlan(
                ladder=tuple(config["scheduler"]["denoising_step_list"]), shift=config["scheduler"]["timestep_shift"]
            ),
            blocks=BlockPlan(frames=config["blocks"]["num_frame_per_block"]),
            context=Context(
                level=Level.CLEAN,
                window_frames=config["cache"]["local_attn_size_frames"],
                sink_frames=config["cache"]["sink_size_frames"],
            ),
            positions=Positions(stream=Numbering.LISTED if self.places_are_slots else Numbering.ABSOLUTE),
        )

    @property
    def blocks(self) -> int:
        """Blocks of the whole runs."""
        blocks: int = self.sidecar["config"]["blocks"]["num_blocks"]
        return blocks

    @property
    def rows(self) -> int:
        """Rows of tokens of a frame."""
        rows: int = self.sidecar["config"]["latent"]["height"] // self.sidecar["config"]["model"]["patch_size"][1]
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
        tokens: int = self.sidecar["config"]["latent"]["tokens_per_frame"]
        k, v = (
            self.tensors[f"cache.{cache_name}.layer{layer}.{which}"][:, slot * tokens : (slot + 1) * tokens]
            for which in "kv"
        )
        return torch.cat([turned(k, 0, self.rows) if self.places_are_slots else k, v])

    def layers_of(self, cache_name: str) -> list[int]:
        """The layers of which a cache is kept."""
        kept = [name.split(".") for name in self.tensors if name.startswith(f"cache.{cache_name}.layer")]
        return sorted({int(parts[-2].removeprefix("layer")) for parts in kept})

    def info(self) -> ModelInfo:
        """The model, with a decoder that nobody asks for."""
        model, latent = self.sidecar["config"]["model"], self.sidecar["config"]["latent"]
        fields = WanConfig.__dataclass_fields__.keys()
        sizes = {key: value for key, value in model.items() if key in fields}
        vae = WanVAEConfig(dim=4, z_dim=latent["channels"], dim_mult=(1, 2, 2, 2), num_res_blocks=1)
        stride = vae.spatial_stride
        return ModelInfo(
            name=self.sidecar["file"],
            geometry=Geometry(
                width=latent["width"] * stride,
                height=latent["height"] * stride,
                fps=Fraction(16),
                latent_channels=latent["channels"],
                blocks=self.recipe.blocks,
            ),
            recipe=self.recipe,
            dit=WanConfig(**sizes | {"patch_size": tuple(sizes["patch_size"])}),
            vae=vae,
            latent_mean=(0.0,) * latent["channels"],
            latent_std=(1.0,) * latent["channels"],
            text_kind="pocket",
        )

    def write(self, folder: Path) -> ModelInfo:
        """Write a model directory that serves it."""
        info = self.info()
        dit = {name.removeprefix(_WEIGHTS): value for name, value in self.tensors.items() if name.startswith(_WEIGHTS)}
        save_model(folder, info, dit, new_decoder(info).state_dict())
        return info
