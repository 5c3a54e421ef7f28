"""Sources: which op's keys and values an op reads of a block before its own.

Theory of operation. A level is nothing but this rule. What an op waits for, which ops seal pages, and which ops have to
run in one forward follow from it; chains.py and joint.py draw the conclusions.

    OUTPUT      C(s, p)              the past at the noise level that step s puts out
    CLEAN       C(p)                 the past as it is when finished
    INPUT       D(s, p)              the past at the noise level that step s is given
    STAGGERED   D(s + L (n - p), p)  the past as many steps further as it was begun sooner: a block begins when the one
                or C(p)              before it has done L steps, so all of them step together
"""

from __future__ import annotations

from longtake.core.recipe.context import Level
from longtake.core.recipe.ops import Kind, Op
from longtake.core.recipe.recipe import Recipe


def source(recipe: Recipe, op: Op, past: int) -> Op:
    """The op whose K/V of block `past`, which is before its own, a denoise op or commit reads."""
    match recipe.level:
        case Level.OUTPUT:
            return Op(Kind.COMMIT, op.step, past)
        case Level.CLEAN:
            return Op(Kind.COMMIT, 0, past)
        case Level.INPUT:
            return Op(Kind.DENOISE, op.step, past)
        case Level.STAGGERED:
            done = recipe.step_count if op.kind is Kind.COMMIT else op.step
            step = done + recipe.context.lag * (op.block - past)
            return Op(Kind.DENOISE, step, past) if step < recipe.step_count else Op(Kind.COMMIT, 0, past)


def sealing(recipe: Recipe, lane: int) -> Op:
    """The op of block 0 whose K/V stays in this lane: it is what a block reads that comes long after."""
    return source(recipe, Op(Kind.DENOISE, lane, recipe.step_count), 0)
