"""Orders: an op, written out as everything that a worker needs to execute it."""

from __future__ import annotations

from longtake.core.fleet.worker import Worker
from longtake.core.recipe.graph import Chain, Op
from longtake.core.sessions.session import Session
from longtake.core.work import ConditioningRef, DecodeWork, ForwardWork, FromLane, FromLatent, FromNoise, LatentRef


def decode_work(op: Op, session: Session) -> DecodeWork:
    """Everything a worker needs to execute a decode."""
    block = op.block
    return DecodeWork(
        session=session.id,
        block=block,
        slot=session.place.slot,
        latents=LatentRef(session=session.id, block=block, step=session.graph.step_count),
        first_picture=session.geometry.first_picture(block),
        picture_count=session.picture_count(block),
        settings=session.request.settings,
    )


def forward_work(op: Op, session: Session, worker: Worker) -> ForwardWork:
    """Everything `worker` needs to execute a denoise op or a commit."""
    graph, chain, block = session.graph, session.graph.chain_of(op), op.block
    lane = chain.lane or 0
    table = session.place.tables[lane]
    return ForwardWork(
        session=session.id,
        lane=lane,
        kind=chain.kind,
        step=chain.step,
        block=block,
        timestep=chain.timestep,
        sigma=chain.sigma,
        next_sigma=chain.next_sigma,
        seed=session.request.seed,
        positions=graph.recipe.positions.of(graph.blocks.own(block)),
        reads=table.reads(block),
        writes=table.writes(block),
        conditioning=ConditioningRef(session=session.id, version=session.prompts.turn_at(block).version),
        input=_input(session, chain, block, worker),
    )


def _input(session: Session, chain: Chain, block: int, worker: Worker) -> FromLane | FromLatent | FromNoise:
    if worker.keeps_input(chain):
        return FromLane()
    if not chain.entered_step:
        return FromNoise()
    return FromLatent(LatentRef(session=session.id, block=block, step=chain.entered_step))
