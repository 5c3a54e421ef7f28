"""The benchmark of sessions compares programs that make the same bytes."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from benchmarks.alone import Loaded, Request, make_streams
from benchmarks.sessions import Plan, measure
from benchmarks.tiny_model import write_tiny_model
from longtake.core.recipe.context import Level
from longtake.core.work import SegmentSettings
from tests.core.support.recipes import APART

RAW = SegmentSettings(codec="raw", quality=0)
STREAMS = [Request(prompt="a red ball", seed=1, blocks=4), Request(prompt="a blue box", seed=2, blocks=2)]


@pytest.mark.parametrize("level", APART)
def test_streams_that_take_turns_are_what_they_are_alone(tmp_path: Path, level: Level) -> None:
    write_tiny_model(tmp_path, level)
    loaded = Loaded(tmp_path, RAW, streams=2)
    together = make_streams(loaded, STREAMS)
    assert together == [make_streams(loaded, [request])[0] for request in STREAMS]
    assert len(set(together)) == 2


@pytest.mark.slow
def test_longtake_makes_the_same_bytes_and_every_figure_is_there(tmp_path: Path) -> None:
    write_tiny_model(tmp_path)
    plan = Plan(
        name="tiny", model=tmp_path, counts=(1, 2), blocks=3, repeat=1, cores=2, denoise_workers=1, decode_workers=1,
        max_batch=4, settings=RAW,
    )  # fmt: skip  # `measure` raises if the bytes differ
    rows = asyncio.run(measure(plan))
    assert [row.sessions for row in rows] == [1, 2]
    for row in rows:
        assert row.frames_per_s > 0
        assert row.ratio == pytest.approx(row.frames_per_s / max(row.alternatives.values()), rel=0.01)
        assert set(row.alternatives) == {"process_per_session", "time_slicing"}
        assert 0 < row.engine_cpu_share < 1
        assert 1 <= row.mean_batch <= 4
