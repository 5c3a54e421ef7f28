"""Which GPU of this machine each worker gets, where nobody else says it: every process sees the one that is its own."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import torch

from longtake.core.errors import Contradiction, InvalidField
from longtake.core.work import Role, WorkerId
from workers.start.child import VISIBLE
from workers.start.spec import WorkerSpec


def gpus_for(
    specs: Sequence[WorkerSpec], chosen: Sequence[int], visible: Callable[[], Sequence[str]]
) -> dict[WorkerId, str]:
    """The GPU of each worker that needs one, as CUDA names it: denoise workers in turn, then decode and text workers.

    `chosen` are places among the `visible` ones, which are looked for only if a worker needs one; empty: all of them.
    InvalidField if there is none, or not that one; Contradiction if two workers of a chain would share a GPU, over
    which they could not send to each other.
    """
    needed = sorted((spec for spec in specs if spec.compute.device == "cuda"), key=lambda s: s.role is not Role.DENOISE)
    if not needed:
        return {}
    seen = visible()
    if not seen:
        raise InvalidField("model.device", "cuda", "cpu; no CUDA device is visible here")
    for number in chosen:
        if number >= len(seen):
            raise InvalidField("cluster.gpus", number, f"0 to {len(seen) - 1}: so many CUDA devices are visible here")
    names = [seen[number] for number in chosen] or list(seen)
    found = {spec.worker: names[place % len(names)] for place, spec in enumerate(needed)}
    _check_chains(needed, found)
    return found


def gpus_in_process(specs: Sequence[WorkerSpec], visible: Callable[[], Sequence[str]]) -> dict[WorkerId, str]:
    """The same for workers that are threads of this process: torch takes the first GPU for all of them."""
    return gpus_for([replace(spec, seat=None) for spec in specs], (), lambda: visible()[:1])


def _check_chains(specs: Sequence[WorkerSpec], found: Mapping[WorkerId, str]) -> None:
    taken: set[tuple[WorkerId, str]] = set()
    for spec in specs:
        seat = spec.replica, found[spec.worker]
        if spec.seat is not None and seat in taken:
            raise Contradiction(
                f"a chain of {spec.seat.length} workers",
                f"GPU {found[spec.worker]}",
                "each of its workers needs its own",
            )
        taken.add(seat)


def visible_gpus() -> tuple[str, ...]:
    """The GPUs that this process may use, as CUDA names them."""
    named = os.environ.get(VISIBLE)
    if named is not None:
        return tuple(filter(None, named.split(",")))
    return tuple(map(str, range(torch.cuda.device_count())))
