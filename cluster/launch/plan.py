"""Which workers a configuration asks for, under which names, and what each is told."""

from __future__ import annotations

import secrets
from collections import Counter
from dataclasses import dataclass, field, replace
from importlib import resources
from pathlib import Path

from cluster.config import ClusterSection, LinkSection, ServerConfig
from longtake.core.plan.memory import Sizing
from longtake.core.recipe.table import NamedRecipe
from longtake.core.work import Role, WorkerId
from workers.link_trust import LinkFiles
from workers.messages import Seat
from workers.models.api import Compute
from workers.models.numbers import numbers_of
from workers.models.text_rules import is_encoded_apart
from workers.models.weights import ModelInfo
from workers.simulated.device import is_simulated
from workers.start.spec import WorkerSpec

POCKET = "pocket"


@dataclass(frozen=True, slots=True, kw_only=True)
class LaunchPlan:
    """Which workers to start and how."""

    workers: tuple[WorkerSpec, ...]
    cluster: ClusterSection
    """What starts them, and where they may be."""
    link: LinkSection = field(default_factory=LinkSection)
    """Where they dial in."""
    sizing: Sizing | None = None
    """What to size the workers for, by the memory they find (cluster.launch.sizing); None: they are sized."""
    token: str = field(default_factory=lambda: secrets.token_urlsafe(32), repr=False)
    """The secret of the launch."""

    @property
    def counts(self) -> str:
        """How many workers there are of each role, such as `2 denoise and 1 decode workers`."""
        roles = Counter(spec.role.value for spec in self.workers)
        parts = [f"{count} {role}" for role, count in roles.items()]
        return f"{', '.join(parts[:-1])} and {parts[-1]} workers".removeprefix(" and ")


def model_path(path: str) -> Path:
    """The directory that `model.path` of a configuration names; "pocket" is the model that ships with Longtake."""
    return Path(str(resources.files("pocket"))) / "weights" if path == POCKET else Path(path).absolute()


def plan_for(config: ServerConfig, info: ModelInfo, recipes: tuple[NamedRecipe, ...] = ()) -> LaunchPlan:
    """The workers that a configuration asks for: denoise-0, denoise-1, …, decode-0, …, text-0, …

    Where a replica is a chain, its workers are denoise-0.1of2, denoise-0.2of2, …

    They have room for what the configuration asks for, or lets in, whichever of `recipes` the sessions are made by (by
    default the model's own); what fits is found when it is known where they will
    be (`LaunchPlan.sizing`).

    Workers of a simulated device say so in their names, and with them every status, metric and log line.
    """
    cluster, path = config.cluster, model_path(config.model.path)
    served = [each.recipe for each in recipes] or [info.recipe]
    largest = max(served, key=lambda each: (each.lane_count * each.page_count, each.lane_count))
    sizing = Sizing(
        model=replace(numbers_of(info, path), recipe=largest, geometry=info.geometry.divided(largest.blocks)),
        lane_pages=max(each.page_count + config.core_limits.spare_pages(each.blocks) for each in served),
        replicas=cluster.denoise_workers,
        decoders=cluster.decode_workers,
        max_sessions=config.limits.max_sessions,
        sessions_per_worker=cluster.sessions_per_worker,
    )
    sessions = cluster.sessions_per_worker or config.limits.max_sessions
    first = WorkerSpec(
        worker=WorkerId("simulated-" if is_simulated(config.model.device) else ""),
        role=Role.DENOISE,
        capacity=sizing.capacity(Role.DENOISE, sessions),
        model=path,
        compute=Compute(device=config.model.device, dtype=config.model.dtype, compile=config.model.compile),
        max_batch=cluster.max_batch,
        recipes=tuple(each for each in served if each != info.recipe),
        profiles=cluster.profiles,
        link_files=link_files(config.link),
    )
    decoders = replace(first, role=Role.DECODE, capacity=sizing.capacity(Role.DECODE, sessions))
    chains = [split(replica, cluster.layer_split) for replica in replicas(first, cluster.denoise_workers)]
    texters = replace(
        first, role=Role.TEXT, capacity=1, compute=Compute(device=config.model.text_device, dtype=config.model.dtype)
    )
    apart = needs_text_workers(info, config.model.device)
    return LaunchPlan(
        workers=(
            *(spec for chain in chains for spec in chain),
            *replicas(decoders, cluster.decode_workers),
            *replicas(texters, cluster.text_workers if apart else 0),
        ),
        cluster=cluster,
        link=config.link,
        sizing=None if is_simulated(config.model.device) else sizing,
    )


def needs_text_workers(info: ModelInfo, device: str) -> bool:
    """Whether prompts are encoded by workers of their own: the encoder has weights, and is not simulated."""
    return is_encoded_apart(info.text_kind) and not is_simulated(device)


def replicas(like: WorkerSpec, count: int) -> tuple[WorkerSpec, ...]:
    """This many workers like the given one; their names begin as its name does, and end with role and number."""
    return tuple(replace(like, worker=WorkerId(f"{like.worker}{like.role.value}-{number}")) for number in range(count))


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
