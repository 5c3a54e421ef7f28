"""The parts of a recipe, and the names that their fields have where a recipe is written flat, as in a model's file."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import MISSING, Field, dataclass, fields
from enum import Enum
from typing import Any

from longtake.core.recipe.blocks import BlockPlan
from longtake.core.recipe.context import Context
from longtake.core.recipe.cues import CuePolicy
from longtake.core.recipe.memory import MemoryPolicy
from longtake.core.recipe.positions import Cyclic, Numbering, Positions
from longtake.core.recipe.steps import StepPlan

_ALWAYS = frozenset(
    {"steps", "shift", "level", "frames_per_block", "window_frames", "sink_frames", "positions", "block_limit"}
)
"""Fields that are written whatever they are. Others came later: they are left out where they change nothing, so that
recipes of before are called as they always were."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RecipePart:
    """A part of a recipe that is a type of its own."""

    made: type[Any]
    fields: Mapping[str, str]
    """Its fields, by their flat names."""

    def of(self, flat: Callable[[str], object]) -> object:
        """The part whose fields are found by their flat names; InvalidField or InvalidFields if any is wrong."""
        return self.made(**{own: flat(name) for name, own in self.fields.items()})

    def plain(self, part: object) -> dict[str, object]:
        """The fields as a file has them, by their flat names."""
        least = self.made(**{each.name: getattr(part, each.name) for each in fields(self.made) if _is_needed(each)})
        return {
            name: _plain(getattr(part, own))
            for name, own in self.fields.items()
            if name in _ALWAYS or getattr(part, own) != getattr(least, own)
        }


def _part(made: type[Any], **renamed: str) -> RecipePart:
    """A part whose fields have their own names, but for these: own name = flat name."""
    return RecipePart(made=made, fields={renamed.get(each.name, each.name): each.name for each in fields(made)})


PARTS: Mapping[str, RecipePart] = {
    "steps": _part(StepPlan, ladder="steps", usual="usual_steps", first="first_steps", shed="shed_steps"),
    "blocks": _part(BlockPlan, frames="frames_per_block"),
    "context": _part(Context),
    "positions": _part(Positions, stream="positions"),
    "cues": _part(CuePolicy, change="cue_change"),
    "memory": _part(MemoryPolicy),
}
"""By the names of the fields of a recipe."""


def _is_needed(each: Field[Any]) -> bool:
    return each.default is MISSING and each.default_factory is MISSING


def _plain(value: object) -> object:
    match value:
        case Cyclic() | Numbering():
            return Positions(stream=value).plain()
        case Enum():
            return value.value
        case _:
            return value
