"""`longtake top` and `longtake drain`: exact figures, frames that fit, a terminal that is left as it was found."""

from __future__ import annotations

import asyncio
import json
import os
import pty
import select
import signal
import subprocess
import sys
import termios
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from longtake.cli.main import run
from longtake.cli.server import Server
from longtake.cli.top import Looks
from longtake.cli.top_figures import SORTS, Figures, Look, figures, same_server, warnings
from longtake.cli.top_screen import lines
from longtake.client import Client, StreamOptions
from longtake.v1 import longtake_pb2 as pb
from tests.cluster.frontend.toy import Door, ToyCell, toy_cell, toy_cell_in_thread

ROOT = Path(__file__).resolve().parent.parent.parent


@pytest.fixture
def cell() -> Iterator[ToyCell]:
    with toy_cell_in_thread(delay_s=0.002) as running:
        yield running


# --- figures ----------------------------------------------------------------------------------------------------------


def worker(name: str, **values: float) -> pb.Worker:
    decodes = name.startswith("v")
    role = pb.WORKER_ROLE_DECODE if decodes else pb.WORKER_ROLE_DENOISE
    capacity, free = (4, 4) if decodes else (100, 61)
    made = pb.Worker(worker_id=name, role=role, capacity=capacity, free=free)
    made.MergeFrom(pb.Worker(**values))  # type: ignore[arg-type]
    return made


def session(name: str, **values: object) -> pb.Session:
    values = {"state": pb.SESSION_STATE_RUNNING, "pace": pb.PACE_REALTIME, "window": 4, "tenant": "t", **values}
    return pb.Session(session_id=name, **values)  # type: ignore[arg-type]


def total(pace: pb.Pace, **values: float) -> pb.PaceTotals:
    return pb.PaceTotals(pace=pace, **values)  # type: ignore[arg-type]


BEFORE = Look(
    at_s=100.0,
    status=pb.GetStatusResponse(
        cell="c", uptime_s=50.0, max_sessions=64, sessions=3, forwards_per_block=8, engine_busy_s=2.1,
        workers=[
            worker("d0", busy_s=10.0, ops=100, passes=50, dispatched=51, op_s=0.1),
            worker("d1", busy_s=90.0, ops=900, passes=900, dispatched=900, op_s=0.1),
            worker("v0", busy_s=1.0, ops=10, passes=10, dispatched=10, op_s=0.02),
        ],
        totals=[
            total(pb.PACE_REALTIME, blocks=100, late_blocks=4, pictures=1197, bytes=1_000_000, opened=5, refused=1),
            total(pb.PACE_FAST, blocks=10, pictures=117, bytes=50_000, opened=1),
        ],
    ),
    sessions=(session("a", pictures_sent=117), session("b", pictures_sent=600), session("gone", pictures_sent=9)),
)  # fmt: skip
NOW = Look(
    at_s=104.0,
    status=pb.GetStatusResponse(
        cell="c", uptime_s=54.0, max_sessions=64, sessions=4, sessions_queued=2, forwards_per_block=8,
        limit_blocks_per_s=3.75, limited_by="2 denoise workers", engine_busy_s=2.5,
        workers=[
            worker("d0", busy_s=13.0, ops=130, passes=60, dispatched=61, op_s=0.1, ready=7, in_flight=1, reserved=0.48),
            worker("d1", busy_s=0.5, ops=5, passes=5, dispatched=6, op_s=0.05),  # it has joined again
            worker("v0", busy_s=1.2, ops=20, passes=20, dispatched=20, op_s=0.02),
        ],
        totals=[
            total(pb.PACE_REALTIME, sessions=3, blocks=108, late_blocks=6, pictures=1293, bytes=1_400_000, opened=6,
                  refused=2, least_slack_s=-0.25),
            total(pb.PACE_FAST, sessions=1, blocks=14, pictures=165, bytes=90_000, opened=1),
        ],
    ),
    sessions=(
        session("a", pictures_sent=181, slack_s=1.5, blocks_begun=16, segments_sent=15, segments_acknowledged=13,
                age_s=20.0),
        session("b", pictures_sent=600, slack_s=-0.25, blocks_begun=50, segments_sent=50, segments_acknowledged=46,
                age_s=40.0, tenant="s", holds=[pb.HOLD_CREDIT, pb.HOLD_PLAYBACK]),
        session("new", pace=pb.PACE_FAST, age_s=1.0, segments_sent=3),
        session("old", pace=pb.PACE_FAST, age_s=1.0, segments_sent=1, pictures_sent=9),
    ),
)  # fmt: skip


