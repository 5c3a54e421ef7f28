"""What LongLive's own code made with a tiny model (longlive_tiny_*.json), and how its runs are asked for."""

from __future__ import annotations

from functools import cache

from torch import Tensor

from longtake.core.recipe.blocks import BlockPlan
from longtake.core.recipe.context import Context, Level
from longtake.core.recipe.cues import CuePolicy, CueRule
from longtake.core.recipe.recipe import Recipe
from tests.workers.golden_pair import GoldenPair, goldens, read

GOLDENS = goldens("longlive_tiny_*")


class LongLive(GoldenPair):
    """One of them."""

    @staticmethod
    @cache
    def load(name: str) -> LongLive:
        """The pair of this name."""
        golden = LongLive(*read(GOLDENS[name]))
        assert golden.config["scheduler"]["context_noise"] == 0
        return golden

    @property
    def tolerance(self) -> float:
        """How far an output may be off."""
        atol: float = self.sidecar["tolerance"]["recommended_atol"]
        return atol

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
            "switch_at_window": [self.window_frames],
            "two_switches": switch["two_switch_frames"],
        }[run]
        return [-(-frame // self.block_frames) for frame in frames]

    def keeps_sinks(self, run: str) -> bool:
        """Whether a run keeps its sinks."""
        keeps: bool = self.config["switch"]["global_sink"]
        return keeps is not (run == "other_sink")

    def recipe(self, run: str) -> Recipe:
        """That of a run."""
        return Recipe(
            steps=self.steps,
            blocks=BlockPlan(frames=self.block_frames),
            context=Context(level=Level.CLEAN, window_frames=self.window_frames, sink_frames=self.sink_frames),
            cues=CuePolicy(change=CueRule.JOINT, keep_sinks=self.keeps_sinks(run)),
        )
