"""What this server offers its clients: the model, how its prompts look, the codecs and decoders, and the limits."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

from cluster.cell.identity import Identity
from longtake.core.limits import Limits
from longtake.core.recipe.geometry import Geometry
from longtake.core.recipe.recipe import Recipe
from longtake.core.recipe.table import NamedRecipe
from longtake.core.work import DecoderKind
from longtake.net.cells import DEFAULT_CELL
from longtake.v1 import longtake_pb2 as pb
from workers.models.api import PromptParts
from workers.models.text_rules import text_rules
from workers.models.weights import ModelInfo


@dataclass(frozen=True, slots=True, kw_only=True)
class CodecRange:
    """A codec by the name the core has for it, and the qualities that can be asked for."""

    name: str
    min_quality: int
    max_quality: int
    default_quality: int


DECODERS: dict[pb.Decoder, DecoderKind] = {
    pb.DECODER_FULL: DecoderKind.FULL,
    pb.DECODER_TINY: DecoderKind.TINY,
}
CODECS: dict[pb.Codec, CodecRange] = {
    pb.CODEC_H264: CodecRange(name="h264", min_quality=1, max_quality=51, default_quality=23),
    pb.CODEC_MJPEG: CodecRange(name="mjpeg", min_quality=1, max_quality=100, default_quality=85),
    pb.CODEC_RAW: CodecRange(name="raw", min_quality=0, max_quality=0, default_quality=0),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class WireLimits:
    """Limits of the front end itself; the core limits sessions, windows and cues."""

    max_watchers: int = 8
    """The most observers of one session."""
    max_prompt_bytes: int = 4096
    max_message_bytes: int = 1 << 20
    """The size of a message in either direction; larger segments travel in parts."""
    max_frames_per_s: float = 100.0
    """So many frames of one client are read each second; more wait in the client's own connection."""
    open_timeout_s: float = 10.0
    """How long a call may stay without its first frame."""


def _any_prompt(prompt: str) -> PromptParts | None:
    """Takes every text, and knows nothing of it."""
    return None


@dataclass(frozen=True, slots=True, kw_only=True)
class Offer:
    """Everything a client can know before it opens a stream."""

    name: str
    geometry: Geometry
    recipe: Recipe
    """The model's own, of streams that name none."""
    recipes: tuple[NamedRecipe, ...] = ()
    """Those that streams can name: the model's own first, then others."""
    prompt_help: str = ""
    vocabulary: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Words that the model knows, by what they describe; empty if it takes free text."""
    read_prompt: Callable[[str], PromptParts | None] = _any_prompt
    """What the model takes a text for; InvalidField if it cannot read it at all."""
    decoders: tuple[DecoderKind, ...] = (DecoderKind.FULL,)
    """Which networks can make a stream's pictures."""
    encodes: bool = False
    """Whether streams may begin with pictures: the model has an encoder for them."""
    text_workers: int = 0
    """Workers that encode prompts; with none, decode workers do it."""
    limits: Limits
    wire: WireLimits
    cell: str = DEFAULT_CELL
    """Name of this engine with its workers, with which the names of its sessions begin."""
    model_digest: str = ""
    """Of the weights, and of all else that belongs to the model."""

    @property
    def identity(self) -> Identity:
        """What sessions must have been made by to go on here."""
        names = {each.name: each.recipe.digest for each in self.recipes}
        return Identity(model_digest=self.model_digest, recipe_digest=self.recipe.digest, recipes=names)

    def max_given_pictures(self, recipe: str) -> int:
        """The most pictures that a stream by this recipe may begin with: as many as its window holds."""
        made = self.recipe_named(recipe).recipe
        can = self.encodes and made.joint is None
        return 1 + (made.window.span - 1) * self.geometry.stride_time if can else 0

    def recipe_named(self, name: str) -> NamedRecipe:
        """The recipe of this name; of an empty one, the model's own."""
        own = NamedRecipe(name="", recipe=self.recipe)
        return next((each for each in self.recipes if name in ("", each.name)), own)


def offer_for(
    info: ModelInfo, limits: Limits, recipes: tuple[NamedRecipe, ...] = (), *, encodes: bool = False
) -> Offer:
    """What a server of this model offers, which serves these recipes by name, the model's own first.

    `encodes`: whether the model has an encoder for pictures.
    """
    text = text_rules(info.text_kind)
    vocabulary = text.vocabulary()
    return Offer(
        name=info.name,
        geometry=info.geometry,
        recipe=info.recipe,
        recipes=recipes,
        prompt_help=_prompt_help(vocabulary.keys()),
        vocabulary=vocabulary,
        read_prompt=text.read,
        decoders=info.decoders,
        encodes=encodes,
        limits=limits,
        wire=WireLimits(),
    )


def _prompt_help(kinds: Iterable[str]) -> str:
    words = list(kinds)
    return f"Say {', '.join(words[:-1])} and {words[-1]}, in any order." if len(words) > 1 else "Free text."
