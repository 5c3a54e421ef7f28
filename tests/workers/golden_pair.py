"""Goldens: what reference implementations made with tiny models, each a sidecar in JSON and the tensors beside it.

They lie in $LONGTAKE_GOLDENS, or else in tests/goldens and in shared/goldens beside the checkout. Shape suffixes as in
oracle.py.
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property
from pathlib import Path
from typing import Any

from safetensors.torch import load_file
from torch import Tensor

from longtake.core.recipe.blocks import BlockPlan
from longtake.core.recipe.geometry import Geometry
from longtake.core.recipe.recipe import Recipe
from longtake.core.recipe.steps import StepPlan
from workers.models.wan.config import WanConfig, WanVAEConfig
from workers.models.wan.dit import WanModel
from workers.models.weights import ModelInfo, new_decoder, save_model

_ROOT = Path(__file__).parents[2]
PLACES = (
    [Path(os.environ["LONGTAKE_GOLDENS"])]
    if "LONGTAKE_GOLDENS" in os.environ
    else [_ROOT / "tests" / "goldens", _ROOT.parent / "shared" / "goldens"]
)
ABSENT = f"no such goldens in {', '.join(map(str, PLACES))}"
_WEIGHTS = "weights."


def goldens(*patterns: str) -> dict[str, Path]:
    """The sidecars that are there of these kinds, by name."""
    found = [path for place in PLACES for pattern in patterns for path in sorted(place.glob(f"{pattern}.json"))]
    return {path.stem: path for path in found}


def read(path: Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """A sidecar and its tensors."""
    return json.loads(path.read_text()), load_file(path.with_suffix(".safetensors"))


@dataclass(frozen=True)
class GoldenPair:
    """One sidecar with its tensors, and what all of them say in the same words."""

    sidecar: dict[str, Any]
    tensors: dict[str, Tensor]

    @property
    def config(self) -> dict[str, Any]:
        """What it was made with."""
        config: dict[str, Any] = self.sidecar["config"]
        return config

    @property
    def runs(self) -> list[str]:
        """The names of what was made."""
        return [name.removeprefix("out.") for name in sorted(self.tensors) if name.startswith("out.")]

    @property
    def steps(self) -> StepPlan:
        """The steps that its blocks take."""
        told = self.config["scheduler"]
        return StepPlan(ladder=tuple(told["denoising_step_list"]), shift=told["timestep_shift"])

    @property
    def block_frames(self) -> int:
        """Latent frames of a block."""
        frames: int = self.config["blocks"]["num_frame_per_block"]
        return frames

    @property
    def block_count(self) -> int:
        """Blocks of a whole run."""
        blocks: int = self.config["blocks"]["num_blocks"]
        return blocks

    @property
    def window_frames(self) -> int:
        """Latent frames of the window; -1: all."""
        frames: int = self.config["cache"]["local_attn_size_frames"]
        return frames

    @property
    def sink_frames(self) -> int:
        """Latent frames that never leave it."""
        frames: int = self.config["cache"]["sink_size_frames"]
        return frames

    @cached_property
    def network(self) -> WanConfig:
        """The sizes of its network."""
        known = WanConfig.__dataclass_fields__
        sizes = {key: value for key, value in self.config["model"].items() if key in known}
        return WanConfig(**sizes | {"patch_size": tuple(sizes["patch_size"])})

    @property
    def weights(self) -> dict[str, Tensor]:
        """Those of the network, by the names that it has for them."""
        prefixed = {name: tensor for name, tensor in self.tensors.items() if name.startswith(_WEIGHTS)}
        return {name.removeprefix(_WEIGHTS).removeprefix("model."): tensor for name, tensor in prefixed.items()}

    @cached_property
    def model(self) -> WanModel:
        """The network that its tensors came from."""
        model = WanModel(self.network)
        model.load_state_dict(self.weights)
        return model.eval().requires_grad_(False)

    def geometry(self, blocks: BlockPlan) -> Geometry:
        """That of its latents, shared out to blocks."""
        latent = self.config["latent"]
        return Geometry(
            width=8 * latent["width"],
            height=8 * latent["height"],
            fps=Fraction(16),
            latent_channels=latent["channels"],
            blocks=blocks,
            patch_space=self.network.patch_size[1],
        )

    def write(self, folder: Path, recipe: Recipe) -> ModelInfo:
        """Write a model directory that serves its network by a recipe, with a decoder that nobody looks at."""
        channels = self.config["latent"]["channels"]
        info = ModelInfo(
            name=self.sidecar["file"],
            geometry=self.geometry(recipe.blocks),
            recipe=recipe,
            dit=self.network,
            vae=WanVAEConfig(dim=4, z_dim=channels, dim_mult=(1, 2, 2, 2), num_res_blocks=1),
            latent_mean=(0.0,) * channels,
            latent_std=(1.0,) * channels,
            text_kind="pocket",
        )
        save_model(folder, info, self.weights, new_decoder(info).state_dict())
        return info
