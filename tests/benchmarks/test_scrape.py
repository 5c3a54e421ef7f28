"""The comparison of Prometheus with clients, by hand; the whole of it runs in `make bench`."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from benchmarks import scrape
from benchmarks.load import StreamLog
from benchmarks.loadgen import Load
from benchmarks.scrape import Bench, Comparison, Cost, costs, main, seen_by_clients
from tests.workers.model_dir import model_info


def test_what_clients_saw_is_the_sum_of_their_logs() -> None:
    one = StreamLog(asked_s=0.0, came_s=[1.0, 1.5, 9.0], start_s=[0.0, 1.0, 2.0], pictures=30, size_bytes=300)
    other = StreamLog(asked_s=1.0, came_s=[4.0], start_s=[0.0], pictures=9, size_bytes=100)
    assert seen_by_clients([one, other]) == {
        "streams": 2, "blocks": 4, "pictures": 39, "bytes": 400, "late_ratio": 0.25, "first_segment_s": 2.0,
    }  # fmt: skip


def test_a_difference_is_relative_but_of_a_ratio_plain() -> None:
    assert Comparison(figure="bytes", clients=200.0, prometheus=198.0).difference == pytest.approx(0.01)
    assert Comparison(figure="late_ratio", clients=0.0, prometheus=0.03).difference == pytest.approx(0.03)


def test_the_cost_is_that_of_neighbouring_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    cpu_s = iter([1.02, 1.0, 2.02, 2.0, 1.5, 1.0])  # the last pair was disturbed
    monkeypatch.setattr(
        scrape, "cost", lambda _, counted: Cost(counted=counted, blocks=100, cpu_s=next(cpu_s), metrics_s=0.008)
    )
    load = Load(streams=1, blocks=1, rate_per_s=1.0, pace="fast", window=1, seed=1)
    found = costs(Bench(load=load, info=model_info(), config=Path("server.toml"), limit_s=1.0), 3)
    assert found["interleaved_share"] == pytest.approx(0.02)
    assert found["interleaved_least"] == pytest.approx(0.01)
    assert found["interleaved_most"] == pytest.approx(0.5)
    assert found["self_measured_share"] == pytest.approx(0.008 / 1.02)


@pytest.mark.parametrize(("prometheus", "status"), [(199.0, 0), (150.0, 1)])
def test_a_figure_that_is_off_fails_the_run(monkeypatch: pytest.MonkeyPatch, prometheus: float, status: int) -> None:
    row = Comparison(figure="bytes", clients=200.0, prometheus=prometheus)
    monkeypatch.setattr(scrape, "compared", lambda bench, folder: [row])
    ran = CliRunner().invoke(main, ["--json"])
    assert ran.exit_code == status
    assert json.loads(ran.stdout)["bytes"]["prometheus"] == prometheus


def test_counting_that_costs_too_much_fails_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scrape, "costs", lambda bench, rounds: {"self_measured_share": 0.02, "interleaved_share": 0.0})
    ran = CliRunner().invoke(main, ["--rounds", "1"])
    assert ran.exit_code == 1 and "self_measured_share" in ran.stderr
