"""A story on the command line: cues, cuts, and ways back to earlier shots, as one list in the order of their times."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import replace

import click

from longtake.cli.values import parse_time
from longtake.client.options import CueAt

_BACK = re.compile(r"\s*(\d{1,9})\s*(?::(.*))?", re.DOTALL)
_ALLOWED = "TIME=SHOT or TIME=SHOT:PROMPT, such as 20s=0 or 20s=0:'a red ball'"


def backs(_ctx: click.Context, _param: click.Parameter, value: tuple[str, ...]) -> tuple[CueAt, ...]:
    """Option callback: ways back, each TIME=SHOT or TIME=SHOT:PROMPT; without a prompt theirs is empty."""
    found = []
    for text in value:
        place, sign, shot = text.partition("=")
        match = _BACK.fullmatch(shot)
        if not sign or match is None or (match[2] is not None and not match[2].strip()):
            raise click.BadParameter(f"{text!r} is not allowed; allowed: {_ALLOWED}")
        try:
            time_s = parse_time(place)
        except ValueError as error:
            raise click.BadParameter(str(error)) from None
        found.append(CueAt(prompt=match[2] or "", time_s=time_s, back_to_shot=int(match[1])))
    return tuple(found)


def story(prompt: str, cues: Iterable[CueAt], cuts: Iterable[CueAt], ways_back: Iterable[CueAt]) -> tuple[CueAt, ...]:
    """All that changes in a stream that begins with a prompt, in the order of time.

    Whoever goes back and says no prompt has the one that the shot began with. UsageError if that is not known.
    """
    told = [*cues, *(replace(cue, change="cut") for cue in cuts), *ways_back]
    told.sort(key=lambda cue: cue.time_s or 0)
    shots, made = [prompt], []
    for cue in told:
        if cue.back_to_shot is not None and not cue.prompt and cue.back_to_shot >= len(shots):
            raise click.UsageError(
                f"--back: {float(cue.time_s or 0):g}s={cue.back_to_shot} goes back to a shot that does not come "
                f"before, with a prompt that is not known; allowed: a shot from 0 to {len(shots) - 1}, or a prompt"
            )
        whole = cue if cue.prompt else replace(cue, prompt=shots[cue.back_to_shot or 0])
        if cue.back_to_shot is not None or cue.change == "cut":
            shots.append(whole.prompt)
        made.append(whole)
    return tuple(made)


def typed(text: str) -> CueAt | None:
    """A line that begins with `/cut` or `/back`; None if it is no such line. ValueError says what it should be."""
    word, _, rest = text.partition(" ")
    if word == "/cut" and rest.strip():
        return CueAt(prompt=rest.strip(), change="cut")
    if word == "/back":
        shot, _, prompt = rest.strip().partition(" ")
        if shot.isascii() and shot.isdecimal() and prompt.strip():
            return CueAt(prompt=prompt.strip(), back_to_shot=int(shot))
    if word in ("/cut", "/back"):
        raise ValueError(f"{text!r} is not allowed; allowed: /cut PROMPT, or /back SHOT PROMPT, such as /back 0 a ball")
    return None
