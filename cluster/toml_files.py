"""TOML files of the configuration: checked against sections, and what is wrong in the words of the file."""

from __future__ import annotations

import json
import re
import reprlib
from collections.abc import Iterator, Mapping, Sequence
from typing import TypeVar, get_args

from pydantic import BaseModel, ConfigDict, ValidationError
from pydantic_core import ErrorDetails

from longtake.core.errors import InvalidField, InvalidFields

NOT_SHOWN = "(not shown)"
_BARE_KEY = re.compile(r"[A-Za-z0-9_-]{1,64}")
_SHORT = reprlib.Repr()
_SHORT.maxstring = _SHORT.maxother = 60
_TABLES = ("model_type", "model_attributes_type", "dict_type", "mapping_type")
_WORDS = {
    "string_type": "a text in quotes",
    "int_type": "a whole number",
    "int_from_float": "a whole number",
    "int_parsing_size": "a whole number that is not so large",
    "float_type": "a number",
    "finite_number": "a finite number",
    "bool_type": "true or false",
    "tuple_type": 'a list, such as [1, 2] or ["a"]',
    "list_type": 'a list, such as [1, 2] or ["a"]',
    "missing": "a value: the key must be there",
    "datetime_type": "a date and a time with its zone, such as 2030-01-31T12:00:00Z",
    "timezone_aware": "a date and a time with its zone, such as 2030-01-31T12:00:00Z",
    "greater_than_equal": "{ge} or more",
    "greater_than": "more than {gt}",
    "less_than_equal": "{le} or less",
    "less_than": "less than {lt}",
    "literal_error": "{expected}",
    "enum": "{expected}",
    "string_pattern_mismatch": "a text of the form {pattern}",
}
"""What is allowed, by the kind of the mistake."""

Model = TypeVar("Model", bound="Section")


class Section(BaseModel):
    """A table of a file: unknown keys are errors, and nothing is converted."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class _Shown(str):
    """Text that stands for a value as it is written."""

    __slots__ = ()

    def __repr__(self) -> str:
        return str(self)


def checked(
    section: type[Model],
    document: Mapping[str, object],
    *,
    inner: Mapping[str, type[Section]] | None = None,
    shows_values: bool = True,
) -> Model:
    """`document` as a section. `inner`: sections that stand for keys whose type is none.

    InvalidField names the key that is wrong, InvalidFields all of them; values that may be secrets are not shown.
    """
    zeros = [InvalidField(field, _Shown(NOT_SHOWN), "text without zero bytes") for field in _zeros(document, "")]
    try:
        if not zeros:
            return section.model_validate(document)
    except ValidationError as error:
        wrong = [_wrong(section, each, inner or {}, shows_values=shows_values) for each in error.errors()]
    else:
        wrong = zeros
    raise wrong[0] if len(wrong) == 1 else InvalidFields(wrong)


def _zeros(value: object, field: str) -> Iterator[str]:
    """The keys whose text no file and no host can have as its name."""
    if isinstance(value, str) and "\0" in value:
        yield field
    elif isinstance(value, Mapping):
        for key, each in value.items():
            yield from _zeros(each, f"{field}.{_key(key)}".removeprefix("."))
    elif isinstance(value, list):
        for each in value:
            yield from _zeros(each, field)


def _wrong(
    section: type[Section], error: ErrorDetails, inner: Mapping[str, type[Section]], *, shows_values: bool
) -> InvalidField:
    place = [part for part in error["loc"] if part != "[key]"]
    value = _Shown(_SHORT.repr(error["input"]) if shows_values else NOT_SHOWN)
    field = ".".join(map(_key, place))
    kind = error["type"]
    if kind == "extra_forbidden":
        keys = _section_at(section, place[:-1], inner).model_fields
        return InvalidField(field, value, f"one of the keys {', '.join(keys)}")
    if kind in _TABLES:
        return InvalidField(field, value, f"a table: a line [{field}], and its keys below" if field else "a table")
    words = _WORDS.get(kind)
    if words is None:
        return InvalidField(field, value, error["msg"].removeprefix("Input should be "))
    return InvalidField(field, value, words.format(**error.get("ctx", {})).replace(".0 ", " "))


def _key(part: str | int) -> str:
    """A part of a key as it stands in a file: in quotes, if it is not a plain word."""
    text = str(part)
    return text if _BARE_KEY.fullmatch(text) else json.dumps(text[:64])


def _section_at(
    section: type[Section], place: Sequence[str | int], inner: Mapping[str, type[Section]]
) -> type[Section]:
    """The section in which the keys below `place` stand."""
    for part in place:
        if isinstance(part, str) and part in section.model_fields:
            section = inner.get(part) or _section_in(section.model_fields[part].annotation) or section
    return section


def _section_in(annotation: object) -> type[Section] | None:
    """The section that a type holds, alone, in a list, or under names."""
    if isinstance(annotation, type) and issubclass(annotation, Section):
        return annotation
    return next(filter(None, map(_section_in, get_args(annotation))), None)
