"""`longtake config`: the configurations that ship, with their comments, to begin a file of one's own with."""

from __future__ import annotations

from importlib.resources import files

import click

DEFAULT = "pocket"


def _shipped(ctx: click.Context, param: click.Parameter, value: str) -> str:
    """Option callback: the text of a configuration. They are looked for when one is asked for, not by every command."""
    found = {each.name.removesuffix(".toml"): each for each in (files("longtake.cli") / "configs").iterdir()}
    return found[click.Choice(sorted(found)).convert(value, param, ctx)].read_text(encoding="utf-8")


@click.command("config")
@click.argument("text", callback=_shipped, default=DEFAULT, metavar="[NAME]")
def config_command(text: str) -> None:
    """Print a configuration to begin with.

    `longtake config >longtake.toml`, then `longtake serve longtake.toml`. Without a NAME it is `pocket`: what `longtake
    serve` does without a file, every key with what it means. Others are for published models, converted by `longtake
    convert`: hiar-one-gpu, hiar-four-gpus, longlive-one-gpu, wan-14b-four-gpus.
    """
    click.echo(text, nl=False)
