"""The benchmark of alerts judges as it says, and the pictures are of dashboards that there are."""

from __future__ import annotations

import matplotlib as mpl
import pytest
from matplotlib import pyplot

from benchmarks.alerts import SCENARIOS, Outcome
from benchmarks.draw_dashboards import FOLDER, NOTICE, Page, written
from benchmarks.prometheus import Curve, Prometheus
from monitoring.alerting.alerts import alerts
from monitoring.alerting.records import Records, TimeScale
from monitoring.boards.dashboards import DASHBOARDS
from monitoring.boards.promql import Unit


def outcome(expected: list[str], fired: list[str]) -> Outcome:
    return Outcome(scenario="s", expected=expected, fired=fired, after_s={})


def test_all_that_is_expected_must_fire_and_in_a_healthy_run_nothing() -> None:
    assert outcome([], []).right
    assert outcome(["A"], ["A", "B"]).right
    assert not outcome([], ["A"]).right
    assert not outcome(["A"], ["B"]).right
    assert not outcome(["A", "B"], ["A"]).right


def test_scenarios_expect_alerts_that_there_are_and_one_expects_none() -> None:
    known = {alert.name for alert in alerts(Records(TimeScale()))}
    assert {name for scenario in SCENARIOS for name in scenario.expected} <= known
    assert [scenario.name for scenario in SCENARIOS if not scenario.expected] == ["healthy"]


@pytest.mark.parametrize(
    ("value", "unit", "text"),
    [
        (0.0144, Unit.SHARE, "1.44 %"),
        (0.00005, Unit.SECONDS, "50 µs"),
        (0.25, Unit.SECONDS, "250 ms"),
        (90.0, Unit.SECONDS, "90 s"),
        (3 * 2**20, Unit.BYTES, "3 MiB"),
        (2048.0, Unit.BYTES_PER_SECOND, "2 KiB/s"),
        (12.5, Unit.PER_SECOND, "12.5/s"),
        (1024.0, Unit.NONE, "1024"),
    ],
)
def test_values_are_drawn_with_their_units(value: float, unit: Unit, text: str) -> None:
    assert written(value, unit) == text


def test_every_panel_is_drawn_whether_it_has_data_or_not(monkeypatch: pytest.MonkeyPatch) -> None:
    mpl.use("agg")
    curve = Curve({"cell": "a", "le": "1.0"}, ((0.0, 1.0), (1.0, 2.0)))
    for answer in ([], [curve]):
        monkeypatch.setattr(Prometheus, "over", lambda *asked, answer=answer: answer)
        for dashboard in DASHBOARDS:
            figure = Page(Prometheus("http://nowhere"), 0.0, 1.0).draw(dashboard)
            assert [axes.get_title(loc="left") for axes in figure.axes] == [one.title for one in dashboard.panels]
            assert NOTICE in [text.get_text() for text in figure.texts]
            pyplot.close(figure)


def test_there_is_a_picture_of_every_dashboard() -> None:
    for dashboard in DASHBOARDS:
        assert 20_000 < (FOLDER / f"{dashboard.uid}.png").stat().st_size < 300_000
