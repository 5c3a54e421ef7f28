"""Workers as child processes that dial the engine; one that ends is started again."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import sys
from collections.abc import Callable, Sequence

from cluster.engine import Engine
from cluster.link_server import LinkServer
from longtake.core.errors import Unavailable
from longtake.core.work import WorkerId
from workers.link import TOKEN_VARIABLE
from workers.messages import Shutdown
from workers.spec import WorkerSpec

LOOPBACK = "127.0.0.1"
START_S = 120.0
"""How long workers may take to load their weights and attach."""
STOP_S = 10.0
RESTART_S = 0.5
"""Pause before a worker is started again."""

_log = logging.getLogger("longtake.launch")


class SubprocessLauncher:
    """One child process for each worker."""

    def __init__(
        self, workers: Sequence[WorkerSpec], engine: Engine, listen: Callable[[str], LinkServer], token: str
    ) -> None:
        self._specs = tuple(workers)
        self._engine = engine
        self._server = listen(LOOPBACK)
        self._token = token
        self._processes: dict[WorkerId, asyncio.subprocess.Process] = {}
        self._keepers: list[asyncio.Task[None]] = []

    @property
    def pids(self) -> dict[WorkerId, int]:
        """Process ids of the workers that run."""
        return {worker: process.pid for worker, process in self._processes.items() if process.returncode is None}

    async def start(self) -> None:
        """See cluster.launch.Launcher. Unavailable if a worker ends before it attached, or takes too long."""
        await self._server.start()
        for spec in self._specs:
            self._processes[spec.worker] = await self._spawn(spec)
        attached = asyncio.create_task(
            self._engine.attached(frozenset(spec.worker for spec in self._specs), timeout_s=START_S)
        )
        exits = [asyncio.create_task(process.wait()) for process in self._processes.values()]
        try:
            await asyncio.wait((attached, *exits), return_when=asyncio.FIRST_COMPLETED)
            if not attached.done():
                ended = [worker for worker in self._processes if worker not in self.pids]
                raise Unavailable(f"{', '.join(ended)} ended while starting; its log says why")
            attached.result()
        except (Unavailable, asyncio.CancelledError):
            await self.stop()
            raise
        finally:
            for task in (attached, *exits):
                task.cancel()
        self._keepers = [asyncio.create_task(self._keep(spec)) for spec in self._specs]

    async def stop(self) -> None:
        """See cluster.launch.Launcher."""
        for keeper in self._keepers:
            keeper.cancel()
        await asyncio.gather(*self._keepers, return_exceptions=True)
        self._engine.broadcast(Shutdown())
        for worker, process in self._processes.items():
            if process.returncode is None and not self._engine.is_attached(worker):
                process.terminate()  # it is still loading its weights, or dialling
        await asyncio.gather(*(self._end(process) for process in self._processes.values()))
        await self._server.stop()

    async def _spawn(self, spec: WorkerSpec) -> asyncio.subprocess.Process:
        environment = os.environ | {TOKEN_VARIABLE: self._token, "OMP_NUM_THREADS": "1"}
        command = [sys.executable, "-m", "workers.link", f"--engine={self._server.address}", *spec.arguments()]
        return await asyncio.create_subprocess_exec(*command, env=environment, stdin=asyncio.subprocess.DEVNULL)

    async def _keep(self, spec: WorkerSpec) -> None:
        """Start a worker again whenever its process ends."""
        while True:
            status = await self._processes[spec.worker].wait()
            _log.warning("worker %s ended with status %d, starting it again", spec.worker, status)
            await asyncio.sleep(RESTART_S)
            self._processes[spec.worker] = await self._spawn(spec)

    @staticmethod
    async def _end(process: asyncio.subprocess.Process) -> None:
        try:
            async with asyncio.timeout(STOP_S):
                await process.wait()
        except TimeoutError:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.wait()
