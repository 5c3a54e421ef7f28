"""A server under chaos: what it has started, found below it in /proc, and what is left when it is gone.

Only processes are signalled that were seen below the server, or below the Ray nodes that were started for it.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import click

from benchmarks.chaos_nodes import RayNodes
from benchmarks.chaos_processes import Process, below, names, process, program, shared_memory
from benchmarks.prometheus import free_port
from benchmarks.scraped import Scraped
from longtake.core.errors import Unavailable

READY_S = 300.0
STOP_S = 90.0
GONE_S = 120.0
"""How long processes may take to end after a server that was killed."""
_LOOK_S = 0.25
_HELPERS = {"raylet": "raylet", "gcs_server": "gcs"}
"""Ray's processes, by the names that the system knows them by."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Setup:
    """What is served, and how."""

    launcher: str = "subprocess"
    model: str = "pocket"
    recipe: str = ""
    """A recipe that is served beside the model's own, by which the streams are made; empty: the model's own."""
    denoise: int = 2
    decode: int = 2
    sessions: int = 3
    nodes: int = 0
    """Ray nodes that are started for it, beside a head without workers; 0: the server starts a Ray of its own."""
    extra: str = ""
    """More lines of the configuration; `{folder}` in it is a folder that lasts as long as the chaos."""
    packed: bool = False
    """Whether each realtime session is on one denoise worker, not on all."""
    link_port: int = 0
    """At which workers dial in; 0: a free one."""
    most_files: int = 0
    """The most file descriptors that the server may have; 0: as many as this process."""
    environment: Mapping[str, str] = field(default_factory=dict)
    """What the server's environment has more than that of this process."""

    @property
    def workers(self) -> tuple[str, ...]:
        """The names of all workers."""
        return (*(f"denoise-{n}" for n in range(self.denoise)), *(f"decode-{n}" for n in range(self.decode)))

    def text(self, folder: Path, ray_address: str) -> str:
        """The configuration. Any worker alone has room for all sessions, so that one can be missing."""
        return (
            f'[model]\npath = "{self.model}"\n'
            + (f'recipes = ["{self.recipe}"]\n' if self.recipe else "")
            + f'[cluster]\nlaunch = "{self.launcher}"\nray_address = "{ray_address}"\n'
            f"denoise_workers = {self.denoise}\ndecode_workers = {self.decode}\n"
            f"sessions_per_worker = {self.sessions}\n"
            + ('packed = ["realtime"]\n' if self.packed else "")
            + f'[link]\nhost = "127.0.0.1"\nport = {self.link_port}\n'
        ) + self.extra.replace("{folder}", str(folder))


class ChaosCell:
    """The server, which may be killed and started again at its address, and all that it ever started."""

    def __init__(self, setup: Setup, folder: Path, errors: int | None = None) -> None:
        """`errors` is the descriptor that its standard error goes to; None: the file `log`."""
        self.setup = setup
        self._errors = errors
        self.metrics = ""
        """Where Prometheus would ask, as a URL; empty if nowhere."""
        self.port = free_port()
        self.address = f"127.0.0.1:{self.port}"
        self.log = folder / "server.log"
        self._config = folder / "server.toml"
        self.nodes = RayNodes(setup.nodes, folder) if setup.nodes else None
        self._config.write_text(setup.text(folder, self.nodes.address if self.nodes else ""))
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
        """Start the server, and its nodes, and wait until it is ready. Unavailable if it is not in time."""
        if self.nodes is not None:
            await asyncio.to_thread(self.nodes.start)
        command = [sys.executable, "-m", "longtake", "serve", str(self._config), "--port", str(self.port)]
        if self.setup.most_files:
            command = ["sh", "-c", f'ulimit -n {self.setup.most_files} && exec "$0" "$@"', *command]
        environment = self.nodes.environment if self.nodes else os.environ
        with self.log.open("a") as log:
            # A session of its own: Ctrl-C is for this process, which then ends the server.
            self._server = subprocess.Popen(
                command, stdout=subprocess.PIPE, stderr=log if self._errors is None else self._errors, text=True,
                start_new_session=True, env={**environment, **self.setup.environment},
            )  # fmt: skip
        try:
            async with asyncio.timeout(READY_S):
                ready = await asyncio.to_thread(self._read_until_ready, self._server)
                self.metrics = ready.partition(", metrics at ")[2].partition(",")[0].strip()
        except TimeoutError:
            self._server.kill()  # which also ends the thread that reads
            raise Unavailable(f"the server was not ready after {READY_S:g} s") from None

    async def scraped(self) -> Scraped:
        """What the server tells Prometheus now. OSError if it does not answer in time."""
        return await Scraped.at(self.metrics)

    @staticmethod
    def _read_until_ready(server: subprocess.Popen[str]) -> str:
        for line in server.stdout or ():
            if line.startswith("ready: "):
                return line
        raise Unavailable(f"the server ended with status {server.wait()} before it was ready")

    def all(self) -> dict[str, Process]:
        """The server and every process below it that lives now, by name; of the others their program and their id."""
        found = self.find()
        for one in below(self.server.pid) - set(found.values()):
            found[f"{program(one.pid)} {one.pid}"] = one
        return found

    async def watch(self) -> None:
        """Note what the server starts, until cancelled: when it is killed, nobody can tell any more."""
        while True:
            self.look()
            await asyncio.sleep(_LOOK_S)

    def look(self) -> None:
        """Note what the server has started by now."""
        if self._server is not None:
            # Below what it started before, too: it may be gone, and that not.
            roots = self.nodes.pids if self.nodes else ()
            self._seen |= below(self._server.pid, *roots, *(one.pid for one in self._seen if one.is_alive))

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
        if self.nodes is not None:
            await asyncio.to_thread(self.nodes.stop)
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
        if self.nodes is not None:
            self.nodes.stop()
        if self._server is not None:
            for one in (process(self._server.pid) if self._server.poll() is None else None, *self._seen):
                if one is not None:
                    one.send(signal.SIGKILL)
            self._server.wait()


@contextlib.asynccontextmanager
async def chaos_cell(setup: Setup, folder: Path, errors: int | None = None) -> AsyncIterator[ChaosCell]:
    """A server that is ready; on leaving nothing of it is left, however that comes about."""
    cell = ChaosCell(setup, folder, errors)
    watching: asyncio.Task[None] | None = None
    try:
        try:
            await cell.start()
        except Unavailable:
            click.echo(cell.last_words(), err=True)
            raise
        watching = asyncio.create_task(cell.watch())
        yield cell
    finally:
        if watching is not None:
            watching.cancel()
        cell.end()
