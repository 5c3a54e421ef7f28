"""What the address of a video asks for: parameters in, a prompt and the options of a stream out."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from fractions import Fraction
from typing import cast

from longtake.client import CueAt, DecoderName, PaceName, StreamOptions
from longtake.client.errors import ClientError
from longtake.client.options import OptionError, open_request
from longtake.core.errors import InvalidField

SEED = re.compile(r"[0-9]{1,20}")
QUALITY = re.compile(r"[0-9]{1,3}")
TIME = re.compile(r"[0-9]{1,12}(?:\.[0-9]{1,9})?s?")
MANY = ("cue",)
"""Parameters that may stand there more than once."""
FIELDS = {"duration_s": "duration", "cues": "cue"}
"""Fields of requests that have another name as parameters."""
PARAMETERS = ("prompt", "duration", "seed", "pace", "quality", "decoder", "recipe", "cue")


class WrongQuery(ValueError):
    """What an address asks for cannot be; the message says what is wrong with each parameter."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WantedVideo:
    """A stream that is asked for."""

    prompt: str
    options: StreamOptions


def wanted_video(query: Iterable[tuple[str, str]]) -> WantedVideo:
    """The stream that parameters ask for; WrongQuery, with all of them that are wrong, if it is none."""
    wrong: list[InvalidField] = []
    given: dict[str, str] = {}
    cues: list[CueAt] = []
    for name, value in query:
        if name not in PARAMETERS:
            wrong.append(InvalidField(name[:40], value[:40], f"one of the parameters {', '.join(PARAMETERS)}"))
        elif name in MANY:
            _add_cue(value, cues, wrong)
        elif name in given:
            wrong.append(InvalidField(name, value[:40], "once"))
        else:
            given[name] = value
    wrong += _wrong_numbers(given)
    if not given.get("prompt", "").strip():
        wrong.append(InvalidField("prompt", given.get("prompt"), "text, not only white space"))
    if wrong:
        raise WrongQuery("; ".join(map(str, wrong)))
    seconds, seed, quality = given.get("duration"), given.get("seed"), given.get("quality")
    options = StreamOptions(  # what it is cast to `open_request` checks
        seed=None if seed is None else int(seed),
        duration_s=None if seconds is None else _time(seconds),
        pace=cast(PaceName, given.get("pace", "fast")),
        quality=None if quality is None else int(quality),
        decoder=cast("DecoderName | None", given.get("decoder")),
        recipe=given.get("recipe", ""),
        cues=tuple(cues),
    )
    try:
        open_request(given["prompt"], options)
    except OptionError as error:
        raise WrongQuery(sentence_of(error)) from None
    return WantedVideo(prompt=given["prompt"], options=options)


def _wrong_numbers(given: dict[str, str]) -> Iterable[InvalidField]:
    if "seed" in given and not SEED.fullmatch(given["seed"]):
        yield InvalidField("seed", given["seed"][:40], "a whole number, 0 to 2^64 - 1")
    if "quality" in given and not QUALITY.fullmatch(given["quality"]):
        yield InvalidField("quality", given["quality"][:40], "a whole number")
    if "duration" in given and not (TIME.fullmatch(given["duration"]) and _time(given["duration"])):
        allowed = "a number of seconds above 0, such as 20 or 2.5; without it the stream has no end"
        yield InvalidField("duration", given["duration"][:40], allowed)


def _add_cue(text: str, cues: list[CueAt], wrong: list[InvalidField]) -> None:
    time, sign, prompt = text.partition("=")
    if sign and prompt.strip() and TIME.fullmatch(time):
        cues.append(CueAt(prompt=prompt, time_s=_time(time)))
    else:
        wrong.append(InvalidField("cue", text[:40], "SECONDS=PROMPT, such as 10=a blue box"))


def _time(text: str) -> Fraction:
    return Fraction(text.removesuffix("s"))


def sentence_of(error: ClientError | OptionError) -> str:
    """What is wrong with a request, in the words of the address."""
    named = (f"{_parameter(one.field)}: {one.description}" for one in error.violations)
    return "; ".join(named) or str(getattr(error, "message", error))


def _parameter(field: str) -> str:
    name = re.split(r"[.\[]", field.removeprefix("open."))[0]
    return FIELDS.get(name, name)
