"""Cells whose workers say how long their ops take."""

from __future__ import annotations

from collections import deque

from longtake.core.events import WorkerJoined
from longtake.core.recipe.context import Level
from longtake.core.recipe.recipe import Recipe
from longtake.core.work import Ability, Role, WorkerId
from tests.core.support.parts import recipe
from tests.core.support.world import Cell


def timed_cell(
    *forward_s: float, decode_s: float = 0.01, level: Level = Level.OUTPUT, others: dict[str, Recipe] | None = None
) -> Cell:
    """Denoise workers that need so long for a forward."""
    cell = Cell(recipe(level), denoisers=0, decoders=0, others=others or {})
    for number, seconds in enumerate(forward_s):
        join_timed(cell, f"denoise-{number}", Role.DENOISE, seconds)
    join_timed(cell, "decode-0", Role.DECODE, decode_s)
    return cell


def join_timed(cell: Cell, name: str, role: Role, forward_s: float) -> None:
    """A worker joins that says how long a forward takes."""
    worker = WorkerId(name)
    cell.queues[worker] = deque()
    cell.send(WorkerJoined(now_s=0.0, worker=worker, role=role, ability=Ability(capacity=4000, forward_s=forward_s)))


def decoding_cell(full_s: float, tiny_s: float) -> Cell:
    """Forwards take no time to speak of; only decodes count."""
    cell = Cell(recipe(), denoisers=0, decoders=0)
    for name, role, ability in (
        ("denoise-0", Role.DENOISE, Ability(capacity=4000, forward_s=1e-6)),
        ("decode-0", Role.DECODE, Ability(capacity=400, forward_s=full_s, tiny_s=tiny_s)),
    ):
        cell.queues[WorkerId(name)] = deque()
        cell.send(WorkerJoined(now_s=0.0, worker=WorkerId(name), role=role, ability=ability))
    return cell
