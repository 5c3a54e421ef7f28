"""`longtake config`: the configurations that ship, with their comments, to begin a file of one's own with."""

from __future__ import annotations

from importlib.resources import files

import click

DEFAULT = "pocket"
_FILES = {entry.name.removesuffix(".toml"): entry for entry in (files("longtake.cli") / "configs").iterdir()}


@click.command("config")
@click.argument("name", type=click.Choice(sorted(_FILES)), default=DEFAULT, metavar="[NAME]")
def config_command(name: str) -> None:
    """Print the configuration NAME: `longtake config >longtake.toml`, then `longtake serve longtake.toml`.

    Without a NAME it is `pocket`: what `longtake serve` does without a file, every key with what it means. Others are
    for published models, converted by `longtake convert`: hiar-one-gpu, hiar-four-gpus, longlive-one-gpu,
    wan-14b-four-gpus.
    """
    click.echo(_FILES[name].read_text(encoding="utf-8"), nl=False)
