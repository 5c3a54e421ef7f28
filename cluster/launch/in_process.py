"""Workers as threads of the engine's own process: the same workers, the same messages, no gRPC between."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from dataclasses import replace

from cluster.cell.chains import Chains
from cluster.cell.engine import Engine
from longtake.core.work import WorkerId
from workers.link.dial import HEARTBEAT_S, Weights
from workers.messages import Down, Introduction, Shutdown, StartOver, Up
from workers.peers import MeetingPoint
from workers.runner import Runner
from workers.start.loading import load_worker
from workers.start.spec import WorkerSpec
from workers.vitals import vitals

STOP_S = 30.0
"""How long a running op may take when the process ends."""


_log = logging.getLogger("longtake.launch")


class ThreadPort:
    """A runner's thread as the engine sees it."""

    def __init__(self, loaded: Weights, desk: Engine | Chains) -> None:
        self._loop = asyncio.get_running_loop()
        self._desk = desk
        self.introduction: Introduction = loaded.introduction
        self.runner = Runner(loaded.fresh(), report=self._report, ended=self._ended, meeting_point=loaded.meeting_point)

    @property
    def worker(self) -> WorkerId:
        return self.introduction.worker

    def start(self) -> None:
        """Begin, and join the engine."""
        self.runner.start()
        self._desk = self._desk.join(self.introduction, self)

    def beat(self) -> None:
        """Say that it lives."""
        self._desk.hear(self.worker, self, vitals(self.runner.images, workers=0))

    def leave(self, reason: str) -> None:
        """Part from the engine."""
        self._desk.leave(self.worker, self, reason)

    def send(self, message: Down) -> None:
        """See cluster.cell.attached.Port."""
        self.runner.put(message)

    def end(self, reason: str) -> None:
        """See cluster.cell.attached.Port."""
        self.runner.put(Shutdown())

    def _report(self, message: Up) -> None:
        self._soon(lambda: self._desk.hear(self.worker, self, message))

    def _ended(self, reason: str | StartOver) -> None:
        self._soon(lambda: self.leave(str(reason) or "it was shut down"))

    def _soon(self, call: Callable[[], None]) -> None:
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(call)


class InProcessLauncher:
    """The launcher for tests and `longtake render`. A worker that breaks is lost for good."""

    def __init__(self, workers: Sequence[WorkerSpec], engine: Engine) -> None:
        self._specs = tuple(workers)
        self._chains = Chains(engine)
        self._ports: list[ThreadPort] = []
        self._meeting_point: MeetingPoint | None = None
        self._beating: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """See cluster.launch.launchers.Launcher."""
        _log.info("starting %d workers in this process: each loads its weights", len(self._specs))
        self._meeting_point = MeetingPoint()
        for spec in self._specs:
            here = replace(spec, meeting_point=self._meeting_point.address)
            port = ThreadPort(await asyncio.to_thread(load_worker, here), self._chains)
            self._ports.append(port)
            port.start()
        self._beating = asyncio.create_task(self._beat())

    async def unable(self) -> str:
        """See cluster.launch.launchers.Launcher. A thread that breaks is lost; the others serve on."""
        never: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        return await never

    async def stop(self) -> None:
        """See cluster.launch.launchers.Launcher."""
        if self._beating is not None:
            self._beating.cancel()
        self._chains.part()
        for port in self._ports:
            port.leave("the engine stops")
            port.send(Shutdown())
        for port in self._ports:
            await asyncio.to_thread(port.runner.join, STOP_S)
        self._ports.clear()
        self._meeting_point = None

    async def _beat(self) -> None:
        while True:
            for port in self._ports:
                port.beat()
            await asyncio.sleep(HEARTBEAT_S)
