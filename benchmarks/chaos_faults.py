"""What is done to a cell under chaos: kills, stops and stalls, in an order that a seed draws."""

from __future__ import annotations

import asyncio
import random
import signal
from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum

from benchmarks.chaos_cell import ChaosCell
from benchmarks.chaos_processes import Process, names

STOP_S = 10.0
"""Twice as long as an engine bears silence."""
FIND_S = 60.0
GCS_S = 90.0
"""Ray ends every program whose GCS has been away for a minute, the server too; one without its raylet ends itself."""


class Deed(Enum):
    """What is done to a process."""

    NOTHING = "nothing"
    """The time without segments that there is anyway."""
    KILL = "kill"
    STOP = "stop"
    """It stands still for STOP_S, then goes on."""


@dataclass(frozen=True, slots=True)
class Fault:
    """A deed, and to whom: `denoise`, `decode`, `worker` (any), `server`, `raylet` and `gcs` of Ray, or a `node`."""

    deed: Deed
    whom: str = ""

    def __str__(self) -> str:
        return f"{self.deed.value} {self.whom}".strip()


@dataclass(frozen=True, slots=True, kw_only=True)
class Counts:
    """How many faults there are of each kind."""

    kills: int
    """Of workers: a third each of denoise workers, of decode workers, and of any."""
    stops: int
    stalls: int
    """Stops of the server alone."""
    server_kills: int = 0
    node_kills: int = 0
    """Of Ray nodes, with all workers that are there."""
    ray: bool = False
    """Whether Ray's own processes are killed at the end, first the raylet, then the GCS."""

    def plan(self, seed: int) -> Iterator[Fault]:
        """All faults in the order of this seed, after a while of nothing."""
        whom = ("denoise", "decode", "worker")
        faults = [Fault(Deed.KILL, whom[number % 3]) for number in range(self.kills)]
        faults += [Fault(Deed.STOP, whom[number % 3]) for number in range(self.stops)]
        faults += [Fault(Deed.STOP, "server")] * self.stalls
        faults += [Fault(Deed.KILL, "server")] * self.server_kills
        faults += [Fault(Deed.KILL, "node")] * self.node_kills
        random.Random(seed).shuffle(faults)
        yield Fault(Deed.NOTHING)
        yield from faults
        if self.ray:
            yield Fault(Deed.KILL, "raylet")
            yield Fault(Deed.KILL, "gcs")


async def strike(cell: ChaosCell, fault: Fault, draw: random.Random) -> str:
    """Do it, and what a supervisor would do then; returns to whom, and what came of it if that is more.

    TimeoutError if there is nobody.
    """
    if fault.deed is Deed.NOTHING:
        await asyncio.sleep(STOP_S)
        return ""
    if fault.whom == "node":
        return await _kill_node(cell)
    name, victim = await _victim(cell, fault.whom, draw)
    if fault.deed is Deed.STOP:
        try:
            victim.send(signal.SIGSTOP)
            await asyncio.sleep(STOP_S)
        finally:
            victim.send(signal.SIGCONT)
    elif victim == cell.server:
        await cell.kill()
        await cell.start()
    else:
        victim.send(signal.SIGKILL)
        status = await cell.ended(GCS_S) if fault.whom in ("gcs", "raylet") else None
        if status is not None:
            await cell.start()
            return f"{name}; the server ended with status {status} and was started again"
    return name


async def _kill_node(cell: ChaosCell) -> str:
    """End the node that most workers are on; the node comes back with the next fault of its kind."""
    nodes = cell.nodes
    assert nodes is not None
    await asyncio.to_thread(nodes.start)
    workers = {
        name: {n for one in nodes.of(name) for n in names(one.pid) & {*cell.setup.workers}} for name in nodes.names
    }
    name = max(workers, key=lambda name: len(workers[name]))
    await asyncio.to_thread(nodes.kill, name)
    return f"{name} with {', '.join(sorted(workers[name])) or 'no worker'}"


async def _victim(cell: ChaosCell, whom: str, draw: random.Random) -> tuple[str, Process]:
    async with asyncio.timeout(FIND_S):
        while True:
            found = {name: one for name, one in cell.find().items() if is_meant(name, whom)}
            if found:
                name = draw.choice(sorted(found))
                return name, found[name]
            await asyncio.sleep(0.25)


def is_meant(name: str, whom: str) -> bool:
    """Whether a process of this name is one that a fault may strike."""
    role = name.partition("-")[0]
    return name == whom or role == whom or (whom == "worker" and role in ("denoise", "decode"))
