"""What a recipe that ships makes of H100s with a decoder on each, by the times that were measured."""

from __future__ import annotations

from dataclasses import dataclass

from longtake.core.flow import Pace
from longtake.core.plan.figures import PlanTimes, times
from longtake.core.plan.plan import Devices, Plan, plan
from longtake.core.plan.presets import PRESETS
from longtake.core.plan.sharing import Shared, shared

GPU_BYTES = 80_000_000_000


@dataclass(frozen=True, slots=True)
class OnH100s:
    """One layout."""

    times: PlanTimes
    made: Plan
    shared: Shared


def on_h100s(recipe: str, gpus: int, layer_split: int) -> OnH100s:
    """For live streams, at the size that the recipe is for."""
    model = PRESETS[f"{recipe}-480p"]
    known = times(model)
    assert known.decode is not None
    devices = Devices(
        count=gpus, memory_bytes=GPU_BYTES, forward_s=known.forward.value, decode_s=known.decode.value,
        layer_split=layer_split, max_batch=2,
    )  # fmt: skip
    made = plan(model, devices, Pace.REALTIME)
    beside = shared(model, devices, made)
    assert beside is not None
    return OnH100s(known, made, beside)
