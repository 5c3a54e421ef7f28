"""Workers as Ray actors that dial the engine. Ray places, starts and restarts them; no op ever passes through it."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import shutil
import signal
import socket
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any, TypeVar

from cluster.cell.chains import Chains
from cluster.config import ClusterSection
from cluster.launch.link_server import LinkServer
from cluster.launch.plan import LaunchPlan
from cluster.launch.ray_placing import Looked, group_of, groups, resources_of, shares_of
from cluster.launch.ray_trust import TOKEN, check_doors, check_gcs, give_token
from cluster.launch.sizing import sized
from cluster.net.addresses import address_in
from longtake.core.errors import InvalidField, LongtakeError, Unavailable
from longtake.core.work import WorkerId
from longtake.net.addresses import Address
from longtake.own_code.finding import find_ours_first
from workers.link.dial import Weights, serve
from workers.link_trust import LinkFiles
from workers.peers import MeetingPoint
from workers.start.device_memory import HOST, read_memory
from workers.start.loading import load_worker
from workers.start.spec import WorkerSpec

REACH_S = 5.0
"""How long a running Ray may take to accept a connection."""
LOOK_UP_S = 0.5
NODE_LOOK_S = 3.0
"""How often it is looked whether the Ray node of this machine is still part of its cluster."""
_LATEST = "session_latest"
"""Ray's link to the folder of the last one that was started."""
_INIT: dict[str, Any] = {
    "logging_level": logging.ERROR,
    # Ray has its workers look into the folder that this process was started in before anywhere else.
    "runtime_env": {"worker_process_setup_hook": f"{find_ours_first.__module__}.{find_ours_first.__name__}"},
}

_log = logging.getLogger("longtake.launch")

Answer = TypeVar("Answer")


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
    def _serve(loaded: Weights, engine: str, token: str, files: LinkFiles | None) -> None:
        status = 1
        try:
            serve(loaded, engine, token, files)
            status = 0
        finally:
            os._exit(status)


