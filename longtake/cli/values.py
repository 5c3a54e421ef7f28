"""Values on the command line: durations and cues in, constants of the protocol out."""

from __future__ import annotations

import errno
import math
import os
import re
import stat
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar
from unicodedata import category

import click

from longtake.client import CueAt, pictures
from longtake.client.options import MOST_S
from longtake.core.errors import InvalidField
from longtake.net.addresses import WrongAddress, parse_host
from longtake.net.names import ALLOWED, is_name

Read = TypeVar("Read")
if TYPE_CHECKING:
    _PathType = click.ParamType[Path]
else:
    _PathType = click.ParamType  # which takes no parameter in older versions


class Whole(click.IntRange):
    """A whole number within bounds, both included."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:  # noqa: ANN401
        """See click.ParamType."""
        try:
            return super().convert(value, param, ctx)
        except click.BadParameter:
            upto = f" to {self.max}" if self.max is not None else " or more"
            self.fail(f"{value!r} is not allowed; allowed: a whole number, {self.min}{upto}", param, ctx)


class InputFile(_PathType):
    """A file that is read: no device, which may never end, and a folder only if it says so."""

    name = "file"

    def __init__(self, *, or_folder: bool = False) -> None:
        self._or_folder = or_folder

    def convert(self, value: str | Path, param: click.Parameter | None, ctx: click.Context | None) -> Path:
        """See click.ParamType."""
        why = self._unreadable(Path(value)) if value else "it has no name"
        if why:
            what = "a readable file or folder" if self._or_folder else "a readable file"
            self.fail(f"{str(value)!r} is not allowed; allowed: {what} ({why})", param, ctx)
        return Path(value)

    def _unreadable(self, path: Path) -> str:
        """Why it cannot be read; empty if it can. A pipe can, as of a shell's `<(…)`."""
        try:
            mode = path.stat().st_mode
        except OSError as error:
            return error.strerror or "it cannot be looked at"
        except ValueError:
            return _ZERO
        if stat.S_ISDIR(mode) and not self._or_folder:
            return "it is a folder"
        if not (stat.S_ISREG(mode) or stat.S_ISFIFO(mode) or stat.S_ISDIR(mode)):
            return "it is no file"
        return "" if os.access(path, os.R_OK) else "Permission denied"


class AnyPath(_PathType):
    """A place for a file or a folder, which may not be there yet."""

    name = "path"

    def convert(self, value: str | Path, param: click.Parameter | None, ctx: click.Context | None) -> Path:
        """See click.ParamType."""
        why = "" if value else "it has no name"
        try:
            os.lstat(value or ".")
        except ValueError:
            why = _ZERO
        except OSError as error:
            why = (error.strerror or "") if error.errno in (errno.ENAMETOOLONG, errno.ELOOP) else why
        if why:
            self.fail(f"{str(value)!r} is not allowed; allowed: a path ({why})", param, ctx)
        return Path(value)


def model(ctx: click.Context, param: click.Parameter, value: str) -> str:
    """Option callback: the name of a model, or a path."""
    return str(AnyPath().convert(value, param, ctx))


def size(ctx: click.Context, param: click.Parameter, value: str) -> tuple[int, int]:
    """Option callback: width and height in pixels."""
    found = _SIZE.fullmatch(value)
    if not found:
        raise click.BadParameter(f"{value!r} is not allowed; allowed: a width and a height, such as 832x480")
    return int(found[1]), int(found[2])


def text(ctx: click.Context, param: click.Parameter, value: str) -> str:
    """Option callback: text that can be sent, and so is none of a file name that is no UTF-8."""
    try:
        value.encode()
    except UnicodeEncodeError:
        raise click.BadParameter(f"{value!r} is not allowed; allowed: text, all of it characters (UTF-8)") from None
    return value


_ZERO = "no name holds a zero byte"
_SIZE = re.compile(r"([1-9][0-9]{0,4})x([1-9][0-9]{0,4})")
_UNITS_S = {"ms": Fraction(1, 1000), "s": Fraction(1), "m": Fraction(60), "h": Fraction(3600)}
_PART = re.compile(r"([0-9]+(?:\.[0-9]+)?)(ms|s|m|h)")
_BARE = re.compile(r"[0-9]+(?:\.[0-9]+)?")
"""Seconds."""
_CLOCK = re.compile(r"(?:([0-9]+):)?([0-9]+):([0-5]?[0-9](?:\.[0-9]+)?)")
"""Hours, if there are any, minutes and seconds."""