def test_every_figure_is_the_one_computed_by_hand() -> None:
    frame = figures(BEFORE, NOW, pictures_per_s=16.0)
    # 8 live and 4 fast blocks in 4 s; 96 + 48 pictures.
    assert (frame.over_s, frame.blocks_per_s, frame.pictures_per_s) == (4.0, 3.0, 36.0)
    assert frame.realtime_factor == 36 / 16
    assert (frame.limit_blocks_per_s, frame.limited_by) == (3.75, "2 denoise workers")
    assert frame.limit_share == pytest.approx(3 / 3.75)
    assert frame.engine_share == pytest.approx((2.5 - 2.1) / 4)
    assert (frame.sessions_open, frame.sessions_queued) == (4, 2)
    live, fast = frame.paces
    assert (live.pace, live.sessions, live.blocks, live.blocks_per_s) == ("realtime", 3, 108, 2.0)
    assert (live.late_blocks, live.late_share, live.pictures_per_s) == (6, 2 / 8, 24.0)
    assert (live.bytes_per_s, live.opened, live.refused, live.least_slack_s) == (100_000.0, 6, 2, -0.25)
    assert (fast.pace, fast.blocks_per_s, fast.late_share, fast.least_slack_s) == ("fast", 1.0, 0.0, None)
    d0, d1, v0 = frame.workers
    assert (d0.utilisation, d0.batch, d0.op_s, d0.used, d0.ready, d0.in_flight) == (0.75, 3.0, 0.1, 39, 7, 1)
    assert d0.reserved == 0.48
    assert (d1.utilisation, d1.batch, d1.op_s) == (None, None, 0.05), "nothing can be said of the time between"
    assert (v0.role, v0.batch, v0.used) == ("decode", 1.0, 0)
    assert v0.utilisation == pytest.approx(0.05)
    rows = [(s.session, s.pictures_per_s, s.slack_s, s.lag, s.block) for s in frame.sessions]
    assert rows == [
        ("b", 0.0, -0.25, 4, 50), ("a", 16.0, 1.5, 2, 16), ("new", None, None, 3, 0), ("old", None, None, 1, 0),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("sort", "names"),
    [("slack", "b a new old"), ("lag", "b new a old"), ("pictures/s", "b new old a"), ("age", "b a new old"),
     ("tenant", "b a new old")],
)  # fmt: skip
def test_the_worst_session_comes_first(sort: str, names: str) -> None:
    assert [s.session for s in figures(BEFORE, NOW, pictures_per_s=16.0, sort=sort).sessions] == names.split()


def test_a_limit_that_is_not_known_is_left_open() -> None:
    status = pb.GetStatusResponse()
    status.CopyFrom(NOW.status)
    status.ClearField("limit_blocks_per_s")
    status.limited_by = ""
    frame = figures(BEFORE, Look(at_s=104.0, status=status, sessions=()), pictures_per_s=16.0)
    assert (frame.limit_blocks_per_s, frame.limit_share, frame.limited_by) == (None, None, "")
    assert "of" not in lines(frame, width=100, height=None, sort="slack")[1].plain


