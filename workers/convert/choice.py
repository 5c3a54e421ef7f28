"""From what the sources hold to one model: which weights are taken, and that they fit each other and the recipe."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path

from longtake.core.errors import InvalidField
from longtake.core.recipe.geometry import Geometry
from longtake.core.recipe.published import PUBLISHED, Published
from workers.convert.found import Found, Holdings, LoraChange, changes
from workers.models.wan.names import Component
from workers.models.wan.sizes import (
    LATENT_MEAN,
    LATENT_STD,
    text_config,
    text_shapes,
    tiny_config,
    transformer_config,
    vae_config,
)
from workers.models.weights import DIT, VAE, ModelInfo, tensor_shapes, tiny_shapes

FPS = Fraction(16)
"""Pictures a second of every Wan2.1."""
_CHOICES = ("generator", "generator_ema")
"""What training checkpoints call the weights that can be served."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    """What the user asks for beside the sources."""

    recipe: str
    """Name of a published recipe."""
    width: int = 832
    height: int = 480
    weights: str | None = None
    """Which weights of a training checkpoint; None takes those that the recipe names."""
    shift: float | None = None
    """Flow shift; None takes the recipe's."""
    lora: Path | None = None
    alpha: float | None = None
    """Strength of the LoRA; its product is multiplied by alpha over its rank."""
    dtype: str | None = None
    """float32 or bfloat16; None keeps what the sources have."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """One model, out of what the sources hold."""

    published: Published
    info: ModelInfo
    transformer: Found
    weights: str
    """Which of the weights in a training checkpoint were taken; empty if there was no choice."""
    vae: Found
    text: Found
    tiny: Found | None
    text_config: Mapping[str, object]
    tokenizer: Path
    lora: Lora | None

    @property
    def parts(self) -> tuple[Found, ...]:
        """All that is taken of the sources, but the tokenizer."""
        lora = () if self.lora is None else (self.lora.found,)
        tiny = () if self.tiny is None else (self.tiny,)
        return (self.transformer, self.vae, self.text, *lora, *tiny)


@dataclass(frozen=True, slots=True)
class Lora:
    """A LoRA that is merged into the transformer."""

    found: Found
    changes: Mapping[str, LoraChange]
    scale: float


def published_of(name: str) -> Published:
    """The published recipe of this name; InvalidField names all."""
    if name not in PUBLISHED:
        raise InvalidField("recipe", name, ", ".join(PUBLISHED))
    return PUBLISHED[name]


def choose(holdings: Holdings, wish: Wish, lora: Holdings | None = None) -> Choice:
    """The model that is wished for; InvalidField or Contradiction if the sources do not make one."""
    published = published_of(wish.recipe)
    missing = [
        part.value for part in (Component.TRANSFORMER, Component.VAE, Component.TEXT) if not holdings.all_of(part)
    ]
    missing += [] if holdings.tokenizers else ["tokenizer (a folder with tokenizer.json)"]
    if missing:
        there = "; ".join(map(str, holdings.found)) or "nothing that is known"
        raise InvalidField("sources", there, f"also a {', a '.join(missing)}: give the folder of the base model, too")
    transformer, weights = _transformer(holdings.all_of(Component.TRANSFORMER), wish, published)
    vae, text = holdings.all_of(Component.VAE)[-1], holdings.all_of(Component.TEXT)[-1]
    tiny = next(reversed(holdings.all_of(Component.TINY)), None)
    for part in (transformer, vae, text, *(() if tiny is None else (tiny,))):
        part.check_formats()
    choice = Choice(
        published=published,
        info=replace(_info(transformer, vae, wish, published), tiny=None if tiny is None else tiny_config(tiny.shape)),
        transformer=transformer,
        weights=weights,
        vae=vae,
        text=text,
        tiny=tiny,
        text_config=text_config(text.shape, tuple(text.names)),
        tokenizer=_tokenizer(holdings.tokenizers),
        lora=None if lora is None else _lora(lora, wish),
    )
    _check(choice)
    return choice


def _transformer(there: Sequence[Found], wish: Wish, published: Published) -> tuple[Found, str]:
    """The transformer of the last source that has one, and which of its weights were taken."""
    last = [found for found in there if found.collection.path == there[-1].collection.path]
    entries = [found.collection.entry for found in last]
    if wish.weights is None and len(last) == 1 and entries[0] not in _CHOICES:
        return last[0], ""
    wanted = wish.weights or published.weights
    for found in last:
        if found.collection.entry == wanted:
            return found, wanted
    named = "asked for" if wish.weights else f"what {published.name} takes"
    raise InvalidField(
        "weights", f"{wanted} ({named})", f"{' or '.join(map(repr, entries))}, which {last[0].collection.path.name} has"
    )


def _info(transformer: Found, vae: Found, wish: Wish, published: Published) -> ModelInfo:
    dit = transformer_config(transformer.shape, tuple(transformer.names), transformer.collection.config)
    sizes = vae_config(vae.shape)
    recipe = (
        published.recipe
        if wish.shift is None
        else replace(published.recipe, steps=replace(published.recipe.steps, shift=wish.shift))
    )
    if sizes.z_dim != len(LATENT_MEAN):
        raise InvalidField(f"{vae.collection}: latent channels", sizes.z_dim, f"{len(LATENT_MEAN)}, as Wan2.1 has")
    return ModelInfo(
        name=published.name,
        geometry=Geometry(
            width=wish.width,
            height=wish.height,
            fps=FPS,
            latent_channels=sizes.z_dim,
            blocks=recipe.blocks,
            stride_time=sizes.temporal_stride,
            stride_space=sizes.spatial_stride,
            patch_space=dit.patch_size[1],
        ),
        recipe=recipe,
        dit=dit,
        vae=sizes,
        latent_mean=LATENT_MEAN,
        latent_std=LATENT_STD,
        text_kind="umt5",
    )


def _tokenizer(folders: Sequence[Path]) -> Path:
    """The tokenizer of the last source; of several that of umT5: a folder for images has another one beside it."""
    if len(folders) == 1:
        return folders[0]
    likely = [folder for folder in folders if "umt5" in folder.name or folder.name in ("tokenizer", "text")]
    if not likely:
        raise InvalidField("tokenizer", [str(folder) for folder in folders], "one folder, or one whose name says umt5")
    return likely[-1]


def _lora(holdings: Holdings, wish: Wish) -> Lora:
    there = holdings.all_of(Component.LORA)
    if len(there) != 1:
        raise InvalidField("lora", [str(found) for found in holdings.found], "a file with one LoRA")
    there[0].check_formats()
    made = changes(there[0])
    return Lora(there[0], made, _scale(there[0], made, wish))


def _scale(lora: Found, made: Mapping[str, LoraChange], wish: Wish) -> float:
    ranks = {lora.shape(change.down)[0] for change in made.values()}
    if len(ranks) != 1:
        raise InvalidField(f"{lora.collection}: ranks", sorted(ranks), "the same rank everywhere")
    told = {float(lora.read(change.alpha)) for change in made.values() if change.alpha is not None}
    if wish.alpha is not None:
        return wish.alpha / ranks.pop()
    if len(told) != 1:
        raise InvalidField("alpha", sorted(told) or None, f"the strength of {lora.collection}, which it does not say")
    return told.pop() / ranks.pop()


# --- whether all is there ---------------------------------------------------------------------------------------------


def _check(choice: Choice) -> None:
    """Compare names and shapes with the architecture; InvalidField names the first that is wrong, counts the rest."""
    shapes = tensor_shapes(choice.info.dit, choice.info.vae)
    compare(choice.transformer, shapes[DIT])
    compare(choice.vae, shapes[VAE])
    compare(choice.text, text_shapes(choice.text_config))
    if choice.tiny is not None and choice.info.tiny is not None:
        compare(choice.tiny, tiny_shapes(choice.info.tiny))
    if choice.text.shape("shared.weight")[1] != choice.info.text_width:
        raise InvalidField(
            f"{choice.text.collection}: width",
            choice.text.shape("shared.weight")[1],
            f"{choice.info.text_width}, as {choice.transformer.collection} takes",
        )
    if choice.lora is not None:
        _check_lora(choice.lora, choice.transformer)


def compare(found: Found, wanted: Mapping[str, tuple[int, ...]]) -> None:
    """InvalidField names the first tensor that is missing, foreign or of a wrong shape, and counts those like it."""
    wrong = [name for name in wanted if name in found.names and found.shape(name) != wanted[name]]
    for names, problem in (
        (sorted(wanted.keys() - found.names.keys()), "is missing"),
        (sorted(found.names.keys() - wanted.keys()), "belongs to no such network"),
        (wrong, "has a wrong shape"),
    ):
        if names:
            raise InvalidField(
                f"{found.collection}: {names[0]}{_more(names)}",
                list(found.shape(names[0])) if names[0] in found.names else None,
                f"shape {list(wanted[names[0]])}; it {problem}"
                if names[0] in wanted
                else f"no such tensor; it {problem}",
            )


def _check_lora(lora: Lora, transformer: Found) -> None:
    foreign = sorted(lora.changes.keys() - transformer.names.keys())
    if foreign:
        raise InvalidField(
            f"{lora.found.collection}: {foreign[0]}{_more(foreign)}", None, f"weights that {transformer.collection} has"
        )
    for weight, change in lora.changes.items():
        product = (lora.found.shape(change.up)[0], lora.found.shape(change.down)[1])
        if product != transformer.shape(weight):
            raise InvalidField(
                f"{lora.found.collection}: {weight}", list(product), f"shape {list(transformer.shape(weight))}"
            )


def _more(names: Iterable[str]) -> str:
    count = len(list(names)) - 1
    return f" (and {count} more)" if count else ""
