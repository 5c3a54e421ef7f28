"""`longtake recipe`: recipes in files, looked at before they are served."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from dataclasses import asdict
from importlib.resources import files
from pathlib import Path

import click

from longtake.cli import values
from longtake.cli.json_lines import json_option, show_json
from longtake.cli.plan import model_of
from longtake.cli.server import Server, server_options
from longtake.core.errors import Contradictions, InvalidFields, LongtakeError
from longtake.core.plan.cost import RecipeCost, cost_of
from longtake.core.plan.model import Model
from longtake.core.recipe.recipe import Recipe
from longtake.core.recipe.table import NamedRecipe
from longtake.recipes import SUFFIX, recipe_in, shipped
from longtake.v1 import longtake_pb2 as pb

_WRONG = 2
"""The status for wrong input, as of every command."""


@click.command("recipes")
@server_options
@json_option
def recipes_command(server: Server, as_json: bool) -> None:
    """The recipes of a server, with what each costs.

    The first is that of streams which name none. `longtake recipe` shows those that ship.
    """

    async def asked() -> pb.GetModelResponse:
        async with server.client() as client:
            return await client.get_model()

    answer = asyncio.run(asked())
    if as_json:
        show_json({"recipes": list(answer.recipes)})
        return
    if not answer.recipes:
        click.echo("This server is an older one: it has one recipe, see `longtake model`.")
    width = max((len(each.name) for each in answer.recipes), default=0)
    for each in answer.recipes:
        latency = f"{each.latency_s:.2f} s" if each.latency_s else "not known yet"
        proven = "" if each.proven else " (unproven with these weights)"
        click.echo(f"{each.name.ljust(width)}  cost {each.relative_cost:.2f} x, a block takes {latency}, "
                   f"{each.block_pictures} pictures{proven}")  # fmt: skip
        lists = recipe_lists(each.recipe)
        if lists:
            click.echo(f"{'':{width}}  steps: {lists}")
        if each.recipe.fold_frames:
            click.echo(f"{'':{width}}  memory: {memory_words(each.recipe.memory_frames, each.recipe.fold_frames)}")
        click.echo(f"{'':{width}}  {values.shown(each.help, most=200)}")


@click.group("recipe")
def recipe_group() -> None:
    """Recipes in TOML files: those that ship, and your own."""


@recipe_group.command("show")
@click.argument("name", metavar="NAME")
def show_command(name: str) -> None:
    """Print the recipe NAME that ships.

    Its comments are printed, too: `longtake recipe show clean >mine.toml` is a file to begin with.
    """
    if name not in shipped():
        raise click.UsageError(f"NAME: {name!r} is not allowed; allowed: {', '.join(shipped())}")
    click.echo((files("longtake.recipes") / f"{name}{SUFFIX}").read_text(encoding="utf-8"), nl=False)


@recipe_group.command("check")
@click.argument("path", type=values.InputFile(), metavar="FILE")
@click.option("--model", callback=values.model, default="pocket", show_default=True,
              help="A preset or a model directory, with whose own recipe it is compared.")  # fmt: skip
@json_option
def check_command(path: Path, model: str, as_json: bool) -> int:
    """Say what is wrong with a recipe, or what it costs.

    Each contradiction is told with both of its sides; the status is 2.
    """
    try:
        made = recipe_in(path, field="FILE")
    except LongtakeError as error:
        for text in _told(error):
            click.echo(f"longtake: {values.sentence(text, most=1000)}", err=True)
        return _WRONG
    with values.in_words_of({"MODEL": "--model", "model.path": "--model"}):
        numbers = model_of(model)
    cost = cost_of(numbers, made)
    if as_json:
        fields = made.recipe.plain() | {"digest": made.recipe.digest, "name": made.name, "model": numbers.name}
        show_json(fields | asdict(cost))
        return 0
    for line in _lines(made, numbers, cost):
        click.echo(line)
    return 0


def recipe_lists(recipe: pb.Recipe) -> str:
    """Which steps blocks take, in words; empty if all of them take all."""
    shed = tuple(tuple(each.steps) for each in recipe.shed)
    return _lists(recipe.usual_steps, recipe.first_steps, recipe.first_blocks, shed)


def _lists(usual: Iterable[int], first: Iterable[int], first_blocks: int, shed: Iterable[Iterable[int]]) -> str:
    blocks = "block" if first_blocks == 1 else f"{first_blocks} blocks"
    named = {"": [usual], f"for the first {blocks} ": [first], "under load ": shed}
    told = [f"{name}{' or '.join(str(list(one)) for one in lists)}" for name, lists in named.items() if any(lists)]
    return ", ".join(told)


def _told(error: LongtakeError) -> list[str]:
    """One text for each thing that is wrong."""
    match error:
        case Contradictions():
            return [str(each) for each in error.all]
        case InvalidFields():
            return [str(each) for each in error.errors]
        case _:
            return [str(error)]


def _lines(made: NamedRecipe, model: Model, cost: RecipeCost) -> list[str]:
    of = made.recipe
    window = "everything" if of.window_frames is None else f"{of.window_frames} latent frames"
    own = ": it is that recipe" if of == model.recipe else ""
    first = "" if of.blocks.first_frames is None else f" (the first of {of.blocks.first_frames})"
    steps = of.steps
    lists = _lists(steps.usual, steps.first, steps.first_blocks, steps.shed)
    return [
        f"{made.name} is right: {of.digest[:12]}, steps {list(of.steps.ladder)}, shift {of.steps.shift:g}, "
        f"level {of.level.value}{_lag(of)}, blocks of {of.blocks.frames}{first}, window {window}, "
        f"{of.sink_frames} sinks{_memory(of)}{_looks(of)}{_slope(of)}",
        *([f"blocks take {lists}"] if lists else []),
        f"cues   {of.cues.change.value}{_SINKS[of.cues.keep_sinks]}{_shots(of)}",
        f"cost   {cost.relative_cost:.2f} x that of the own recipe of {model.name}{own}: "
        f"{cost.forwards_per_block} forwards a block of {cost.block_s:.2f} s",
        f"wait   {_many(cost.forwards_to_latents, 'forward')} from noise to finished latents",
        f"memory {_many(cost.pages, 'page')} in {_many(cost.lanes, 'lane')} for each session",
    ]


def _looks(of: Recipe) -> str:
    """What it needs of images."""
    count, lead = of.context.reference_frames, of.positions.reference_lead
    ahead = f" that run ahead from {lead} by {of.positions.reference_stride}" if lead else ""
    return f", {count} references{ahead}" if count else ""


def _slope(of: Recipe) -> str:
    """How distance counts, if it does."""
    return f", {of.positions.slope:g} less for each frame of distance" if of.positions.slope else ""


_SINKS = {None: "", True: ", sinks stay", False: ", sinks move"}


def _memory(of: Recipe) -> str:
    """What becomes of frames that leave the window, if they are not dropped."""
    words = memory_words(of.context.memory_frames, of.memory.fold_frames)
    return f", a memory of {words}" if of.memory.folds else ""


def memory_words(frames: int, folded: int) -> str:
    """How large a memory is and what it is made of."""
    return f"{_many(frames, 'frame')}, each folded of {folded} that leave the window"


def _shots(of: Recipe) -> str:
    """What is remembered of shots, if there may be several."""
    if not of.cues.cut:
        return ""
    offset = f", each {of.positions.shot_offset} places further on" if of.positions.shot_offset else ""
    return f", or cut: {_many(of.shots.room, 'shot')} remembered{offset}"


def _lag(of: Recipe) -> str:
    """How blocks step together, if they do."""
    if not of.context.lag:
        return ""
    return f" with lag {of.context.lag}{' both ways' if of.context.both_ways else ''}"


def _many(count: int, what: str) -> str:
    return f"{count} {what}{'' if count == 1 else 's'}"
