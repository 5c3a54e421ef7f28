"""The prompts of the pocket model: a grammar of four attributes, and a text encoder without weights.

Every word either names an attribute, is a word English needs around it, or is ignored and reported.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

import numpy as np
from numpy.typing import NDArray

from longtake.core.errors import InvalidField

Array = NDArray[np.float32]


class Colour(StrEnum):
    """Colour of the object: six hues, 60 degrees apart."""

    RED = "red"
    YELLOW = "yellow"
    GREEN = "green"
    CYAN = "cyan"
    BLUE = "blue"
    MAGENTA = "magenta"


class Shape(StrEnum):
    """Outline of the object."""

    BALL = "ball"
    BOX = "box"
    TRIANGLE = "triangle"
    RING = "ring"


class Motion(StrEnum):
    """What the object does around the centre of the picture, once every 3 s."""

    SWAYING = "swaying"
    BOBBING = "bobbing"
    SLIDING = "sliding"
    CIRCLING = "circling"
    PULSING = "pulsing"
    RESTING = "resting"


class Background(StrEnum):
    """What lies behind the object."""

    NIGHT = "night"
    FOG = "fog"
    SNOW = "snow"
    DUSK = "dusk"


@dataclass(frozen=True, slots=True, kw_only=True)
class Scene:
    """What one prompt asks for."""

    colour: Colour
    shape: Shape
    motion: Motion
    background: Background


TEXT_ROWS: Final = 4
_SYNONYMS: Final[Mapping[StrEnum, str]] = {
    Colour.RED: "red crimson scarlet ruby",
    Colour.YELLOW: "yellow gold golden amber",
    Colour.GREEN: "green lime emerald",
    Colour.CYAN: "cyan turquoise teal aqua",
    Colour.BLUE: "blue sapphire navy",
    Colour.MAGENTA: "magenta pink purple violet fuchsia",
    Shape.BALL: "ball sphere circle disc disk orb",
    Shape.BOX: "box square cube block",
    Shape.TRIANGLE: "triangle pyramid cone",
    Shape.RING: "ring donut doughnut torus hoop",
    Motion.SWAYING: "swaying sways sway swinging swings",
    Motion.BOBBING: "bobbing bobs bob bouncing bounces hovering",
    Motion.SLIDING: "sliding slides slide gliding glides diagonal diagonally",
    Motion.CIRCLING: "circling circles orbiting orbits revolving",
    Motion.PULSING: "pulsing pulses pulse pulsating breathing breathes throbbing",
    Motion.RESTING: "resting rests rest still motionless standing sitting",
    Background.NIGHT: "night dark darkness black",
    Background.FOG: "fog foggy mist misty grey gray",
    Background.SNOW: "snow snowy white winter",
    Background.DUSK: "dusk sunset twilight evening",
}
_SILENT: Final = frozenset(
    ("a", "an", "the", "in", "on", "at", "of", "with", "by", "and", "is", "are", "it", "its", "that", "which", "over")
)
_KIND_OF: Final[Mapping[str, StrEnum]] = {word: kind for kind, words in _SYNONYMS.items() for word in words.split()}
DEFAULT_SCENE: Final = Scene(
    colour=Colour.RED, shape=Shape.BALL, motion=Motion.RESTING, background=Background.FOG
)  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Parsed:
    """What a prompt was understood as: its scene, the words that had no effect, the attributes taken by default."""

    scene: Scene
    ignored: tuple[str, ...]
    defaulted: tuple[str, ...]

    def notice(self) -> str | None:
        """What the client is told, with the whole vocabulary, when words were ignored or nothing was understood."""
        known = "; ".join(f"{attribute}: {', '.join(kinds)}" for attribute, kinds in vocabulary().items())
        vocabulary_is = f"The vocabulary is {known}; synonyms are understood"
        if len(self.defaulted) == len(vocabulary()):
            return f"no word of the prompt was understood, so it is taken as {sentence(self.scene)!r}. {vocabulary_is}"
        return f"ignored words: {', '.join(self.ignored)}. {vocabulary_is}" if self.ignored else None


def vocabulary() -> dict[str, tuple[str, ...]]:
    """The canonical words of each attribute; a prompt that names none of an attribute gets DEFAULT_SCENE's."""
    return {
        "colour": tuple(Colour),
        "shape": tuple(Shape),
        "motion": tuple(Motion),
        "background": tuple(Background),
    }


def parse(prompt: str) -> Parsed:
    """Understands a prompt; of two words for one attribute the first wins and the second is reported as ignored.

    Raises InvalidField when the prompt holds no word at all.
    """
    words = re.findall(r"[^\W_]+(?:'[^\W_]+)?", prompt.lower())
    if not words:
        raise InvalidField("prompt", prompt, "at least one word, such as 'a red ball swaying in the fog'")
    chosen: dict[str, StrEnum] = {}
    ignored: list[str] = []
    for word in words:
        kind = _KIND_OF.get(word)
        if kind is not None and chosen.setdefault(type(kind).__name__, kind) is kind:
            continue
        if word not in _SILENT and word not in ignored:
            ignored.append(word)
    scene = Scene(
        colour=Colour(chosen.get("Colour", DEFAULT_SCENE.colour)),
        shape=Shape(chosen.get("Shape", DEFAULT_SCENE.shape)),
        motion=Motion(chosen.get("Motion", DEFAULT_SCENE.motion)),
        background=Background(chosen.get("Background", DEFAULT_SCENE.background)),
    )
    defaulted = tuple(name for name in vocabulary() if name.capitalize() not in chosen)
    return Parsed(scene=scene, ignored=tuple(ignored), defaulted=defaulted)


def sentence(scene: Scene) -> str:
    """A prompt that `parse` understands as exactly this scene."""
    place = {Background.NIGHT: "at night", Background.FOG: "in the fog", Background.SNOW: "in the snow"}
    return f"a {scene.colour} {scene.shape} {scene.motion} {place.get(scene.background, 'at dusk')}"


def encode(scene: Scene, text_dim: int) -> Array:
    """Text features [TEXT_ROWS, text_dim], float32: one row per attribute, one-hot over all attributes' values.

    Raises ValueError when text_dim is smaller than the number of values.
    """
    columns = [value for values in vocabulary().values() for value in values]
    if text_dim < len(columns):
        raise ValueError(f"text_dim {text_dim} cannot hold {len(columns)} values")
    rows = np.zeros((TEXT_ROWS, text_dim), np.float32)
    for row, value in enumerate((scene.colour, scene.shape, scene.motion, scene.background)):
        rows[row, columns.index(value.value)] = np.sqrt(text_dim)
    return rows
