"""From an op to the self-contained work order that a worker executes."""

from __future__ import annotations

from longtake.core.events import (
    ConditioningRef,
    DecodeWork,
    ForwardWork,
    FromLane,
    FromLatent,
    FromNoise,
    Input,
    LatentRef,
    Work,
)
from longtake.core.schedule import Kind, Op, input_is_in_lane, lane_of
from longtake.core.session import Session


def work_for(op: Op, session: Session, version: int) -> Work:
    """Everything a worker needs to execute `op`, conditioned on prompt `version`."""
    if op.kind is Kind.DECODE:
        return DecodeWork(
            session=session.id,
            block=op.block,
            slot=session.place.slot,
            latents=LatentRef(session=session.id, block=op.block, step=session.recipe.step_count),
            first_picture=session.geometry.first_picture(op.block),
            picture_count=session.picture_count(op.block),
            settings=session.request.settings,
        )
    recipe = session.recipe
    lane = lane_of(op, recipe)
    table = session.place.tables[lane]
    first = session.geometry.first_frame(op.block)
    denoises = op.kind is Kind.DENOISE
    last = op.step + 1 == recipe.step_count
    return ForwardWork(
        session=session.id,
        lane=lane,
        kind=op.kind,
        step=op.step,
        block=op.block,
        timestep=recipe.timesteps[op.step] if denoises else recipe.commit_timestep(op.step),
        sigma=recipe.sigmas[op.step],
        next_sigma=None if last else recipe.sigmas[op.step + 1],
        seed=session.request.seed,
        positions=tuple(range(first, first + recipe.frames_per_block)),
        reads=table.reads(first, recipe),
        writes=table.writes(first, recipe),
        conditioning=ConditioningRef(session=session.id, version=version),
        input=_input(op, session),
    )


def _input(op: Op, session: Session) -> Input:
    if input_is_in_lane(op, session.recipe):
        return FromLane()
    if op.step == 0:
        return FromNoise()
    return FromLatent(LatentRef(session=session.id, block=op.block, step=op.step))
