"""The page that Prometheus scrapes: what is declared is on it and nothing else, and what is on it moves."""

from __future__ import annotations

from collections.abc import Mapping

import pytest
from prometheus_client.parser import text_string_to_metric_families

from longtake.core.endings import Ending
from longtake.core.errors import InternalFault, NotAllowed
from longtake.core.events import (
    Ack,
    CallRefused,
    Close,
    Cue,
    CueRequest,
    Drain,
    OpFailed,
    Pause,
    Play,
    Tick,
    WorkerLost,
)
from longtake.core.flow import Pace
from longtake.core.limits import Limits
from longtake.core.work import CueId, Role, WorkerId
from monitoring.declarations import BY_NAME, METRICS, Instrument
from monitoring.exposition import Exposition, Scrape, tally_writer
from monitoring.folding.histogram import Histogram
from monitoring.folding.tally import Tally
from tests.core.support.parts import geometry, recipe
from tests.monitoring.world import ELSEWHERE, Counted, CountedImageCell

PICTURES = geometry().first_picture(4)
SUFFIXES = {Instrument.HISTOGRAM: ("_bucket", "_sum", "_count")}

Samples = Mapping[tuple[str, tuple[tuple[str, str], ...]], float]


def samples(text: str) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    """Every sample of a page, by name and labels."""
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def page(tally: Tally) -> str:
    exposition = Exposition("here", tally, ())
    return exposition.page(exposition.families(), "")[0].decode()


def lively_cell() -> CountedImageCell:
    """One in which everything has happened that a tally counts."""
    cell = CountedImageCell(recipe(), denoisers=2, slots=3, limits=Limits(park_after_s=5.0, max_queued=1))
    paused = cell.open("paused", window=2, pictures=PICTURES)
    cell.settle(acknowledge=False)  # stalls
    cell.send(Pause(now_s=0.0, session=paused))
    cell.acknowledge(paused)
    cell.now_s = 6.0
    cell.send(Tick(now_s=6.0))
    cell.settle()  # is parked
    cell.send(Play(now_s=6.0, session=paused))
    cell.settle()  # is restored and ends
    live = cell.open("live", pace=Pace.REALTIME, window=2)
    cell.answer()
    cell.send(Cue(now_s=6.0, session=live, request=CueRequest(cue=CueId("soon"), prompt="q")))
    cell.send(Cue(now_s=6.0, session=live, request=CueRequest(cue=CueId("late"), prompt="q", block=0)))
    for turn in range(40):
        if turn == 20:
            cell.lose(WorkerId("denoise-0"))  # is rebuilt on the other one
            cell.join(WorkerId("denoise-0"), Role.DENOISE, cell.pages)
        cell.now_s += 0.5
        cell.send(Tick(now_s=cell.now_s))
        cell.answer()
        for worker in cell.busy:
            cell.finish(worker, seconds=0.01)
        if live in cell.segments:
            cell.acknowledge(live)
    for name in ("a", "b", "queued", "refused"):
        cell.open(name)
    cell.open("too", pace=Pace.REALTIME)
    cell.send(Close(now_s=cell.now_s, session=live, ending=Ending.OPERATOR))
    cell.settle(acknowledge=False)
    cell.send(OpFailed(now_s=cell.now_s, worker=WorkerId("decode-0"), sessions=(), sequence=None, reason="test"))
    cell.send(CallRefused(now_s=cell.now_s, problem=NotAllowed("test").problem))
    cell.send(Drain(now_s=cell.now_s))
    cell.send(WorkerLost(now_s=cell.now_s, worker=WorkerId("denoise-1"), reason="test"))
    return cell


def test_what_a_tally_counts_is_on_the_page_and_has_moved() -> None:
    before, after = samples(page(Tally())), samples(page(lively_cell().tally))
    counted = [metric for metric in METRICS if metric.name not in ELSEWHERE]
    assert len(counted) == len(METRICS) - len(ELSEWHERE) and {metric.name for metric in METRICS} >= ELSEWHERE
    still = []
    for metric in counted:
        suffixes = ("_bucket",) if metric.instrument is Instrument.HISTOGRAM else ("",)
        found = {key: value for key, value in after.items() if key[0] in {metric.name + suffix for suffix in suffixes}}
        if not any(value > before.get(key, 0.0) for key, value in found.items()):
            still.append(metric.name)
    elsewhere = ["longtake_lane_moves_total", "longtake_renewals_total", "longtake_shed_blocks_total"]
    assert sorted(still) == elsewhere  # see test_tally


