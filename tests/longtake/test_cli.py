"""The command line: wrong input in one line, streams into files, interrupts that leave a whole file."""

from __future__ import annotations

import io
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import pytest

from longtake.cli.main import run
from longtake.client import Client, StreamOptions, SyncClient
from longtake.client.events import ClosedEvent, CueAppliedEvent, OpenedEvent, SegmentEvent
from longtake.client.recording import Recording
from longtake.core.limits import Limits
from longtake.v1 import longtake_pb2 as pb
from tests.cluster.frontend.toy import HEADER, ToyCell, segment, toy_cell_in_thread
from tests.longtake.commands import ROOT, start


@pytest.fixture
def cell() -> Iterator[ToyCell]:
    with toy_cell_in_thread(delay_s=0.002, limits=Limits(rewind_blocks=10_000)) as running:
        yield running


WRONG: dict[str, tuple[list[str], str]] = {
    "no command": (["frob"], "No such command 'frob'"),
    "no prompt": (["stream"], "Missing argument 'PROMPT'"),
    "cue without a time": (["stream", "x", "--cue", "a blue box"], "TIME=PROMPT"),
    "cue without a prompt": (["stream", "x", "--cue", "10s="], "TIME=PROMPT"),
    "cue with a bad time": (["stream", "x", "--cue", "ten=y"], "'ten' is not allowed; allowed: a time such as 20s"),
    "no duration": (["stream", "x", "--duration", "0s"], "a time above 0"),
    "bad duration": (["stream", "x", "--duration", "20x"], "a time such as 20s"),
    "endless duration": (["stream", "x", "--duration", "99999999999999999999h"], "up to 87660000 h"),
    "window": (["stream", "x", "--window", "99999999999"], "--window: 99999999999 is not allowed; allowed: a whole"),
    "no text": (["stream", "a \udcff red ball"], r"PROMPT: 'a \udcff red ball' is not allowed; allowed: text"),
    "cue behind the end": (["stream", "x", "--duration", "2s", "--cue", "5s=y"], "'5s=y' would never be shown"),
    "render for ever": (["render", "x"], "--duration is missing"),
    "memory": (["plan", "--memory", "nan"], "'--memory': nan is not allowed; allowed: a number above 0"),
    "decode": (["plan", "--decode", "-1"], "'--decode': -1.0 is not allowed; allowed: a number above 0"),
    "scheme": (["status", "--server", "http://127.0.0.1:1"], "--server: 'http://127.0.0.1:1' is not allowed; allowed"),
    "port of a server": (["status", "--server", "127.0.0.1:99999"], "a port of 0 to 65535"),
    "no server": (["status", "--server", ""], "--server: '' is not allowed"),
    "brackets": (["status", "--server", "::1:51000"], "an IPv6 address in brackets"),
    "codec": (["stream", "x", "--codec", "gif"], "'h264', 'mjpeg', 'raw'"),
    "seed": (["stream", "x", "--seed", "-1"], "a whole number, 0 to 18446744073709551615"),
    "output": (["stream", "x", "-o", "/no/such/place.mp4"], "a file that can be written"),
    "output of another kind": (
        ["stream", "x", "-o", "foo.webm"],
        "'foo.webm' is not allowed; allowed: .m4v or .mp4 for",
    ),
    "output without a name": (["stream", "x", "-o", ""], "--output: '' is not allowed"),
    "output is a folder": (["stream", "x", "-o", "/tmp"], "a file that can be written"),
    "configuration": (["serve", "no-such-file.toml"], "'no-such-file.toml' is not allowed; allowed: a readable file"),
    "model": (["render", "x", "--model", "/no/model", "--duration", "1s"], "model.json is missing"),
    "port": (["serve", "--port", "70000"], "a whole number, 0 to 65535"),
    "recording": (["serve", "--record", "/no/such/place"], "--record: '/no/such/place' is not allowed"),
}


