"""Outputs that take nothing, beside live streams: a log that nobody reads, and a full disk under the audit log.

python -m benchmarks.outputs --json
python -m benchmarks.outputs --output log --seconds 10 --json

Each has a real server of its own with the pocket model and four live streams whose players have a buffer of 1.5 s.
Others pause and play all the while, which makes a line of each log every time. `log` is standard error, a pipe that
nobody reads; `audit` is a file that is moved away for /dev/full, which refuses every byte as a full disk does;
`audit_required` is the same where nothing may happen that is not written. Then the output takes lines again, and must
tell how many are missing. Each row says what is wrong in it, and so does the exit status.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import json
import os
import re
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path

import click
import grpc

from benchmarks.chaos_cell import ChaosCell, Setup, chaos_cell
from benchmarks.chaos_report import Row, Say, run, say_json, say_text
from benchmarks.live_streams import BUFFER_S, Audience, LiveRow
from longtake.client import Client, StreamOptions
from longtake.client.errors import ClientError
from longtake.core.errors import Unavailable
from monitoring import declarations as metrics

OUTPUTS = ("log", "audit", "audit_required")
PIPE_BYTES = 4096
TALKERS = 4
LINES_PER_S = 200.0
"""So many lines all talkers together cause: more waits within some ten seconds than may wait."""
ASK_S = 1.0
"""How often somebody asks for a stream."""
BEGIN_S = 60.0
CURE_S = 60.0
"""By then all has been told that is missing."""
LOG_LINES_A_MINUTE = 2
"""Of a disk that is full the log says so once a minute, and once when it begins."""
_MISSING = re.compile(rb"(\d+) lines are missing here")
_TROUBLE = "cannot be written"
_LOOK_S = 0.1


@dataclass(slots=True)
class Opens:
    """What became of the streams that were asked for."""

    granted: int = 0
    refused: dict[str, int] = field(default_factory=dict)
    """By why."""

    async def ask(self, address: str) -> None:
        """Ask for one stream after another, each of a block, until cancelled."""
        async with Client(address) as client:
            while True:
                try:
                    async with client.stream("a red ball", StreamOptions(pictures=1)) as stream:
                        async for _ in stream:
                            pass
                    self.granted += 1
                except ClientError as error:
                    why = f"{error.code.name}: {error.message}"
                    self.refused[why] = self.refused.get(why, 0) + 1
                await asyncio.sleep(ASK_S)

    def take(self) -> Opens:
        """What became of them so far; from now on anew."""
        taken = Opens(self.granted, self.refused)
        self.granted, self.refused = 0, {}
        return taken

    @property
    def are_refused_for_the_log(self) -> bool:
        """Whether at least one was refused, and all that were for what the audit log is missing."""
        wanted = f"{grpc.StatusCode.UNAVAILABLE.name}: the audit log cannot be written"
        return bool(self.refused) and all(why.startswith(wanted) for why in self.refused)


@dataclass(frozen=True, slots=True, kw_only=True)
class OutputRow(LiveRow):
    """What came of one output."""

    output: str
    dropped: float
    """Lines that the server counts as dropped."""
    told: int
    """The same, as the output tells it when it takes lines again."""
    in_trouble: bool
    """Whether the server's metrics told of the disk."""
    is_cured: bool
    log_lines: int
    """Lines of the log about the disk."""
    during: Opens
    after: Opens

    def wrong(self) -> list[str]:
        """What should not be."""
        found = self.wrong_live()
        if self.told != self.dropped:
            found.append(f"{self.told} lines are said to be missing, {self.dropped:g} are counted")
        if self.output != "log":
            found += ["the metrics tell of no trouble"] if not self.in_trouble else []
            most = LOG_LINES_A_MINUTE + int(self.seconds / 60) * LOG_LINES_A_MINUTE
            found += [f"{self.log_lines} lines of the log about it"] if not 0 < self.log_lines <= most else []
        if self.output == "audit_required":
            found += [] if self.during.are_refused_for_the_log else [f"refused meanwhile: {self.during.refused}"]
            # The one that finds out that the disk is full has begun, and one may have had its answer then.
            found += [f"{self.during.granted} were let in meanwhile"] if self.during.granted > 2 else []
        else:
            found += ["nothing was dropped: ask for longer"] if not self.dropped else []
            found += [f"refused meanwhile: {self.during.refused}"] if self.during.refused else []
        found += [] if self.is_cured else ["it did not recover"]
        found += [] if self.after.granted and not self.after.refused else ["streams are not let in again"]
        return found

    def as_dict(self) -> Row:
        """As it is printed."""
        return asdict(self) | {"worst_late_s": round(self.worst_late_s, 3), "wrong": self.wrong()}


