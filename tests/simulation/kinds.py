"""Scenarios whose cells serve recipes of every mechanism: step lists, blocks that step together, recaches, places,
noise in the context, a clean start, stories with cuts, references, folds, a slope;
and streams that begin with what is given.
"""

from __future__ import annotations

import random
from dataclasses import replace

from benchmarks.by_hand import Model
from longtake.core.errors import Contradiction, InvalidField, LongtakeError
from longtake.core.recipe.blocks import BlockPlan
from longtake.core.recipe.context import Context, Level
from longtake.core.recipe.cues import CuePolicy, CueRule
from longtake.core.recipe.given import graph_with
from longtake.core.recipe.graph import Graph
from longtake.core.recipe.memory import MemoryPolicy, OnLeave
from longtake.core.recipe.positions import Cyclic, Numbering, Positions
from longtake.core.recipe.recipe import Recipe
from longtake.core.recipe.steps import StepPlan

FOLDING = 0.12
"""So many recipes fold."""
BLOCK_LIMIT = 40
"""Of streams that remember everything."""


def any_recipe(draw: random.Random) -> Recipe:
    """A recipe; what contradicts itself is drawn again."""
    while True:
        try:
            return _sloped(_folding(draw) if draw.random() < FOLDING else _recipe(draw))
        except (Contradiction, InvalidField):
            continue


def _sloped(made: Recipe) -> Recipe:
    """One in two with a slope, of those that may have one."""
    try:
        return replace(made, positions=replace(made.positions, slope=0.1 if made.window.size % 2 else 0.0))
    except Contradiction:
        return made


def _recipe(draw: random.Random) -> Recipe:
    frames, steps = draw.choice([1, 2, 3]), draw.choice([1, 2, 3, 4])
    level = draw.choice([Level.OUTPUT, Level.CLEAN, Level.CLEAN, Level.INPUT, Level.STAGGERED])
    rule = draw.choice([CueRule.SWAP, *CueRule])
    sinks = draw.choice([0, 0, frames, 2 * frames] if rule is not CueRule.SWAP else [0, 0, 1, frames, frames + 1])
    can_cut = rule is CueRule.SWAP and draw.random() < 0.5
    shots = draw.choice([0, frames, 2 * frames]) if can_cut else 0
    references = 0 if can_cut else draw.choice([0, 0, 0, 1, 2])
    window = frames + sinks + shots + references + draw.choice([1, frames, 2 * frames, 3 * frames])
    keep = draw.choice([True, False]) if sinks and rule in (CueRule.WINDOW, CueRule.JOINT) else None
    ladder = tuple(1000 - 1000 * step // steps for step in range(steps))
    return Recipe(
        steps=_lists(draw, ladder) if level is Level.CLEAN else StepPlan(ladder=ladder, shift=5.0),
        blocks=BlockPlan(frames=frames, first_frames=draw.choice([None, None, None, frames + 1, 1])),
        context=Context(
            level=level,
            window_frames=window,
            sink_frames=sinks,
            shot_frames=shots,
            reference_frames=references,
            lag=draw.randint(1, steps) if level is Level.STAGGERED else 0,
            both_ways=level is Level.STAGGERED and draw.random() < 0.5,
            commit_step=draw.choice([0, 0, 50]) if level is Level.CLEAN else 0,
            start_blocks=draw.choice([0, 0, 1, 2]) if level is Level.OUTPUT else 0,
        ),
        positions=Positions(
            stream=draw.choice([*Numbering, Numbering.ABSOLUTE, Cyclic(cyclic=window)]),
            shot_offset=draw.choice([0, 3]) if can_cut else 0,
            reference_lead=draw.choice([0, 4, 8]) if references else 0,
            reference_stride=draw.choice([1, 4]) if references else 1,
        ),
        cues=CuePolicy(cut=True) if can_cut else CuePolicy(change=rule, keep_sinks=keep),
        block_limit=BLOCK_LIMIT if rule is CueRule.FULL else None,
    )


def _folding(draw: random.Random) -> Recipe:
    """A recipe by which what leaves the window is folded: frames of a window that fills as a block ends."""
    frames, steps = draw.choice([1, 2, 3]), draw.choice([1, 2, 3])
    k, memory = draw.choice([(2, frames), (2, frames), (3, 1)])
    sinks, lead = draw.choice([0, 1, 2]), draw.choice([None, 1])
    window = (lead or frames) + draw.randint(1, 4) * frames
    return Recipe(
        steps=StepPlan(ladder=tuple(1000 - 1000 * step // steps for step in range(steps)), shift=5.0),
        blocks=BlockPlan(frames=frames, first_frames=lead),
        context=Context(
            level=draw.choice([Level.INPUT, Level.CLEAN, Level.OUTPUT]),
            window_frames=window,
            sink_frames=sinks,
            memory_frames=memory,
        ),
        positions=Positions(stream=Numbering.LISTED),
        memory=MemoryPolicy(on_leave=OnLeave.FOLD, fold_frames=k),
    )


def _lists(draw: random.Random, ladder: tuple[int, ...]) -> StepPlan:
    """A plan with lists of steps, or without."""
    if len(ladder) == 1 or draw.random() < 0.4:
        return StepPlan(ladder=ladder, shift=5.0)
    first = draw.choice([(), ladder])
    shed = [ladder[:-1]] * (len(ladder) > 2) + [ladder[:1]]
    usual = draw.choice([(), ladder[:-1]]) if first and len(ladder) > 2 else ()
    kept = tuple(each for each in shed if len(each) < len(usual or ladder))
    blocks = draw.randrange(1, 3) if first else 0
    return StepPlan(ladder=ladder, shift=5.0, usual=usual, first=first, first_blocks=blocks, shed=kept)


def any_model(draw: random.Random, like: Model) -> Model:
    """A model whose streams may live on the same workers."""
    recipe = any_recipe(draw)
    return replace(like, recipe=recipe, geometry=like.geometry.divided(recipe.blocks))


def may_be_given(model: Model, frames: int, blocks: int) -> bool:
    """Whether a stream of so many blocks may begin with so many latent frames, and go on."""
    try:
        graph = graph_with(Graph(model.recipe), frames)
    except LongtakeError:
        return False
    return graph.given_blocks + 2 <= blocks
