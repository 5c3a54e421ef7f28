"""Workers as child processes that dial the engine; one that ends is started again.

A worker that computes has a process of its own; simulated workers, which only sleep, share one.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import sys
from collections.abc import Callable
from dataclasses import replace

from cluster.cell.chains import Chains
from cluster.launch.gpus import gpus_for, visible_gpus
from cluster.launch.link_server import LinkServer
from cluster.launch.plan import LaunchPlan
from longtake.core.errors import Unavailable
from longtake.core.work import WorkerId
from workers.link_trust import write_secret
from workers.messages import Shutdown
from workers.peers import MeetingPoint
from workers.simulated.device import is_simulated
from workers.start.child import environment
from workers.start.spec import WorkerSpec, to_line

Group = tuple[WorkerSpec, ...]
"""Workers that share a process."""

LOOPBACK = "127.0.0.1"
STOP_S = 10.0
_LINE_BYTES = 4096
RESTART_S = 0.5
"""Pause before a worker is started again."""

_log = logging.getLogger("longtake.launch")


class SubprocessLauncher:
    """One child process for each worker that computes, one for all simulated ones."""

    def __init__(self, plan: LaunchPlan, engine: Chains, listen: Callable[[str], LinkServer]) -> None:
        self._meeting_point = MeetingPoint(LOOPBACK)
        specs = [replace(spec, meeting_point=self._meeting_point.address) for spec in plan.workers]
        simulated = tuple(spec for spec in specs if is_simulated(spec.compute.device))
        alone = tuple((spec,) for spec in specs if not is_simulated(spec.compute.device))
        self._groups: tuple[Group, ...] = (*alone, simulated) if simulated else alone
        self._engine = engine
        self._server = listen(LOOPBACK)
        self._token = plan.token
        self._counts = plan.counts
        self._gpus = gpus_for(specs, plan.cluster.gpus, visible_gpus)
        self._start_within_s = plan.cluster.start_within_s
        self._processes: dict[Group, asyncio.subprocess.Process] = {}
        self._last_words: dict[Group, asyncio.Task[str]] = {}
        """The last line of each process's standard output, known when it has ended: why it did."""
        self._keepers: list[asyncio.Task[None]] = []

    @property
    def pids(self) -> dict[WorkerId, int]:
        """Process ids of the workers that run."""
        return {
            spec.worker: process.pid
            for group, process in self._processes.items()
            if process.returncode is None
            for spec in group
        }

    async def start(self) -> None:
        """See cluster.launch.launchers.Launcher. Unavailable if a worker ends before it attached, or takes too long."""
        await self._server.start()
        _log.info("starting %s: each loads its weights, then measures what its device can do", self._counts)
        for group in self._groups:
            self._processes[group] = await self._spawn(group)
        replicas = frozenset(spec.replica for group in self._groups for spec in group)
        attached = asyncio.create_task(self._engine.attached(replicas, timeout_s=self._start_within_s))
        exits = [asyncio.create_task(process.wait()) for process in self._processes.values()]
        try:
            await asyncio.wait((attached, *exits), return_when=asyncio.FIRST_COMPLETED)
            if not attached.done():
                raise Unavailable(await self._why())
            attached.result()
        except (Unavailable, asyncio.CancelledError):
            await self.stop()
            raise
        finally:
            for task in (attached, *exits):
                task.cancel()
        self._keepers = [asyncio.create_task(self._keep(group)) for group in self._groups]
        self._keepers.append(asyncio.create_task(self._server.absences.watch(self._end_absent)))

    async def unable(self) -> str:
        """See cluster.launch.launchers.Launcher."""
        never: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        return await never

    async def _why(self) -> str:
        """Which workers have ended, and why, as far as they said."""
        reasons = []
        for group, process in self._processes.items():
            if process.returncode is not None:
                names, words = ", ".join(spec.worker for spec in group), self._last_words[group]
                await asyncio.wait((words,), timeout=STOP_S)
                why = words.result() if words.done() else ""
                reasons.append(f"{names} ended while starting: {why or 'its log says why'}")
        return "; ".join(reasons)

    async def stop(self) -> None:
        """See cluster.launch.launchers.Launcher."""
        for keeper in self._keepers:
            keeper.cancel()
        await asyncio.gather(*self._keepers, return_exceptions=True)
        self._engine.part()
        self._engine.broadcast(Shutdown())
        for group, process in self._processes.items():
            if process.returncode is None and not all(self._engine.is_attached(spec.worker) for spec in group):
                process.terminate()  # it is still loading its weights, or dialling
        await asyncio.gather(*(self._end(process) for process in self._processes.values()))
        await self._server.stop()

    async def _spawn(self, group: Group) -> asyncio.subprocess.Process:
        module = "workers.link.shared" if is_simulated(group[0].compute.device) else "workers.link"
        # The process does not start in this one's folder, which may hold anything by the names of our packages.
        command = [sys.executable, "-P", "-m", module, f"--engine={self._server.address}"]
        own = environment(self._gpus.get(group[0].worker))
        pipe = asyncio.subprocess.PIPE
        process = await asyncio.create_subprocess_exec(*command, env=own, stdin=pipe, stdout=pipe)
        assert process.stdin is not None and process.stdout is not None
        self._last_words[group] = asyncio.create_task(_last_line(process.stdout))
        process.stdin.write(write_secret(self._token) + "".join(map(to_line, group)).encode())
        process.stdin.close()
        return process

    async def _keep(self, group: Group) -> None:
        """Start workers again whenever their process ends."""
        while True:
            status = await self._processes[group].wait()
            names = ", ".join(spec.worker for spec in group)
            _log.warning("%s ended with status %d, started again", names, status)
            await asyncio.sleep(RESTART_S)
            for spec in group:
                self._server.absences.starts(spec.worker)
            self._processes[group] = await self._spawn(group)

    async def _end_absent(self, worker: WorkerId) -> None:
        """End the process of a worker, whatever it does; its keeper starts it anew."""
        for group, process in self._processes.items():
            if any(spec.worker == worker for spec in group) and process.returncode is None:
                process.kill()

    @staticmethod
    async def _end(process: asyncio.subprocess.Process) -> None:
        try:
            async with asyncio.timeout(STOP_S):
                await process.wait()
        except TimeoutError:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.wait()


async def _last_line(output: asyncio.StreamReader) -> str:
    """The last line of what a process says, when it has ended; the rest is read so that it never waits."""
    end = b""
    while more := await output.read(_LINE_BYTES):
        end = (end + more)[-_LINE_BYTES:]
    return (end.decode(errors="replace").splitlines() or [""])[-1]
