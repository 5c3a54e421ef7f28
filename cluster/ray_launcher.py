"""Workers as Ray actors that dial the engine. Ray places, starts and restarts them; no op ever passes through it."""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import threading
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

from cluster.chains import Chains
from cluster.link_server import LinkServer
from cluster.ray_trust import TOKEN, check_doors, check_gcs
from longtake.core.errors import LongtakeError, Unavailable
from longtake.core.work import WorkerId
from workers.link import Loaded, serve
from workers.link_trust import LinkFiles
from workers.peers import MeetingPoint
from workers.spec import WorkerSpec, load_worker

PLACE_S = 30.0
"""How long Ray may take to find room for the workers."""
REACH_S = 5.0
"""How long a running Ray may take to accept a connection."""
START_S = 180.0
"""How long workers may take to load their weights."""
_CPU_SHARE = 0.1
"""Logical CPUs of a worker: enough to be counted, little enough for several to share a small machine."""


class WorkerActor:
    """A process for one worker; the worker itself knows nothing of Ray.

    A worker that cannot load its weights makes the constructor fail, which Ray reports and does not repeat. One that
    ends later ends its process, and Ray starts it again.
    """

    def __init__(self, spec: WorkerSpec, engine: str, token: str) -> None:
        loaded = load_worker(spec)
        threading.Thread(target=self._serve, args=(loaded, engine, token, spec.link_files), daemon=True).start()

    def pid(self) -> int:
        """Process id; an answer proves that the weights are loaded."""
        return os.getpid()

    @staticmethod
    def _serve(loaded: Loaded, engine: str, token: str, files: LinkFiles | None) -> None:
        status = 1
        try:
            serve(loaded, engine, token, files)
            status = 0
        finally:
            os._exit(status)


