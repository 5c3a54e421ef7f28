"""The harness of chaos counts, compares and signals as it says; whole runs of it are `make chaos`."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from fractions import Fraction
from itertools import pairwise
from pathlib import Path

import pytest

from benchmarks.chaos_cell import Setup
from benchmarks.chaos_faults import Counts, Deed, is_meant
from benchmarks.chaos_hour import slope_bytes
from benchmarks.chaos_processes import Process, below, names, process
from benchmarks.chaos_report import FaultRow, Judgement, kinds
from benchmarks.chaos_streams import AHEAD, COMPLETED, WINDOW, Script, Take, longest_gap_s
from cluster.config import load_config
from longtake.client.events import ClosedEvent, OpenedEvent, RecoveredEvent, SegmentEvent
from tests.core.support.parts import geometry

SCRIPT = Script(number=1, pace="fast", blocks=40, cue_every=10, geometry=geometry())


def take(*came_s: float, began_s: float = 0.0, ending: str = "") -> Take:
    return Take(SCRIPT, began_s, came_s=list(came_s), ending=ending)


def test_the_longest_time_without_a_segment_is_of_the_moments_asked_for_and_goes_on_where_a_stream_was_lost() -> None:
    whole = take(1.0, 2.0, 7.0, 8.0, ending=COMPLETED)
    assert longest_gap_s([whole], 0.0, 9.0) == 5.0
    assert longest_gap_s([whole], 7.5, 9.0) == 1.0, "after its end nobody waits"
    assert longest_gap_s([whole], 3.0, 4.0) == 5.0, "a wait that began before counts as a whole"
    lost, again = take(1.0, 2.0, ending="lost: a worker"), take(9.0, began_s=3.0)
    assert longest_gap_s([lost, again], 1.5, 9.5) == 7.0
    assert longest_gap_s([whole, take(22.0, began_s=20.0)], 10.0, 23.0) == 2.0
    assert longest_gap_s([take(1.0)], 0.5, 31.0) == 30.0, "what is still awaited"
    assert longest_gap_s([take(began_s=5.0)], 0.0, 11.0) == 6.0
    assert longest_gap_s([], 0.0, 1.0) == 0.0


def segment(index: int, data: bytes) -> SegmentEvent:
    return SegmentEvent(
        index=index, first_picture=0, picture_count=12, start_s=Fraction(0), duration_s=Fraction(0), prompt_version=0,
        data=data, keyframe=True,
    )  # fmt: skip


def heard(*events: SegmentEvent | ClosedEvent) -> Take:
    opened = OpenedEvent(
        session_id="s", seed=1, recipe_digest="", header=b"head", media_type="", width=1, height=1, fps=Fraction(16),
        window=4, timescale=16, pictures=None, decoder="full",
    )  # fmt: skip
    made = Take(SCRIPT, 0.0)
    for event in (opened, *events):
        made.hear(event)
    return made


END = ClosedEvent(ending=COMPLETED, reason="", segments=2)
LOST = ClosedEvent(ending="lost", reason="a worker", segments=1)


def test_bytes_are_compared_to_the_end_of_a_complete_stream_and_as_far_as_a_lost_one_went() -> None:
    rendered = b"head" + b"aaaa" + b"bbbb"
    assert heard(segment(0, b"aaaa"), segment(1, b"bbbb"), END).compare(rendered) == ""
    assert heard(segment(0, b"aaaa"), LOST).compare(rendered) == ""
    assert heard(segment(0, b"aaaa"), segment(1, b"bbxb"), END).compare(rendered) == "segment 1 of 2 differs"
    assert heard(segment(0, b"aaxa"), LOST).compare(rendered) == "segment 0 of 1 differs"
    assert heard(segment(0, b"aaaa"), END).compare(rendered) != "", "complete, it says, and is not"
    assert heard(segment(0, b"aaaa"), segment(1, b"bbbb"), segment(2, b"c"), END).compare(rendered) != ""


def test_a_segment_twice_or_out_of_order_is_told() -> None:
    assert heard(segment(0, b"a"), segment(1, b"b")).wrong == []
    assert heard(segment(0, b"a"), segment(0, b"a")).wrong == ["segment 0 came where 1 is due"]
    assert heard(segment(1, b"b")).wrong == ["segment 1 came where 0 is due"]


def test_a_script_has_its_cues_so_far_ahead_that_no_block_of_theirs_has_begun() -> None:
    cues = [cue for block in range(SCRIPT.blocks) if (cue := SCRIPT.cue_at(block)) is not None]
    assert [cue.block for cue in cues] == [10, 20, 30]
    assert all(one.prompt != other.prompt for one, other in pairwise(cues))
    assert AHEAD > WINDOW + 1
    assert SCRIPT.start_s(0) == 0 and SCRIPT.start_s(2) == Fraction(21, 16)


def test_a_plan_has_all_faults_in_an_order_of_its_seed_and_rays_own_processes_last() -> None:
    counts = Counts(kills=30, stops=10, stalls=5, server_kills=2, node_kills=3, ray=True)
    plan = list(counts.plan(1))
    assert plan == list(counts.plan(1)) != list(counts.plan(2))
    assert plan[0].deed is Deed.NOTHING and list(map(str, plan[-2:])) == ["kill raylet", "kill gcs"]
    found = Counter(map(str, plan))
    assert [found[f"kill {whom}"] for whom in ("denoise", "decode", "worker", "server")] == [10, 10, 10, 2]
    assert sum(found[f"stop {whom}"] for whom in ("denoise", "decode", "worker")) == 10
    assert found["stop server"] == 5 and found["kill node"] == 3 and len(plan) == 1 + 50 + 2


@pytest.mark.parametrize(
    ("name", "whom", "meant"),
    [
        ("denoise-1", "denoise", True),
        ("denoise-1", "decode", False),
        ("decode-0", "worker", True),
        ("server", "worker", False),
        ("raylet", "worker", False),
        ("server", "server", True),
    ],
)
def test_a_fault_strikes_whom_it_says(name: str, whom: str, meant: bool) -> None:
    assert is_meant(name, whom) is meant


def row(fault: str, *gaps_s: float, healed_s: float | None = 5.0, lost: tuple[str, ...] = ()) -> FaultRow:
    return FaultRow(fault=fault, victim="denoise-0", gaps_s=list(gaps_s), healed_s=healed_s, lost=list(lost), told=[])


def test_kinds_of_faults_are_summed_up() -> None:
    healing, lasting = row("kill denoise", 1.0, 2.0), row("kill denoise", 3.0, healed_s=None, lost=("x",))
    rows = [healing, row("stop server", 10.0), lasting]
    assert kinds(rows) == [
        {"kind": "kill denoise", "faults": 2, "gap_p50_s": 2.0, "gap_p99_s": 3.0, "gap_worst_s": 3.0,
         "streams_lost": 1, "not_healed": 1},
        {"kind": "stop server", "faults": 1, "gap_p50_s": 10.0, "gap_p99_s": 10.0, "gap_worst_s": 10.0,
         "streams_lost": 0, "not_healed": 0},
    ]  # fmt: skip


def judged(streams: int, complete: int, *differing: str) -> Judgement:
    return Judgement(
        streams=streams,
        complete=complete,
        refused=0,
        differing=list(differing),
        approximate=["one"],
        endings={},
        told={},
        segments=1,
    )


def test_all_is_right_only_if_there_were_streams_all_complete_and_equal() -> None:
    assert judged(3, 3).is_right
    assert judged(3, 3).as_dict()["result"] == "3 of 3 complete, bytes equal, 1 approximate and told so"
    assert not judged(3, 2).is_right and not judged(0, 0).is_right and not judged(3, 3, "a").is_right


@pytest.mark.parametrize(
    ("recipe", "told", "may"),
    [("liveact-memory", 1, True), ("liveact-memory", 0, False), ("hiar", 1, False), ("", 1, False)],
)
def test_only_who_was_told_so_may_differ_and_only_where_a_memory_is_folded(recipe: str, told: int, may: bool) -> None:
    made = Take(replace(SCRIPT, recipe=recipe), 0.0)
    for _ in range(told):
        made.hear(RecoveredEvent(continuity="approximate", segment=9, seconds=1.0))
    assert made.may_differ is may


def test_the_slope_is_of_the_stream_once_it_is_warm() -> None:
    flat = [(segments, 500_000_000) for segments in range(0, 1000, 10)]
    assert slope_bytes([(0, 100), *flat], 1000) == pytest.approx(0.0)
    assert slope_bytes([(segments, 7 * segments) for segments in range(1000)], 1000) == pytest.approx(7000.0)
    assert slope_bytes([(5, 1)], 1000) == 0.0


@pytest.fixture
def child() -> Iterator[subprocess.Popen[str]]:
    """A process with a thread that carries a worker's name."""
    code = (
        "import sys, threading, time\n"
        "from workers.vitals import show_name\n"
        "def work():\n    show_name('denoise-1')\n    print('named', flush=True)\n    time.sleep(60)\n"
        "threading.Thread(target=work, daemon=True).start()\ntime.sleep(60)\n"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as made:
        assert made.stdout is not None and made.stdout.readline() == "named\n"
        yield made
        made.kill()


def test_workers_are_found_below_their_server_by_name_and_only_they_are_signalled(
    child: subprocess.Popen[str],
) -> None:
    assert below(os.getpid(), child.pid) == below(os.getpid())
    found = [one for one in below(os.getpid()) if "denoise-1" in names(one.pid)]
    assert found == [process(child.pid)]
    assert not Process(child.pid, found[0].started + 1).send(signal.SIGKILL), "another process had that id"
    assert found[0].is_alive and found[0].resident_bytes() > 1e6
    assert found[0].send(signal.SIGKILL)
    deadline_s = time.monotonic() + 20
    while found[0].is_alive and time.monotonic() < deadline_s:
        time.sleep(0.01)
    assert not found[0].is_alive, "what only waits to be reaped is dead"
    assert not found[0].send(signal.SIGTERM)


def test_the_configuration_is_one_that_a_server_takes(tmp_path: Path) -> None:
    folder = tmp_path
    setup = Setup(sessions=4, extra='[recording]\nfile = "{folder}/events"\n')
    (folder / "server.toml").write_text(setup.text(folder, "127.0.0.1:6379"))
    config = load_config(folder / "server.toml")
    assert config.cluster.ray_address == "127.0.0.1:6379"
    assert (config.cluster.denoise_workers, config.cluster.decode_workers) == (2, 2)
    assert config.recording.file == f"{folder}/events"
    assert setup.workers == ("denoise-0", "denoise-1", "decode-0", "decode-1")