def test_a_cell_that_can_make_nothing_says_who_is_missing() -> None:
    status = pb.GetStatusResponse()
    status.CopyFrom(NOW.status)
    status.limit_blocks_per_s, status.limited_by = 0.0, "no decode workers"
    frame = figures(NOW, Look(at_s=105.0, status=status, sessions=()), pictures_per_s=16.0)
    assert lines(frame, width=120, height=None, sort="slack")[1].plain == "0.00 blocks/s: there are no decode workers"


def test_of_a_text_worker_nothing_is_said_that_is_not_counted() -> None:
    status = pb.GetStatusResponse()
    status.CopyFrom(NOW.status)
    status.workers.append(pb.Worker(worker_id="text-0", role=pb.WORKER_ROLE_TEXT, capacity=1, free=1, ready=3))
    now = Look(at_s=104.0, status=status, sessions=())
    frame = figures(BEFORE, now, pictures_per_s=16.0)
    (text,) = [one for one in frame.workers if one.role == "text"]
    assert (text.utilisation, text.reserved, text.op_s, text.capacity, text.ready) == (None, None, None, 0, 3)
    shown = [line.plain for line in lines(frame, width=120, height=40, sort="lag")]
    row = next(line for line in shown if line.startswith("text-0"))
    assert row.split() == ["text-0", "text", "-", "-", "-", "-", "-", "0", "3", "0"]


def test_workers_that_do_not_give_the_same_bits_are_a_warning_for_each_role() -> None:
    status = pb.GetStatusResponse()
    status.CopyFrom(NOW.status)
    for made, numerics in zip(status.workers, ("a", "a", "b"), strict=True):
        made.numerics = numerics
    assert warnings(status) == ()
    status.workers[1].numerics = ""
    assert warnings(status) == ("denoise workers do not all give the same bits: 2 classes of numerics",)
    frame = figures(BEFORE, Look(at_s=104.0, status=status, sessions=()), pictures_per_s=16.0)
    shown = lines(frame, width=120, height=40, sort="slack")
    assert (shown[3].plain, shown[4].plain) == (*frame.warnings, "")


def test_a_server_that_was_started_again_is_not_compared_with_what_it_was() -> None:
    assert same_server(BEFORE, NOW) and not same_server(NOW, BEFORE)


# --- frames -----------------------------------------------------------------------------------------------------------


def big(sessions: int, workers: int = 3) -> Figures:
    status = pb.GetStatusResponse()
    status.CopyFrom(NOW.status)
    for number in range(workers - 3):
        status.workers.append(worker(f"d{number + 2}", op_s=0.1))
    many = tuple(session(f"session-{number:04}", slack_s=number, age_s=number) for number in range(sessions))
    return figures(BEFORE, Look(at_s=104.0, status=status, sessions=many), pictures_per_s=16.0)


def test_a_frame_says_what_the_figures_say() -> None:
    shown = [line.plain for line in lines(figures(BEFORE, NOW, pictures_per_s=16.0), width=120, height=40, sort="lag")]
    assert shown[0] == "c serving  up 0:00:54  4 of 64 sessions, 2 queued"
    assert shown[1] == "3.00 blocks/s, 80 % of the 3.75 that 2 denoise workers can do"
    assert shown[2] == "36.0 pictures/s = 2.25 x real time, engine 10 % busy"
    d0 = next(line for line in shown if line.startswith("d0")).split("  ")
    assert [cell.strip() for cell in d0 if cell.strip()] == [
        "d0", "denoise", "75 %", "48 %", "100.0", "3.0", "████░░░░░░ 39/100", "0", "7", "1",
    ]  # fmt: skip
    b = next(line for line in shown if line.startswith("b ")).split()
    assert b == ["b", "running", "credit,", "playback", "realtime", "50", "0.0", "-0.25", "s", "4", "4", "0:00:40", "s"]
    assert next(line for line in shown if line.startswith("a ")).split()[:4] == ["a", "running", "-", "realtime"]
    assert "lag*" in next(line for line in shown if line.startswith("session "))


