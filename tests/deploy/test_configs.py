"""The configurations that ship: they are read, and the GPUs they are for have room for what they let in."""

from __future__ import annotations

from pathlib import Path

import pytest

from cluster.config import load_config
from cluster.launch.plan import plan_for
from cluster.launch.sizing import sized_here
from longtake.core.plan.memory import Memory
from longtake.core.work import Role
from tests.core.plan.h100 import GPU_BYTES, on_h100s
from tests.workers.convert.published_info import info_of
from workers.start.child import VISIBLE

ROOT = Path(__file__).resolve().parents[2]
CONFIGS = ROOT / "deploy" / "config"
MODELS = ROOT / "docs" / "models.md"
ON_GPUS = [
    ("hiar-one-gpu", "wan-hiar", 1),
    ("longlive-one-gpu", "wan-longlive", 1),
    ("hiar-four-gpus", "wan-hiar", 4),
    ("wan-14b-four-gpus", "wan-14b-krea", 4),
]
GPU = Memory(total_bytes=GPU_BYTES, free_bytes=GPU_BYTES)


def test_every_configuration_that_ships_is_tried_here() -> None:
    assert {path.stem for path in CONFIGS.glob("*.toml")} == {"pocket", *(name for name, _, _ in ON_GPUS)}


@pytest.mark.parametrize(("name", "recipe", "gpus"), ON_GPUS)
def test_what_they_say_of_time_is_what_the_plan_says(name: str, recipe: str, gpus: int) -> None:
    split = load_config(CONFIGS / f"{name}.toml").cluster.layer_split
    found = on_h100s(recipe, gpus, split)
    lines = (CONFIGS / f"{name}.toml").read_text().splitlines()
    said = " ".join(line.removeprefix("# ") for line in lines[: lines.index("")])
    realtime = ("", "one realtime stream", "two realtime streams", "three realtime streams")
    (row,) = [line for line in MODELS.read_text().splitlines() if line.startswith(f"| `{name}` ")]
    for text in (said, row):
        assert [words for words in realtime[1:] if words in text] == [
            words for words in realtime[1:] if words == realtime[found.shared.streams]
        ]
    if split == 1:
        assert f"{found.shared.block_s:.1f} s of an H200" in said
    else:
        assert f"{found.made.stream_rate:.1f} x real time" in said
        assert f"at most {found.shared.blocks_per_s:.1f} blocks" in said


@pytest.mark.parametrize(("name", "recipe", "gpus"), ON_GPUS)
def test_gpus_of_80_gb_have_room_for_all_sessions_that_are_let_in(
    name: str, recipe: str, gpus: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(VISIBLE, ",".join(map(str, range(gpus))))
    config = load_config(CONFIGS / f"{name}.toml")
    plan = sized_here(plan_for(config, info_of(recipe)), lambda names: dict.fromkeys(names, GPU))
    slots = sum(spec.capacity for spec in plan.workers if spec.role is Role.DECODE)
    assert config.limits.max_sessions <= slots
    held = sum(spec.capacity for spec in plan.workers if spec.role is Role.DENOISE)
    pages = held // config.cluster.layer_split
    needed = info_of(recipe).recipe.page_count * info_of(recipe).recipe.lane_count
    assert config.limits.max_sessions * needed <= pages
