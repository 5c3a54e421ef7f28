"""`longtake stream` steered and shown, `longtake watch`: lines in, prompts and their times out."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from longtake.cli.main import run
from longtake.core.limits import Limits
from tests.cluster.frontend.toy import HEADER, ToyCell, segment, toy_cell_in_thread
from tests.longtake.commands import start


@pytest.fixture
def cell() -> Iterator[ToyCell]:
    with toy_cell_in_thread(delay_s=0.005, limits=Limits(rewind_blocks=10_000)) as running:
        yield running


def steered(cell: ToyCell, tmp_path: Path, *options: str) -> subprocess.Popen[str]:
    asked = ("stream", "red", "--seed", "5", "-o", "a.mp4", "--interactive", "--server", cell.target, *options)
    return start(*asked, cwd=tmp_path, stdin=subprocess.PIPE)


def until(client: subprocess.Popen[str], *words: str) -> str:
    """The next line on standard error that has all these words."""
    assert client.stderr is not None
    for line in client.stderr:
        if all(word in line for word in words):
            return line
    raise AssertionError(f"no line with {words}")


def type_in(client: subprocess.Popen[str], *lines: str) -> None:
    assert client.stdin is not None
    client.stdin.write("".join(f"{line}\n" for line in lines))
    client.stdin.flush()


def blocks(data: bytes) -> list[bytes]:
    return [part + b";" for part in data.removeprefix(HEADER).split(b";")[:-1]]


def test_lines_change_the_picture_now_and_later_and_their_end_is_not_that_of_the_stream(
    cell: ToyCell, tmp_path: Path
) -> None:
    with steered(cell, tmp_path, "--duration", "1h") as client:
        type_in(client, "blue")
        accepted = until(client, "cue-1: accepted", "blue")
        assert until(client, "cue-1: shown from", "blue")
        type_in(client, "", "  ", "/what")
        assert "'/what' is not known" in until(client, "/what")
        type_in(client, "3599s=green")
        assert until(client, "cue-2: accepted for 3599", "green")
        type_in(client, "3000=")
        assert "not only white space" in until(client, "white space")
        type_in(client, "not = a time")
        assert until(client, "cue-4: accepted", "not = a time")
        assert client.stdin is not None
        client.stdin.close()
        time.sleep(0.2)
        assert client.poll() is None
        client.send_signal(signal.SIGINT)
        assert client.stderr is not None
        err = client.stderr.read()
        assert client.wait(timeout=30) == 130 and "Traceback" not in err
        assert "cue-2: not shown" in err and accepted
    shown = blocks((tmp_path / "a.mp4").read_bytes())
    first = next(number for number, block in enumerate(shown) if b"shows blue" in block)
    assert shown[first:][0] == segment(first, 5, "blue") and all(b"red" in block for block in shown[:first])


def test_a_stream_is_paused_played_and_ended_by_lines(cell: ToyCell, tmp_path: Path) -> None:
    client = steered(cell, tmp_path)
    output = tmp_path / "a.mp4"
    while not output.exists() or output.stat().st_size <= len(HEADER):
        time.sleep(0.01)
    type_in(client, "/pause")
    while [session.state.value for session in cell.engine.scheduler.sessions()] != ["paused"]:
        time.sleep(0.01)
    type_in(client, "/play")
    size = output.stat().st_size
    while output.stat().st_size <= size + 2000:
        time.sleep(0.01)
    type_in(client, "/end")
    _, err = client.communicate(timeout=30)
    assert client.returncode == 0 and "(client, seed 5)" in err


def test_a_line_that_is_no_text_changes_nothing(cell: ToyCell, tmp_path: Path) -> None:
    client = steered(cell, tmp_path)
    assert client.stdin is not None
    os.write(client.stdin.fileno(), b"a \xff ball\n" + b"x" * 20_000 + b"\n/end\n")
    assert "no UTF-8" in until(client, "UTF-8")
    assert "bytes of text" in until(client, "bytes of text")
    client.communicate(timeout=30)
    assert client.returncode == 0


def test_a_stream_is_watched_for_a_while(
    cell: ToyCell, capfd: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    client = steered(cell, tmp_path)
    while not cell.engine.scheduler.sessions():
        time.sleep(0.01)
    (session,) = cell.engine.scheduler.sessions()
    asked = ["watch", session.session, "--server", cell.target, "--duration", "3s"]
    assert run(asked) == 0
    err = capfd.readouterr().err
    assert "red" in err.splitlines()[0] and "(left, seed 5)" in err
    watched = blocks((tmp_path / "longtake.mp4").read_bytes())
    assert len(watched) >= 4 and all(b"of seed 5" in block for block in watched)
    assert run(asked) == 2, "nobody has named that file"
    assert "longtake.mp4 is there already" in capfd.readouterr().err
    assert run([*asked, "-o", "w.mp4", "--json"]) == 0
    lines = [json.loads(line) for line in capfd.readouterr().out.splitlines()]
    assert (lines[0]["event"], lines[0]["prompt"], lines[-1]["ending"]) == ("opened", "red", "left")
    assert run(["watch", "nobody", "--server", cell.target]) == 2
    assert "'nobody' is not open here" in capfd.readouterr().err
    client.terminate()
    client.communicate(timeout=30)


def test_a_watcher_hears_why_the_stream_ended(cell: ToyCell, capfd: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    client = steered(cell, tmp_path)
    while not cell.engine.scheduler.sessions():
        time.sleep(0.01)
    (session,) = cell.engine.scheduler.sessions()
    watcher = start("watch", session.session, "-o", "w.mp4", "--server", cell.target, cwd=tmp_path)
    while not (tmp_path / "w.mp4").exists():
        time.sleep(0.01)
    assert run(["close", session.session, "--server", cell.target]) == 0
    _, err = watcher.communicate(timeout=30)
    assert watcher.returncode in (0, 1) and "(operator, seed 5)" in err
    client.communicate(timeout=30)


def player(tmp_path: Path, script: str) -> Path:
    """A folder with a program `ffplay` in it, and nothing else."""
    (tmp_path / "bin").mkdir()
    program = tmp_path / "bin" / "ffplay"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)
    return program.parent


def test_a_stream_is_shown_by_a_player_that_is_installed(
    cell: ToyCell, capfd: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    asked = ["stream", "red", "--seed", "5", "--play", "--server", cell.target]
    monkeypatch.setenv("PATH", str(tmp_path / "nothing"))
    assert run(asked) == 2
    assert "no player is installed; install one of ffplay, mpv, vlc" in capfd.readouterr().err
    folder = player(tmp_path, f"exec /bin/cat > {tmp_path / 'played'}")
    monkeypatch.setenv("PATH", str(folder))
    assert run([*asked, "--duration", "1s"]) == 0
    assert (tmp_path / "played").read_bytes() == HEADER + segment(0, 5, "red") + segment(1, 5, "red")
    assert "ffplay: 2 segments" in capfd.readouterr().err
    assert run([*asked, "-o", "x.mp4"]) == 2
    assert "--play" in capfd.readouterr().err
    assert run([*asked, "--codec", "raw"]) == 2
    assert "allowed: h264 or mjpeg" in capfd.readouterr().err
    assert not list(tmp_path.glob("*.mp4"))


def test_closing_the_player_ends_the_stream(
    cell: ToyCell, capfd: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", f"{player(tmp_path, 'head -c 500 > /dev/null')}:/usr/bin:/bin")
    assert run(["stream", "red", "--play", "--server", cell.target]) == 0
    err = capfd.readouterr().err
    assert "(client, seed" in err and "Broken pipe" not in err
    while cell.engine.scheduler.sessions():
        time.sleep(0.01)


def test_a_fork_has_lengths_and_times_of_its_own_unless_it_keeps_those_of_the_stream(
    cell: ToyCell, capfd: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    client = steered(cell, tmp_path)
    while not (sessions := cell.engine.scheduler.sessions()) or sessions[0].segments_sent < 4:
        time.sleep(0.01)
    fork = ["--fork", f"{sessions[0].session}@2", "--seed", "6", "--cue", "2s=blue", "--server", cell.target]
    output = tmp_path / "f.mp4"
    assert run(["stream", "green", *fork, "--duration", "4s", "-o", str(output)]) == 0
    made = blocks(output.read_bytes())
    # The fork begins at picture 21 of the stream; 64 pictures are its blocks 2 to 7, and 32 later begins block 5.
    assert made == [segment(n, 6, "green" if n < 5 else "blue") for n in range(2, 8)]
    err = capfd.readouterr().err
    assert "64 pictures, 4.00 s" in err and "cue-1: asked for 2.00 s, shown from 2.25 s" in err
    fork[5] = "3s=blue"
    assert run(["stream", "green", *fork, "--duration", "4s", "--keep-times", "-o", str(output)]) == 0
    made = blocks(output.read_bytes())
    assert made == [segment(n, 6, "green" if n < 5 else "blue") for n in range(2, 6)]
    err = capfd.readouterr().err
    assert "43 pictures, 2.69 s" in err and "cue-1: asked for 3.00 s, shown from 3.56 s" in err
    client.terminate()
    client.communicate(timeout=30)


def test_json_that_nobody_reads_keeps_no_signal_waiting(tmp_path: Path) -> None:
    with toy_cell_in_thread() as cell:
        client = start("stream", "red", "-o", "a.mp4", "--json", "--server", cell.target, cwd=tmp_path)
        output = tmp_path / "a.mp4"
        while not output.exists() or output.stat().st_size < 25_000:  # the pipe is full by now
            time.sleep(0.05)
        client.send_signal(signal.SIGTERM)
        assert client.wait(timeout=30) in (1, 143)
        client.communicate()
