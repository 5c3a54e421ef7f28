"""Starting workers: which ones a configuration asks for, and the ways to start them (in-process, subprocess, Ray)."""

from __future__ import annotations

import secrets
from dataclasses import dataclass, field, replace
from importlib import resources
from pathlib import Path
from typing import Literal, Protocol

from cluster.cell.chains import Chains
from cluster.cell.engine import Engine
from cluster.config import LinkSection, ServerConfig
from cluster.launch.in_process import InProcessLauncher
from cluster.launch.link_server import LinkServer, LinkService
from cluster.launch.ray import RayLauncher
from cluster.launch.ray_placing import Placing
from cluster.launch.subprocesses import SubprocessLauncher
from cluster.net.exposure import is_this_machine
from longtake.core.errors import Contradiction
from longtake.core.recipe.layers import check_length
from longtake.core.recipe.recipe import Recipe
from longtake.core.work import Role, WorkerId
from workers.link_trust import LinkFiles
from workers.messages import Seat
from workers.models import weights
from workers.models.api import Compute
from workers.simulated.device import is_simulated
from workers.start.loading import model_digest
from workers.start.spec import WorkerSpec

POCKET = "pocket"


class Launcher(Protocol):
    """Starts workers and keeps them up."""

    async def start(self) -> None:
        """Start all workers; returns when each is attached to the engine, or raises the error that prevents it."""
        ...

    async def stop(self) -> None:
        """End all workers and leave no process behind. Call once the engine has drained."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class LaunchPlan:
    """Which workers to start and how."""

    kind: Literal["ray", "subprocess", "in-process"]
    workers: tuple[WorkerSpec, ...]
    ray_address: str = ""
    """The address of a running Ray; if it is empty, a local one is started."""
    placing: Placing = field(default_factory=Placing)
    """Where Ray may place workers; only Ray uses it."""
    link_port: int = 0
    """The port at which workers dial in; 0 picks a free one."""
    network_trusted: bool = False
    """Whether a link without certificates may leave this machine."""
    token: str = field(default_factory=lambda: secrets.token_urlsafe(32), repr=False)


def model_path(path: str) -> Path:
    """The directory that `model.path` of a configuration names; "pocket" is the model that ships with Longtake."""
    return Path(str(resources.files("pocket"))) / "weights" if path == POCKET else Path(path).absolute()


def plan_for(config: ServerConfig, recipe: Recipe) -> LaunchPlan:
    """The workers that a configuration asks for: denoise-0, denoise-1, …, decode-0, …

    Where a replica is a chain, its workers are denoise-0.1of2, denoise-0.2of2, …

    Workers of a simulated device say so in their names, and with them every status, metric and log line.
    """
    cluster = config.cluster
    pages_per_lane = recipe.page_count + config.core_limits.spare_pages(recipe.blocks)
    pages = cluster.sessions_per_worker * pages_per_lane * recipe.lane_count
    first = WorkerSpec(
        worker=WorkerId("simulated-" if is_simulated(config.model.device) else ""),
        role=Role.DENOISE,
        capacity=pages,
        model=model_path(config.model.path),
        compute=Compute(device=config.model.device, dtype=config.model.dtype),
        max_batch=cluster.max_batch,
        profiles=cluster.profiles,
        link_files=link_files(config.link),
    )
    decoders = replace(first, role=Role.DECODE, capacity=cluster.sessions_per_worker)
    chains = [split(replica, cluster.layer_split) for replica in replicas(first, cluster.denoise_workers)]
    return LaunchPlan(
        kind=cluster.launch,
        workers=(*(spec for chain in chains for spec in chain), *replicas(decoders, cluster.decode_workers)),
        ray_address=cluster.ray_address,
        placing=_placing(config),
        link_port=config.link.port,
        network_trusted=config.link.network_trusted,
    )


def replicas(like: WorkerSpec, count: int) -> tuple[WorkerSpec, ...]:
    """This many workers like the given one; their names begin as its name does, and end with role and number."""
    return tuple(replace(like, worker=WorkerId(f"{like.worker}{like.role.value}-{number}")) for number in range(count))


def _placing(config: ServerConfig) -> Placing:
    cluster = config.cluster
    return Placing(
        denoise_nodes=cluster.denoise_nodes,
        decode_nodes=cluster.decode_nodes,
        chains_on_one_node=cluster.chains_on_one_node,
        within_s=cluster.place_within_s,
        host=config.link.host,
        meeting_port=config.link.meeting_port,
    )


def link_files(link: LinkSection) -> LinkFiles | None:
    """The certificates of the link; workers find theirs under the same paths on their machines."""
    if not link.certificate:
        return None
    return LinkFiles(
        certificate=Path(link.certificate).absolute(), key=Path(link.key).absolute(), ca=Path(link.ca).absolute()
    )


def split(replica: WorkerSpec, length: int) -> tuple[WorkerSpec, ...]:
    """The workers of a chain of `length` that together are what `replica` says; only `replica` itself if it is 1."""
    if length == 1:
        return (replica,)
    seats = [Seat(replica=replica.worker, rank=rank, length=length) for rank in range(length)]
    return tuple(replace(replica, worker=seat.member, seat=seat) for seat in seats)


def launcher_for(plan: LaunchPlan, engine: Engine) -> Launcher:
    """The launcher that the plan names; nothing is started yet.

    InvalidField if the model directory is wrong, or has fewer layers than a chain has workers; Contradiction if some
    workers compute and others are simulated, or a chain is.
    """
    model = plan.workers[0].model
    info = weights.load_info(model)
    for seat in {spec.seat for spec in plan.workers if spec.seat is not None}:
        check_length(seat.length, info.num_layers)
    simulated = [spec for spec in plan.workers if is_simulated(spec.compute.device)]
    if not simulated:
        weights.check_weights(model, info)
    elif len(simulated) < len(plan.workers):
        raise Contradiction(
            f"{simulated[0].worker} on {simulated[0].compute.device}",
            "another worker on a device that computes",
            "their latents mean different things",
        )
    if plan.kind == "in-process":
        return InProcessLauncher(plan.workers, engine)
    digest = model_digest(plan.workers[0])
    chains = Chains(engine)

    def listen(host: str) -> LinkServer:
        check_link(plan, host)
        files = plan.workers[0].link_files
        service = LinkService(chains, token=plan.token, model_digest=digest, files=files)
        return LinkServer(service, host, plan.link_port)

    if plan.kind == "subprocess":
        return SubprocessLauncher(plan.workers, chains, listen, plan.token)
    return RayLauncher(plan.workers, chains, listen, plan.token, plan.ray_address, plan.placing)


def check_link(plan: LaunchPlan, host: str) -> None:
    """Contradiction if workers would dial `host` from other machines without certificates, and nobody allowed that."""
    if plan.workers[0].link_files is None and not plan.network_trusted and not is_this_machine(host):
        raise Contradiction(
            "link.certificate = ''",
            f"workers that dial {host}",
            "the secret of the launch and all latents would cross the network in the clear; give link.certificate, "
            "link.key and link.ca, or set link.network_trusted",
        )
