"""Taking the memory for pages and slots, and saying what was asked for and what fits where it is not there."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

import torch

from longtake.core.errors import Lack, NoCapacity
from workers.start.device_memory import host_memory

Taken = TypeVar("Taken")
_GB = 1e9

_log = logging.getLogger("longtake.worker")


@dataclass(frozen=True, slots=True, kw_only=True)
class Stock:
    """The pages or slots of a worker: so many, each of so many bytes."""

    kind: str
    count: int
    unit_bytes: int
    workspace_bytes: int
    """What a forward (or decode) took beside them, measured; 0 if that was not possible."""
    planned_bytes: int
    """What was planned for that."""

    def __str__(self) -> str:
        each, total = f"{self.unit_bytes / 1e6:.4g} MB", f"{self.count * self.unit_bytes / _GB:.2f} GB"
        return f"{self.count} {self.kind} of {each} = {total}"


def is_out_of_memory(error: RuntimeError) -> bool:
    """Whether torch says that a device, or the host, has no memory left."""
    return isinstance(error, torch.OutOfMemoryError) or "DefaultCPUAllocator" in str(error)


def free_bytes(device: torch.device) -> int:
    """What is free on a device now."""
    return int(torch.cuda.mem_get_info(device)[0]) if device.type == "cuda" else host_memory().free_bytes


def taken(stock: Stock, device: torch.device, take: Callable[[], Taken]) -> Taken:
    """What `take` makes, which is to hold `stock` on `device`; NoCapacity, with what fits, if that has no room."""
    if device.type == "cuda":
        torch.cuda.empty_cache()  # of what measuring has left: other processes may count on it
    free = free_bytes(device)
    try:
        made = take()
    except RuntimeError as error:
        if not is_out_of_memory(error):
            raise
        raise NoCapacity(
            f"{device} has no room for {stock}: {free / _GB:.2f} GB were free, so {free // stock.unit_bytes} of them "
            "fit; ask for less with cluster.sessions_per_worker",
            0.0,
            Lack.PAGES,
        ) from None
    measured = f"{stock.workspace_bytes / _GB:.2f} GB measured, " if stock.workspace_bytes else ""
    workspace = f"{measured}{stock.planned_bytes / _GB:.2f} GB planned"
    _log.info("%s; workspace: %s; %.2f GB of %s are free", stock, workspace, free_bytes(device) / _GB, device)
    return made
