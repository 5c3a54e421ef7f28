"""The simulation's command: its figures, its JSON, and that a decision costs the same in a large cell."""

from __future__ import annotations

import json

import pytest
from click.testing import CliRunner

from benchmarks.simulate import capacity, churn, main, speed_up


def test_one_object_with_the_figures_of_the_largest_cell() -> None:
    result = CliRunner().invoke(
        main, ["--devices", "2", "--devices", "4", "--seconds", "16", "--json"], catch_exceptions=False
    )  # fmt: skip
    found = json.loads(result.output)
    assert found["devices"] == 4
    assert found["simulated"] is True
    assert found["share_of_limit"] > 0.9
    assert found["late_ratio"] == 0
    assert [row["devices"] for row in found["rows"]] == [2, 4]


def test_a_decision_costs_the_same_with_sixteen_times_as_many_devices() -> None:
    small, large = churn(4, 0.2, seconds=10), churn(64, 0.2, seconds=10)
    assert large.decision_us < 2.5 * small.decision_us


@pytest.mark.slow
def test_streams_that_come_and_go_leave_little_idle() -> None:
    row = churn(16, 0.1, seconds=80)  # with longer forwards two segments of window are too few, and most blocks late
    assert row.share_of_limit >= 0.95 and row.late_ratio < 0.01
    assert row.moves_per_hour > 0


def test_rows_of_the_tables() -> None:
    assert abs(speed_up(4, 27) - 3.79) < 0.01
    assert capacity(3, 0.06) == 4
