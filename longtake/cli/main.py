"""The command line: serve, stream, render, and a look at a server. Server code is imported only when needed."""

from __future__ import annotations

import asyncio
import io
import sys
from collections.abc import Callable, Coroutine, Sequence
from datetime import timedelta
from fractions import Fraction
from typing import TypeVar

import click
import grpc

from longtake.cli import values
from longtake.cli.carry import export_command, import_command
from longtake.cli.convert import convert_command
from longtake.cli.demo import run_demo
from longtake.cli.drain import drain_command
from longtake.cli.json_lines import json_option, show_json
from longtake.cli.plan import plan_command
from longtake.cli.recipes import recipe_group, recipes_command
from longtake.cli.serve import serve_command
from longtake.cli.server import Server, server_options
from longtake.cli.shipped import config_command
from longtake.cli.stream_commands import render_command, stream_command, watch_command
from longtake.cli.token import token_command
from longtake.cli.top import top_command
from longtake.cli.top_figures import holds, warnings
from longtake.cli.values import word
from longtake.client import Client
from longtake.client.errors import ClientError
from longtake.client.options import OptionError
from longtake.core.errors import LongtakeError, Problem, WrongValue, WrongValues
from longtake.v1 import longtake_pb2 as pb

FAILED = 1
WRONG_INPUT = 2
_CALLERS = (grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.NOT_FOUND, grpc.StatusCode.FAILED_PRECONDITION)
_HELP: tuple[type[Exception], ...] = (getattr(click.exceptions, "NoArgsIsHelpError", click.exceptions.Exit),)
"""What a group without a command raises: its message is the whole help."""

Answer = TypeVar("Answer")


def run(arguments: list[str]) -> int:
    """Run a command line; one line for what goes wrong. Returns 2 for wrong input, 130 after Ctrl-C, else 0 or 1."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # a terminal may lack letters of what others wrote
    try:
        status = cli.main(arguments, prog_name="longtake", standalone_mode=False)
    except click.UsageError as error:
        if not isinstance(error, _HELP):
            error = click.UsageError(values.sentence(error.format_message()), ctx=error.ctx)
        error.show()
        return WRONG_INPUT
    except click.ClickException as error:
        return _fail(error.format_message(), WRONG_INPUT)
    except OptionError as error:
        return _fail("; ".join(f"{_option(one.field)}: {one.description}" for one in error.violations), WRONG_INPUT)
    except click.exceptions.Abort:
        return 128 + 2
    except ClientError as error:
        return _fail(_text_of(error), WRONG_INPUT if error.code in _CALLERS else FAILED)
    except LongtakeError as error:
        return _fail(_text_of_problem(error.problem), WRONG_INPUT if error.problem.is_callers else FAILED)
    except ModuleNotFoundError as error:
        return _fail(f"{error}; the extra `server` brings it: pip install 'longtake[server]'", FAILED)
    except OSError as error:
        return _fail(str(error), FAILED)
    return status if isinstance(status, int) else 0


def main() -> None:
    """Entry; `longtake.__main__` is the quieter one."""
    sys.exit(run(sys.argv[1:]))


def _fail(text: str, status: int) -> int:
    click.echo(f"longtake: {values.sentence(text)}", err=True)
    return status


def _option(field: str) -> str:
    """The option, or argument, on the command line for one of the client's, or for a field of the protocol."""
    name = field.removeprefix("open.").partition("[")[0].partition(".")[0].removesuffix("_s")
    if name == "prompt":
        return name.upper()
    other = {"cues": "cue", "fork_block": "fork", "length": "duration", "pictures": "duration"}
    return "--" + (other | {"given": "first-frame or --continue", "references": "reference"}).get(name, name)


_OF_CUES = {"cue.change": "--change, --cut or --back", "cue.back": "--back"}
"""The options that set these fields of a cue."""


def _text_of_problem(problem: Problem) -> str:
    match problem.about:
        case WrongValue() as wrong:
            return _text_of_value(wrong)
        case WrongValues(fields=fields):
            return "; ".join(map(_text_of_value, fields))
        case _:
            return problem.message


def _text_of_value(wrong: WrongValue) -> str:
    return f"{_named(wrong.field)}: {wrong.description}"


def _named(field: str) -> str:
    """What a field of a request is on the command line; others keep their names."""
    return _option(field) if field.startswith("open.") else _OF_CUES.get(field, field)


def _text_of(error: ClientError) -> str:
    text = "; ".join(f"{_named(violation.field)}: {violation.description}" for violation in error.violations)
    if error.message.startswith("no server at "):
        return f"{error.message}; start one with `longtake serve`, or name another with --server"
    return text or f"{error.message} [{error.code.name}]"


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="longtake")
def cli() -> None:
    """Longtake: endless, steerable video streams.

    To begin: `longtake serve`, and in another terminal `longtake stream "a red ball in the fog" --duration 20s`.
    `longtake COMMAND --help` says what a command takes.
    """


# --- serving ----------------------------------------------------------------------------------------------------------


@cli.command()
@click.option("-o", "--output", default="demo.mp4", show_default=True, help="The file to write.")
def demo(output: str) -> int:
    """Serve the pocket model, stream 20 s of it to a file, and end.

    The server runs on a local Ray, and the stream gets a new prompt in the middle.
    """
    return run_demo(output)


cli.add_command(serve_command)
cli.add_command(stream_command)
cli.add_command(watch_command)
cli.add_command(render_command)
cli.add_command(config_command)
cli.add_command(convert_command)
cli.add_command(plan_command)
cli.add_command(recipe_group)
cli.add_command(recipes_command)
cli.add_command(top_command)
cli.add_command(drain_command)
cli.add_command(export_command)
cli.add_command(import_command)
cli.add_command(token_command)


