"""A recipe as a TOML file has it: a document that was parsed in, a recipe out, and what is wrong in the file's words.

Every key is known or refused: what a recipe of a later version asks for is not left out in silence.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any, NamedTuple

from longtake.core.errors import Contradiction, Contradictions, InvalidField, InvalidFields
from longtake.core.recipe.context import Level
from longtake.core.recipe.contradictions import check
from longtake.core.recipe.cues import CueRule
from longtake.core.recipe.memory import OnLeave
from longtake.core.recipe.parts import PARTS
from longtake.core.recipe.positions import Cyclic, Numbering, StreamPlaces
from longtake.core.recipe.recipe import Recipe

MOST_HELP = 200
"""Characters of a help or of the name of a paper: each is a line."""


class Quality(Enum):
    """What is known of the pictures that a recipe makes with the weights of the pocket model, which is shipped."""

    PROVEN = "proven"
    """They were judged to be right."""
    UNPROVEN = "unproven"
    """Nobody has measured them yet."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NamedRecipe:
    """A recipe and what is told of it."""

    name: str
    recipe: Recipe
    help: str = ""
    """What it is, in a line."""
    paper: str = ""
    """Where it is from; empty if it is nobody's in particular."""
    quality: Quality = Quality.UNPROVEN


class _Key(NamedTuple):
    """A key of a table."""

    field: str
    """The field of a recipe that it sets."""
    read: Callable[[object], object]
    """What a value means; ValueError if it is none."""
    allowed: str
    is_needed: bool = False


def _whole(value: object) -> int:
    if type(value) is not int:
        raise ValueError
    return value


def _truth(value: object) -> bool:
    if type(value) is not bool:
        raise ValueError
    return value


def _number(value: object) -> float:
    if type(value) not in (int, float):
        raise ValueError
    return float(str(value))


def _wholes(value: object) -> tuple[int, ...]:
    if not isinstance(value, list):
        raise ValueError
    return tuple(map(_whole, value))


def _lists(value: object) -> tuple[tuple[int, ...], ...]:
    if not isinstance(value, list):
        raise ValueError
    return tuple(map(_wholes, value))


def _line(value: object) -> str:
    if not isinstance(value, str) or len(value) > MOST_HELP or not value.isprintable():
        raise ValueError
    return value


def _positions(value: object) -> StreamPlaces:
    match value:
        case {"cyclic": int(period), **others} if type(period) is int and period > 0 and not others:
            return Cyclic(cyclic=period)
        case _:
            return Numbering(value)


def _words(kind: type[Enum]) -> str:
    return ", ".join(f'"{each.value}"' for each in kind)


_LINE = f"a text of one line, up to {MOST_HELP} characters"
_TABLES: Mapping[str, Mapping[str, _Key]] = {
    "": {
        "help": _Key("help", _line, _LINE),
        "paper": _Key("paper", _line, _LINE),
        "quality": _Key("quality", Quality, _words(Quality)),
    },
    "steps": {
        "ladder": _Key("steps", _wholes, "a list of whole numbers, such as [1000, 750, 500, 250]"),
        "shift": _Key("shift", _number, "a number"),
        "usual": _Key("usual_steps", _wholes, "a list of whole numbers of the ladder, such as [1000, 500]"),
        "first": _Key("first_steps", _wholes, "a list of whole numbers of the ladder, such as [1000, 750, 500]"),
        "first_blocks": _Key("first_blocks", _whole, "a whole number of blocks, 0 or more"),
        "shed": _Key("shed_steps", _lists, "a list of lists of the ladder, such as [[1000, 500], [1000]]"),
    },
    "blocks": {
        "frames": _Key("frames_per_block", _whole, "a whole number of latent frames, 1 or more", is_needed=True),
        "first_frames": _Key("first_frames", _whole, "a whole number of latent frames, 1 or more"),
        "limit": _Key("block_limit", _whole, "a whole number of blocks, 1 or more"),
    },
    "context": {
        "level": _Key("level", Level, _words(Level), is_needed=True),
        "window_frames": _Key("window_frames", _whole, "a whole number of latent frames, 1 or more"),
        "sink_frames": _Key("sink_frames", _whole, "a whole number of latent frames, 0 or more"),
        "memory_frames": _Key("memory_frames", _whole, "a whole number of latent frames, 0 or more"),
        "shot_frames": _Key("shot_frames", _whole, "a whole number of latent frames, 0 or more"),
        "reference_frames": _Key("reference_frames", _whole, "a whole number of latent frames, 0 or more"),
        "commit_step": _Key("commit_step", _whole, "a whole number, 0 or an entry of the schedule from 1 to 999"),
        "lag": _Key("lag", _whole, "a whole number of steps, 1 or more"),
        "both_ways": _Key("both_ways", _truth, "true or false"),
        "commit_label": _Key("commit_label", _number, "a timestep from 0 to 1000, or -1"),
        "start_blocks": _Key("start_blocks", _whole, "a whole number of blocks, 0 or more"),
    },
    "positions": {
        "stream": _Key("positions", _positions, f"{_words(Numbering)} or a period, such as {{ cyclic = 33 }}"),
        "shot_offset": _Key("shot_offset", _whole, "a whole number of latent frames, 0 or more"),
        "reference_lead": _Key("reference_lead", _whole, "a whole number of latent frames, 0 or more"),
        "reference_stride": _Key("reference_stride", _whole, "a whole number of latent frames, 1 or more"),
        "slope": _Key("slope", _number, "a number from 0 to 10"),
    },
    "cues": {
        "change": _Key("cue_change", CueRule, _words(CueRule)),
        "keep_sinks": _Key("keep_sinks", _truth, "true or false"),
        "cut": _Key("cut", _truth, "true or false"),
    },
    "memory": {
        "on_leave": _Key("on_leave", OnLeave, _words(OnLeave)),
        "fold_frames": _Key("fold_frames", _whole, "a whole number of latent frames, 2 or more"),
    },
}
_PLACES = {key.field: f"{table}.{name}" for table, keys in _TABLES.items() if table for name, key in keys.items()}
"""The key of each field of a recipe."""
KEYS = frozenset(_PLACES.values())
"""Those keys, TABLE.KEY."""