@dataclass(slots=True)
class Pipe:
    """The log: a pipe that is full soon."""

    reading: int
    writing: int
    found: bytearray = field(default_factory=bytearray)

    def told(self) -> int:
        """How many lines are missing, as far as the pipe has told by now: it is read for that."""
        with contextlib.suppress(BlockingIOError):
            while some := os.read(self.reading, 1 << 16):
                self.found += some
        return sum(int(count) for count in _MISSING.findall(bytes(self.found)))


@contextlib.contextmanager
def pipe() -> Iterator[Pipe]:
    """A small one."""
    reading, writing = os.pipe()
    fcntl.fcntl(writing, fcntl.F_SETPIPE_SZ, PIPE_BYTES)
    os.set_blocking(reading, False)
    try:
        yield Pipe(reading, writing)
    finally:
        os.close(reading)
        os.close(writing)


@dataclass(frozen=True, slots=True)
class AuditFile:
    """A file whose disk can be full: while it is, its name leads to /dev/full."""

    path: Path

    def fill(self) -> None:
        """Be full."""
        self.path.rename(self.path.with_suffix(".before"))
        self.path.symlink_to("/dev/full")

    def free(self) -> None:
        """Have room."""
        self.path.unlink()

    def told(self) -> int:
        """How many lines are missing, as the file says."""
        lines = self.path.read_text().splitlines() if self.path.is_file() else []
        return told_by_audit(lines)


def told_by_audit(lines: list[str]) -> int:
    """How many lines are missing, as those tell that are there; the last one may still be written."""
    told = 0
    for line in lines:
        with contextlib.suppress(json.JSONDecodeError):
            entry = json.loads(line)
            told += entry["lines"] if entry["action"] == "left_out" else 0
    return told


async def talk(address: str, began: asyncio.Semaphore) -> None:
    """Pause a stream and let it play, again and again; it has no credit and computes little."""
    async with Client(address) as client, client.stream("a red ball", StreamOptions(auto_ack=False)) as stream:
        began.release()
        while True:
            await stream.pause()
            await asyncio.sleep(TALKERS / LINES_PER_S)
            await stream.play()
            await asyncio.sleep(TALKERS / LINES_PER_S)


