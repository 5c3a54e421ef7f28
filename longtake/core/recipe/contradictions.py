"""The table of contradictions: which fields of a recipe are each fine alone and not together, and why.

A rule names both of its sides by the fields of a recipe, as a model's file has them; whoever reads recipes from
elsewhere puts other words for them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from longtake.core.errors import Contradictions
from longtake.core.recipe.context import Level
from longtake.core.recipe.cue_rules import RULES_OF_CUES
from longtake.core.recipe.memory_rules import RULES_OF_MEMORY
from longtake.core.recipe.positions import Cyclic, Numbering
from longtake.core.recipe.reference_rules import RULES_OF_REFERENCES
from longtake.core.recipe.rule import Described, Rule
from longtake.core.recipe.slope_rules import RULES_OF_SLOPES
from longtake.core.recipe.steps import StepPlan

_NOISE = 1000.0
"""The timestep of pure noise."""


def _period(of: Described) -> int | None:
    stream = of.positions.stream
    return stream.cyclic if isinstance(stream, Cyclic) else None


def _left_of_window(of: Described) -> int | None:
    """What the reference leaves of the window; None: there is no end to it."""
    return None if of.window_frames is None else of.window_frames - of.context.reference_frames


def _comes_round(of: Described) -> bool:
    """Whether two of the frames that a block reads stand in one place."""
    period, window, limit = _period(of), of.window_frames, of.block_limit
    if window is None and limit is not None:
        window = of.blocks.first_frame(limit)
    return period is not None and window is not None and period < window


def _takes_each_step(of: Described) -> bool:
    """Whether each block must take each step. (A ladder of one step makes no difference: it has one list.)"""
    return of.lane_count > 1 or of.joint is not None


def _is_beyond(of: Described, entries: tuple[int, ...]) -> bool:
    """Whether a list does not begin where the ladder does, or holds what is not in it."""
    ladder = of.steps.ladder
    return bool(entries) and not (entries[0] == ladder[0] and set(entries) <= set(ladder))


def _list_rules() -> Iterator[Rule]:
    """What goes for each list of steps."""
    lists: dict[str, Callable[[StepPlan], tuple[tuple[int, ...], ...]]] = {
        "usual_steps": lambda steps: (steps.usual,) if steps.usual else (),
        "first_steps": lambda steps: (steps.first,) if steps.first else (),
        "shed_steps": lambda steps: steps.shed,
    }
    for field, found in lists.items():
        word = field.removesuffix("_steps")
        yield Rule(
            name=f"{word} list where each step has a lane",
            first=("level",),
            second=(field,),
            is_broken=lambda recipe, found=found: _takes_each_step(recipe) and bool(found(recipe.steps)),  # type: ignore[misc]
            why="a block that skips a step leaves a hole where each step reads earlier blocks in a lane of its own, or "
            "where blocks step together",
        )
        yield Rule(
            name=f"{word} list beyond the ladder",
            first=(field,),
            second=("steps",),
            is_broken=lambda recipe, found=found: any(  # type: ignore[misc]
                _is_beyond(recipe, entries) for entries in found(recipe.steps)
            ),
            why="every list begins with the first entry of the ladder and goes on with others of it",
        )


RULES = (
    Rule(
        name="endless without a window",
        first=("window_frames",),
        second=("block_limit",),
        is_broken=lambda recipe: recipe.window_frames is None and recipe.block_limit is None,
        why="without a window memory grows with every block, so the number of blocks must be finite",
    ),
    Rule(
        name="sinks without a window",
        first=("sink_frames",),
        second=("window_frames",),
        is_broken=lambda recipe: recipe.sink_frames > 0 and recipe.window_frames is None,
        why="sinks are frames that stay when the window goes on, and without a window every frame stays",
        can_run=True,
    ),
    Rule(
        name="window too small",
        first=("window_frames",),
        second=("frames_per_block", "sink_frames", "reference_frames"),
        is_broken=lambda recipe: (
            (left := _left_of_window(recipe)) is not None and left < recipe.sink_frames + recipe.blocks.frames
        ),
        why="the window must hold the reference, the sinks and at least the own block",
    ),
    Rule(
        name="first block too large",
        first=("window_frames",),
        second=("first_frames", "reference_frames"),
        is_broken=lambda recipe: (left := _left_of_window(recipe)) is not None and left < recipe.blocks.lead,
        why="the window must hold the reference and the first block, which has more frames than the others",
    ),
    Rule(
        name="nothing but a first block",
        first=("first_frames",),
        second=("block_limit",),
        is_broken=lambda recipe: recipe.blocks.first_frames is not None and recipe.block_limit == 1,
        why="a stream of one block has no others that it could differ from",
    ),
    Rule(
        name="a clean start of what has one, or has no commits",
        first=("start_blocks",),
        second=("level",),
        is_broken=lambda recipe: recipe.context.start_blocks > 0 and recipe.context.level is not Level.OUTPUT,
        why="only where a block is committed in several lanes can its first ones be committed otherwise: with clean "
        "all are read so, and with input there are no commits",
    ),
    Rule(
        name="a past of noise",
        first=("level",),
        second=("steps",),
        is_broken=lambda recipe: min(recipe.past_timesteps) >= _NOISE,
        why="every step would read earlier blocks as pure noise, so no block would know anything of those before it",
        can_run=True,
    ),
    Rule(
        name="period too short",
        first=("positions",),
        second=("window_frames",),
        is_broken=_comes_round,
        why="two of the frames that a block reads would stand in the same place",
    ),
    Rule(
        name="sinks in the way",
        first=("positions",),
        second=("sink_frames",),
        is_broken=lambda recipe: _period(recipe) is not None and recipe.sink_frames > 0,
        why="sinks keep their places, and later frames come round to them",
    ),
    Rule(
        name="sinks of several blocks, listed",
        first=("positions",),
        second=("frames_per_block", "sink_frames"),
        is_broken=lambda recipe: (
            recipe.positions.stream is Numbering.LISTED and recipe.blocks.first_frame(1) < recipe.sink_frames
        ),
        why="the sinks must be frames of the first block: models with listed places are made for sinks that are there "
        "from the first block on",
    ),
    Rule(
        name="noise in a context that has its own",
        first=("commit_step", "commit_label"),
        second=("level",),
        is_broken=lambda recipe: (
            recipe.context.level is not Level.CLEAN
            and (recipe.context.commit_step > 0 or recipe.context.commit_label is not None)
        ),
        why="only finished blocks can be read at a level of their own; the other levels say themselves how noisy the "
        "past is read",
    ),
    Rule(
        name="a lag that says nothing",
        first=("lag",),
        second=("level",),
        is_broken=lambda recipe: (recipe.context.level is Level.STAGGERED) is not (recipe.context.lag > 0),
        why="at level staggered a block begins when the one before has done so many steps, 1 or more; at the others it "
        "begins when what it reads is done",
    ),
    Rule(
        name="a lag of more than all steps",
        first=("lag",),
        second=("steps",),
        is_broken=lambda recipe: recipe.context.lag > len(recipe.steps.ladder),
        why="a block would begin when the one before has done more steps than there are; at most it begins after all "
        "of them, as at level clean",
    ),
    Rule(
        name="blocks of several sizes that step together",
        first=("first_frames",),
        second=("level",),
        is_broken=lambda recipe: recipe.context.level is Level.STAGGERED and recipe.blocks.lead != recipe.blocks.frames,
        why="blocks that step together are one forward, whose blocks all make as many frames",
    ),
    Rule(
        name="places that change where blocks step together",
        first=("positions",),
        second=("level",),
        is_broken=lambda recipe: (
            recipe.context.level is Level.STAGGERED and recipe.positions.stream is Numbering.LISTED
        ),
        why="in one forward a frame would stand in another place for each of the blocks that read it",
    ),
    Rule(
        name="both ways where nothing is shared",
        first=("both_ways",),
        second=("level",),
        is_broken=lambda recipe: recipe.context.both_ways and recipe.context.level is not Level.STAGGERED,
        why="a block can read a later one only if both are denoised at once",
    ),
    Rule(
        name="a window that does not hold the blocks that read one another",
        first=("window_frames",),
        second=("both_ways", "lag", "steps", "frames_per_block", "sink_frames"),
        is_broken=lambda recipe: (
            recipe.context.both_ways
            and recipe.joint is not None
            and recipe.window_frames is not None
            and recipe.window_frames < recipe.sink_frames + (1 + recipe.joint.ahead) * recipe.blocks.frames
        ),
        why="both ways every block reads all that are not finished, so the window must hold the sinks and all of those",
    ),
    *_list_rules(),
    Rule(
        name="a first list for no block",
        first=("first_steps",),
        second=("first_blocks",),
        is_broken=lambda recipe: bool(recipe.steps.first) and not recipe.steps.first_blocks,
        why="no block would take it",
    ),
    Rule(
        name="first blocks without a list",
        first=("first_blocks",),
        second=("first_steps",),
        is_broken=lambda recipe: recipe.steps.first_blocks > 0 and not recipe.steps.first,
        why="they would take what all others take",
    ),
    Rule(
        name="nothing shed",
        first=("shed_steps",),
        second=("usual_steps", "steps"),
        is_broken=lambda recipe: bool(
            recipe.steps.shed and len(recipe.steps.shed[0]) >= len(recipe.steps.usual_entries)
        ),
        why="under load a block takes fewer steps than as a rule",
    ),
    Rule(
        name="a stream of first blocks",
        first=("first_blocks",),
        second=("block_limit",),
        is_broken=lambda recipe: recipe.block_limit is not None and 0 < recipe.block_limit <= recipe.steps.first_blocks,
        why="every block would be a first one, and the usual list is nobody's",
        can_run=True,
    ),
    Rule(
        name="a step that no block takes",
        first=("steps",),
        second=("usual_steps",),
        is_broken=lambda recipe: (
            not _takes_each_step(recipe)
            and not set(recipe.steps.ladder) <= {each for one in recipe.steps.lists for each in one}
        ),
        why="the ladder has entries that are in no list of any block",
        can_run=True,
    ),
    *RULES_OF_CUES,
    *RULES_OF_MEMORY,
    *RULES_OF_REFERENCES,
    *RULES_OF_SLOPES,
)
"""All rules, in the order in which they are told."""


def check(of: Described) -> None:
    """Contradiction, or Contradictions with all of them, if a recipe whose fields are each fine alone breaks a rule."""
    found = [rule.contradiction(of) for rule in RULES if rule.is_broken(of)]
    if found:
        raise found[0] if len(found) == 1 else Contradictions(found)


def check_can_run(of: Described) -> None:
    """The same if nothing could serve the recipe."""
    if any(rule.is_broken(of) for rule in RULES if not rule.can_run):
        check(of)
