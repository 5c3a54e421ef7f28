"""Which recipes a server serves: the model's own, and those that its configuration names."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from longtake.core.errors import InvalidField
from longtake.core.recipe.table import NamedRecipe, Quality
from longtake.recipes import find_recipe, shipped
from workers.models.weights import ModelInfo

OWN = "own"
"""What the recipe of a model is called that is none of those that ship."""
FIELD = "model.recipes"


def served_recipes(info: ModelInfo, asked: Sequence[str], *, is_pocket: bool) -> tuple[NamedRecipe, ...]:
    """The model's own recipe, which is that of streams that name none, and then those that are asked for.

    Each of those is the name of one that ships, or the path of a file; one that is the model's own gives it its name.
    What shipped recipes are good for was found out with the pocket model. InvalidField, about `FIELD`, if two have one
    name or are the same; what is wrong in a file is told by its keys.
    """
    others = [find_recipe(text, field=FIELD) for text in asked]
    if not is_pocket:
        others = [replace(each, quality=Quality.UNPROVEN) for each in others]
    same = [each for each in others if each.recipe == info.recipe]
    others = [each for each in others if each.recipe != info.recipe]
    taken = {each.name for each in others}
    known = [each for each in (*same, *shipped().values()) if each.recipe == info.recipe and each.name not in taken]
    own = known[0] if known else NamedRecipe(name=OWN, recipe=info.recipe, help="what the model was trained for")
    served = (replace(own, quality=Quality.PROVEN), *others)
    for each in served:
        each.recipe.memory.check_tokens(info.geometry.tokens_per_frame)
    for number, each in enumerate(served):
        for other in served[:number]:
            if each.name == other.name:
                raise InvalidField(
                    FIELD, each.name, "recipes whose names differ; that of a file is its own, less .toml"
                )
            if each.recipe == other.recipe:
                raise InvalidField(FIELD, each.name, f"recipes that differ: it is the same as {other.name}")
    return served