def test_every_sample_is_declared_and_names_its_cell() -> None:
    for name, labels in samples(page(lively_cell().tally)):
        assert dict(labels)["cell"] == "here", name
        if not name.startswith("longtake_"):
            assert name.startswith(("process_", "python_")), name
            continue
        metric = next(
            metric
            for metric in METRICS
            if name in {metric.name + suffix for suffix in SUFFIXES.get(metric.instrument, ("",))}
        )
        assert {label for label, _ in labels} - {"le"} == {"cell", *metric.labels}


def test_what_is_not_declared_or_labelled_otherwise_cannot_be_written() -> None:
    scrape = Scrape("here")
    for name in ("longtake_surprises_total", "longtake_queue_wait_seconds", "longtake_blocks_total"):
        with pytest.raises(InternalFault, match=name):
            scrape.put(name, 1.0)
    with pytest.raises(InternalFault, match="no histogram"):
        scrape.put_histogram("longtake_lane_moves_total", Histogram((1.0,)))
    assert sum(len(family.samples) for family in scrape.families) == 0


def test_the_page_tells_nothing_of_any_session_and_does_not_grow_with_their_number() -> None:
    cell, seen = Counted(recipe(), denoisers=1), []
    exposition = Exposition("here", cell.tally, ())
    for number in range(200):
        session = cell.open(f"session-{number}", pictures=geometry().first_picture(3), prompt=f"prompt {number}")
        cell.answer()
        cell.send(Cue(now_s=0.0, session=session, request=CueRequest(cue=CueId(f"cue-{number}"), prompt="q")))
        cell.run()
        if number in (0, 199):
            text = exposition.page(exposition.families(), "")[0].decode()
            assert not any(word in text for word in ("session-", "prompt ", "cue-"))
            seen.append({key for key in samples(text) if key[0].startswith("longtake_")})
    assert seen[0] == seen[1]
    assert cell.tally.streams.paces[Pace.FAST].closed[Ending.COMPLETED] == 200
    assert cell.tally.streams.cues["applied"] == 200


def test_histograms_add_up() -> None:
    cell = lively_cell()
    found = samples(page(cell.tally))
    for metric in METRICS:
        if metric.instrument is not Instrument.HISTOGRAM or metric.name in ELSEWHERE:
            continue
        rows: dict[tuple[tuple[str, str], ...], list[tuple[float, float]]] = {}
        for (name, labels), value in found.items():
            if name == metric.name + "_bucket":
                rest = tuple(label for label in labels if label[0] != "le")
                rows.setdefault(rest, []).append((float(dict(labels)["le"]), value))
        assert rows, metric.name
        for labels, buckets in rows.items():
            buckets.sort()
            assert [bound for bound, _ in buckets] == [*metric.buckets, float("inf")]
            assert [count for _, count in buckets] == sorted(count for _, count in buckets)
            if metric.buckets[0] >= 0:
                assert found[metric.name + "_count", labels] == buckets[-1][1]


def test_a_scraper_that_asks_for_openmetrics_gets_it() -> None:
    exposition = Exposition("here", lively_cell().tally, ())
    text, media_type = exposition.page(exposition.families(), "application/openmetrics-text;version=1.0.0")
    assert media_type.startswith("application/openmetrics-text; version=1.0.0")
    lines = text.decode().splitlines()
    assert lines[-1] == "# EOF"
    assert "# TYPE longtake_blocks counter" in lines and "# TYPE longtake_block_slack_seconds histogram" in lines


def test_time_spent_on_metrics_is_counted() -> None:
    cell = Counted(recipe())
    joined_s = cell.tally.seconds
    for _ in range(64):
        cell.send(Tick(now_s=0.0))
    folded_s = cell.tally.seconds
    assert folded_s > joined_s
    page(cell.tally)
    assert cell.tally.seconds > folded_s


def test_an_acknowledgement_after_the_end_is_no_harm() -> None:
    cell = Counted(recipe())
    session = cell.open("s", pictures=PICTURES)
    cell.run()
    cell.send(Ack(now_s=0.0, session=session, segment=0))
    assert not cell.tally.streams.open


def test_every_worker_that_joins_has_its_rows() -> None:
    cell = Counted(recipe(), denoisers=1)
    scrape = Scrape("here")
    tally_writer(cell.tally)(scrape)
    cell.join(WorkerId("denoise-9"), Role.DENOISE, 36)
    after = Scrape("here")
    tally_writer(cell.tally)(after)

    def named(found: Scrape) -> set[str]:
        return {sample.labels.get("worker", "") for family in found.families for sample in family.samples} - {""}

    assert named(after) - named(scrape) == {"denoise-9"}
    assert set(BY_NAME) == {metric.name for metric in METRICS}