class RayLauncher:
    """One actor for each worker. The workers of a chain have a placement group of their own, so that they are close."""

    def __init__(self, plan: LaunchPlan, engine: Chains, listen: Callable[[str], LinkServer]) -> None:
        self._plan = plan
        self._engine = engine
        self._listen = listen
        self._server: LinkServer | None = None
        self._host = "127.0.0.1"
        """The address at which workers can reach this process."""
        self._ray: Any = None
        self._groups: dict[WorkerId, Any] = {}
        """Placement groups by replica; workers that hold a whole model share the one under the empty name."""
        self._actors: dict[WorkerId, Any] = {}
        self._meeting_point: MeetingPoint | None = None
        self._watch: asyncio.Task[None] | None = None
        self._session: Path | None = None
        """The folder of a local Ray."""
        self._has_failed = False
        """Whether the workers could not be started, so that somebody will want to know what Ray has logged."""
        self._threads: list[asyncio.Future[Any]] = []
        self._stopping = threading.Event()

    async def start(self) -> None:
        """See cluster.launch.launchers.Launcher.

        Unavailable if Ray cannot place the workers, or they attach too late; and what `cluster.launch.sizing.sized`
        raises if the devices on which Ray placed them have no room for what they are to hold.
        """
        try:
            # Ray first: it starts processes, which a running gRPC server makes harder.
            await self._in_thread(self._join)
            _keep_signals()
            await self._in_thread(self._reserve)
            await self._in_thread(self._size)
            self._server = self._listen(self._host)
            await self._server.start()
            await self._in_thread(partial(self._create, self._server.address))
            replicas = frozenset(spec.replica for spec in self._plan.workers)
            await self._engine.attached(replicas, timeout_s=self._plan.cluster.start_within_s)
        except (LongtakeError, asyncio.CancelledError) as error:
            self._has_failed = isinstance(error, LongtakeError)
            await self.stop()
            raise
        self._watch = asyncio.create_task(self._server.absences.watch(self._end_absent))

    async def unable(self) -> str:
        """See cluster.launch.launchers.Launcher. Without the Ray node of its own machine nobody starts actors anew."""
        while not await self._in_thread(self._has_lost_node):
            await asyncio.sleep(NODE_LOOK_S)
        return "the Ray node of this machine is gone, so no worker that ends can be started anew"

    async def stop(self) -> None:
        """See cluster.launch.launchers.Launcher."""
        self._stopping.set()
        if self._watch is not None:
            self._watch.cancel()
        self._engine.part()
        if self._ray is not None:
            await asyncio.to_thread(self._kill)  # which also ends a thread that waits for them
            await asyncio.gather(*self._threads, return_exceptions=True)
            await asyncio.to_thread(self._leave)
        if self._server is not None:
            await self._server.stop()

    async def _in_thread(self, call: Callable[[], Answer]) -> Answer:
        """Ray's calls block. A thread cannot be cancelled: `stop` waits for it."""
        thread = asyncio.ensure_future(asyncio.to_thread(call))
        self._threads = [*(thread for thread in self._threads if not thread.done()), thread]
        return await asyncio.shield(thread)

    async def pids(self) -> dict[WorkerId, int]:
        """Process ids of the workers."""
        return {
            worker: await asyncio.to_thread(self._ray.get, actor.pid.remote()) for worker, actor in self._actors.items()
        }

    def _join(self) -> None:
        """Join or start Ray."""
        # Read by Ray when it is imported.
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
        os.environ.setdefault("RAY_worker_niceness", "0")  # Ray's default, 15, is for jobs that nobody waits for
        mode = os.environ.setdefault("RAY_AUTH_MODE", TOKEN)
        if mode != TOKEN:  # it is ours to start, or ours to join
            allowed = f"{TOKEN}, or unset: whoever reaches a Ray without tokens has it run anything"
            raise InvalidField("RAY_AUTH_MODE (environment)", mode, allowed)
        logging.getLogger("ray").setLevel(logging.ERROR)
        import ray

        self._ray = ray
        address = self._plan.cluster.ray_address
        joined: Any
        try:
            if address:
                _log.info("joining the Ray at %s", address)
                _reach(address)
                host = self._plan.link.host
                joined = ray.init(address=address, _node_ip_address=host or None, **_INIT)
                self._host = host or str(self._ray.util.get_node_ip_address())
            else:
                _log.info("starting a local Ray")
                give_token(os.environ)
                joined = ray.init(address="local", include_dashboard=False, **_INIT)
        except LongtakeError:
            raise
        except Exception as error:  # Ray raises the bare class when a node is slow to start
            where = f"Ray at {address}" if address else "a local Ray"
            raise Unavailable(f"{where} did not come up: {error}") from error
        found: dict[str, str] = joined.address_info
        self._session = None if address else Path(found["session_dir"])
        check_gcs(found["gcs_address"])
        check_doors(found["gcs_address"], found["webui_url"] or "")

    def _reserve(self) -> None:
        """Reserve room for every worker; looks up now and then, because to wait for new nodes takes minutes."""
        from ray.util.placement_group import placement_group

        needed, within_s = groups(self._plan.workers, self._plan.cluster), self._plan.cluster.place_within_s
        for name, group in needed.items():
            self._groups[name] = placement_group(
                list(group.resources), strategy=group.strategy, bundle_label_selector=list(group.nodes)
            )
        waiting = [group.ready() for group in self._groups.values()]
        _log.info("Ray is up; asking it for room for %s", self._plan.counts)
        deadline_s = time.monotonic() + within_s
        room = "; ".join(str(group) for group in needed.values())
        told = False
        while waiting and not self._stopping.is_set():
            left_s = deadline_s - time.monotonic()
            if left_s <= 0:
                raise Unavailable(f"Ray found no room within {within_s:g} s for {room}")
            _ready, waiting = self._ray.wait(waiting, num_returns=len(waiting), timeout=min(left_s, LOOK_UP_S))
            if waiting and not told:
                _log.info("waiting up to %g s until Ray has room for %s", within_s, room)
                told = True

    def _size(self) -> None:
        """Size the workers: in the place of each a task looks how much memory its device has."""
        if self._plan.sizing is None:
            return
        tasks = [
            self._ray.remote(look).options(**_room(spec, self._plan.cluster), scheduling_strategy=place).remote(spec)
            for spec, place in self._places()
        ]
        waiting, deadline_s = tasks, time.monotonic() + self._plan.cluster.start_within_s
        while waiting and not self._stopping.is_set() and time.monotonic() < deadline_s:
            _ready, waiting = self._ray.wait(waiting, num_returns=len(waiting), timeout=LOOK_UP_S)
        if self._stopping.is_set():
            return
        try:
            self._plan = sized(self._plan, shares_of(self._plan, self._ray.get(tasks, timeout=0)))
        except self._ray.exceptions.RayError as error:
            raise Unavailable(f"the memory of the workers' devices cannot be read: {error}") from None

    def _places(self) -> Iterator[tuple[WorkerSpec, Any]]:
        """Each worker with the bundle that is reserved for it."""
        from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

        placed = Counter[WorkerId]()
        for spec in self._plan.workers:
            name = group_of(spec)
            yield (
                spec,
                PlacementGroupSchedulingStrategy(
                    placement_group=self._groups[name], placement_group_bundle_index=placed[name]
                ),
            )
            placed[name] += 1

    def _create(self, engine: str) -> None:
        """Start the actors and wait until each has its weights loaded."""
        try:
            self._meeting_point = MeetingPoint(self._host, self._plan.link.meeting_port)
        except OSError:
            address = str(Address(host=self._host, port=self._plan.link.meeting_port))
            raise InvalidField("link.meeting_port", address, "an address of this machine and a free port") from None
        actor_class = self._ray.remote(WorkerActor)
        for worker, place in self._places():
            spec = replace(worker, meeting_point=self._meeting_point.address)
            options = _room(spec, self._plan.cluster) | {"max_restarts": -1}  # however often it ends
            actor = actor_class.options(**options, scheduling_strategy=place)
            self._actors[spec.worker] = actor.remote(spec, engine, self._plan.token)
        within_s = self._plan.cluster.start_within_s
        _log.info("starting %s: each loads its weights, then measures what its device can do", self._plan.counts)
        try:
            self._ray.get([actor.pid.remote() for actor in self._actors.values()], timeout=within_s)
        except self._ray.exceptions.GetTimeoutError:
            raise Unavailable(f"the workers had not loaded their weights after {within_s:g} s") from None
        except self._ray.exceptions.RayError as error:
            raise Unavailable(f"a worker could not start: {error}") from None

    async def _end_absent(self, worker: WorkerId) -> None:
        """End the process of a worker; Ray starts it anew."""
        with contextlib.suppress(self._ray.exceptions.RayError):
            await self._in_thread(partial(self._ray.kill, self._actors[worker], no_restart=False))

    def _has_lost_node(self) -> bool:
        """Whether Ray counts the node of this machine as dead."""
        if self._stopping.is_set() or self._ray is None:
            return False
        try:
            own = self._ray.get_runtime_context().get_node_id()
            return any(node["NodeID"] == own and not node["Alive"] for node in self._ray.nodes())
        except (self._ray.exceptions.RayError, RuntimeError):  # Ray itself ends a program whose GCS stays away
            return False

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
        if self._session is not None:
            self._clear(self._session)

    def _clear(self, session: Path) -> None:
        """Remove what a local Ray has left; one whose workers could not start leaves its logs."""
        if self._has_failed:
            _log.info("what Ray has logged stays in %s", session)
            return
        shutil.rmtree(session, ignore_errors=True)
        latest = session.with_name(_LATEST)
        if latest.is_symlink() and not latest.exists():
            latest.unlink(missing_ok=True)
        if session.exists():
            _log.warning("the folder of the Ray that was started here could not be removed: %s", session)


