"""What clients ask for: their streams, cues, and what these begin with."""

from __future__ import annotations

import random
from collections.abc import Callable

from benchmarks.by_hand import Model
from cluster.cell.journal import NOTHING_GIVEN, GivenPictures
from longtake.core.events import CueRequest, Open
from longtake.core.recipe.blocks import BlockPlan
from longtake.core.recipe.cues import Back, CueChange, CueEffect, CueRule
from longtake.core.work import CueId, Fork, SegmentSettings, SessionId
from tests.simulation.oracle import Script
from tests.simulation.wishes import Wish
from workers.simulated import arithmetic

MOST_SHOTS = 4
"""No client asks to go back to a later one than the first so many."""


def pictures_of(wish: Wish, model: Model) -> GivenPictures:
    """What a stream is given: as many pictures as make the latent frames that are wished for, and those it looks at.

    A fork has both from its parent.
    """
    if wish.fork_of is not None:
        return NOTHING_GIVEN
    given = tuple(f"picture {wish.number} {number}".encode() for number in range(4 * wish.given - 3))
    images = tuple(f"image {wish.number} {number}".encode() for number in range(model.recipe.context.reference_frames))
    return GivenPictures(given=given, references=images)


def script_of(wish: Wish, model: Model, parent: Script | None, block: int | None) -> Script:
    """What a client asks for, before anything is accepted: a fork at this block, or where its parent will be."""
    pictures = pictures_of(wish, model)
    beginning = _latents_of(pictures.given, model)
    image = b"".join(_latents_of((picture,), model) for picture in pictures.references)
    first = 0 if parent is None else parent.given_blocks if block is None else block
    return Script(
        model=model, number=100 + wish.number, prompt=f"prompt {wish.number}", blocks=wish.blocks, parent=parent,
        beginning=beginning, image=image, first=first,
    )  # fmt: skip


def _latents_of(pictures: tuple[bytes, ...], model: Model) -> bytes:
    """What these are encoded to: the first by itself, then four for a frame, each with all that came before."""
    one, seen, frames = model.geometry.divided(BlockPlan(frames=1)), b"", b""
    for end in range(1, len(pictures) + 1, 4):
        seen = arithmetic.encoder_after(seen, pictures[max(0, end - 4) : end])
        frames += arithmetic.latents_of(seen, one)
    return frames


def cue_of(session: SessionId, number: int, block: int | None, model: Model) -> CueRequest:
    """A cue: it says what it does, or leaves it to the recipe."""
    draw = random.Random(f"{session} {number}")
    changes: list[CueEffect | None] = [None, None, CueChange.SWAP]
    if model.recipe.cues.change is not CueRule.SWAP:
        changes.append(CueChange.RECACHE)
    if model.recipe.cues.cut:
        changes += [CueChange.CUT, CueChange.CUT, *map(Back, range(MOST_SHOTS))]
    change = draw.choice(changes)
    return CueRequest(cue=CueId(f"c{number}"), prompt=f"{session} c{number}", block=block, change=change)


def opening(
    wish: Wish, session: SessionId, script: Script, cues: tuple[CueRequest, ...], fork: Fork | None
) -> Callable[[float], Open]:
    """What asks for the stream, once its time is known."""
    pictures = script.model.geometry.divided(script.plan).first_picture(wish.blocks) - wish.cut_short
    return lambda now_s: Open(
        now_s=now_s, session=session, prompt=script.prompt, seed=script.number, pace=wish.pace, window=wish.window,
        picture_limit=pictures, settings=SegmentSettings(codec="raw", quality=0), cues=cues, fork=fork,
        recipe=f"r{wish.recipe}" if wish.recipe else "", given_frames=script.given_frames,
    )  # fmt: skip
