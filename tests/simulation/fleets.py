"""The workers of a cell, as they introduce themselves when they start."""

from __future__ import annotations

import random
from collections.abc import Sequence

from benchmarks.by_hand import Model
from longtake.core.limits import Limits
from longtake.core.scheduler import Scheduler
from longtake.core.work import Ability, Role, WorkerId
from tests.simulation.chains import ChainCell, ChainMember
from tests.simulation.scenarios import FleetPlan
from tests.simulation.workers import SimulatedProcess
from workers.messages import Introduction, Part, Seat


def start(plan: FleetPlan, cell: ChainCell) -> dict[WorkerId, SimulatedProcess]:
    """Start all of them, by name; each dials in by itself."""
    started: dict[WorkerId, SimulatedProcess] = {}
    for role, count in ((Role.DENOISE, plan.denoisers), (Role.DECODE, plan.decoders), (Role.TEXT, plan.texters)):
        for number in range(count):
            name = WorkerId(f"{role.value}-{number}")
            is_late = role is Role.DENOISE and number + 1 == plan.denoisers
            begins_s = plan.late_s if is_late else 0.0
            ability = _ability(plan, cell.models[0], role)
            length = plan.chain_length if role is Role.DENOISE else 1
            if length == 1:
                whole = Introduction(worker=name, role=role, ability=ability, model_digest="m")
                started[name] = SimulatedProcess(whole, cell, begins_s=begins_s)
                continue
            for rank in range(length):
                seat = Seat(replica=name, rank=rank, length=length)
                part = Part(seat=seat, layers=range(rank, rank + 1))
                each = Introduction(worker=seat.member, role=role, ability=ability, model_digest="m", part=part)
                started[seat.member] = ChainMember(each, cell, seat, begins_s=begins_s)
    return started


def _ability(plan: FleetPlan, model: Model, role: Role) -> Ability:
    capacity, depth = {
        Role.DENOISE: (plan.pages, model.reach.layers),
        Role.DECODE: (plan.slots, model.reach.latents),
        Role.TEXT: (1, 0),
    }[role]
    return Ability(
        joint_ops=64,
        capacity=capacity,
        batch_limit=plan.batch_limit,
        mixes_kinds=plan.mixes_kinds,
        forward_s=0.0125,
        encodes_text=not plan.texters,
        numerics="simulated",
        replay_depth=depth,
    )


def names(plan: FleetPlan) -> list[WorkerId]:
    """The workers as the engine knows them."""
    counts = {Role.DENOISE: plan.denoisers, Role.DECODE: plan.decoders, Role.TEXT: plan.texters}
    return [WorkerId(f"{role.value}-{number}") for role, count in counts.items() for number in range(count)]


def scheduler_of(models: Sequence[Model], limits: Limits, seed: int) -> Scheduler:
    """What decides for a cell with these recipes. Steps are shed at random."""
    loads, scheduler = random.Random(f"loads {seed}"), Scheduler(models[0].recipe, models[0].geometry, limits)
    for number, other in enumerate(models[1:], start=1):
        scheduler.serve(f"r{number}", other.recipe)
    scheduler.cell.load_rule = lambda _cell, session, _block, _now_s: loads.randint(
        0, session.graph.recipe.steps.most_load
    )
    return scheduler
