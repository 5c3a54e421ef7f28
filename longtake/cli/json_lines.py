"""JSON on standard output, in one style for every command: an object a line, snake_case, numbers as numbers.

A name is there in every object, null where there is no value. Constants of the protocol are words in small letters,
bytes are hex. Numbers are exact: a seed of one's own may be beyond 2^53, what the server draws is below 2^32.
"""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Mapping, Sequence
from enum import Enum
from fractions import Fraction

import click
from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import Message

from longtake.cli.values import word

json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON.")
"""What a command has that can print its answer so."""
_Json = dict[str, "_Json"] | list["_Json"] | str | int | float | bool | None


def show_json(value: object, *, err: bool = False) -> None:
    """Print a message of the protocol, a dataclass, or what consists of such, as one line."""
    click.echo(json_line(value), err=err)


def json_line(value: object) -> str:
    """The line without its end; ASCII, so that it is the same in every terminal."""
    return json.dumps(json_of(value), allow_nan=False)


def json_of(value: object) -> _Json:
    """What is written for a value; TypeError if nothing can be."""
    match value:
        case None | bool() | int() | str():
            return value
        case float():
            return value if math.isfinite(value) else None
        case Fraction():
            return float(value)
        case Enum():
            return json_of(value.value)
        case bytes():
            return value.hex()
        case Duration():
            return float(value.seconds + Fraction(value.nanos, 1_000_000_000))
        case Message():
            return {field.name: _field(value, field.name) for field in value.DESCRIPTOR.fields}
        case Mapping():
            return {str(json_of(key)): json_of(each) for key, each in value.items()}
        case Sequence() | set() | frozenset():
            return [json_of(each) for each in value]
        case _ if dataclasses.is_dataclass(value):
            return {field.name: json_of(getattr(value, field.name)) for field in dataclasses.fields(value)}
        case _:
            raise TypeError(f"{type(value).__name__} has no form in JSON")


def _field(message: Message, name: str) -> _Json:
    field, value = message.DESCRIPTOR.fields_by_name[name], getattr(message, name)
    if field.has_presence and not message.HasField(name):
        return None
    if field.enum_type is None:
        return json_of(value)
    names = {number: word(constant.name) for number, constant in field.enum_type.values_by_number.items()}
    # A newer server may send a constant that is not known here.
    return [names.get(each, each) for each in value] if field.is_repeated else names.get(value, value)
