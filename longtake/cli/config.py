"""`longtake config`: the configuration that holds without a file, with every key and what it means."""

from __future__ import annotations

from importlib.resources import files

import click


@click.command("config")
def config_command() -> None:
    """Print the configuration that `serve` has without a file, every key explained: change what you want in a copy.

    longtake config > my.toml, then longtake serve my.toml
    """
    click.echo(files("cluster").joinpath("pocket.toml").read_text(encoding="utf-8"), nl=False)
