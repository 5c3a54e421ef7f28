"""A client's screen by hand, and a small mix through a real server."""

from __future__ import annotations

import json
from fractions import Fraction

import pytest
from click.testing import CliRunner

from benchmarks.mixed import Screen, main
from longtake.client.events import SegmentEvent
from longtake.core.recipe.blocks import BlockPlan
from longtake.core.recipe.geometry import Geometry

GEOMETRY = Geometry(width=64, height=64, fps=Fraction(16), latent_channels=4, blocks=BlockPlan(frames=3))


def segment(block: int) -> SegmentEvent:
    return SegmentEvent(
        index=block,
        keyframe=True,
        first_picture=GEOMETRY.first_picture(block),
        picture_count=GEOMETRY.pictures(block),
        start_s=Fraction(GEOMETRY.first_picture(block), 16),
        duration_s=Fraction(GEOMETRY.pictures(block), 16),
        prompt_version=0,
        data=b"",
    )


def test_a_screen_bears_a_block_of_delay_and_moves_on_after_a_stall() -> None:
    screen = Screen(GEOMETRY, live=True, counts_from_s=0.0)
    screen.came(segment(0), 10.0)  # shown from 10.75, so picture 9 is due at 10.75 + 9/16 = 11.3125
    screen.came(segment(1), 11.3125)
    assert screen.late == 0
    screen.came(segment(2), 12.5625)  # picture 21 was due at 12.0625
    assert (screen.late, screen.worst_s) == (1, 0.5)
    screen.came(segment(3), 13.3125)  # picture 33, now due half a second later: 13.3125
    assert (screen.blocks, screen.late) == (4, 1)


def test_nothing_before_the_warm_up_counts_and_bulk_is_never_late() -> None:
    live, bulk = Screen(GEOMETRY, live=True, counts_from_s=20.0), Screen(GEOMETRY, live=False, counts_from_s=20.0)
    for screen in (live, bulk):
        screen.came(segment(0), 10.0)
        screen.came(segment(1), 15.0)
        screen.came(segment(2), 30.0)
    assert (live.blocks, live.late) == (1, 1)
    assert (bulk.blocks, bulk.late) == (1, 0)


@pytest.mark.slow
def test_a_small_mix_is_served_and_what_does_not_fit_is_refused() -> None:
    arguments = "--live 6 --bulk 1 --seconds 2 --warmup 2 --devices 2 --forward-ms 40 --json"
    result = CliRunner().invoke(main, arguments.split())
    assert result.exit_code == 0, result.output
    found = json.loads(result.stdout.splitlines()[-1])
    assert found["simulated"] is True
    # 2 workers x floor(0.95 / (2 x 0.040 / 0.75)) lanes / 4 lanes: fewer where a busy machine prolongs the sleeps
    assert 0 < found["admitted_live"] <= 4
    assert found["refused_live"] == 6 - found["admitted_live"]
    assert found["live_blocks"] > 0
    assert 0 < found["utilisation"] <= 1.2
