"""Where Ray puts workers: what room each needs, on which nodes, and how close the workers of a chain are."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

from cluster.config import ClusterSection
from cluster.launch.plan import LaunchPlan
from cluster.launch.sizing import DeviceSeen
from longtake.core.plan.memory import Memory
from longtake.core.work import Role, WorkerId
from workers.start.device_memory import HOST
from workers.start.spec import WorkerSpec

CPU_SHARE = 0.1
"""Logical CPUs of a worker: enough to be counted, and to keep workers off nodes that offer none; little enough for
several to share a small machine."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reservation:
    """Room that Ray reserves as a whole: one bundle for each worker, in the order of the workers."""

    resources: tuple[dict[str, float], ...]
    nodes: tuple[dict[str, str], ...]
    """The labels of nodes where each bundle may be."""
    strategy: Literal["PACK", "STRICT_PACK"]

    def __str__(self) -> str:
        needs = [
            f"{need} on nodes with {nodes or 'any labels'}"
            for need, nodes in zip(self.resources, self.nodes, strict=True)
        ]
        together = "on one node: " if self.strategy == "STRICT_PACK" else ""
        return together + ", ".join(f"{needs.count(need)} x {need}" for need in dict.fromkeys(needs))


@dataclass(frozen=True, slots=True, kw_only=True)
class Looked:
    """The device in a worker's place, as a task there saw it."""

    node: str
    """Ray's id of the node."""
    address: str
    """The node's address, for people."""
    device: str
    """HOST, or the GPU as CUDA names it on that node."""
    memory: Memory


def shares_of(plan: LaunchPlan, looked: Sequence[Looked]) -> dict[WorkerId, DeviceSeen]:
    """What the workers of a plan may have of the devices that were seen in their places, in the same order.

    Of a GPU they have together what their shares add up to, because Ray gives the rest to others.
    """
    shares: defaultdict[tuple[str, str], float] = defaultdict(float)
    for spec, seen in zip(plan.workers, looked, strict=True):
        shares[seen.node, seen.device] += resources_of(spec, plan.cluster).get("GPU", 1.0)
    found: dict[WorkerId, DeviceSeen] = {}
    for spec, seen in zip(plan.workers, looked, strict=True):
        total = seen.memory.total_bytes
        most = total if seen.device == HOST else int(min(1, shares[seen.node, seen.device]) * total)
        found[spec.worker] = DeviceSeen(
            device=f"{seen.address}, {seen.device if seen.device == HOST else f'GPU {seen.device}'}",
            memory=replace(seen.memory, free_bytes=min(seen.memory.free_bytes, most)),
        )
    return found


def group_of(spec: WorkerSpec) -> WorkerId:
    """The name of the group a worker is in: its chain's, or the empty one that all workers of a whole model share."""
    return WorkerId("") if spec.seat is None else spec.replica


def resources_of(spec: WorkerSpec, cluster: ClusterSection) -> dict[str, float]:
    """What a worker takes of a node, by Ray's names of resources."""
    if not spec.on_gpu:
        return {"CPU": CPU_SHARE}
    shares = cluster.gpu_shares
    share = {Role.DENOISE: shares.denoise, Role.DECODE: shares.decode, Role.TEXT: shares.text}[spec.role]
    return {"CPU": CPU_SHARE, "GPU": share}


def nodes_of(role: Role, cluster: ClusterSection) -> dict[str, str]:
    """Labels that the node of a worker must have; text workers are where decode workers are, unless they are named."""
    decode = cluster.decode_nodes
    return dict({Role.DENOISE: cluster.denoise_nodes, Role.TEXT: cluster.text_nodes or decode}.get(role, decode))


def groups(specs: Sequence[WorkerSpec], cluster: ClusterSection) -> dict[WorkerId, Reservation]:
    """The room to reserve for `specs`, by the name of the group."""
    members: dict[WorkerId, list[WorkerSpec]] = {}
    for spec in specs:
        members.setdefault(group_of(spec), []).append(spec)
    return {
        name: Reservation(
            resources=tuple(resources_of(spec, cluster) for spec in held),
            nodes=tuple(nodes_of(spec.role, cluster) for spec in held),
            strategy="STRICT_PACK" if name and cluster.chains_on_one_node else "PACK",
        )
        for name, held in members.items()
    }