@pytest.mark.parametrize(("width", "height"), [(200, 60), (80, 24), (40, 20), (20, 12), (5, 3), (80, 1)])
@pytest.mark.parametrize("workers", [3, 64])
def test_a_frame_fits_the_terminal_and_says_what_is_left_out(width: int, height: int, workers: int) -> None:
    shown = lines(big(500, workers), width=width, height=height, sort="slack")
    assert len(shown) <= height and all(line.cell_len <= width for line in shown)
    if (height, workers) in ((60, 3), (24, 3)):
        assert len(shown) == height
        visible = [line.plain for line in shown if line.plain.startswith("session-")]
        assert visible[0].startswith("session-0000") and shown[-1].plain == f"… and {500 - len(visible)} more"


def test_narrow_terminals_keep_the_columns_that_matter() -> None:
    heads = {width: [line.plain for line in lines(big(2), width=width, height=50, sort="slack")] for width in (200, 50)}
    wide, narrow = (next(line for line in shown if line.startswith("session ")) for shown in heads.values())
    assert wide.split() == [
        "session",
        "state",
        "waits",
        "for",
        "pace",
        "block",
        "pictures/s",
        "slack*",
        "lag",
        "window",
        "age",
        "tenant",
    ]
    assert narrow.split() == ["session", "state", "pictures/s", "slack*", "lag"]


# --- the command ------------------------------------------------------------------------------------------------------


async def test_a_server_that_goes_is_told_of_and_asked_until_it_is_back() -> None:
    async with toy_cell() as cell:
        port = cell.server.port
        watch = Looks(Server(target=cell.target))
        await watch.look()
        assert watch.figures("slack") is None and not watch.trouble
        await watch.look()
        frame = watch.figures("slack")
        assert frame is not None and len(frame.workers) == 3
    await watch.look()
    assert f"127.0.0.1:{port} cannot be reached" in watch.trouble
    assert watch.figures("slack") is not None, "the last frame stays"
    async with toy_cell(door=Door(port=port)):
        await watch.look()
        assert not watch.trouble and watch.figures("slack") is None
        await watch.look()
        frame = watch.figures("slack")
        assert frame is not None and frame.over_s < frame.uptime_s, "nothing of the older server counts"
        await watch.close()


