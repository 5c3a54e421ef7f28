"""A server under chaos: what it has started, found below it in /proc, and what is left when it is gone.

Only processes are signalled that were seen below the server, by id and time of start: an id that was given to somebody
else meanwhile is nobody's here.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

from benchmarks.prometheus import free_port
from longtake.core.errors import Unavailable

READY_S = 300.0
STOP_S = 90.0
GONE_S = 120.0
"""How long processes may take to end after a server that was killed."""
_LOOK_S = 0.25
_SHARED = "/dev/shm/"
_HELPERS = {"raylet": "raylet", "gcs_server": "gcs"}
"""Ray's processes, by the names that the system knows them by."""


@dataclass(frozen=True, slots=True)
class Process:
    """A process, whatever else gets its id later."""

    pid: int
    started: int
    """In clock ticks since the machine started."""

    @property
    def is_alive(self) -> bool:
        """Whether it is still there; one that only waits to be reaped is not."""
        return process(self.pid) == self

    def send(self, number: signal.Signals) -> bool:
        """Signal it, if it is there; returns whether it was."""
        if not self.is_alive:
            return False
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, number)
            return True
        return False

    def resident_bytes(self) -> int:
        """Its memory; 0 if it is gone."""
        with contextlib.suppress(OSError):
            return int(Path(f"/proc/{self.pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
        return 0


def process(pid: int) -> Process | None:
    """The process that has this id now; None if there is none, or none that still runs."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return None if fields[0] in "ZX" else Process(pid, int(fields[19]))


def below(*ancestors: int) -> set[Process]:
    """The living processes below some."""
    found: set[int] = set()
    waiting = list(ancestors)
    while waiting:
        with contextlib.suppress(OSError):
            for task in Path(f"/proc/{waiting.pop()}/task").iterdir():
                children = {int(child) for child in (task / "children").read_text().split()} - found
                found |= children
                waiting += children
    return {one for pid in found if (one := process(pid)) is not None}


def names(pid: int) -> set[str]:
    """The names of all threads of a process."""
    found = set()
    with contextlib.suppress(OSError):
        for task in Path(f"/proc/{pid}/task").iterdir():
            found.add((task / "comm").read_text().strip())
    return found


def shared_memory(pid: int) -> set[Path]:
    """What a process has mapped of shared memory that has a name."""
    with contextlib.suppress(OSError):
        lines = Path(f"/proc/{pid}/maps").read_text().splitlines()
        paths = {line.partition(_SHARED)[2] for line in lines if _SHARED in line}
        return {Path(_SHARED + path) for path in paths if not path.endswith(" (deleted)")}
    return set()


@dataclass(frozen=True, slots=True, kw_only=True)
class Setup:
    """What is served, and how."""

    launcher: str = "subprocess"
    model: str = "pocket"
    denoise: int = 2
    decode: int = 2
    sessions: int = 3
    extra: str = ""
    """More lines of the configuration; `{folder}` in it is a folder that lasts as long as the chaos."""

    @property
    def workers(self) -> tuple[str, ...]:
        """The names of all workers."""
        return (*(f"denoise-{n}" for n in range(self.denoise)), *(f"decode-{n}" for n in range(self.decode)))

    def text(self, folder: Path) -> str:
        """The configuration. Any worker alone has room for all sessions, so that one can be missing."""
        return (
            f'[model]\npath = "{self.model}"\n'
            f'[cluster]\nlaunch = "{self.launcher}"\n'
            f"denoise_workers = {self.denoise}\ndecode_workers = {self.decode}\n"
            f"sessions_per_worker = {self.sessions}\n"
        ) + self.extra.replace("{folder}", str(folder))


class ChaosCell:
    """The server, which may be killed and started again at its address, and all that it ever started."""

    def __init__(self, setup: Setup, folder: Path) -> None:
        self.setup = setup
        self.port = free_port()
        self.address = f"127.0.0.1:{self.port}"
        self.log = folder / "server.log"
        self._config = folder / "server.toml"
        self._config.write_text(setup.text(folder))
        self._server: subprocess.Popen[str] | None = None
        self._seen: set[Process] = set()
        self._shared: set[Path] = set()
        """The shared memory that any of them has used."""

    @property
    def server(self) -> Process:
        """The server's process. Unavailable if it has ended."""
        found = process(self._server.pid) if self._server else None
        if found is None:
            raise Unavailable("the server is not there")
        return found

    async def start(self) -> None:
        """Start the server, and wait until it is ready. Unavailable if it is not in time."""
        command = [sys.executable, "-m", "longtake", "serve", str(self._config), "--port", str(self.port)]
        with self.log.open("a") as log:
            # A session of its own: Ctrl-C is for this process, which then ends the server.
            self._server = subprocess.Popen(
                command, stdout=subprocess.PIPE, stderr=log, text=True, start_new_session=True
            )
        try:
            async with asyncio.timeout(READY_S):
                await asyncio.to_thread(self._read_until_ready, self._server)
        except TimeoutError:
            self._server.kill()  # which also ends the thread that reads
            raise Unavailable(f"the server was not ready after {READY_S:g} s") from None

    @staticmethod
    def _read_until_ready(server: subprocess.Popen[str]) -> None:
        for line in server.stdout or ():
            if line.startswith("ready: "):
                return
        raise Unavailable(f"the server ended with status {server.wait()} before it was ready")

    async def watch(self) -> None:
        """Note what the server starts, until cancelled: when it is killed, nobody can tell any more."""
        while True:
            self.look()
            await asyncio.sleep(_LOOK_S)

    def look(self) -> None:
        """Note what the server has started by now."""
        if self._server is not None:
            # Below what it started before, too: it may be gone, and that not.
            self._seen |= below(self._server.pid, *(one.pid for one in self._seen if one.is_alive))

    def find(self) -> dict[str, Process]:
        """The server, its workers and Ray's processes that live now, by name."""
        self.look()
        self._shared.update(path for one in self._seen for path in shared_memory(one.pid))
        wanted = {name: name for name in self.setup.workers} | _HELPERS
        found = {wanted[name]: one for one in self._seen if one.is_alive for name in names(one.pid) & wanted.keys()}
        return found | ({"server": self.server} if self.is_up else {})

    @property
    def is_up(self) -> bool:
        """Whether the server's process is there."""
        return self._server is not None and process(self._server.pid) is not None

    async def ended(self, within_s: float) -> int | None:
        """The status with which the server ends by itself, if it does in time."""
        assert self._server is not None
        with contextlib.suppress(subprocess.TimeoutExpired):
            return await asyncio.to_thread(self._server.wait, within_s)
        return None

    async def kill(self) -> None:
        """End the server without a word."""
        self.find()
        self.server.send(signal.SIGKILL)
        assert self._server is not None
        await asyncio.to_thread(self._server.wait)

    async def stop(self) -> dict[str, object]:
        """End the server as its supervisor would; what it left: its status, processes and shared memory."""
        self.find()
        status: int | str = "it had ended before"
        if self._server is not None and self._server.poll() is None:
            self._server.terminate()
            try:
                status = await asyncio.to_thread(self._server.wait, STOP_S)
            except subprocess.TimeoutExpired:
                status = f"none {STOP_S:g} s after SIGTERM"
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(GONE_S):
                while any(one.is_alive for one in self._seen):
                    await asyncio.sleep(_LOOK_S)
        left = [one.pid for one in self._seen if one.is_alive]
        return {
            "status": status,
            "processes": left,
            "shared_memory": [str(one) for one in self._shared if one.exists()],
        }

    def last_words(self) -> str:
        """The end of the server's log."""
        return self.log.read_text(errors="replace")[-4000:]

    def end(self) -> None:
        """End whatever is left, at once."""
        self.look()
        if self._server is not None:
            for one in (process(self._server.pid) if self._server.poll() is None else None, *self._seen):
                if one is not None:
                    one.send(signal.SIGKILL)
            self._server.wait()


@contextlib.asynccontextmanager
async def chaos_cell(setup: Setup, folder: Path) -> AsyncIterator[ChaosCell]:
    """A server that is ready; on leaving nothing of it is left, however that comes about."""
    cell = ChaosCell(setup, folder)
    watching: asyncio.Task[None] | None = None
    try:
        await cell.start()
        watching = asyncio.create_task(cell.watch())
        yield cell
    finally:
        if watching is not None:
            watching.cancel()
        cell.end()