def _room(spec: WorkerSpec, cluster: ClusterSection) -> dict[str, float]:
    """What Ray is told that a worker, or a task in its place, takes of a node."""
    resources = resources_of(spec, cluster)
    return {"num_cpus": resources["CPU"], "num_gpus": resources.get("GPU", 0)}


def look(spec: WorkerSpec) -> Looked:
    """The device of a worker and its memory, as a task in its place sees them."""
    ray: Any = import_module("ray")  # without types: its own are not whole
    node, address = ray.get_runtime_context().get_node_id(), ray.util.get_node_ip_address()
    device = str(ray.get_gpu_ids()[0]) if spec.on_gpu else HOST
    memory = read_memory((device,))[device]
    return Looked(node=node, address=address, device=device, memory=memory)


def _reach(address: str) -> None:
    """Unavailable if nothing listens there, InvalidField if it is not to be trusted.

    Ray itself would try for minutes, and not hear a signal meanwhile.
    """
    if ":" not in address:
        return  # "auto" and other names that only Ray can resolve
    where = address_in(address, field="cluster.ray_address")
    try:
        socket.create_connection((where.host, where.port), timeout=REACH_S).close()
    except OSError as error:
        raise Unavailable(f"cluster.ray_address: no Ray answers at {address} ({error})") from None
    check_gcs(address)  # before it is shown our token


def _keep_signals() -> None:
    """Make Python's signal handlers hold again: joining, Ray installs one for SIGTERM that aborts the process."""
    if threading.current_thread() is threading.main_thread():
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.getsignal(number))
