"""The configurations that ship: they are read, and what they ask for fits the GPUs they are for."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from cluster.config import load_config
from cluster.launch.gpus import gpus_for
from cluster.launch.plan import plan_for
from longtake.core.plan.measured import MEASURED
from longtake.core.plan.plan import WORKSPACE_BYTES
from longtake.core.plan.presets import PRESETS
from longtake.core.work import Role
from tests.core.plan.h100 import GPU_BYTES, on_h100s
from tests.workers.convert.published_info import info_of

CONFIGS = Path(__file__).resolve().parents[2] / "deploy" / "config"
ON_GPUS = [
    ("hiar-one-gpu", "wan-hiar", 1),
    ("longlive-one-gpu", "wan-longlive", 1),
    ("hiar-four-gpus", "wan-hiar", 4),
    ("wan-14b-four-gpus", "wan-14b-krea", 4),
]


def test_every_configuration_that_ships_is_tried_here() -> None:
    assert {path.stem for path in CONFIGS.glob("*.toml")} == {"pocket", *(name for name, _, _ in ON_GPUS)}


@pytest.mark.parametrize(("name", "recipe", "gpus"), ON_GPUS)
def test_what_they_say_of_time_is_what_the_plan_says(name: str, recipe: str, gpus: int) -> None:
    split = load_config(CONFIGS / f"{name}.toml").cluster.layer_split
    found = on_h100s(recipe, gpus, split)
    lines = (CONFIGS / f"{name}.toml").read_text().splitlines()
    said = " ".join(line.removeprefix("# ") for line in lines[: lines.index("")])
    live = ("", "one live stream", "two live streams", "three live streams")
    assert [words for words in live[1:] if words in said] == [
        words for words in live[1:] if words == live[found.shared.streams]
    ]
    if split == 1:
        assert f"{found.shared.block_s:.1f} s of an H100" in said
    else:
        assert f"{found.made.stream_rate:.1f} x real time" in said
        assert f"at most {found.shared.blocks_per_s:.1f} blocks" in said


@pytest.mark.parametrize(("name", "recipe", "gpus"), ON_GPUS)
def test_pages_slots_weights_and_workspace_fit_each_gpu(name: str, recipe: str, gpus: int) -> None:
    config = load_config(CONFIGS / f"{name}.toml")
    launch = plan_for(config, info_of(recipe))
    found = gpus_for(launch.workers, config.cluster.gpus, lambda: tuple(map(str, range(gpus))))
    assert set(found.values()) == set(map(str, range(gpus)))
    model, split = PRESETS[f"{recipe}-480p"], config.cluster.layer_split
    sizes = on_h100s(recipe, gpus, split).made
    page_bytes, slot_bytes = sizes.pages_bytes // sizes.pages_per_worker, sizes.bytes_per_session.decoder_state
    decoder_bytes = 2 * model.decoder.weights(model.geometry.latent_channels) + MEASURED.decoder_workspace_bytes
    held = Counter[str]()
    for spec in launch.workers:
        if spec.role is Role.DENOISE:
            held[found[spec.worker]] += spec.capacity * page_bytes + sizes.weights_bytes + WORKSPACE_BYTES
        elif spec.role is Role.DECODE:
            held[found[spec.worker]] += spec.capacity * slot_bytes + decoder_bytes
    assert 0.3 * GPU_BYTES < max(held.values()) <= 0.95 * GPU_BYTES, dict(held)
    slots = sum(spec.capacity for spec in launch.workers if spec.role is Role.DECODE)
    assert config.limits.max_sessions <= slots
    pages = sum(spec.capacity for spec in launch.workers if spec.role is Role.DENOISE) // split
    needed = info_of(recipe).recipe.page_count * info_of(recipe).recipe.lane_count
    assert config.limits.max_sessions * needed <= pages
