"""JSON as the types that dataclasses declare; an InvalidField says what is wrong, where, and what is allowed."""

from __future__ import annotations

from dataclasses import MISSING, fields, is_dataclass
from enum import Enum
from pathlib import Path
from types import NoneType
from typing import Any, TypeVar, cast, get_args, get_origin, get_type_hints

from longtake.core.errors import InvalidField

T = TypeVar("T")
_WORDS: dict[type, str] = {
    int: "a whole number",
    float: "a number",
    str: "a text",
    bool: "true or false",
    NoneType: "null",
    Path: "a path",
}


def record(kind: type[T], table: object, section: str) -> T:
    """A dataclass from a JSON object that has its fields; those with a default may be left out."""
    if not isinstance(table, dict):
        raise InvalidField(section, table, "a JSON object")
    hints = get_type_hints(kind)
    for key in table:
        if key not in hints:
            raise InvalidField(f"{section}.{key}", table[key], f"one of the fields {', '.join(hints)}")
    needed = [field.name for field in fields(cast(Any, kind)) if field.default is field.default_factory is MISSING]
    missing = sorted(name for name in needed if name not in table)
    if missing:
        raise InvalidField(section, sorted(table), f"also {', '.join(missing)}, those without a default")
    values = {key: value(f"{section}.{key}", given, hints[key]) for key, given in table.items()}
    try:
        return kind(**values)
    except ValueError as error:
        raise InvalidField(section, table, str(error)) from None


def value(name: str, given: object, hint: type[T]) -> T:
    """A value from JSON as the type that a field declares."""
    return cast(T, _read(name, given, hint))


def _read(name: str, given: object, hint: object) -> object:
    if get_origin(hint) is tuple:
        return _list(name, given, get_args(hint))
    options = [_plain(option) for option in get_args(hint) or (hint,)]
    for option in options:
        if option is float and isinstance(given, int | float) and not isinstance(given, bool):
            return float(given)
        if option is Path and isinstance(given, str):
            return Path(given)
        if issubclass(option, Enum):
            return _member(name, given, option)
        if is_dataclass(option) and isinstance(given, dict):
            return record(option, given, name)
        if isinstance(given, option) and (option is bool or not isinstance(given, bool)):
            return given
    words = (_WORDS.get(option, "a JSON object") for option in options)
    raise InvalidField(name, given, " or ".join(words))


def _plain(hint: object) -> type:
    """The type itself of a NewType."""
    return cast(type, getattr(hint, "__supertype__", hint))


def _list(name: str, given: object, parts: tuple[object, ...]) -> tuple[object, ...]:
    if not isinstance(given, list) or (parts[-1] is not Ellipsis and len(given) != len(parts)):
        length = "" if parts[-1] is Ellipsis else f"{len(parts)} "
        raise InvalidField(name, given, f"a list of {length}values")
    return tuple(_read(f"{name}[{i}]", item, parts[0]) for i, item in enumerate(given))


def _member(name: str, given: object, kind: type[Enum]) -> Enum:
    if given in [member.value for member in kind]:
        return kind(given)
    raise InvalidField(name, given, ", ".join(str(member.value) for member in kind))
