"""What is given: streams whose first latent frames are there before they begin, and how these make blocks."""

from __future__ import annotations

from dataclasses import replace

from longtake.core.errors import Contradiction, InvalidField
from longtake.core.recipe.blocks import BlockPlan
from longtake.core.recipe.graph import Graph


def plan_with(plan: BlockPlan, frames: int) -> BlockPlan:
    """The plan of a stream of which the first `frames` latent frames, 1 or more, are given.

    They are whole blocks, so the first block has what is left over: one frame if an image is given.
    """
    if frames >= plan.lead and not (frames - plan.lead) % plan.frames:
        return plan
    return replace(plan, first_frames=1 + (frames - 1) % plan.frames)


def graph_with(graph: Graph, frames: int) -> Graph:
    """The graph of a stream by the same recipe of which so many latent frames are given; itself if none are.

    InvalidField if they are more than a block of such a stream could read.
    """
    if not frames:
        return graph
    recipe = graph.recipe
    if recipe.joint is not None:
        allowed = "none by this recipe: its blocks step together from the first on"
        raise InvalidField("open.given", f"{frames} latent frames", allowed)
    most = recipe.window.span
    if not 0 < frames <= most:
        raise InvalidField("open.given", f"{frames} latent frames", f"at most {most} latent frames: the whole window")
    plan = plan_with(recipe.blocks, frames)
    if recipe.block_limit is not None and plan.block_of(frames - 1) + 1 >= recipe.block_limit:
        allowed = f"fewer than {recipe.block_limit} blocks, the longest stream by this recipe"
        raise InvalidField("open.given", f"{plan.block_of(frames - 1) + 1} blocks", allowed)
    try:
        made = recipe if plan == recipe.blocks else replace(recipe, blocks=plan)
    except Contradiction as error:
        allowed = f"so many that the recipe can have the rest of them as its first block ({error})"
        raise InvalidField("open.given", f"{frames} latent frames", allowed) from None
    return Graph(made, given_blocks=plan.block_of(frames - 1) + 1, proven=graph.shapes)