def test_one_frame_and_json_are_printed_where_there_is_no_terminal(
    cell: ToyCell, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["top", "--server", cell.target, "--once", "--interval", "50ms"]
    assert run(arguments) == 0
    said = capsys.readouterr().out
    assert "0 of 64 sessions" in said.splitlines()[0] and "\x1b" not in said
    assert run([*arguments, "--json", "--sort", "lag"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert len(found["workers"]) == 3 and found["sessions_open"] == 0
    assert run(["top", "--server", "127.0.0.1:1", "--once"]) == 1
    assert "127.0.0.1:1 cannot be reached" in capsys.readouterr().err


class Terminal:
    """A command in a pseudo-terminal of 100 x 30."""

    def __init__(self, *arguments: str) -> None:
        self.parent, self._child = pty.openpty()
        termios.tcsetwinsize(self._child, (30, 100))
        self.before = termios.tcgetattr(self._child)
        self.process = subprocess.Popen(
            ["setsid", "--ctty", sys.executable, "-m", "longtake", *arguments],
            env=os.environ | {"PYTHONPATH": str(ROOT), "TERM": "xterm-256color"},
            stdin=self._child, stdout=self._child, stderr=self._child,
        )  # fmt: skip
        self.said = ""

    def until(self, text: str) -> None:
        """Read until it has drawn `text` once more."""
        start, end_s = len(self.said), time.monotonic() + 30
        while text not in self.said[start:]:
            assert time.monotonic() < end_s and select.select([self.parent], [], [], 30)[0], self.said
            self.said += os.read(self.parent, 65536).decode(errors="replace")

    def press(self, key: bytes) -> None:
        os.write(self.parent, key)

    def end(self) -> int:
        """Its exit status."""
        while self.process.poll() is None:
            if select.select([self.parent], [], [], 0.05)[0]:
                self.said += os.read(self.parent, 65536).decode(errors="replace")
        while select.select([self.parent], [], [], 0)[0]:
            self.said += os.read(self.parent, 65536).decode(errors="replace")
        return self.process.returncode

    def settings(self) -> list[object]:
        return termios.tcgetattr(self._child)

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        os.close(self.parent)
        os.close(self._child)


@pytest.mark.parametrize("end", ["q", "ctrl-c", "SIGTERM"])
def test_a_terminal_is_drawn_on_and_left_as_it_was(cell: ToyCell, end: str) -> None:
    terminal = Terminal("top", "--server", cell.target, "--interval", "100ms")
    try:
        terminal.until("blocks/s")
        assert terminal.settings() != terminal.before, "keys are read one by one"
        terminal.until("v0")
        if end == "SIGTERM":
            terminal.process.send_signal(signal.SIGTERM)
        else:
            terminal.press(b"q" if end == "q" else b"\x03")
        assert terminal.end() == {"q": 0, "ctrl-c": 130, "SIGTERM": 143}[end]
        assert terminal.settings() == terminal.before
        begin, leave = "\x1b[?1049h", "\x1b[?1049l"
        assert terminal.said.count(begin) == terminal.said.count(leave) == 1
        assert terminal.said.count("\x1b[?25h") >= 1, "the cursor is shown again"
    finally:
        terminal.close()


def test_the_key_s_sorts_by_the_next_column(cell: ToyCell) -> None:
    async def with_a_stream() -> None:
        async with Client(cell.target) as client, client.stream("a red ball", StreamOptions(window=1)):
            terminal = Terminal("top", "--server", cell.target, "--interval", "100ms")
            try:
                for sort in (*SORTS, next(iter(SORTS))):
                    await asyncio.to_thread(terminal.until, f"{sort}*")
                    terminal.press(b"s")
                terminal.press(b"q")
                assert await asyncio.to_thread(terminal.end) == 0
            finally:
                terminal.close()

    asyncio.run(with_a_stream())


def test_drain_waits_for_the_end_of_the_server_and_tells_how_it_goes(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "longtake", "drain", "--grace", "1h", "--wait", "--server"]
    with toy_cell_in_thread(delay_s=0.002) as cell:

        async def stream() -> str:
            async with Client(cell.target) as client, client.stream("a red ball", StreamOptions(window=1)) as mine:
                draining = subprocess.Popen([*command, cell.target], stdout=subprocess.PIPE, text=True, cwd=ROOT)
                assert draining.stdout is not None
                lines = [await asyncio.to_thread(draining.stdout.readline)]
                assert not cell.engine.is_drained
                await mine.close()
                async for _ in mine:
                    pass
                lines.append(await asyncio.to_thread(draining.stdout.readline))
                running.append(draining)
                return "".join(lines)

        running: list[subprocess.Popen[str]] = []
        said = asyncio.run(stream())
        assert said.startswith("draining: 1 session open; they go on for 1:00:00\n0 sessions open, ")
        assert cell.engine.is_drained and running[0].poll() is None
    out, _ = running[0].communicate(timeout=30)
    assert (out, running[0].returncode) == ("the server has ended\n", 0)


def test_drain_without_waiting_comes_back_at_once(cell: ToyCell, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["drain", "--server", cell.target, "--grace", "25h"]) == 2
    assert "grace" in capsys.readouterr().err and not cell.engine.is_draining
    assert run(["drain", "--server", cell.target, "--grace", "ten"]) == 2
    assert "a time such as" in capsys.readouterr().err
    assert run(["drain", "--server", cell.target]) == 0
    assert capsys.readouterr().out == "draining: 0 sessions open\n"
    assert cell.engine.is_draining