@pytest.mark.parametrize("name", WRONG)
def test_wrong_input_is_one_precise_line_and_exit_status_2(
    name: str, capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    arguments, expected = WRONG[name]
    assert run(arguments) == 2
    said = capsys.readouterr()
    assert said.out == ""
    *usage, line = said.err.splitlines()
    assert expected in line
    assert line.startswith("Error: " if usage else "longtake: ")
    assert not usage or (usage[0].startswith("Usage: longtake ") and "--help" in usage[1])
    assert list(tmp_path.iterdir()) == []


def test_a_server_that_is_not_there_is_one_line_and_leaves_an_older_file_alone(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    older = tmp_path / "a.mp4"
    older.write_bytes(b"older")
    assert run(["stream", "x", "--server", "127.0.0.1:1", "-o", str(older)]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("longtake: no server at 127.0.0.1:1 (Connection refused); start one with `longtake serve`")
    assert older.read_bytes() == b"older"


def test_an_interrupt_while_it_is_still_importing_is_quiet(tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text(
        "import sys\n"
        "class Interrupted:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        if name == 'longtake.cli.plan':\n"
        "            raise KeyboardInterrupt\n"
        "sys.meta_path.insert(0, Interrupted())\n"
    )
    environment = os.environ | {"PYTHONPATH": f"{tmp_path}{os.pathsep}{ROOT}"}
    command = [sys.executable, "-m", "longtake", "status"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "")


def test_what_the_server_refuses_is_one_line_with_field_and_allowed_values(
    cell: ToyCell, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    output = str(tmp_path / "a.mp4")
    assert run(["stream", "x", "--window", "99", "--server", cell.target, "-o", output]) == 2
    assert "longtake: --window: 99 is not allowed; allowed: 1 to 32" in capsys.readouterr().err
    assert run(["stream", "x", "--cut", "1s=y", "--server", cell.target, "-o", output]) == 2
    assert "longtake: --change, --cut or --back: 'cut' is not allowed" in capsys.readouterr().err
    assert run(["stream", "x", "--fork", "nobody", "--server", cell.target, "-o", output]) == 2
    assert "'nobody' is not open here" in capsys.readouterr().err
    assert run(["stream", "x", "--fork", "nobody@7", "--server", cell.target, "-o", output]) == 2
    assert "'nobody' is not open here" in capsys.readouterr().err
    for wrong in ("@7", "nobody@", "nobody@-1", "nobody@x", f"nobody@{1 << 64}"):
        assert run(["stream", "x", "--fork", wrong, "--server", cell.target, "-o", output]) == 2
        assert "SESSION@BLOCK" in capsys.readouterr().err
    assert run(["close", "nobody", "--server", cell.target]) == 2
    assert "'nobody' is not open here" in capsys.readouterr().err
    assert not Path(output).exists()


def test_without_a_command_there_is_help_as_it_is_formatted(capsys: pytest.CaptureFixture[str]) -> None:
    assert run([]) == 2
    said = capsys.readouterr()
    assert any(line.startswith("  stream ") for line in (said.out + said.err).splitlines())


def test_a_stream_goes_into_a_file_with_its_cues_and_a_summary(
    cell: ToyCell, capfd: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    output = tmp_path / "a.mp4"
    arguments = ["stream", "red", "--seed", "5", "--duration", "5s", "--cue", "2s=blue", "-o", str(output)]
    assert run([*arguments, "--server", cell.target]) == 0
    # 80 pictures are blocks 0 to 6; picture 32 lies in block 2, so block 3 (from picture 33) is the first of the cue.
    expected = [segment(n, 5, "red" if n < 3 else "blue") for n in range(7)]
    assert output.read_bytes() == HEADER + b"".join(expected)
    said = capfd.readouterr()
    assert said.out == ""
    assert "7 segments, 80 pictures, 5.00 s" in said.err
    assert "cue-1: asked for 2.00 s, shown from 2.06 s (latency 0.06 s)" in said.err
    assert run([*arguments, "--server", cell.target, "--json"]) == 0
    lines = [json.loads(line) for line in capfd.readouterr().out.splitlines()]
    kinds = ["opened", "cue_accepted", *["segment"] * 3, "cue_applied", *["segment"] * 4, "closed", "summary"]
    assert [line["event"] for line in lines] == kinds
    assert [line["bytes"] for line in lines if line["event"] == "segment"] == [len(data) for data in expected]
    assert not {"data", "header", "resume_token"} & {name for line in lines for name in line}
    summary = lines[-1]
    assert (summary["segments"], summary["pictures"], summary["ending"], summary["seed"]) == (7, 80, "completed", 5)
    assert summary["cues"][0]["latency_s"] == pytest.approx(0.0625)
    assert summary["realtime_factor"] > 0 and summary["first_segment_s"] > 0


def test_a_stream_can_go_to_standard_output(cell: ToyCell, tmp_path: Path) -> None:
    client = start("stream", "red", "--seed", "5", "--duration", "1s", "-o", "-", "--server", cell.target, cwd=tmp_path)
    out, err = client.communicate(timeout=30)
    assert client.returncode == 0, err
    assert out.encode() == HEADER + segment(0, 5, "red") + segment(1, 5, "red")
    assert "2 segments, 16 pictures" in err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupt_ends_the_stream_cleanly_and_leaves_whole_segments(
    cell: ToyCell, tmp_path: Path, number: signal.Signals
) -> None:
    client = start("stream", "red", "--seed", "5", "-o", "a.mp4", "--server", cell.target, cwd=tmp_path)
    output = tmp_path / "a.mp4"
    while not output.exists() or output.stat().st_size < 1000:
        assert client.poll() is None
        time.sleep(0.02)
    client.send_signal(number)
    _, err = client.communicate(timeout=30)
    assert client.returncode == 128 + number
    assert "(client, seed 5)" in err
    lines = output.read_bytes().removeprefix(HEADER)
    count = lines.count(b";")
    assert count > 3 and lines == b"".join(segment(n, 5, "red") for n in range(count))
    while cell.engine.scheduler.sessions():
        time.sleep(0.01)


def test_an_interrupt_before_the_stream_begins_leaves_nothing(tmp_path: Path) -> None:
    with toy_cell_in_thread(delay_s=3.0) as slow:
        client = start("stream", "red", "-o", "a.mp4", "--server", slow.target, cwd=tmp_path)
        while not slow.engine.scheduler.sessions():
            assert client.poll() is None
            time.sleep(0.02)
        client.send_signal(signal.SIGINT)
        assert client.communicate(timeout=30) == ("", "")
        assert client.returncode == 130
        assert list(tmp_path.iterdir()) == []


def test_a_look_at_a_server(cell: ToyCell, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["status", "--server", cell.target]) == 0
    said = capsys.readouterr().out
    assert "0 of 64 sessions" in said and "same bits" not in said
    assert run(["status", "--server", cell.target, "--json"]) == 0
    assert len(json.loads(capsys.readouterr().out)["workers"]) == 3
    assert run(["model", "--server", cell.target]) == 0
    assert "colour: red, blue" in capsys.readouterr().out
    assert run(["sessions", "--server", cell.target]) == 0
    assert capsys.readouterr().out.split()[0] == "session"


def test_the_status_counts_what_is_done_and_says_what_limits_the_cell(
    cell: ToyCell, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    workers = [
        pb.Worker(worker_id="v0", role=pb.WORKER_ROLE_DECODE, capacity=4, free=1, dispatched=12, passes=10, in_flight=2,
                  reserved=0.86),
        pb.Worker(worker_id="t0", role=pb.WORKER_ROLE_TEXT, capacity=1, free=1, ready=3),
    ]  # fmt: skip
    status = pb.GetStatusResponse(
        workers=workers, sessions=3, max_sessions=3, sessions_queued=2, limit_blocks_per_s=1.5, limited_by="v0"
    )

    async def told(_: Client) -> pb.GetStatusResponse:
        return status

    monkeypatch.setattr(Client, "get_status", told)
    assert run(["status", "--server", cell.target]) == 0
    first, limit, head, decoder, text = capsys.readouterr().out.splitlines()
    assert first.endswith("3 of 3 sessions, 2 queued")
    assert limit == "at most 1.50 blocks/s: that is what v0 can do now"
    assert head.split("  ")[-2:] == ["done", "numerics"]
    assert decoder.split() == ["v0", "decode", "3/4", "86", "%", "0", "2", "0", "10", "-"]
    assert text.split() == ["t0", "text", "-", "-", "0", "0", "3", "0", "-"]


def test_the_status_warns_of_workers_that_do_not_give_the_same_bits(
    cell: ToyCell, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    answered = Client.get_status

    async def mixed(client: Client) -> pb.GetStatusResponse:
        status = await answered(client)
        status.workers[0].numerics = "0123456789ab"
        return status

    monkeypatch.setattr(Client, "get_status", mixed)
    assert run(["status", "--server", cell.target]) == 0
    said = capsys.readouterr().out.splitlines()
    assert said[-1] == "denoise workers do not all give the same bits: 2 classes of numerics"
    assert [line.split()[-1] for line in said if line.startswith(("d0", "d1"))] == ["01234567", "-"]


def test_a_list_of_sessions_says_what_each_waits_for(cell: ToyCell, capsys: pytest.CaptureFixture[str]) -> None:
    with SyncClient(cell.target) as client, client.stream("red", StreamOptions(window=1, auto_ack=False)):
        said = ""
        while "credit" not in said:
            assert run(["sessions", "--server", cell.target]) == 0
            said = capsys.readouterr().out
        head, row = said.splitlines()
        assert row[head.index("waits for") :].split()[:2] == ["credit", "fast"]


def test_sessions_are_listed_and_closed(cell: ToyCell, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    client = start("stream", "red", "-o", "a.mp4", "--server", cell.target, cwd=tmp_path)
    found: list[dict[str, str]] = []
    while not found or found[0]["state"] != "running":
        assert run(["sessions", "--server", cell.target, "--json"]) == 0
        found = json.loads(capsys.readouterr().out)["sessions"]
    parent = found[0]["session_id"]
    past = ["--fork", f"{parent}@0", "--seed", "6", "--codec", "raw", "--duration", "1s", "--server", cell.target]
    assert run(["stream", "green", *past, "-o", str(tmp_path / "c.rgb")]) == 0
    first = (tmp_path / "c.rgb").read_bytes().removeprefix(HEADER).split(b";")[0]
    assert first.startswith(b"block 0 of seed 6 ") and first.endswith(b"shows green")
    short = ["--duration", "0.1", "-o", str(tmp_path / "c.mp4")]
    asked = ["--fork", parent, "--seed", "5", "--codec", "raw", "-o", "b.rgb", "--server", cell.target]
    assert run(["stream", "blue", "--fork", parent, *short, "--keep-times", "--server", cell.target]) == 2
    error = capsys.readouterr().err
    assert "longtake: --duration: " in error and "where the fork begins; lengths count from" in error
    fork = start("stream", "blue", *asked, "--duration", "3600s", cwd=tmp_path)
    while not (tmp_path / "b.rgb").exists() or (tmp_path / "b.rgb").stat().st_size <= len(HEADER):
        assert fork.poll() is None
        time.sleep(0.01)
    fork.terminate()
    fork.communicate(timeout=30)
    first = (tmp_path / "b.rgb").read_bytes().removeprefix(HEADER).split(b";")[0]
    assert b" of seed 5 " in first and first.endswith(b"shows blue") and not first.startswith(b"block 0 ")
    assert run(["close", parent, "--server", cell.target]) == 0
    _, err = client.communicate(timeout=30)
    assert client.returncode == 1
    assert "(operator, seed" in err and "longtake: an operator has ended the stream [ABORTED]" in err


def test_lag_and_latency_are_computed_from_the_stream_and_the_clock() -> None:
    now_s = 100.0
    recording = Recording(io.BytesIO, "x", (), clock=lambda: now_s)
    opened = OpenedEvent(
        session_id="s", seed=1, recipe_digest="", header=b"h", media_type="", width=1, height=1, fps=Fraction(16),
        window=1, timescale=16, pictures=None, decoder="full",
    )  # fmt: skip
    recording.take(opened)
    for index, arrival_s in enumerate((101.0, 101.5, 104.0)):
        now_s = arrival_s
        recording.take(
            SegmentEvent(
                index=index, first_picture=index * 16, picture_count=16, start_s=Fraction(index),
                duration_s=Fraction(1), prompt_version=0, data=b"12", keyframe=True,
            )
        )  # fmt: skip
    recording.take(CueAppliedEvent(cue_id="c", block=2, start_s=Fraction(2)))
    recording.take(ClosedEvent(ending="completed", reason="", segments=3))
    recording.close()
    assert recording.lag_s == pytest.approx(1.0)  # due two seconds after the first, came after three
    summary = recording.summary()
    assert (summary.segments, summary.pictures, summary.bytes) == (3, 48, 7)
    assert summary.first_segment_s == pytest.approx(1.0)
    assert summary.realtime_factor == pytest.approx(3 / 4)


@pytest.mark.slow
@pytest.mark.ray
def test_a_local_server_ends_with_the_process_that_wanted_it() -> None:
    code = "from longtake.cli.local_server import local_server\nwith local_server(print) as address:\n    input()\n"
    with subprocess.Popen(
        [sys.executable, "-u", "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as owner:
        assert owner.stdout is not None
        address = next(line for line in owner.stdout if line.startswith("ready: ")).split(" on ")[1].split(" ")[0]
        owner.terminate()
        assert owner.wait(90) == 128 + signal.SIGTERM
    host, port = address.split(":")
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection((host, int(port)), timeout=5)
