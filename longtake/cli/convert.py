"""`longtake convert`: from published checkpoints to a model directory that `longtake serve` takes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, TypedDict, Unpack

import click
from tqdm import tqdm

from longtake.cli import values
from longtake.core.errors import InvalidField
from longtake.core.recipe.published import PUBLISHED

if TYPE_CHECKING:
    from workers.convert.choice import Choice, Wish
    from workers.convert.found import Holdings


_OPTIONS = {
    "source": "SOURCE",
    "sources": "SOURCE",
    **{name: f"--{name}" for name in ("output", "recipe", "weights", "shift", "lora", "alpha", "dtype", "size")},
}
"""How the command line names what the conversion names otherwise."""


class _Asked(TypedDict):
    sources: tuple[Path, ...]
    output: Path | None
    recipe: str | None
    weights: str | None
    shift: float | None
    lora: Path | None
    alpha: float | None
    dtype: str | None
    size: tuple[int, int]
    check: bool


@click.command("convert")
@click.argument("sources", nargs=-1, required=True, metavar="SOURCE...",
                type=values.InputFile(or_folder=True))  # fmt: skip
@click.option("-o", "--output", type=values.AnyPath(), help="The model directory to write.")
@click.option("--recipe", type=click.Choice(list(PUBLISHED)), help="What the weights were trained for.")
@click.option(
    "--weights",
    type=click.Choice(["generator", "generator_ema"]),
    metavar="generator|generator_ema",
    help="Which weights of a training checkpoint; by default those that the recipe's authors serve.",
)
@click.option("--shift", type=float, callback=values.positive, help="Flow shift; by default the recipe's.")
@click.option("--lora", type=values.InputFile(or_folder=True), help="A LoRA to merge into the transformer.")
@click.option(
    "--alpha", type=float, callback=values.positive, help="Strength of the LoRA, where its file does not say it."
)
@click.option("--dtype", type=click.Choice(["float32", "bfloat16"]), help="Number format; by default the sources'.")
@click.option(
    "--size",
    callback=values.size,
    default="832x480",
    show_default=True,
    metavar="WIDTHxHEIGHT",
    help="Size of the pictures.",
)
@click.option("--check", is_flag=True, help="Say what the sources are, and write nothing.")  # fmt: skip
def convert_command(**asked: Unpack[_Asked]) -> None:
    """Convert published weights to a model directory.

    SOURCE are files or folders, the base model first. A transformer, an autoencoder and a text encoder with its
    tokenizer are needed; of what lies in several sources the last one is taken.

    A tiny decoder may lie beside them, or be added later: then it is the only SOURCE, without --recipe, and the model
    directory is the --output. A model directory as SOURCE is compared with its own hashes by --check.
    """
    with values.in_words_of(_OPTIONS):
        _convert(asked)


def _convert(asked: _Asked) -> None:
    from workers.convert.choice import choose
    from workers.models.weights import INFO_FILE

    if asked["check"] and all((source / INFO_FILE).is_file() for source in asked["sources"]):
        for source in asked["sources"]:
            _check_model(source)
        return
    holdings = _found(asked["sources"], "SOURCE")
    if asked["check"]:
        _tell(holdings)
        if asked["recipe"] is None:
            return
    if asked["recipe"] is None and holdings.is_tiny_decoder:
        _add(holdings, asked)
        return
    wish = _wish(asked)
    choice = choose(holdings, wish, None if wish.lora is None else _found([wish.lora], "--lora"))
    for part in choice.parts:
        click.echo(f"taken: {part}", err=not asked["check"])
    if choice.published.notes:
        click.echo(f"{choice.published.name}: {choice.published.notes}", err=not asked["check"])
    if asked["check"]:
        click.echo(f"these make a whole {choice.published.name}, {wish.width}x{wish.height}")
    else:
        _write(choice, wish, asked["output"])


def _found(places: Sequence[Path], option: str) -> Holdings:
    """What lies at the places that an option names; an error about a file there names the option, too."""
    from workers.convert.found import look

    try:
        return look(places)
    except InvalidField as error:
        field = error.field if error.field in _OPTIONS else f"{option}: {error.field}"
        raise InvalidField(field, error.value, error.allowed) from None


def _wish(asked: _Asked) -> Wish:
    from workers.convert.choice import Wish

    if asked["recipe"] is None:
        raise click.UsageError(f"--recipe is missing; allowed: one of {', '.join(PUBLISHED)}")
    width, height = asked["size"]
    return Wish(
        recipe=asked["recipe"], width=width, height=height, weights=asked["weights"], shift=asked["shift"],
        lora=asked["lora"], alpha=asked["alpha"], dtype=asked["dtype"],
    )  # fmt: skip


def _tell(holdings: Holdings) -> None:
    """Say what lies in the sources."""
    for found in holdings.found:
        click.echo(str(found))
    for folder in holdings.tokenizers:
        click.echo(f"{folder}: tokenizer")
    for other in holdings.others:
        click.echo(f"{other}: not known; its first tensor is {other.tensors.names[0]}")


def _write(choice: Choice, wish: Wish, output: Path | None) -> None:
    from workers.convert.convert import convert, total_bytes

    if output is None:
        raise click.UsageError("--output is missing: the folder to write")
    with tqdm(total=total_bytes(choice), unit="B", unit_scale=True, disable=None) as bar:

        def progress(what: str, done: int) -> None:
            bar.set_description(what)
            bar.update(done)

        written = convert(choice, wish, output, progress)
    click.echo(f"{output}: {'written' if written else 'already there, made of the same sources'}", err=True)


def _add(holdings: Holdings, asked: _Asked) -> None:
    """Add a tiny decoder to a model directory."""
    from workers.convert.convert import add_tiny_decoder

    output = asked["output"]
    if output is None:
        raise click.UsageError("--output is missing: the model directory that the tiny decoder is added to")
    found = holdings.found[-1]
    click.echo(f"taken: {found}", err=True)
    added = add_tiny_decoder(found, output, asked["dtype"], lambda *_: None)
    click.echo(f"{output}: {'tiny decoder added' if added else 'the tiny decoder is already there'}", err=True)


def _check_model(folder: Path) -> None:
    from workers.models.weights import check_weights, load_info, load_manifest

    info, manifest = load_info(folder), load_manifest(folder)
    check_weights(folder, info)
    if manifest is None:
        click.echo(f"{folder}: {info.name}, a model directory made by hand: its shapes fit, it has no hashes")
        return
    manifest.check_hashes(folder)
    click.echo(f"{folder}: {info.name}, {len(manifest.files)} files, every one as it was written")
