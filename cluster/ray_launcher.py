"""Workers as Ray actors that dial the engine. Ray places, starts and restarts them; no op ever passes through it."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Sequence
from typing import Any

from cluster.engine import Engine
from cluster.link_server import LinkServer
from longtake.core.errors import LongtakeError, Unavailable
from longtake.core.events import WorkerId
from workers.link import run_worker
from workers.messages import Shutdown
from workers.spec import WorkerSpec

START_S = 180.0
"""How long Ray, and workers loading their weights, may take."""
_CPU_SHARE = 0.1
"""Logical CPUs of a worker: enough to be counted, little enough for several to share a small machine."""


class WorkerActor:
    """A process for one worker; the worker itself knows nothing of Ray.

    When the worker ends, for whatever reason, the process does, and Ray starts it again; when Shutdown was sent first,
    the launcher has already taken the actor away.
    """

    def __init__(self, spec: WorkerSpec, engine: str, token: str) -> None:
        threading.Thread(target=self._run, args=(spec, engine, token), daemon=True).start()

    def pid(self) -> int:
        """Process id, also the proof that the process is up."""
        return os.getpid()

    @staticmethod
    def _run(spec: WorkerSpec, engine: str, token: str) -> None:
        status = 1
        try:
            run_worker(spec, engine, token)
            status = 0
        finally:
            os._exit(status)


class RayLauncher:
    """One actor for each worker, in a placement group."""

    def __init__(
        self, workers: Sequence[WorkerSpec], engine: Engine, server: LinkServer, token: str, address: str
    ) -> None:
        self._specs = tuple(workers)
        self._engine = engine
        self._server = server
        self._token = token
        self._address = address
        self._ray: Any = None
        self._group: Any = None
        self._actors: dict[WorkerId, Any] = {}

    async def start(self) -> None:
        """See cluster.launch.Launcher. Unavailable if Ray cannot place the workers or they do not attach in time."""
        await self._server.start()
        try:
            async with asyncio.timeout(START_S):
                await asyncio.to_thread(self._place)
                names = frozenset(spec.worker for spec in self._specs)
                await self._engine.attached(names, timeout_s=START_S)
        except TimeoutError:
            await self.stop()
            raise Unavailable(f"the workers were not up after {START_S:g} s") from None
        except (LongtakeError, asyncio.CancelledError):
            await self.stop()
            raise

    async def stop(self) -> None:
        """See cluster.launch.Launcher."""
        if self._ray is not None:
            await asyncio.to_thread(self._remove)
        self._engine.broadcast(Shutdown())
        await self._server.stop()

    async def pids(self) -> dict[WorkerId, int]:
        """Process ids of the workers."""
        return {
            worker: await asyncio.to_thread(self._ray.get, actor.pid.remote())
            for worker, actor in self._actors.items()
        }

    def _place(self) -> None:
        # Read by Ray when it is imported.
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        os.environ.setdefault("RAY_AUTH_MODE", "token")
        os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
        import ray
        from ray.util.placement_group import placement_group
        from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

        self._ray = ray
        if self._address:
            ray.init(address=self._address, log_to_driver=True)
        else:
            ray.init(address="local", include_dashboard=False, log_to_driver=True)
        bundles = [_resources(spec) for spec in self._specs]
        self._group = placement_group(bundles, strategy="PACK")
        try:
            ray.get(self._group.ready(), timeout=START_S)
        except ray.exceptions.GetTimeoutError:
            raise Unavailable(f"Ray has no room for {len(bundles)} workers that need {bundles}") from None
        for index, spec in enumerate(self._specs):
            resources = bundles[index]
            actor = ray.remote(WorkerActor).options(
                name=None,
                num_cpus=resources["CPU"],
                num_gpus=resources.get("GPU", 0),
                max_restarts=-1,
                max_concurrency=2,
                scheduling_strategy=PlacementGroupSchedulingStrategy(
                    placement_group=self._group, placement_group_bundle_index=index
                ),
            )
            self._actors[spec.worker] = actor.remote(spec, self._server.address, self._token)

    def _remove(self) -> None:
        from ray.util.placement_group import remove_placement_group

        for actor in self._actors.values():
            self._ray.kill(actor, no_restart=True)
        self._actors.clear()
        if self._group is not None:
            remove_placement_group(self._group)
            self._group = None
        self._ray.shutdown()


def _resources(spec: WorkerSpec) -> dict[str, float]:
    return {"CPU": _CPU_SHARE} | ({"GPU": 1.0} if spec.device.startswith("cuda") else {})
