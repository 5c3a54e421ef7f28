"""The recipe, compiled: a chain for each kind and step of ops, what its ops wait for, start from and leave.

Theory of operation. A block passes through S denoise ops D(0,n) .. D(S-1,n) and is then decoded by V(n). What earlier
blocks look like to D(s,n) is the recipe's level, and the level alone decides which commits exist and what waits for
what, by the one rule of sources.py. Nothing outside this folder names the level: workers see page lists and timesteps,
the scheduler walks the chains of a graph.

    OUTPUT   D(s,n) <- D(s-1,n), C(s,n-1)      C(s,n) <- D(s,n), C(s,n-1)      a lane per step
    CLEAN    D(s,n) <- D(s-1,n), C(n-1)        C(n)   <- D(S-1,n)              one lane
    INPUT    D(s,n) <- D(s-1,n), D(s,n-1)      no commit                       a lane per step
    STAGG.   D(s,n) <- D(s-1,n), D(s+L,n-1)    C(n)   <- D(S-1,n)              one lane; C(n-1) for steps past S-1
    all      V(n)   <- D(S-1,n), V(n-1)

Blocks at the beginning of a stream may be read as they are when finished whatever the level says: those that are given,
of which nothing is denoised, and those of a hybrid start. In every lane their x0 is committed at t = 0, so whoever
reads it finds what a lane of level CLEAN would hold: all lanes hold the same pages then, and no block has to be
denoised in another lane than later ones are.

    OUTPUT   C(s,n) <- D(S-1,n), C(s,n-1)
    CLEAN    C(n)   <- D(S-1,n), C(n-1)
    INPUT    D(s,n) <- D(s-1,n), D(s,n-1)      no commit either: the pass whose K/V is read is one of x0 that puts
                                               nothing out; it keeps its place, though it starts from no other

The reference (references.py) is committed so before all blocks, from latents of its own, and waits for nothing.

A chain is all ops of one kind and step, one a block, in the order of their blocks. At level STAGGERED what D(s,n) needs
of the block before is done in the same iteration (joint.py), so ops of several chains go together or not at all.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

from longtake.core.recipe.context import Level
from longtake.core.recipe.ops import Chain, Kind, Need, Noised, Op, Returns, Times
from longtake.core.recipe.recipe import Recipe
from longtake.core.recipe.sources import source

_ONE_LANE = (Level.CLEAN, Level.STAGGERED)
"""The levels at which all steps read one lane, of finished blocks, and each starts from what that keeps."""


def _rows(recipe: Recipe) -> Iterator[tuple[Kind, int]]:
    for step in range(recipe.step_count):
        yield Kind.DENOISE, step
    if recipe.level is not Level.INPUT:
        for step in range(recipe.lane_count):
            yield Kind.COMMIT, step
    yield Kind.DECODE, 0


def chains(recipe: Recipe) -> Iterator[Chain]:
    """The chains of a recipe, in the order of their numbers."""
    rows = list(_rows(recipe))
    numbers = {row: number for number, row in enumerate(rows)}
    lanes = [_lane(recipe, step) for step in range(recipe.step_count)]
    for number, (kind, step) in enumerate(rows):
        commits, decodes = kind is Kind.COMMIT, kind is Kind.DECODE
        in_lane = commits or (recipe.level in _ONE_LANE and kind is Kind.DENOISE and step > 0)
        yield Chain(
            number=number,
            kind=kind,
            step=step,
            lane=None if decodes else lanes[step],
            needs=tuple(
                Need(numbers[row], back, row[0] is Kind.DENOISE and not back)
                for row, back in _needs(recipe, kind, step)
            ),
            times=_times(recipe, kind, step),
            returns=_returns(recipe, kind, step),
            entered_step=_entered_step(recipe, kind, step),
            begins_block=not decodes if recipe.joint else kind is Kind.DENOISE and not in_lane,
            input_is_in_lane=in_lane,
            lanes_left=() if decodes else _lanes_left(recipe, lanes, kind, step),
            reads_later=kind is Kind.DENOISE and recipe.context.both_ways,
        )


def clean_chains(recipe: Recipe, usual: Sequence[Chain]) -> Iterator[Chain]:
    """The same chains as they are for blocks that are read as they are when finished."""
    last = next(row.number for row in usual if row.kind is Kind.DENOISE and row.step + 1 == recipe.step_count)
    for row in usual:
        finished = replace(row.times, timesteps=(0.0,) * len(row.times.timesteps), next_sigma=None)
        of_x0 = replace(row, times=finished, entered_step=recipe.step_count, input_is_in_lane=False)
        match row.kind:
            case Kind.COMMIT if recipe.level is Level.CLEAN:  # at the level and with the noise of every commit there
                yield replace(row, input_is_in_lane=False, needs=(Need(last, 0, True), Need(row.number, 1, False)))
            case Kind.COMMIT:
                yield replace(of_x0, needs=(Need(last, 0, True), Need(row.number, 1, False)))
            case Kind.DENOISE if recipe.level is Level.INPUT:
                yield replace(of_x0, returns=Returns.NOTHING)
            case Kind.DENOISE if row.returns is Returns.SENT_AND_KEPT and recipe.level is Level.OUTPUT:
                yield replace(row, returns=Returns.SENT)  # its commit starts from x0, which comes from another lane
            case _:
                yield row


def reference_chains(recipe: Recipe, usual: Sequence[Chain]) -> Iterator[Chain]:
    """The same chains as they are for the reference, of which there are only the ops that seal the pages of a lane."""
    for row in usual:
        times = replace(row.times, timesteps=(0.0,) * len(row.times.timesteps), next_sigma=None, noised=None)
        yield replace(
            row,
            needs=(),
            times=times,
            returns=Returns.NOTHING,
            entered_step=recipe.step_count + 1,
            input_is_in_lane=False,
        )


def _lanes_left(recipe: Recipe, lanes: list[int], kind: Kind, step: int) -> tuple[int, ...]:
    """The lanes of the forwards to come, each as often as it takes the time of one op."""
    if recipe.joint is not None and kind is Kind.DENOISE:  # each step to come is one forward over all live blocks
        return (0,) * ((recipe.step_count - 1 - step) * recipe.joint.live)
    # A commit is in time if the next block's denoise op in its lane, which waits for it, is.
    return tuple(lanes[step + (kind is Kind.DENOISE) :])


def _needs(recipe: Recipe, kind: Kind, step: int) -> list[tuple[tuple[Kind, int], int]]:
    """What an op waits for: rows, and how many blocks back."""
    last = (Kind.DENOISE, recipe.step_count - 1)
    match kind:
        case Kind.DENOISE:
            own = [((Kind.DENOISE, step - 1), 0)] if step else []
            return [*own, (_before(recipe, kind, step), 1)]
        case Kind.COMMIT if recipe.level in _ONE_LANE:
            return [(last, 0)]
        case Kind.COMMIT:
            return [((Kind.DENOISE, step), 0), (_before(recipe, kind, step), 1)]
        case Kind.DECODE:
            return [(last, 0), ((Kind.DECODE, 0), 1)]


def _before(recipe: Recipe, kind: Kind, step: int) -> tuple[Kind, int]:
    """The row of the op whose K/V of the block before such an op reads; those of blocks before that are there then."""
    read = source(recipe, Op(kind, step, 1), 0)
    return read.kind, read.step


def _lane(recipe: Recipe, step: int) -> int:
    return 0 if recipe.level in _ONE_LANE else step


def _times(recipe: Recipe, kind: Kind, step: int) -> Times:
    if kind is Kind.DECODE:
        return Times(timesteps=(0.0,) * recipe.blocks.frames, sigma=0.0, next_sigma=None)
    timestep = recipe.commit_timestep(step) if kind is Kind.COMMIT else recipe.timesteps[step]
    return Times(
        timesteps=(timestep,) * recipe.blocks.frames,
        sigma=recipe.sigmas[step],
        next_sigma=recipe.sigmas[step + 1] if step + 1 < recipe.step_count else None,
        noised=_noised(recipe) if kind is Kind.COMMIT else None,
    )


def _noised(recipe: Recipe) -> Noised | None:
    """What commits add to finished latents: the draw behind those of the steps, which nothing else takes."""
    return Noised(recipe.commit_sigma, recipe.step_count) if recipe.commit_sigma else None


def _returns(recipe: Recipe, kind: Kind, step: int) -> Returns:
    """A commit starts from what its lane keeps, and so does every later step of a level that has one lane.

    What blocks that step together put out is sent as well: with it they can be taken up anywhere in the middle.
    """
    last = step + 1 == recipe.step_count
    match recipe.level:
        case _ if kind is not Kind.DENOISE:
            return Returns.NOTHING
        case Level.INPUT:
            return Returns.SENT
        case Level.CLEAN if not last:
            return Returns.KEPT
        case _:
            return Returns.SENT_AND_KEPT


def _entered_step(recipe: Recipe, kind: Kind, step: int) -> int:
    match kind:
        case Kind.DENOISE:
            return step
        case Kind.COMMIT if recipe.level is Level.OUTPUT:
            return step + 1
        case _:
            return recipe.step_count
