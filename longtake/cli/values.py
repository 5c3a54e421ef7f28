"""Values on the command line: durations and cues in, constants of the protocol out."""

from __future__ import annotations

import re
from fractions import Fraction

import click

from longtake.client import CueAt

_UNITS_S = {"ms": Fraction(1, 1000), "s": Fraction(1), "m": Fraction(60), "h": Fraction(3600)}
_PART = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h)")


def parse_time(text: str) -> Fraction:
    """A time such as 20s, 1h, 1m30s, 250ms or 1.5s, exactly, in seconds; ValueError if it is none."""
    parts = _PART.findall(text)
    if not parts or "".join(number + unit for number, unit in parts) != text:
        raise ValueError(f"{text!r} is not allowed; allowed: a time such as 20s, 1m30s, 1h or 250ms")
    return sum((Fraction(number) * _UNITS_S[unit] for number, unit in parts), Fraction(0))


def duration(ctx: click.Context, param: click.Parameter, value: str | None) -> Fraction | None:
    """Option callback: a length above 0."""
    if value is None:
        return None
    time_s = _time(value)
    if time_s == 0:
        raise click.BadParameter(f"{value!r} is not allowed; allowed: a time above 0")
    return time_s


def grace(ctx: click.Context, param: click.Parameter, value: str) -> Fraction:
    """Option callback: a time of 0 or more."""
    return _time(value)


def word(constant: str) -> str:
    """The last word of a constant's name, for instance `running` of SESSION_STATE_RUNNING."""
    return constant.rsplit("_", 1)[-1].lower()


def cues(ctx: click.Context, param: click.Parameter, value: tuple[str, ...]) -> tuple[CueAt, ...]:
    """Option callback: cues, each TIME=PROMPT."""
    found = []
    for text in value:
        place, sign, prompt = text.partition("=")
        if not sign or not prompt.strip():
            raise click.BadParameter(f"{text!r} is not allowed; allowed: TIME=PROMPT, such as 10s='a blue box'")
        found.append(CueAt(prompt=prompt, time_s=_time(place)))
    return tuple(found)


def fork(ctx: click.Context, param: click.Parameter, value: str | None) -> tuple[str | None, int | None]:
    """Option callback: a session, and the block of it that is named."""
    if value is None:
        return None, None
    session, sign, block = value.partition("@")
    if not sign:
        return session, None
    if not session or not (block.isascii() and block.isdecimal()) or int(block) >= 1 << 64:
        raise click.BadParameter(f"{value!r} is not allowed; allowed: a session, or SESSION@BLOCK, such as 1f0c@12")
    return session, int(block)


def _time(text: str) -> Fraction:
    try:
        return parse_time(text)
    except ValueError as error:
        raise click.BadParameter(str(error)) from None
