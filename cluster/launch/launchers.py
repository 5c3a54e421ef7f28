"""The ways to start the workers of a plan: in this process, as child processes, by Ray."""

from __future__ import annotations

from functools import partial
from typing import Protocol

from cluster.cell.chains import Chains
from cluster.cell.engine import Engine
from cluster.launch.in_process import InProcessLauncher
from cluster.launch.link_server import LinkServer, LinkService
from cluster.launch.plan import LaunchPlan
from cluster.launch.ray import RayLauncher
from cluster.launch.subprocesses import SubprocessLauncher
from longtake.core.errors import Contradiction
from longtake.core.recipe.layers import check_length
from longtake.net.addresses import is_this_machine
from workers.models import weights
from workers.simulated.device import is_simulated
from workers.start.loading import model_digest


class Launcher(Protocol):
    """Starts workers and keeps them up."""

    async def start(self) -> None:
        """Start all workers; returns when each is attached to the engine, or raises what keeps one from it."""
        ...

    async def unable(self) -> str:
        """Wait until workers that end cannot be started anew any more; returns why. For most launchers: for ever."""
        ...

    async def stop(self) -> None:
        """End all workers and leave no process behind. Call once the engine has drained."""
        ...


def launcher_for(plan: LaunchPlan, engine: Engine) -> Launcher:
    """The launcher that the plan names; nothing is started yet.

    InvalidField if the model directory is wrong, or has fewer layers than a chain has workers; Contradiction if some
    workers compute and others are simulated, or a chain is.
    """
    _check_model(plan)
    if plan.cluster.launch == "in-process":
        return InProcessLauncher(plan.workers, engine)
    chains = Chains(engine)
    listen = partial(_link_server, plan, chains, model_digest(plan.workers[0]))
    if plan.cluster.launch == "subprocess":
        return SubprocessLauncher(plan, chains, listen)
    return RayLauncher(plan, chains, listen)


def _check_model(plan: LaunchPlan) -> None:
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


def _link_server(plan: LaunchPlan, chains: Chains, digest: str, host: str) -> LinkServer:
    check_link(plan, host)
    files = plan.workers[0].link_files
    service = LinkService(
        chains,
        token=plan.token,
        model_digest=digest,
        files=files,
        start_within_s=plan.cluster.start_within_s,
    )
    return LinkServer(service, host, plan.link.port, workers=len(plan.workers))


def check_link(plan: LaunchPlan, host: str) -> None:
    """Contradiction if workers would dial `host` from other machines without certificates, and nobody allowed that."""
    if plan.workers[0].link_files is None and not plan.link.network_trusted and not is_this_machine(host):
        raise Contradiction(
            "link.certificate = ''",
            f"workers that dial {host}",
            "the secret of the launch and all latents would cross the network in the clear; give link.certificate, "
            "link.key and link.ca, or set link.network_trusted",
        )
