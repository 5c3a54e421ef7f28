"""`longtake config`: the configurations that ship, with their comments, to begin a file of one's own with."""

from __future__ import annotations

from importlib.resources import files

import click

DEFAULT = "pocket"
_FILES = {entry.name.removesuffix(".toml"): entry for entry in (files("longtake.cli") / "configs").iterdir()}


@click.command("config")
@click.argument("name", type=click.Choice(sorted(_FILES)), default=DEFAULT)
def config_command(name: str) -> None:
    """Print the configuration NAME: `longtake config >longtake.toml`, then `longtake serve longtake.toml`.

    Without a NAME it is that of the pocket model: what `longtake serve` does without a file, every key with what it
    means. The others are for published models, converted by `longtake convert`, on one or several GPUs.
    """
    click.echo(_FILES[name].read_text(encoding="utf-8"), nl=False)
