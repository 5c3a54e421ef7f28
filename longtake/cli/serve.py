"""`longtake serve`: a server in this process, until a signal or a drain ends it."""

from __future__ import annotations

import asyncio
import os
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, TypedDict, Unpack

import click

from longtake.cli import values
from longtake.core.errors import Declined, LongtakeError, Problem, WrongValue

if TYPE_CHECKING:
    from cluster.config import ServerConfig

_LEVELS = ("debug", "info", "warning", "error")
_LEVEL_VARIABLE = "LONGTAKE_LOG_LEVEL"


class _Asked(TypedDict):
    config: Path | None
    config_option: Path | None
    host: str | None
    port: int | None
    http: str | None
    record: Path | None
    log_level: str


_FILE = values.InputFile()


@click.command("serve")
@click.argument("config", required=False, type=_FILE)
@click.option("--config", "config_option", type=_FILE, metavar="FILE", help="The same as CONFIG.")
@click.option("--host", callback=values.host, metavar="ADDRESS", help="Where clients connect; overrides listen.host.")
@click.option("--port", type=values.Whole(0, 65535), help="… and the port; overrides listen.port. 0 picks a free one.")
@click.option("--http", metavar="[HOST]:PORT", help="Serve a web page there; overrides http.address.")
@click.option(
    "--record",
    type=values.AnyPath(),
    metavar="FILE",
    help="Record there what happens, prompts included, to be replayed; overrides recording.file.",
)
@click.option("--log-level", type=click.Choice(_LEVELS), default="info", show_default=True, envvar=_LEVEL_VARIABLE,
              show_envvar=True, help="The least that is logged, on standard error.")  # fmt: skip
def serve_command(**asked: Unpack[_Asked]) -> None:
    """Serve a model until SIGINT or SIGTERM.

    Without CONFIG, a TOML file, it is the pocket model, on this machine and for it alone. `longtake config` prints a
    CONFIG to begin with.
    """
    from cluster.serve import serve as serve_forever
    from workers.start.log import log_to_stderr, settle_log

    settings = _settings(asked)
    os.environ[_LEVEL_VARIABLE] = asked["log_level"]  # for the workers, too
    log_to_stderr()
    try:
        asyncio.run(serve_forever(settings, say=lambda ready: click.echo(str(ready))))
    except LongtakeError as error:
        settle_log()  # the last word is why it ended
        raise _by_option(error.problem, asked) from None


def _settings(asked: _Asked) -> ServerConfig:
    """What the file says, where no option says something else."""
    from cluster.config import ServerConfig, load_config

    config, same = asked["config"], asked["config_option"]
    if config is not None and same is not None:
        raise click.UsageError(f"--config: {str(same)!r} is not allowed; allowed: one of CONFIG and --config")
    if config is not None:
        settings = load_config(config, field="CONFIG")
    else:
        settings = ServerConfig() if same is None else load_config(same, field="--config")
    for key, (_, value) in _overrides(asked).items():
        section, _, name = key.partition(".")
        changed = getattr(settings, section).model_copy(update={name: value})
        settings = settings.model_copy(update={section: changed})
    return settings


def _overrides(asked: _Asked) -> dict[str, tuple[str, object]]:
    """The keys that options stand for, where one is given: the option, and its value."""
    every = {
        "listen.host": ("--host", asked["host"]),
        "listen.port": ("--port", asked["port"]),
        "http.address": ("--http", asked["http"]),
        "recording.file": ("--record", None if asked["record"] is None else str(asked["record"])),
    }
    return {key: (option, value) for key, (option, value) in every.items() if value is not None}


def _by_option(problem: Problem, asked: _Asked) -> Declined:
    """The error in the words of the command line, where what is wrong was said there."""
    for key, (option, _) in _overrides(asked).items():
        about = problem.about
        # An address that cannot be listened at is that of the whole section.
        if isinstance(about, WrongValue) and (about.field == key or f"{about.field}." in key):
            about = replace(about, field=option)
        problem = replace(problem, message=problem.message.replace(key, option), about=about)
    return Declined(problem)
