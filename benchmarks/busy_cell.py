"""A cell in which everything happens that metrics tell of: a server of its own, and clients of many kinds.

Simulated devices, real processes, the real link and gRPC. What happens: live and bulk streams with cues, good and bad
ones; a session that is paused until it is parked, and goes on; streams that queue, streams that are refused, one whose
client is slow, an observer; lanes that move when streams end; and, if asked, all workers killed at once.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from benchmarks.prometheus import free_port
from longtake.cli.local_server import local_server
from longtake.client import Client, CueAt, StreamOptions
from longtake.client.errors import ClientError
from longtake.client.events import SegmentEvent

PROMPTS = ("a red ball circling in the fog", "a blue box swaying at night", "a green ring bobbing at dusk")
LIVE = StreamOptions(pace="realtime", window=2, codec="mjpeg")
OPEN_S = 60.0
PAUSE_S = 0.5
"""Before a client that was refused, or whose stream has ended, asks again."""
_WORKERS, _SERVER = b"workers.link.shared", b"longtake\0serve"
_HANGING = Path(__file__).parent / "hanging"


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """What is served."""

    device: str = "simulated:25ms,decode=5ms"
    denoise_workers: int = 3
    """Not a divisor of the lanes of a stream, so that some worker has more than others and lanes move."""
    sessions_per_worker: int = 10
    max_sessions: int = 24
    park_after_s: float = 1.0
    name: str = "busy"
    tenants: str = ""
    """Text of a tenants file; empty: nobody is asked who he is."""
    audit: str = ""
    """The file of the audit log; empty: the log, if there are tenants."""
    hangs: bool = False
    """Whether its workers can be made to hang."""


@dataclass(frozen=True, slots=True)
class Running:
    """A cell that runs."""

    address: str
    """HOST:PORT for clients."""
    metrics: str
    """HOST:PORT for Prometheus."""
    log: Path
    config: Path
    trouble: Path
    """The folder where benchmarks/hanging looks."""

    def kill_workers(self) -> int:
        """End every worker process without a word; how many."""
        return _signal(_WORKERS, signal.SIGKILL)

    def freeze_workers(self) -> int:
        """Stop every worker process where it is; how many."""
        return _signal(_WORKERS, signal.SIGSTOP)

    def thaw_workers(self) -> int:
        """Let frozen worker processes go on; how many."""
        return _signal(_WORKERS, signal.SIGCONT)

    def hang_workers(self) -> int:
        """Have every worker process that is there never end an op again; how many. New ones work."""
        found = _processes(_WORKERS)
        for pid in found:
            name = Path(f"/proc/{pid}/comm").read_text().strip()
            (self.trouble / name).write_text(f"hang {pid}")
        return len(found)

    def kill_server(self) -> int:
        """End the server without a word; how many processes that were."""
        return _signal(_SERVER, signal.SIGKILL)


@contextlib.contextmanager
def running_cell(folder: Path, cell: Cell) -> Iterator[Running]:
    """A server with metrics, ended on leaving."""
    metrics = f"127.0.0.1:{free_port()}"
    config, tenants = folder / "server.toml", folder / "tenants.toml"
    tenants.write_text(cell.tenants)
    config.write_text(
        f'[model]\ndevice = "{cell.device}"\n'
        f'[cluster]\nlaunch = "subprocess"\ndenoise_workers = {cell.denoise_workers}\n'
        f"sessions_per_worker = {cell.sessions_per_worker}\n"
        f"[limits]\nmax_sessions = {cell.max_sessions}\npark_after_s = {cell.park_after_s}\n"
        f'[metrics]\naddress = "{metrics}"\ncell = "{cell.name}"\n'
        + f'[auth]\naudit = "{cell.audit}"\ntenants = "{tenants if cell.tenants else ""}"\n'
    )
    log = folder / "server.log"
    trouble = folder / "trouble"
    trouble.mkdir()
    can_hang = _can_hang(trouble) if cell.hangs else contextlib.nullcontext()
    with log.open("w") as lines, can_hang, local_server(lambda line: None, config, lines) as address:
        yield Running(address, metrics, log, config, trouble)


@contextlib.contextmanager
def _can_hang(trouble: Path) -> Iterator[None]:
    """Processes that are started meanwhile hang when they are told to in this folder."""
    before = dict(os.environ)
    paths = filter(None, (before.get("PYTHONPATH", ""), str(_HANGING)))
    os.environ |= {"PYTHONPATH": os.pathsep.join(paths), "HANG_FOLDER": str(trouble)}
    try:
        yield
    finally:
        os.environ.clear()
        os.environ |= before


class Clients:
    """Many clients of one server on one connection, until `stop`; those whose stream ends begin another."""

    def __init__(self, address: str) -> None:
        self._client = Client(address)
        self._tasks: list[asyncio.Task[None]] = []
        self._opened = 0
        self.segments = 0
        self.ended: list[str] = []
        """Why streams were refused, or ended otherwise than asked for."""

    def live(self, count: int) -> None:
        """Streams in real time, of which every other gets cues: one that it can take, one for a block long past."""
        for number in range(count):
            self._begin(partial(self._watch_and_steer, steers=number % 2 == 0))

    def bulk(self, count: int, pictures: int) -> None:
        """Streams of a length, as fast as may be."""
        options = StreamOptions(pace="fast", window=3, codec="mjpeg", pictures=pictures)
        for _ in range(count):
            self._begin(partial(self._consume, options))

    def sleepers(self, count: int, asleep_s: float) -> None:
        """Live streams that are paused after two segments, for so long, and go on."""
        for _ in range(count):
            self._begin(partial(self._pause_and_play, asleep_s))

    def slow(self, count: int, silent_s: float) -> None:
        """Live streams whose client acknowledges all it has got only every so often."""
        for _ in range(count):
            self._begin(partial(self._lag, silent_s))

    def observers(self, count: int) -> None:
        """Who look at whatever session there is."""
        for _ in range(count):
            self._begin(self._observe)

    async def until_opened(self, count: int) -> None:
        """Wait until so many streams have begun; TimeoutError if that takes long."""
        async with asyncio.timeout(OPEN_S):
            while self._opened < count:
                await asyncio.sleep(0.05)

    async def until_joined(self, workers: int) -> None:
        """Wait until so many workers are there; TimeoutError if that takes long."""
        async with asyncio.timeout(OPEN_S):
            while len((await self._client.get_status()).workers) < workers:
                await asyncio.sleep(0.2)

    async def stop(self) -> None:
        """End all."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._client.__aexit__(None, None, None)

    def _begin(self, once: Callable[[], Awaitable[None]]) -> None:
        async def again_and_again() -> None:
            while True:
                try:
                    await once()
                except ClientError as error:
                    self.ended.append(str(error))
                await asyncio.sleep(PAUSE_S)

        self._tasks.append(asyncio.create_task(again_and_again()))

    async def _consume(self, options: StreamOptions) -> None:
        async with self._client.stream(PROMPTS[0], options) as stream:
            self._opened += 1
            async for event in stream:
                self.segments += isinstance(event, SegmentEvent)

    async def _watch_and_steer(self, *, steers: bool) -> None:
        async with self._client.stream(PROMPTS[1], LIVE) as stream:
            self._opened += 1
            async for event in stream:
                if isinstance(event, SegmentEvent):
                    self.segments += 1
                    if steers and event.index % 3 == 1:
                        await stream.cue(PROMPTS[event.index % 2])
                        await stream.cue(CueAt(prompt=PROMPTS[2], block=0))

    async def _pause_and_play(self, asleep_s: float) -> None:
        async with self._client.stream(PROMPTS[2], LIVE) as stream:
            self._opened += 1
            async for event in stream:
                if isinstance(event, SegmentEvent):
                    self.segments += 1
                    if event.index % 4 == 1:
                        await stream.pause()
                        await asyncio.sleep(asleep_s)
                        await stream.play()

    async def _lag(self, silent_s: float) -> None:
        async with self._client.stream(PROMPTS[0], replace(LIVE, auto_ack=False)) as stream:
            self._opened += 1
            async for event in stream:
                if isinstance(event, SegmentEvent):
                    self.segments += 1
                    if event.index % 2:
                        await asyncio.sleep(silent_s)
                        await stream.ack(event.index)

    async def _observe(self) -> None:
        for session in await self._client.list_sessions():
            async for event in self._client.watch(session.session_id):
                self.segments += isinstance(event, SegmentEvent)


def _signal(command: bytes, number: signal.Signals) -> int:
    """Send a signal to those processes below this one that were started with this in their command; how many."""
    found = _processes(command)
    for pid in found:
        os.kill(pid, number)
    return len(found)


def _processes(command: bytes) -> list[int]:
    """Those below this one that were started with this in their command."""
    return [pid for pid in _descendants(os.getpid()) if command in _command(pid)]


def _descendants(ancestor: int) -> list[int]:
    """Ids of all processes below one, its children first."""
    found = [ancestor]
    for pid in found:
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            for task in Path(f"/proc/{pid}/task").iterdir():
                found += [int(child) for child in (task / "children").read_text().split()]
    return found[1:]


def _command(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except (FileNotFoundError, ProcessLookupError):
        return b""
