"""The figures of the load generator by hand, and one small run of it through a real server."""

from __future__ import annotations

import json
import math
import subprocess
import sys
import time
from itertools import islice

import pytest
from click.testing import CliRunner

from benchmarks.load import StreamLog, fairness, figures, jain, most_open, percentile
from benchmarks.loadgen import Judge, Load, arrivals_s, main
from benchmarks.process_use import descendants_use
from benchmarks.simulated_streams import expected_pictures, small_pictures
from tests.workers.model_dir import model_info

INFO = small_pictures(model_info())
PROMPT = "a red ball resting in the fog"


def log(asked_s: float, *came_s: float, block_s: float = 1.0) -> StreamLog:
    return StreamLog(asked_s=asked_s, came_s=list(came_s), start_s=[block_s * n for n in range(len(came_s))])


def test_percentiles_are_values_that_occurred() -> None:
    values = [float(n) for n in range(100, 0, -1)]
    assert [percentile(values, p) for p in (50, 95, 99, 100)] == [50, 95, 99, 100]
    assert percentile([7.0], 99) == 7
    assert math.isnan(percentile([], 50))


def test_jain_is_one_for_equals_and_one_nth_for_a_monopoly() -> None:
    assert jain([3.0] * 8) == 1
    assert jain([1.0, 0.0, 0.0, 0.0]) == 0.25
    assert jain([1.0, 2.0, 3.0]) == pytest.approx(36 / (3 * 14))


def test_a_block_is_late_after_its_time_on_a_screen_that_began_with_the_first() -> None:
    assert log(0, 10, 11, 12, 13).late_blocks() == 0
    assert log(0, 10, 10.5, 12.1, 12.9).late_blocks() == 1


def test_latencies_count_from_segment_to_segment() -> None:
    one = log(5, 7, 8, 10)
    assert one.first_segment_s == 2
    assert one.block_latencies_s() == [1, 2]


def test_fairness_compares_what_came_while_all_were_open() -> None:
    greedy = log(0, *(n / 10 for n in range(1, 101)))
    modest = log(0, *(float(n) for n in range(1, 11)))
    index, interval_s = fairness([greedy, modest])
    assert interval_s == 9
    assert index == pytest.approx(99**2 / (2 * (90**2 + 9**2)))
    index, interval_s = fairness([log(0, 1, 2), log(10, 11, 12)])
    assert (index, interval_s) == (1, 0)


def test_the_most_open_at_once() -> None:
    assert most_open([log(0, 4), log(1, 3), log(3.5, 9)]) == 2


def test_all_figures_of_two_streams() -> None:
    logs = [log(0, 1, 2, 3), log(0, 1, 2, 5)]
    logs[1].mixed_up = 2
    result = figures(logs, known_pictures=True)
    assert (result.streams, result.segments, result.mixed_up) == (2, 6, 2)
    assert result.late_ratio == pytest.approx(1 / 6, abs=1e-5)
    assert result.blocks_per_s == 1.2
    assert result.p99_block_latency_s == 3
    assert figures(logs, known_pictures=False).mixed_up is None


def test_arrivals_are_a_poisson_process_of_a_fixed_seed() -> None:
    load = Load(streams=4000, blocks=1, rate_per_s=50.0, pace="fast", window=4, seed=3)
    times = list(arrivals_s(load))
    gaps = [later - earlier for earlier, later in zip([0.0, *times], times, strict=False)]
    mean_s = sum(gaps) / len(gaps)
    variance = sum((gap - mean_s) ** 2 for gap in gaps) / len(gaps)
    assert times == list(arrivals_s(load))
    assert mean_s == pytest.approx(1 / 50, rel=0.05)
    assert math.sqrt(variance) == pytest.approx(mean_s, rel=0.05)


def test_a_judge_sees_a_foreign_a_missing_and_a_misplaced_picture() -> None:
    size = INFO.geometry.width * INFO.geometry.height * 3
    first, second = (block.tobytes() for block in islice(expected_pictures(INFO, PROMPT, 1), 2))
    foreign = next(expected_pictures(INFO, PROMPT, 2)).tobytes()
    judge = Judge(INFO, PROMPT, 1)
    assert [judge.mixed_up(first), judge.mixed_up(second)] == [0, 0]
    assert Judge(INFO, PROMPT, 1).mixed_up(foreign) == INFO.geometry.pictures(0)
    assert Judge(INFO, PROMPT, 1).mixed_up(first[:-size]) == 1
    assert Judge(INFO, PROMPT, 1).mixed_up(first[:size] * 2 + first[2 * size :]) == 1


def test_use_counts_what_a_child_burns() -> None:
    before = descendants_use()
    burn = "import time; end = time.process_time() + 0.3\nwhile time.process_time() < end: pass\ninput()"
    with subprocess.Popen([sys.executable, "-c", burn], stdin=subprocess.PIPE) as child:
        deadline_s = time.monotonic() + 30
        while descendants_use().cpu_s < before.cpu_s + 0.25 and time.monotonic() < deadline_s:
            time.sleep(0.05)
        during = descendants_use()
        child.kill()
    assert during.processes == before.processes + 1
    assert during.cpu_s >= before.cpu_s + 0.25
    assert during.rss_bytes > before.rss_bytes


def test_a_small_load_through_a_real_server() -> None:
    arguments = ["--streams", "4", "--blocks", "4", "--rate", "50", "--simulated", "2ms", "--workers", "2"]
    result = CliRunner().invoke(main, [*arguments, "--launch", "in-process", "--limit-s", "60", "--json"])
    assert result.exit_code == 0, result.output
    found = json.loads(result.stdout.strip().splitlines()[-1])
    assert (found["segments"], found["mixed_up"], found["simulated"]) == (16, 0, True)
    assert 0 <= found["late_ratio"] <= 1
    assert 0.5 < found["jain"] <= 1
    assert found["server_cpu_s_per_segment"] > 0
