"""A rule of the table of contradictions: what it looks at, and what is said of a recipe that breaks it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

from longtake.core.errors import Contradiction
from longtake.core.recipe.blocks import BlockPlan
from longtake.core.recipe.context import Context
from longtake.core.recipe.cues import CuePolicy
from longtake.core.recipe.joint import Joint
from longtake.core.recipe.memory import MemoryPolicy
from longtake.core.recipe.positions import Positions
from longtake.core.recipe.steps import StepPlan


class Described(Protocol):
    """What rules look at; longtake.core.recipe.recipe.Recipe has it."""

    @property
    def steps(self) -> StepPlan: ...
    @property
    def blocks(self) -> BlockPlan: ...
    @property
    def context(self) -> Context: ...
    @property
    def joint(self) -> Joint | None: ...
    @property
    def lane_count(self) -> int: ...
    @property
    def window_frames(self) -> int | None: ...
    @property
    def sink_frames(self) -> int: ...
    @property
    def block_limit(self) -> int | None: ...
    @property
    def positions(self) -> Positions: ...
    @property
    def cues(self) -> CuePolicy: ...
    @property
    def memory(self) -> MemoryPolicy: ...
    @property
    def past_timesteps(self) -> tuple[float, ...]: ...
    def plain(self) -> Mapping[str, object]:
        """All fields by their names; those that are missing are as they are where nobody sets them."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """Two sides that cannot both be."""

    name: str
    first: tuple[str, ...]
    """The fields of one side."""
    second: tuple[str, ...]
    """The fields of the other one."""
    is_broken: Callable[[Described], bool]
    why: str
    can_run: bool = False
    """Whether it can be served nevertheless and only makes no sense: files of recipes are refused for it, the own
    recipes of models, which may be older than the rule, are not."""

    def contradiction(self, of: Described) -> Contradiction:
        """What is said of a recipe that breaks the rule."""
        values = of.plain()
        return Contradiction(_side(self.first, values), _side(self.second, values), self.why)


_UNTOLD = frozenset({"reference_frames", "shot_frames"})
"""Of these nothing is said where they are not there, unless they are the side itself."""


def _side(fields: tuple[str, ...], values: Mapping[str, object]) -> str:
    told = fields[:1] + tuple(field for field in fields[1:] if field in values or field not in _UNTOLD)
    return " with ".join(f"recipe.{field} = {_shown(values.get(field))}" for field in told)


def _shown(value: object) -> object:
    match value:
        case None:
            return "none"
        case tuple():
            return [_shown(each) for each in value]
        case Mapping():
            return "{ " + ", ".join(f"{name} = {each}" for name, each in value.items()) + " }"
        case _:
            return value
