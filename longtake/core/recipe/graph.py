"""Ops and what each of them waits for: the one place that decides what can be pipelined.

Theory of operation. A block passes through S denoise ops D(0,n) .. D(S-1,n) and is then decoded by V(n). What earlier
blocks look like to D(s,n) is the recipe's level, and the level alone decides which commits exist and what waits for
what. Nothing else in the project branches on the level: workers see page lists and timesteps, the scheduler sees the
edges that `needs` returns.

    OUTPUT   D(s,n) <- D(s-1,n), C(s,n-1)      C(s,n) <- D(s,n), C(s,n-1)      a lane per step
    CLEAN    D(s,n) <- D(s-1,n), C(n-1)        C(n)   <- D(S-1,n)              one lane
    INPUT    D(s,n) <- D(s-1,n), D(s,n-1)      no commit                       a lane per step
    all      V(n)   <- D(S-1,n), V(n-1)
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum

from longtake.core.recipe.recipe import Level, Recipe


class Kind(Enum):
    """What an op does."""

    DENOISE = "D"
    COMMIT = "C"
    DECODE = "V"

    __hash__ = object.__hash__
    """By identity, as members are compared; Enum's own is slow, and ops are looked up all the time."""


@dataclass(frozen=True, slots=True)
class Op:
    """One op of one session. `step` is 0 for a decode and for the commit of level CLEAN."""

    kind: Kind
    step: int
    block: int


def needs(op: Op, recipe: Recipe) -> tuple[Op, ...]:
    """The ops that must be done before `op` may run (DESIGN section 5; HiAR section 3)."""
    last = recipe.step_count - 1
    step, block = op.step, op.block
    match op.kind:
        case Kind.DENOISE:
            own = () if step == 0 else (Op(Kind.DENOISE, step - 1, block),)
            return own if block == 0 else (*own, sealing_op(step, block - 1, recipe))
        case Kind.COMMIT if recipe.level is Level.CLEAN:
            return (Op(Kind.DENOISE, last, block),)
        case Kind.COMMIT:
            own = (Op(Kind.DENOISE, step, block),)
            return own if block == 0 else (*own, Op(Kind.COMMIT, step, block - 1))
        case Kind.DECODE:
            own = (Op(Kind.DENOISE, last, block),)
            return own if block == 0 else (*own, Op(Kind.DECODE, 0, block - 1))


def sealing_op(step: int, block: int, recipe: Recipe) -> Op:
    """The op whose K/V later blocks read when they are denoised at `step`."""
    match recipe.level:
        case Level.OUTPUT:
            return Op(Kind.COMMIT, step, block)
        case Level.CLEAN:
            return Op(Kind.COMMIT, 0, block)
        case Level.INPUT:
            return Op(Kind.DENOISE, step, block)


def chains(recipe: Recipe) -> Iterator[tuple[Kind, int]]:
    """Every (kind, step) of a session; the ops of one chain run in the order of their blocks."""
    for step in range(recipe.step_count):
        yield (Kind.DENOISE, step)
    if recipe.level is not Level.INPUT:
        for step in range(recipe.lane_count):
            yield (Kind.COMMIT, step)
    yield (Kind.DECODE, 0)


def forwards_per_block(recipe: Recipe) -> int:
    """Forwards that one block costs: 2 S at level OUTPUT, S + 1 at CLEAN, S at INPUT."""
    return sum(1 for kind, _ in chains(recipe) if kind is not Kind.DECODE)


def lane_of(op: Op, recipe: Recipe) -> int:
    """The lane whose pages `op` reads and writes."""
    return 0 if recipe.level is Level.CLEAN else op.step


def begins_block(op: Op, recipe: Recipe) -> bool:
    """Whether `op` is the first of its block in its lane: before it, and only there, the lane is at a boundary."""
    return op.kind is Kind.DENOISE and not input_is_in_lane(op, recipe)


def entered_step(op: Op, recipe: Recipe) -> int:
    """Which latents `op` starts from: those that enter this step of its block; S is the finished x0, 0 noise."""
    match op.kind:
        case Kind.DENOISE:
            return op.step
        case Kind.COMMIT if recipe.level is Level.OUTPUT:
            return op.step + 1
        case _:
            return recipe.step_count


def readers(step: int, block: int, recipe: Recipe) -> tuple[Op, Op | None]:
    """The op that takes the latents that enter `step` further, and the commit that starts from them, if there is one.

    They are the outputs of D(step - 1, block), so `step` is 1 to S.
    """
    further = Op(Kind.DENOISE, step, block) if step < recipe.step_count else Op(Kind.DECODE, 0, block)
    match recipe.level:
        case Level.OUTPUT:
            return further, Op(Kind.COMMIT, step - 1, block)
        case Level.CLEAN if step == recipe.step_count:
            return further, Op(Kind.COMMIT, 0, block)
        case _:
            return further, None


def input_is_in_lane(op: Op, recipe: Recipe) -> bool:
    """Whether the latent that `op` starts from is the output of the last denoise op in its own lane.

    A worker keeps exactly that latent, so it need not be sent again; a chain of workers does not.
    """
    return op.kind is Kind.COMMIT or (recipe.level is Level.CLEAN and op.kind is Kind.DENOISE and op.step > 0)
