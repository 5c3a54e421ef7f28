"""The command line that carries sessions: export and import of a file, and a drain that hands over."""

from __future__ import annotations

import asyncio
import json
import stat
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

from longtake.cli.main import run
from longtake.client import MovedEvent, SegmentEvent, SyncClient
from longtake.client.recording import Recording
from tests.cluster.frontend.carried import OPTIONS, counting_cell, stream_with
from tests.cluster.frontend.toy import ToyCell, in_thread


def counting() -> AbstractContextManager[ToyCell]:
    return in_thread(counting_cell(delay_s=0.004))


@pytest.fixture
def undisturbed() -> dict[int, bytes]:
    return asyncio.run(stream_with(()))


def test_a_session_goes_into_a_file_and_on_from_it(
    undisturbed: dict[int, bytes], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "s.safetensors"
    with counting() as old, counting() as new, SyncClient(old.target) as client, SyncClient(new.target) as other:
        with client.stream("red", OPTIONS) as stream:
            last = next(event.index for event in stream if isinstance(event, SegmentEvent) and event.index == 12)
            assert run(["export", stream.opened.session_id, str(file), "--server", old.target]) == 0
        assert f"{file.stat().st_size} bytes" in capsys.readouterr().out
        assert stat.S_IMODE(file.stat().st_mode) == 0o600 and list(tmp_path.iterdir()) == [file]
        assert run(["import", str(file), "--server", new.target, "--json"]) == 0
        told = json.loads(capsys.readouterr().out)
        with other.resume(bytes.fromhex(told["resume_token"]), last) as again:
            assert again.opened.session_id == told["session_id"]
            got = {event.index: event.data for event in again if isinstance(event, SegmentEvent)}
        assert got == {block: data for block, data in undisturbed.items() if block > last}
        assert told["block"] >= last
        assert run(["export", "nobody", str(tmp_path / "n"), "--server", old.target]) == 2
        file.write_bytes(file.read_bytes()[:1000])
        assert run(["import", str(file), "--server", new.target]) == 2
        assert run(["import", str(tmp_path / "none"), "--server", new.target]) == 2
        said = capsys.readouterr().err
        assert "'nobody' is not open here" in said and "header: " in said and "No such file" in said
        assert list(tmp_path.iterdir()) == [file], "nothing half done is left"


def test_a_drain_hands_over_and_then_ends_the_server(
    undisturbed: dict[int, bytes], capsys: pytest.CaptureFixture[str]
) -> None:
    with counting() as old, counting() as new, SyncClient(old.target) as client:
        with client.stream("red", OPTIONS) as stream:
            events = [next(stream) for _ in range(8)]
            assert run(["drain", "--server", old.target, "--hand-over", new.target, "--grace", "1m"]) == 0
            events += list(stream)
            assert capsys.readouterr().out.splitlines() == [
                f"{stream.opened.session_id}: moved to {new.target}",
                "handed over: 1 session; 0 stayed",
                "draining: 0 sessions open",
            ]
        assert old.engine.is_drained and not new.engine.is_draining
        got = [(event.index, event.data) for event in events if isinstance(event, SegmentEvent)]
        assert got == sorted(undisturbed.items())
        (moved,) = [event for event in events if isinstance(event, MovedEvent)]
        recording = Recording(lambda: (_ for _ in ()).throw(AssertionError), "x", ())
        assert recording.take(moved) == f"the stream has moved to {new.target}", "which `longtake stream` shows"


def test_clients_go_on_at_the_address_that_is_theirs(
    undisturbed: dict[int, bytes], capsys: pytest.CaptureFixture[str]
) -> None:
    with counting() as old, counting() as new, SyncClient(old.target) as client:
        theirs = new.target.replace("127.0.0.1", "localhost")
        assert run(["drain", "--server", old.target, "--through", theirs]) == 2
        assert "--through says where clients go on after --hand-over" in capsys.readouterr().err
        wrong = ["drain", "--server", old.target, "--hand-over", new.target, "--through", "http://x"]
        assert run(wrong) == 2
        assert "'http://x' is not allowed" in capsys.readouterr().err
        with client.stream("red", OPTIONS) as stream:
            events = [next(stream) for _ in range(8)]
            before = stream.session_id
            command = ["drain", "--server", old.target, "--hand-over", new.target, "--through", theirs, "--grace", "1m"]
            assert run(command) == 0
            events += list(stream)
            assert stream.session_id != before == stream.opened.session_id
        (moved,) = [event for event in events if isinstance(event, MovedEvent)]
        assert (moved.address, moved.session_id) == (theirs, stream.session_id)
        got = [(event.index, event.data) for event in events if isinstance(event, SegmentEvent)]
        assert got == sorted(undisturbed.items())