_LEAST: Mapping[str, Mapping[str, object]] = {
    "steps": {"ladder": (1000, 750, 500, 250), "shift": 5.0},
    "blocks": {"frames": 1},
    "context": {"level": Level.CLEAN, "window_frames": None},
}
"""What the parts of a recipe have that must have something, where nothing is given."""
_FIELD = re.compile(r"recipe\.(\w+)( = none)?")


def read_recipe(document: Mapping[str, object], name: str) -> NamedRecipe:
    """The recipe in a document, under a name; the errors are those of `Recipe`, in the words of the file.

    All wrong keys are told at once, and else all contradictions.
    """
    wrong: list[InvalidField] = []
    found: dict[str, Any] = dict(_fields(document, wrong))
    told = {key.field: found.pop(key.field) for key in _TABLES[""].values() if key.field in found}
    parts: dict[str, Any] = {name: _part(name, found, wrong) for name in PARTS}
    try:
        recipe = Recipe(**parts, **found)
        check(recipe)
    except InvalidField as error:
        wrong.append(_in_words(error))
    except Contradictions as error:
        if not wrong:
            raise Contradictions([_sides_in_words(each) for each in error.all]) from None
    except Contradiction as error:
        if not wrong:
            raise _sides_in_words(error) from None
    if wrong:
        raise wrong[0] if len(wrong) == 1 else InvalidFields(wrong)
    return NamedRecipe(name=name, recipe=recipe, **told)


def _part(name: str, found: dict[str, Any], wrong: list[InvalidField]) -> object:
    """A part of a recipe, its fields taken out of what was found; the least one if any of them is wrong."""
    part, least = PARTS[name], _LEAST.get(name, {})
    given = {own: found.pop(field) for field, own in part.fields.items() if field in found}
    try:
        return part.made(**{**least, **given})
    except InvalidField as error:
        wrong.append(_in_words(error))
    except InvalidFields as error:
        wrong += map(_in_words, error.errors)
    return part.made(**least)


def _fields(document: Mapping[str, object], wrong: list[InvalidField]) -> Iterator[tuple[str, object]]:
    """What the keys set; what is wrong with them is noted."""
    tables: dict[str, Mapping[str, object]] = {"": {}}
    for name, value in document.items():
        if name not in _TABLES or not name:
            tables[""] = {**tables[""], name: value}
        elif isinstance(value, Mapping):
            tables[name] = value
        else:
            wrong.append(InvalidField(name, value, f"a table: a line [{name}], and its keys below"))
            tables[name] = {}
    for table, keys in _TABLES.items():
        given = tables.get(table, {})
        for name, value in given.items():
            place = f"{table}.{name}".removeprefix(".")
            key = keys.get(name)
            if key is None:
                allowed = ", ".join([*keys, *(f"[{other}]" for other in _TABLES if other and not table)])
                wrong.append(InvalidField(place[:80], value, f"one of the keys {allowed}"))
                continue
            try:
                yield key.field, key.read(value)
            except ValueError:
                wrong.append(InvalidField(place, value, key.allowed))
        wrong.extend(
            InvalidField(f"{table}.{name}", None, f"{key.allowed}: the key must be there")
            for name, key in keys.items()
            if key.is_needed and name not in given
        )


def _in_words(error: InvalidField) -> InvalidField:
    field = error.field.removeprefix("recipe.")
    return InvalidField(_PLACES.get(field, error.field), error.value, error.allowed)


def _sides_in_words(error: Contradiction) -> Contradiction:
    sides = error.about
    assert sides is not None
    return Contradiction(_FIELD.sub(_place, sides.first), _FIELD.sub(_place, sides.second), error.why)


def _place(found: re.Match[str]) -> str:
    return _PLACES[found[1]] + (" left out" if found[2] else "")