class RayLauncher:
    """One actor for each worker. The workers of a chain have a placement group of their own, so that they are close."""

    def __init__(
        self,
        workers: Sequence[WorkerSpec],
        engine: Chains,
        listen: Callable[[str], LinkServer],
        token: str,
        address: str,
    ) -> None:
        self._specs = tuple(workers)
        self._engine = engine
        self._listen = listen
        self._server: LinkServer | None = None
        self._token = token
        self._address = address
        self._host = "127.0.0.1"
        """Where workers can reach this process."""
        self._ray: Any = None
        self._groups: dict[WorkerId, Any] = {}
        """Placement groups by replica; workers that hold a whole model share the one under the empty name."""
        self._actors: dict[WorkerId, Any] = {}
        self._meeting_point: MeetingPoint | None = None
        self._threads: list[asyncio.Future[None]] = []

    async def start(self) -> None:
        """See cluster.launch.Launcher. Unavailable if Ray cannot place the workers or they do not attach in time."""
        try:
            # Ray first: it starts processes, which a running gRPC server makes harder.
            await self._in_thread(self._reserve)
            self._server = self._listen(self._host)
            await self._server.start()
            await self._in_thread(partial(self._create, self._server.address))
            await self._engine.attached(frozenset(spec.replica for spec in self._specs), timeout_s=START_S)
        except (LongtakeError, asyncio.CancelledError):
            await self.stop()
            raise

    async def stop(self) -> None:
        """See cluster.launch.Launcher."""
        if self._ray is not None:
            await asyncio.to_thread(self._kill)  # which also ends a thread that waits for them
            await asyncio.gather(*self._threads, return_exceptions=True)
            await asyncio.to_thread(self._leave)
        if self._server is not None:
            await self._server.stop()

    async def _in_thread(self, call: Callable[[], None]) -> None:
        """Ray's calls block. A thread cannot be cancelled: `stop` waits for it."""
        thread = asyncio.ensure_future(asyncio.to_thread(call))
        self._threads.append(thread)
        await asyncio.shield(thread)

    async def pids(self) -> dict[WorkerId, int]:
        """Process ids of the workers."""
        return {
            worker: await asyncio.to_thread(self._ray.get, actor.pid.remote()) for worker, actor in self._actors.items()
        }

    def _reserve(self) -> None:
        """Join or start Ray, and reserve room for every worker."""
        # Read by Ray when it is imported.
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
        os.environ.setdefault("RAY_worker_niceness", "0")  # Ray's default, 15, is for jobs that nobody waits for
        os.environ.setdefault("RAY_AUTH_MODE", TOKEN)
        logging.getLogger("ray").setLevel(logging.ERROR)
        import ray
        from ray.util.placement_group import placement_group

        self._ray = ray
        joined: Any
        try:
            if self._address:
                _reach(self._address)
                joined = ray.init(address=self._address, logging_level=logging.ERROR)
                self._host = str(self._ray.util.get_node_ip_address())
            else:
                joined = ray.init(address="local", include_dashboard=False, logging_level=logging.ERROR)
        except LongtakeError:
            raise
        except Exception as error:  # Ray raises the bare class when a node is slow to start
            where = f"Ray at {self._address}" if self._address else "a local Ray"
            raise Unavailable(f"{where} did not come up: {error}") from error
        found: dict[str, str] = joined.address_info
        check_gcs(found["gcs_address"])
        check_doors(found["gcs_address"], found["webui_url"] or "")
        bundles: dict[WorkerId, list[dict[str, float]]] = {}
        for spec in self._specs:
            bundles.setdefault(_group_of(spec), []).append(_resources(spec))
        for name, resources in bundles.items():
            self._groups[name] = placement_group(resources, strategy="PACK")
        try:
            ray.get([group.ready() for group in self._groups.values()], timeout=PLACE_S)
        except ray.exceptions.GetTimeoutError:
            needed = [resources for group in bundles.values() for resources in group]
            raise Unavailable(f"Ray has no room for {len(needed)} workers that need {needed}") from None

    def _create(self, engine: str) -> None:
        """Start the actors and wait until each has its weights loaded."""
        from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

        self._meeting_point = MeetingPoint(self._host)
        actor_class = self._ray.remote(WorkerActor)
        placed = Counter[WorkerId]()
        for worker in self._specs:
            name = _group_of(worker)
            spec = replace(worker, meeting_point=self._meeting_point.address)
            resources = _resources(spec)
            options = {
                "num_cpus": resources["CPU"],
                "num_gpus": resources.get("GPU", 0),
                "max_restarts": -1,
                "scheduling_strategy": PlacementGroupSchedulingStrategy(
                    placement_group=self._groups[name], placement_group_bundle_index=placed[name]
                ),
            }
            placed[name] += 1
            self._actors[spec.worker] = actor_class.options(**options).remote(spec, engine, self._token)
        try:
            self._ray.get([actor.pid.remote() for actor in self._actors.values()], timeout=START_S)
        except self._ray.exceptions.GetTimeoutError:
            raise Unavailable(f"the workers had not loaded their weights after {START_S:g} s") from None
        except self._ray.exceptions.RayError as error:
            raise Unavailable(f"a worker could not start: {error}") from None

    def _kill(self) -> None:
        for actor in list(self._actors.values()):
            self._ray.kill(actor, no_restart=True)

    def _leave(self) -> None:
        """Give the room back and disconnect, which ends a local Ray."""
        from ray.util.placement_group import remove_placement_group

        self._kill()
        self._actors.clear()
        for group in self._groups.values():
            remove_placement_group(group)
        self._groups.clear()
        self._ray.shutdown()
        self._ray = self._meeting_point = None


def _reach(address: str) -> None:
    """Unavailable if nothing listens there, InvalidField if it is not to be trusted.

    Ray itself would try for minutes, and not hear a signal meanwhile.
    """
    host, _, port = address.rpartition(":")
    if not host or not port.isdecimal():
        return  # "auto" and other names that only Ray can resolve
    try:
        socket.create_connection((host, int(port)), timeout=REACH_S).close()
    except OSError as error:
        raise Unavailable(f"cluster.ray_address: no Ray answers at {address} ({error})") from None
    check_gcs(address)  # before it is shown our token


def _group_of(spec: WorkerSpec) -> WorkerId:
    """The name of the placement group that the worker is in."""
    return WorkerId("") if spec.seat is None else spec.replica


def _resources(spec: WorkerSpec) -> dict[str, float]:
    return {"CPU": _CPU_SHARE} | ({"GPU": 1.0} if spec.device.startswith("cuda") else {})