@dataclass(slots=True)
class Trial:
    """One output of one server."""

    output: str
    cell: ChaosCell
    audience: Audience
    ill: Pipe | AuditFile

    async def run(self, seconds: float) -> OutputRow:
        """Let it take nothing for so long, then let it take lines again."""
        label, opens = self.output.partition("_")[0], Opens()
        began = asyncio.Semaphore(0)
        asking = [asyncio.create_task(talk(self.cell.address, began)) for _ in range(TALKERS)]
        try:
            async with asyncio.timeout(BEGIN_S):
                for _ in asking:
                    await began.acquire()
        except TimeoutError:
            raise Unavailable(f"no more streams begin within {BEGIN_S:g} s: the server stands still") from None
        late = (await self.cell.scraped()).sum(metrics.LATE_BLOCKS, pace="realtime")
        self.audience.take()
        if isinstance(self.ill, AuditFile):
            self.ill.fill()
        asking.append(asyncio.create_task(opens.ask(self.cell.address)))
        in_trouble = False
        until_s = time.monotonic() + seconds
        while time.monotonic() < until_s:
            in_trouble = in_trouble or (await self.cell.scraped()).sum(metrics.AUDIT_TROUBLE) > 0
            await asyncio.sleep(1.0)
        during = opens.take()
        for task in asking[:TALKERS]:
            task.cancel()
        failed = [error for error in await asyncio.gather(*asking[:TALKERS], return_exceptions=True)
                  if isinstance(error, Exception)]  # fmt: skip
        if isinstance(self.ill, AuditFile):
            self.ill.free()
        is_cured = await self._cured(label)
        opens.take()  # what was asked for before it was cured
        await asyncio.sleep(3 * ASK_S)
        after, told = opens.take(), self.ill.told()
        asking[-1].cancel()
        seen, scraped = self.audience.take(), await self.cell.scraped()
        return OutputRow(
            output=self.output, seconds=seconds, live_streams=len(self.audience.streams), blocks=seen.blocks,
            late_blocks=seen.late_blocks, worst_late_s=seen.worst_late_s,
            server_late_blocks=scraped.sum(metrics.LATE_BLOCKS, pace="realtime") - late,
            lost=seen.lost + [f"one that pauses and plays: {error}" for error in failed],
            dropped=scraped.sum(metrics.LINES_DROPPED, log=label), told=told, in_trouble=in_trouble, is_cured=is_cured,
            log_lines=self.cell.log.read_text().count(_TROUBLE), during=during, after=after,
        )  # fmt: skip

    async def _cured(self, label: str) -> bool:
        """Wait until the output has told of all that is missing, and is in no trouble; returns whether it is."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(CURE_S):
                while True:
                    told, scraped = self.ill.told(), await self.cell.scraped()
                    if told == scraped.sum(metrics.LINES_DROPPED, log=label) and not scraped.sum(metrics.AUDIT_TROUBLE):
                        return True
                    await asyncio.sleep(_LOOK_S)
        return False


async def measure(outputs: list[str], seconds: float, streams: int, buffer_s: float, model: str, say: Say) -> bool:
    """Say a row of each output, each with a server of its own; returns whether nothing is wrong in any."""
    wrong = []
    for output in outputs:
        with tempfile.TemporaryDirectory() as name, pipe() as log:
            audit = AuditFile(Path(name) / "audit.jsonl")
            extra = '[metrics]\naddress = "127.0.0.1:0"\n'
            if output != "log":
                extra += f'[auth]\naudit = "{audit.path}"\naudit_required = {str(output == "audit_required").lower()}\n'
            setup = Setup(model=model, decode=1, sessions=streams + TALKERS + 2, extra=extra)
            async with (
                chaos_cell(setup, Path(name), log.writing if output == "log" else None) as cell,
                Audience(cell.address, streams, buffer_s=buffer_s) as audience,
            ):
                row = await Trial(output, cell, audience, log if output == "log" else audit).run(seconds)
            say(row.as_dict())
            wrong += row.wrong()
    return not wrong


@click.command()
@click.option("--output", "outputs", multiple=True, type=click.Choice(OUTPUTS), help="Default: all.")
@click.option("--seconds", default=60.0, show_default=True, help="How long each takes nothing; 20 or more.")
@click.option("--streams", default=4, show_default=True, type=click.IntRange(1), help="Live streams meanwhile.")
@click.option("--buffer", "buffer_s", default=BUFFER_S, show_default=True, help="Seconds that players wait at first.")
@click.option("--model", default="pocket", show_default=True, help="A model, as in a configuration.")
@click.option("--json", "as_json", is_flag=True, help="One object a line.")
def main(outputs: tuple[str, ...], seconds: float, streams: int, buffer_s: float, model: str, as_json: bool) -> None:
    """Let outputs of a server take nothing, and measure what others see of it."""
    say = say_json if as_json else say_text
    sys.exit(0 if run(measure(list(outputs or OUTPUTS), seconds, streams, buffer_s, model, say)) else 1)


if __name__ == "__main__":
    main()
