"""`longtake serve` as a process, with real workers on a small random model: ready, streaming, and the way down."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import av
import grpc
import pytest

from cluster.cell.recording import read
from cluster.http.figures import longtake_version
from cluster.serve import GRACE_S
from longtake.cli.main import run
from longtake.client import CueAt, StreamOptions
from longtake.client.errors import ClientError
from longtake.client.events import ClosedEvent, CueAppliedEvent, NoticeEvent, SegmentEvent, StreamEvent
from longtake.client.sync import SyncClient
from longtake.core.effects import Effect, Emit
from tests.cluster.served import ROOT, Server
from tests.workers.model_dir import write_model
from workers.models.weights import load_info

PROMPT = "a red ball swaying at night"


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("model")
    write_model(folder)
    return folder


@pytest.fixture(scope="module")
def lasting(model: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """One server for all tests that leave it as it is."""
    running = Server(tmp_path_factory.mktemp("lasting"), model, "in-process")
    try:
        yield running
    finally:
        running.end()


@pytest.fixture
def server(request: pytest.FixtureRequest, model: Path, tmp_path: Path) -> Iterator[Server]:
    running = Server(tmp_path, model, getattr(request, "param", "in-process"))
    try:
        yield running
    finally:
        running.end()


def test_a_served_stream_equals_the_rendered_one_byte_for_byte(lasting: Server, model: Path, tmp_path: Path) -> None:
    arguments = [PROMPT, "--seed", "3", "--duration", "4s", "--cue", "2s=a blue box in the fog"]
    served, rendered = tmp_path / "served.mp4", tmp_path / "rendered.mp4"
    assert run(["stream", *arguments, "-o", str(served), "--server", lasting.address]) == 0
    assert run(["render", *arguments, "-o", str(rendered), "--model", str(model)]) == 0
    assert served.read_bytes() == rendered.read_bytes()
    other = tmp_path / "other.mp4"
    arguments[2] = "4"
    assert run(["stream", *arguments, "-o", str(other), "--server", lasting.address]) == 0
    assert other.read_bytes() != served.read_bytes()


def test_every_codec_gives_a_file_with_every_picture(lasting: Server, tmp_path: Path) -> None:
    arguments = ["stream", PROMPT, "--seed", "3", "--duration", "2s", "--server", lasting.address]
    for codec, name in (("h264", "a.mp4"), ("mjpeg", "a.mjpeg"), ("raw", "a.rgb")):
        assert run([*arguments, "--codec", codec, "-o", str(tmp_path / name)]) == 0
    with av.open(tmp_path / "a.mp4") as video:
        times_s = [picture.time for picture in video.decode(video=0)]
    assert times_s == [number / 16 for number in range(32)]
    with av.open(tmp_path / "a.mjpeg", format="mjpeg") as video:
        assert sum(1 for _ in video.decode(video=0)) == 32
    assert (tmp_path / "a.rgb").stat().st_size == 32 * 32 * 32 * 3


def test_what_no_word_is_known_of_is_served_and_said(lasting: Server) -> None:
    """As docs/pocket.md says; only what has no word at all is refused."""
    cues = (CueAt(prompt="an elephant over Paris", block=2),)
    options = StreamOptions(seed=3, pictures=40, cues=cues)
    with SyncClient(lasting.address) as client, client.stream("hello world", options) as stream:
        events = list(stream)
        opened = stream.opened
    assert opened is not None and opened.reading is not None
    assert (opened.reading.understood, opened.reading.ignored) == ((), ("hello", "world"))
    instead = ("colour: red", "shape: ball", "motion: resting", "background: fog")
    assert opened.reading.defaulted == instead
    (applied,) = (event for event in events if isinstance(event, CueAppliedEvent))
    assert applied.reading is not None and applied.reading.ignored == ("elephant", "paris")
    notices = [event.text for event in events if isinstance(event, NoticeEvent)]
    assert sum(text.startswith("no word of the prompt was understood") for text in notices) == 2
    with (
        SyncClient(lasting.address) as client,
        pytest.raises(ClientError, match="at least one word"),
        client.stream("?!", options),
    ):
        pass


def test_an_interrupted_stream_leaves_a_file_that_plays(lasting: Server, tmp_path: Path) -> None:
    output = tmp_path / "a.mp4"
    command = [sys.executable, "-m", "longtake", "stream", PROMPT, "--server", lasting.address, "--json"]
    command += ["-o", str(output)]
    client = subprocess.Popen(command, env=os.environ | {"PYTHONPATH": str(ROOT)}, stdout=subprocess.PIPE, text=True)
    while not output.exists() or output.stat().st_size < 10_000:
        assert client.poll() is None
        time.sleep(0.02)
    client.send_signal(signal.SIGINT)
    said, _ = client.communicate(timeout=30)
    assert client.returncode == 130
    with av.open(output) as video:
        assert sum(1 for _ in video.decode(video=0)) == json.loads(said.splitlines()[-1])["pictures"] > 0


def test_a_signal_while_the_model_is_read_ends_the_server_at_once(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "model.json")  # it is read for ever
    config = tmp_path / "server.toml"
    config.write_text(f'model.path = "{tmp_path}"\nlisten.port = 0\n')
    command = [sys.executable, "-m", "longtake", "serve", str(config)]
    serving = subprocess.Popen(command, env=os.environ | {"PYTHONPATH": str(ROOT)}, stderr=subprocess.PIPE, text=True)
    assert serving.stderr is not None
    try:
        while "reading the model" not in (line := serving.stderr.readline()):
            assert line, "it has ended"
        serving.send_signal(signal.SIGINT)
        _, said = serving.communicate(timeout=30)
    finally:
        serving.kill()
    assert serving.returncode == 130 and "Traceback" not in said


@pytest.mark.parametrize(
    ("server", "number"),
    [("subprocess", signal.SIGINT), pytest.param("in-process", signal.SIGTERM, marks=pytest.mark.slow)],
    indirect=["server"],
)
def test_a_signal_delivers_what_was_begun_tells_the_clients_and_leaves_no_process(
    server: Server, number: signal.Signals
) -> None:
    events: list[StreamEvent] = []
    with SyncClient(server.address) as client, client.stream(PROMPT, StreamOptions(window=4)) as stream:
        for event in stream:
            events.append(event)
            if isinstance(event, SegmentEvent) and event.index == 2:
                break
        os.killpg(server.process.pid, number)  # as a terminal does: to every process of the group
        with pytest.raises(ClientError) as caught:
            events.extend(stream)
        assert caught.value.code is grpc.StatusCode.UNAVAILABLE
    closed = events[-1]
    assert isinstance(closed, ClosedEvent) and closed.ending == "drained"
    assert [event.index for event in events if isinstance(event, SegmentEvent)] == list(range(closed.segments))
    assert closed.segments >= 3
    assert server.process.wait(timeout=30) == 0, server.text()
    assert server.group() == []
    log = server.text()
    assert "lost" not in log and "worker decode-0 ended" in log and "worker denoise-0 ended" in log
    stages = ("reading the model", "starting ", "decode-0 joined", "ready after")
    assert [log.index(stage) for stage in stages] == sorted(log.index(stage) for stage in stages)


def test_a_signal_cuts_the_grace_of_a_drain_short_and_the_process_ends_well(server: Server) -> None:
    events: list[StreamEvent] = []
    with SyncClient(server.address) as client, client.stream(PROMPT, StreamOptions(window=2)) as stream:
        assert client.drain(3600) == 1
        with pytest.raises(ClientError) as caught:
            for event in stream:
                events.append(event)
                if isinstance(event, SegmentEvent) and event.index == 4:
                    assert any(isinstance(told, NoticeEvent) for told in events)
                    server.process.send_signal(signal.SIGTERM)
        assert caught.value.code is grpc.StatusCode.UNAVAILABLE
    closed = events[-1]
    assert isinstance(closed, ClosedEvent) and closed.ending == "drained"
    assert [event.index for event in events if isinstance(event, SegmentEvent)] == list(range(closed.segments))
    assert closed.segments >= 5
    assert server.process.wait(timeout=30) == 0, server.text()
    assert server.group() == []


def test_a_second_signal_does_not_wait_for_a_client_that_does_not_read(server: Server) -> None:
    options = StreamOptions(codec="raw", window=32)  # more than gRPC takes into its buffers
    with SyncClient(server.address) as client, client.stream(PROMPT, options) as stream:
        while client.get_session(stream.opened.session_id).segments_sent < 32:
            time.sleep(0.05)
        server.process.send_signal(signal.SIGTERM)
        with pytest.raises(subprocess.TimeoutExpired):
            server.process.wait(timeout=GRACE_S / 3)
        server.process.send_signal(signal.SIGTERM)
        assert server.process.wait(timeout=GRACE_S / 2) == 0, server.text()


def test_what_a_server_records_is_what_its_scheduler_did(model: Path, tmp_path: Path) -> None:
    path = tmp_path / "r.jsonl"
    server = Server(tmp_path, model, "in-process", "--record", str(path))
    try:
        with SyncClient(server.address) as client, client.stream(PROMPT, StreamOptions(pictures=30)) as stream:
            told = list(stream)
        server.process.send_signal(signal.SIGTERM)
        assert server.process.wait(timeout=30) == 0, server.text()
        assert f"recording into {path}" in server.text()
    finally:
        server.end()
    cell, events = read(path)
    assert cell.version == longtake_version() and cell.recipe == load_info(model).recipe
    scheduler, effects = cell.scheduler(), list[Effect]()
    for event in events:
        effects += scheduler.handle(event)
    emitted = [effect.block for effect in effects if isinstance(effect, Emit)]
    assert emitted == [event.index for event in told if isinstance(event, SegmentEvent)]
    assert scheduler.draining.is_done


def test_a_port_that_is_taken_is_one_line(lasting: Server, model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    port = lasting.address.split(":")[1]
    config = model.parent / "taken.toml"
    config.write_text(f'[model]\npath = "{model}"\n[cluster]\nlaunch = "in-process"\n[listen]\nport = {port}\n')
    assert run(["serve", str(config)]) == 2
    assert f"listen: '127.0.0.1:{port}' is not allowed" in capsys.readouterr().err
    assert run(["serve", "--config", str(config), "--port", port]) == 2
    assert "longtake: --port: '127.0.0.1:" in capsys.readouterr().err


def test_options_are_wrong_in_their_own_words(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = tmp_path / "some.toml"
    config.touch()
    wrong = {
        "--host": ("127.0.0.1:5", "a host name or an address, without a port"),
        "--log-level": ("loud", "'debug', 'info', 'warning', 'error'"),
        "--http": ("nowhere", "HOST:PORT"),
        "--record": ("/no/such/place", "a file that can be written"),
        "--config": (str(tmp_path / "none.toml"), "a readable file (No such file or directory)"),
    }
    for option, (value, allowed) in wrong.items():
        assert run(["serve", option, value]) == 2
        sentence = capsys.readouterr().err.splitlines()[-1]
        assert option in sentence and allowed in sentence and value in sentence
    assert run(["serve", str(config), "--config", str(config)]) == 2
    assert "one of CONFIG and --config" in capsys.readouterr().err
    assert run(["serve", "--host", "192.0.2.1"]) == 2
    assert "--host = 192.0.2.1 contradicts auth.tenants is empty" in capsys.readouterr().err


def test_an_unknown_key_in_the_configuration_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = tmp_path / "bad.toml"
    config.write_text("[cluster]\nworkers = 3\n")
    assert run(["serve", str(config)]) == 2
    said = capsys.readouterr().err
    assert "cluster.workers" in said and "denoise_workers" in said and said.count("\n") == 1
