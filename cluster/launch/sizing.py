"""How many pages and slots each worker gets: what the memory of its device has room for, read before workers start."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, replace

from cluster.launch.gpus import gpus_for, gpus_in_process, visible_gpus
from cluster.launch.plan import LaunchPlan
from longtake.core.plan.memory import Fit, Memory, SharedDevice, Sizing, fit, rows
from longtake.core.work import WorkerId
from workers.start.device_memory import HOST, ReadMemory
from workers.start.spec import WorkerSpec

_log = logging.getLogger("longtake.launch")


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceSeen:
    """The device that a worker will be on, and its memory now."""

    device: str
    """Its name, the same for all workers on it and for no other device."""
    memory: Memory


def sized_here(plan: LaunchPlan, read: ReadMemory) -> LaunchPlan:
    """The plan with workers of this machine sized, by what `read` tells of its devices; others are sized by Ray's
    launcher, when it knows where they will be. Raises what `sized` and `cluster.launch.gpus` raise."""
    if plan.sizing is None or plan.cluster.launch == "ray":
        return plan
    if plan.cluster.launch == "in-process":
        gpus = gpus_in_process(plan.workers, visible_gpus)
    else:
        gpus = gpus_for(plan.workers, plan.cluster.gpus, visible_gpus)
    memories = read(sorted({gpus.get(spec.worker, HOST) for spec in plan.workers}))
    return sized(plan, {spec.worker: _seen(gpus.get(spec.worker, HOST), memories) for spec in plan.workers})


def _seen(device: str, memories: Mapping[str, Memory]) -> DeviceSeen:
    return DeviceSeen(device=device if device == HOST else f"GPU {device}", memory=memories[device])


def sized(plan: LaunchPlan, seen: Mapping[WorkerId, DeviceSeen]) -> LaunchPlan:
    """The plan with its workers sized for the memory of the devices on which they will be, with a table in the log.

    InvalidField if the operator wants more than fits; NoCapacity if not one session fits.
    """
    assert plan.sizing is not None
    devices: dict[str, tuple[Memory, list[WorkerSpec]]] = {}
    for spec in plan.workers:
        where = seen[spec.worker]
        devices.setdefault(where.device, (where.memory, []))[1].append(spec)
    found = fit(plan.sizing, [
        SharedDevice(name=name, memory=memory, occupants=tuple(spec.occupant for spec in held))
        for name, (memory, held) in devices.items()
    ])  # fmt: skip
    _tell(plan.sizing, found)
    workers = (replace(spec, capacity=found.capacities[spec.worker]) for spec in plan.workers)
    return replace(plan, workers=tuple(workers), sizing=None)


def _tell(sizing: Sizing, found: Fit) -> None:
    if sizing.sessions_per_worker is not None:
        room = f"{found.sessions} sessions on each worker (cluster.sessions_per_worker)"
    elif found.sessions < sizing.max_sessions:
        room = f"{found.sessions} sessions, as many as fit (limits.max_sessions = {sizing.max_sessions})"
    else:
        room = f"{found.sessions} sessions, as many as are let in (limits.max_sessions)"
    _log.info("memory in GB, with room for %s:", room)
    for row in rows(found.table):
        _log.info("  %s", row)