# --- looking at a server ----------------------------------------------------------------------------------------------


@cli.command()
@server_options
@json_option
def status(server: Server, as_json: bool) -> None:
    """Workers and load of a server, now."""
    answer = _ask(server, Client.get_status)
    if as_json:
        show_json(answer)
        return
    uptime = timedelta(seconds=round(answer.uptime_s))
    state = f"draining{_since(answer)}, up" if answer.draining else "serving"
    queued = f", {answer.sessions_queued} queued" if answer.sessions_queued else ""
    click.echo(f"{state} for {uptime}, {answer.sessions} of {answer.max_sessions} sessions{queued}")
    if answer.HasField("limit_blocks_per_s"):
        click.echo(f"at most {answer.limit_blocks_per_s:.2f} blocks/s: that is what {answer.limited_by} can do now")
    rows = [
        (worker.worker_id, word(pb.WorkerRole.Name(worker.role)), *_taken(worker), worker.sessions, worker.in_flight,
         worker.ready, worker.passes, worker.numerics[:8] or "-")
        for worker in answer.workers
    ]  # fmt: skip
    _table(("worker", "role", "used", "reserved", "sessions", "in flight", "ready", "done", "numerics"), rows)
    for warning in warnings(answer):
        click.echo(warning)


def _taken(worker: pb.Worker) -> tuple[str, str]:
    """Pages or slots in use, and the share of its time that is reserved; a text worker has neither to give."""
    if worker.role == pb.WORKER_ROLE_TEXT:
        return "-", "-"
    return f"{worker.capacity - worker.free}/{worker.capacity}", f"{100 * worker.reserved:.0f} %"


@cli.command()
@server_options
@json_option
def sessions(server: Server, as_json: bool) -> None:
    """Open sessions of a server."""
    found = _ask(server, Client.list_sessions)
    if as_json:
        show_json(pb.ListSessionsResponse(sessions=found))
        return
    rows = [
        (session.session_id, word(pb.SessionState.Name(session.state)), ", ".join(holds(session)) or "-",
         word(pb.Pace.Name(session.pace)), session.blocks_begun, session.segments_sent, session.segments_acknowledged,
         session.window, f"{session.slack_s:+.2f} s" if session.HasField("slack_s") else "-",
         timedelta(seconds=round(session.age_s)), values.shown(session.tenant),
         values.shown(session.current_prompt or session.prompt))
        for session in found
    ]  # fmt: skip
    heads = (
        "session", "state", "waits for", "pace", "begun", "sent", "acknowledged", "window", "slack", "age", "tenant",
        "prompt",
    )  # fmt: skip
    _table(heads, rows)


@cli.command()
@click.argument("session_id", metavar="ID", callback=values.text)
@click.option(
    "--reason",
    callback=values.text,
    default="",
    metavar="TEXT",
    help="What its client and the audit log are told: one line.",
)
@server_options
def close(session_id: str, reason: str, server: Server) -> None:
    """End the session ID, whoever opened it.

    `longtake sessions` lists them.
    """
    _ask(server, lambda client: client.close_session(session_id, reason))


@cli.command()
@server_options
@json_option
def model(server: Server, as_json: bool) -> None:
    """What a server offers: model, prompts, limits."""
    answer = _ask(server, Client.get_model)
    if as_json:
        show_json(answer)
        return
    video, recipe, limits = answer.video, answer.recipe, answer.limits
    fps = Fraction(video.fps_numerator, video.fps_denominator)
    window = f"{recipe.window_frames} latent frames" if recipe.window_frames else "everything"
    click.echo(f"{answer.name}: {video.width} x {video.height} at {float(fps):g} pictures/s, ", nl=False)
    click.echo(f"{answer.block_pictures} pictures a block ({answer.first_block_pictures} in the first)")
    click.echo(f"recipe {recipe.digest[:12]}: steps {list(recipe.steps)}, shift {recipe.shift:g}, ", nl=False)
    looks = f", {recipe.reference_frames} references" if recipe.reference_frames else ""
    click.echo(f"level {word(pb.Level.Name(recipe.level))}, window {window}, {recipe.sink_frames} sinks{looks}")
    click.echo(f"codecs: {', '.join(word(pb.Codec.Name(option.codec)) for option in answer.codecs)}; ", nl=False)
    click.echo(f"decoders: {', '.join(word(pb.Decoder.Name(decoder)) for decoder in answer.decoders)}")
    if answer.max_given_pictures:
        click.echo(f"begins with up to {answer.max_given_pictures} pictures that are given")
    click.echo(f"limits: {limits.max_sessions} sessions and {limits.max_queued} queued, ", nl=False)
    click.echo(f"window 1 to {limits.max_window} (default {limits.default_window}), ", nl=False)
    click.echo(f"prompts up to {limits.max_prompt_bytes} bytes")
    click.echo(answer.prompt_help)
    for group in answer.vocabulary:
        click.echo(f"  {group.name}: {', '.join(group.words)}")


def _since(answer: pb.GetStatusResponse) -> str:
    """For how long it drains, and how long that goes on; nothing of an older server, which does not say it."""
    if not answer.HasField("draining_for_s"):
        return ""
    begun, left = (timedelta(seconds=round(time_s)) for time_s in (answer.draining_for_s, answer.drains_in_s))
    return f" for {begun}, {left} left"


def _ask(server: Server, question: Callable[[Client], Coroutine[None, None, Answer]]) -> Answer:
    async def answer() -> Answer:
        async with server.client() as client:
            return await question(client)

    return asyncio.run(answer())


def _table(head: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    cells = [head, *([str(cell) for cell in row] for row in rows)]
    widths = [max(len(row[column]) for row in cells) for column in range(len(head))]
    for row in cells:
        click.echo("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())
