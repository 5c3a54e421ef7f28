"""What LongLive's own code made with a tiny model (longlive_tiny_*.json), and how its runs are asked for."""

from __future__ import annotations

import json
from dataclasses import dataclass
from fractions import Fraction
from functools import cache
from pathlib import Path
from typing import Any

from safetensors.torch import load_file
from torch import Tensor

from longtake.core.recipe.blocks import BlockPlan
from longtake.core.recipe.context import Context, Level
from longtake.core.recipe.cues import CuePolicy, CueRule
from longtake.core.recipe.geometry import Geometry
from longtake.core.recipe.recipe import Recipe
from longtake.core.recipe.steps import StepPlan
from tests.workers.reference import PLACES
from workers.models.wan.config import WanConfig, WanVAEConfig
from workers.models.weights import ModelInfo, new_decoder, save_model

GOLDENS = {path.stem: path for place in PLACES for path in sorted(place.glob("longlive_tiny_*.json"))}


@dataclass(frozen=True)
class LongLive:
    """One sidecar with its tensors."""

    config: dict[str, Any]
    tensors: dict[str, Tensor]
    tolerance: float

    @staticmethod
    @cache
    def load(name: str) -> LongLive:
        """The pair of this name."""
        sidecar = json.loads(GOLDENS[name].read_text())
        assert sidecar["config"]["scheduler"]["context_noise"] == 0
        tensors = load_file(GOLDENS[name].with_suffix(".safetensors"))
        return LongLive(sidecar["config"], tensors, sidecar["tolerance"]["recommended_atol"])

    @property
    def runs(self) -> list[str]:
        """The names of the runs."""
        return [name.removeprefix("out.") for name in sorted(self.tensors) if name.startswith("out.")]

    @property
    def window(self) -> int:
        frames: int = self.config["cache"]["local_attn_size_frames"]
        return frames

    @property
    def sinks(self) -> int:
        frames: int = self.config["cache"]["sink_size_frames"]
        return frames

    @property
    def frames(self) -> int:
        """Latent frames of a block."""
        frames: int = self.config["blocks"]["num_frame_per_block"]
        return frames

    def out(self, run: str) -> Tensor:
        """Finished latents [frames, C, H, W] of a run."""
        return self.tensors[f"out.{run}"][0]

    def switches(self, run: str) -> list[int]:
        """The blocks before which the prompt changes: to the second one, back to the first, and so on."""
        switch = self.config["switch"]
        frames = {
            "switch": [switch["switch_frame"]],
            "other_sink": [switch["switch_frame"]],
            "no_switch": [],
            "early_switch": [switch["early_switch_frame"]],
            "switch_at_window": [self.window],
            "two_switches": switch["two_switch_frames"],
        }[run]
        return [-(-frame // self.frames) for frame in frames]

    def keeps_sinks(self, run: str) -> bool:
        """Whether a run keeps its sinks."""
        keeps: bool = self.config["switch"]["global_sink"]
        return keeps is not (run == "other_sink")

    def recipe(self, run: str) -> Recipe:
        """That of a run."""
        steps = self.config["scheduler"]
        return Recipe(
            steps=StepPlan(ladder=tuple(steps["denoising_step_list"]), shift=steps["timestep_shift"]),
            blocks=BlockPlan(frames=self.frames),
            context=Context(level=Level.CLEAN, window_frames=self.window, sink_frames=self.sinks),
            cues=CuePolicy(change=CueRule.JOINT, keep_sinks=self.keeps_sinks(run)),
        )

    def write(self, folder: Path, recipe: Recipe) -> ModelInfo:
        """A model directory with its weights, and a decoder that nobody looks at."""
        fields = WanConfig.__dataclass_fields__.keys()
        sizes = {key: value for key, value in self.config["model"].items() if key in fields}
        dit = WanConfig(**sizes | {"patch_size": tuple(sizes["patch_size"])})
        latent = self.config["latent"]
        info = ModelInfo(
            name="longlive",
            geometry=Geometry(
                width=8 * latent["width"],
                height=8 * latent["height"],
                fps=Fraction(16),
                latent_channels=latent["channels"],
                blocks=recipe.blocks,
            ),
            recipe=recipe,
            dit=dit,
            vae=WanVAEConfig(dim=4, z_dim=latent["channels"], dim_mult=(1, 2, 2, 2), num_res_blocks=1),
            latent_mean=(0.0,) * latent["channels"],
            latent_std=(1.0,) * latent["channels"],
            text_kind="pocket",
        )
        prefix = "weights.model."
        weights = {name.removeprefix(prefix): each for name, each in self.tensors.items() if name.startswith(prefix)}
        save_model(folder, info, weights, new_decoder(info).state_dict())
        return info
