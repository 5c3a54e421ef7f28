"""A server as a process that is killed: the next one takes its streams over, and clients do not miss a byte."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from longtake.cli.main import run
from longtake.client import CueAt, StreamOptions
from longtake.client.events import ClosedEvent, SegmentEvent, StreamEvent
from longtake.client.sync import SyncClient
from tests.cluster.served import Server
from tests.samples import first
from tests.workers.model_dir import write_model

PROMPT, OTHER = "a red ball swaying at night", "a blue box in the fog"
OPTIONS = StreamOptions(seed=3, window=2, pictures=5 + 8 * 15, cues=(CueAt(block=4, prompt=OTHER),))


def segments(events: list[StreamEvent]) -> list[tuple[int, bytes]]:
    return [(event.index, event.data) for event in events if isinstance(event, SegmentEvent)]


@pytest.mark.parametrize("number", first(1, [signal.SIGKILL, signal.SIGTERM]))
def test_a_stream_outlives_a_server_that_is_killed_or_shut_down(tmp_path: Path, number: signal.Signals) -> None:
    model, journal = tmp_path / "model", tmp_path / "journal"
    model.mkdir()
    write_model(model)
    more = f'[journal]\npath = "{journal}"\n'
    first = Server(tmp_path, model, "in-process", more=more)
    port = int(first.address.rpartition(":")[2])
    events: list[StreamEvent] = []
    try:
        with SyncClient(first.address) as client, client.stream(PROMPT, OPTIONS) as stream:
            for event in stream:
                events.append(event)
                if isinstance(event, SegmentEvent) and event.index == 6:
                    os.killpg(first.process.pid, number)
                    break
            status = first.process.wait(60)
            assert status == (0 if number is signal.SIGTERM else -number)
            first.end()  # what is left of it
            second = Server(tmp_path, model, "in-process", port=port, more=more)
            try:
                events.extend(stream)
                with client.stream(PROMPT, OPTIONS) as again:
                    undisturbed = list(again)
                log = second.text()
            finally:
                second.end()
    finally:
        if not first.log.closed:
            first.end()
    assert "1 streams of the server before wait for their clients" in log
    assert segments(events) == segments(undisturbed)
    assert [index for index, _ in segments(events)] == list(range(16))
    assert isinstance(events[-1], ClosedEvent) and events[-1].ending == "completed"
    assert {type(event).__name__ for event in events} >= {"ReconnectingEvent", "ResumedEvent"}


def test_a_folder_that_another_server_has_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model, journal = tmp_path / "model", tmp_path / "journal"
    model.mkdir()
    write_model(model)
    more = f'[journal]\npath = "{journal}"\n'
    server = Server(tmp_path, model, "in-process", more=more)
    try:
        config = tmp_path / "other.toml"
        config.write_text(f'[model]\npath = "{model}"\n[cluster]\nlaunch = "in-process"\n[listen]\nport = 0\n{more}')
        assert run(["serve", str(config)]) == 2
    finally:
        server.end()
    said = capsys.readouterr().err
    assert "journal.path" in said and "no other engine" in said