def positive(ctx: click.Context, param: click.Parameter, value: float | None) -> float | None:
    """Option callback: a number above 0 that is no infinity."""
    if value is not None and not 0 < value < math.inf:  # nor is it nan
        raise click.BadParameter(f"{value} is not allowed; allowed: a number above 0")
    return value


def parse_time(text: str) -> Fraction:
    """A time such as 20s, 20, 1h, 1m30s, 1:30, 250ms or 1.5s, exactly, in seconds; ValueError if it is none."""
    allowed = f"a time such as 20s, 1m30s, 1:30, 1h or 250ms, up to {MOST_S // 3600} h"
    if clock := _CLOCK.fullmatch(text):
        hours, minutes, seconds = (Fraction(part or 0) for part in clock.groups())
        time_s = hours * 3600 + minutes * 60 + seconds
    elif _BARE.fullmatch(text):
        time_s = Fraction(text)
    else:
        parts = _PART.findall(text)
        if not parts or "".join(number + unit for number, unit in parts) != text:
            raise ValueError(f"{text!r} is not allowed; allowed: {allowed}")
        time_s = sum((Fraction(number) * _UNITS_S[unit] for number, unit in parts), Fraction(0))
    if time_s > MOST_S:
        raise ValueError(f"{text!r} is not allowed; allowed: {allowed}")
    return time_s


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


def sentence(text: str, most: int = 400) -> str:
    """What is wrong, in one line that a terminal only shows: where it is long, the middle is left out."""
    line = "".join(map(_visible, " ".join(text.split())))
    return line if len(line) <= most else f"{line[: most // 2]} … {line[-most // 2 :]}"


def name(ctx: click.Context, param: click.Parameter, value: str) -> str:
    """Option callback: a name of a tenant or of a token, as the server takes them."""
    if not is_name(value):
        raise click.BadParameter(f"{value!r} is not allowed; allowed: {ALLOWED}")
    return value


def host(ctx: click.Context, param: click.Parameter, value: str | None) -> str | None:
    """Option callback: where something can listen, without brackets."""
    try:
        return None if value is None else parse_host(value)
    except WrongAddress as error:
        raise click.BadParameter(str(error)) from None


def shown(text: str, most: int = 60) -> str:
    """What somebody else wrote, in one line that a terminal only shows: escaped, and cut if it is long."""
    cut = text if len(text) <= most else f"{text[: most - 1]}…"
    return "".join(map(_visible, cut))


def _visible(letter: str) -> str:
    moves = category(letter)[0] == "C" or letter in "\u2028\u2029"
    return letter.encode("unicode_escape").decode() if moves else letter


@contextmanager
def in_words_of(options: Mapping[str, str]) -> Iterator[None]:
    """Within it, an InvalidField that is about one of these fields names the option instead that sets it."""
    try:
        yield
    except InvalidField as error:
        raise InvalidField(options.get(error.field, error.field), error.value, error.allowed) from None


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


def picture(_ctx: click.Context, param: click.Parameter, value: str | None) -> tuple[bytes, ...]:
    """The picture in a file; see `longtake.client.pictures.first_frame`."""
    return () if value is None else (_pictures(param, value, pictures.first_frame),)


def reference(_ctx: click.Context, param: click.Parameter, value: tuple[str, ...]) -> tuple[bytes, ...]:
    """The pictures in files; see `longtake.client.pictures.first_frame`."""
    return tuple(_pictures(param, file, pictures.first_frame) for file in value)


def clip(_ctx: click.Context, param: click.Parameter, value: str | None) -> tuple[bytes, ...]:
    """The last pictures of a video in a file; see `longtake.client.pictures.clip`."""
    return () if value is None else _pictures(param, value, pictures.clip)


def _pictures(param: click.Parameter, value: str, read: Callable[[Path], Read]) -> Read:
    allowed = "a picture: PNG, JPEG" if read is pictures.first_frame else "a video, such as MP4"
    try:
        return read(Path(value))
    except OSError as error:
        why = error.strerror or str(error)
    except (ValueError, ImportError) as error:
        why = str(error)
    raise click.BadParameter(f"{value!r} is not allowed; allowed: {allowed} ({why})", param=param)
