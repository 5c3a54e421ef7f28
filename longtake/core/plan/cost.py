"""What a recipe costs, beside that of the model's own: a ratio of device time, and what a session holds."""

from __future__ import annotations

from dataclasses import dataclass, replace

from longtake.core.plan.model import Model
from longtake.core.recipe.graph import Graph
from longtake.core.recipe.table import NamedRecipe


@dataclass(frozen=True, slots=True, kw_only=True)
class RecipeCost:
    """One recipe over the weights of one model."""

    forwards_per_block: int
    block_s: float
    """Playing time of a block."""
    relative_cost: float
    """Device time for a second of the stream, over that of the model's own recipe; modelled by floating-point
    operations, decoding left out."""
    lanes: int
    """K/V of a session that lie where one worker is each: a step pipeline has as many stages."""
    pages: int
    """Pages of a session, of all its lanes."""
    forwards_to_latents: int
    """Those that the pictures of a block wait for as a rule, one after the other."""


def under(model: Model, named: NamedRecipe) -> Model:
    """The same model by another recipe; InvalidField if frames of its size cannot be folded as that says."""
    made = named.recipe
    made.memory.check_tokens(model.geometry.tokens_per_frame)
    return replace(model, recipe=made, geometry=model.geometry.divided(made.blocks))


def cost_of(model: Model, named: NamedRecipe) -> RecipeCost:
    """What a recipe costs with the weights of `model`."""
    served = under(model, named)
    graph = Graph(served.recipe)
    return RecipeCost(
        forwards_per_block=graph.forwards_per_block,
        block_s=served.geometry.block_s,
        relative_cost=_flop_per_s(served) / _flop_per_s(model),
        lanes=graph.lane_count,
        pages=graph.lane_count * served.recipe.page_count,
        forwards_to_latents=served.recipe.usual_count,
    )


def _flop_per_s(model: Model) -> float:
    """Floating-point operations for a second of the stream."""
    return Graph(model.recipe).forwards_per_block * model.forward_flop / model.geometry.block_s
