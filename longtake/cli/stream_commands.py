"""`longtake stream`, `render` and `watch`: streams into files, pipes and players."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction
from typing import TypedDict, TypeVar, Unpack

import click

from longtake.cli import story, values
from longtake.cli.server import Server, server_options
from longtake.cli.stream import Show, StreamOutput, WatchRange, render_to, stream_to, watch_to
from longtake.cli.targets import STDOUT, File, Player, Target
from longtake.client import (
    CHANGES,
    CODECS,
    DECODERS,
    PACES,
    ChangeName,
    CodecName,
    CueAt,
    DecoderName,
    PaceName,
    StreamOptions,
    open_request,
)

Command = TypeVar("Command", bound=Callable[..., object])
_OPTIONS = {
    "model.path": "--model",
    "model.recipes": "--recipe",
    "model.device": "--device",
    "model.dtype": "--dtype",
}
"""The options of `render` by the fields that they set."""


def _options(command: Command, options: tuple[Callable[[Command], Command], ...]) -> Command:
    for option in reversed(options):
        command = option(command)
    return command


def _output_options(command: Command) -> Command:
    """Where it goes, and how it is told of."""
    return _options(command, (
        click.option("-o", "--output", help="A file, or - for standard output. Default: longtake.mp4."),
        click.option("-f", "--force", is_flag=True, help="Overwrite longtake.mp4 if it is there."),
        click.option("--json", "as_json", is_flag=True, help="Print JSON: one event a line, and a summary."),
    ))  # fmt: skip


def _play_options(command: Command) -> Command:
    return _options(command, (
        click.option("--play", is_flag=True, help="Show it with ffplay, mpv or vlc instead of writing a file."),
        click.option("--keep-times", is_flag=True,
                     help="Keep the times of the stream it is part of, instead of beginning at 0 s."),
    ))  # fmt: skip


def _stream_options(command: Command) -> Command:
    """The options that `stream` and `render` share."""
    return _options(command, (
        click.option("--cue", "cues", callback=values.cues, multiple=True, metavar="TIME=PROMPT",
                     help="Another prompt from a time on; repeatable."),
        click.option("--cut", "cuts", callback=values.cues, multiple=True, metavar="TIME=PROMPT",
                     help="A new shot from a time on; repeatable. Not by every recipe."),
        click.option("--back", "backs", callback=story.backs, multiple=True, metavar="TIME=SHOT[:PROMPT]",
                     help="A new shot that remembers an earlier one again, by its number from 0, and has its prompt."),
        click.option("--change", type=click.Choice(list(CHANGES)),
                     help="What cues make of what the stream remembers. Default: what its recipe says."),
        click.option("--duration", callback=values.duration, metavar="TIME", help="Length, such as 20s or 1h."),
        click.option("--seed", type=values.Whole(0, 2**64 - 1), help="Same seed, same video. Default: drawn."),
        click.option("--codec", type=click.Choice(list(CODECS)), default="h264", show_default=True,
                     help="How pictures are encoded: h264 as MP4; mjpeg and raw without a container."),
        click.option("--quality", type=values.Whole(0, 100), help="h264: 1 (best) to 51; mjpeg: 1 to 100 (best)."),
        click.option("--recipe", callback=values.text, default="", metavar="NAME",
                     help="How it is made. Default: as the model was trained; `longtake recipes` lists others."),
        click.option("--first-frame", "first_frame", callback=values.picture, metavar="FILE",
                     help="A picture that it begins with, PNG or JPEG."),
        click.option("--continue", "clip", callback=values.clip, metavar="FILE",
                     help="A video that it goes on from: its last pictures are shown first."),
        click.option("--reference", "reference", callback=values.reference, multiple=True, metavar="FILE",
                     help="An image that it looks at and never shows; for recipes that need one. Repeatable."),
        click.option("--decoder", type=click.Choice(list(DECODERS)), help="What makes the pictures. Default: full."),
        _output_options,
    ))  # fmt: skip


class _OutputAsked(TypedDict):
    output: str | None
    force: bool
    as_json: bool


class _Asked(_OutputAsked):
    """What `stream` and `render` are given alike."""

    prompt: str
    cues: tuple[CueAt, ...]
    cuts: tuple[CueAt, ...]
    backs: tuple[CueAt, ...]
    change: ChangeName | None
    duration: Fraction | None
    seed: int | None
    codec: CodecName
    quality: int | None
    recipe: str
    first_frame: tuple[bytes, ...]
    clip: tuple[bytes, ...]
    reference: tuple[bytes, ...]
    decoder: DecoderName | None


class _PlayAsked(TypedDict):
    play: bool
    keep_times: bool
    server: Server


class _StreamAsked(_Asked, _PlayAsked):
    pace: PaceName
    window: int | None
    fork: tuple[str | None, int | None]
    interactive: bool


class _RenderAsked(_Asked):
    model: str
    device: str
    dtype: str


class _WatchAsked(_OutputAsked, _PlayAsked):
    session_id: str
    from_segment: int | None
    duration: Fraction | None


@click.command("stream")
@click.argument("prompt")
@_stream_options
@_play_options
@click.option("--interactive", is_flag=True, help="Steer by lines of standard input: PROMPT, or 10s=PROMPT.")
@click.option("--pace", type=click.Choice(list(PACES)), default="fast", show_default=True,
              help="realtime: at the rate of the video, or refused; fast: as fast as there is room.")  # fmt: skip
@click.option(
    "--window", type=values.Whole(min=1), help="Segments that may wait for this client. Default: the server's."
)
@click.option(
    "--fork",
    callback=values.fork,
    metavar="ID[@BLOCK]",
    help="Go on from the session ID where it is, or from a block of its past; it goes on as well.",
)
@server_options
def stream_command(**asked: Unpack[_StreamAsked]) -> int:
    """Stream PROMPT from a server into a file.

    It ends after --duration, or at Ctrl-C. In a fork, lengths and times count from its own start, as in its file; with
    --keep-times from that of the session ID.
    """
    fork, block = asked["fork"]
    options = replace(
        _stream_asked(asked),
        pace=asked["pace"],
        window=asked["window"] or 0,
        fork=fork,
        fork_block=block,
        fork_clock="parent" if asked["keep_times"] else "own",
    )
    output = StreamOutput(
        target=_shown(asked, play=asked["play"]),
        as_json=asked["as_json"],
        keep_times=asked["keep_times"],
        tells_prompts=asked["interactive"],
    )
    return asyncio.run(stream_to(asked["server"], asked["prompt"], options, output, interactive=asked["interactive"]))


@click.command("watch")
@click.argument("session_id", metavar="ID", callback=values.text)
@click.option(
    "--from",
    "from_segment",
    type=values.Whole(0, 2**64 - 1),
    metavar="SEGMENT",
    help="Begin at a segment that is still kept. Default: the next one.",
)
@click.option("--duration", callback=values.duration, metavar="TIME", help="Length. Default: to the stream's end.")
@_output_options
@_play_options
@server_options
def watch_command(**asked: Unpack[_WatchAsked]) -> int:  # fmt: skip
    """Watch the session ID, whoever opened it.

    `longtake sessions` lists them.
    """
    output = StreamOutput(
        target=_shown(asked, play=asked["play"]),
        as_json=asked["as_json"],
        keep_times=asked["keep_times"],
        tells_prompts=True,
    )
    what = WatchRange(from_segment=asked["from_segment"], length_s=asked["duration"])
    return asyncio.run(watch_to(asked["server"], asked["session_id"], output, what))


@click.command("render")
@click.argument("prompt")
@_stream_options
@click.option("--model", callback=values.model, default="pocket", show_default=True, help="A model directory.")
@click.option("--device", default="cpu", show_default=True, help="cpu or cuda.")
@click.option("--dtype", default="float32", show_default=True, type=click.Choice(["float32", "bfloat16"]),
              help="Number format of the forwards.")  # fmt: skip
def render_command(**asked: Unpack[_RenderAsked]) -> int:
    """Generate what `stream` would, without a server.

    Needs --duration. The model runs in this process, which needs the extra `server`. --recipe may also be the path of a
    file; `longtake recipe` shows those that ship.
    """
    from cluster.render import render_events

    if asked["duration"] is None:
        raise click.UsageError("--duration is missing: without a server a stream must have its end, such as 20s or 1h")
    options = _stream_asked(asked)
    request = open_request(asked["prompt"], replace(options, recipe=""))  # it may be the path of a file
    output = StreamOutput(target=_file(asked), as_json=asked["as_json"])

    async def work(show: Show) -> None:
        model, device, dtype = asked["model"], asked["device"], asked["dtype"]
        await render_events(
            request, show.take, room=show.room, model=model, device=device, dtype=dtype, recipe=asked["recipe"]
        )

    with values.in_words_of(_OPTIONS):
        return asyncio.run(render_to(work, options, output))


def _stream_asked(asked: _Asked) -> StreamOptions:
    end_s = asked["duration"]
    for option, cues in (("--cue", asked["cues"]), ("--cut", asked["cuts"]), ("--back", asked["backs"])):
        for cue in cues:
            if end_s is not None and cue.time_s is not None and cue.time_s >= end_s:
                place = f"{float(cue.time_s):g}s={cue.prompt}"
                allowed = "a time before the end, --duration"
                raise click.UsageError(f"{option}: {place!r} would never be shown; allowed: {allowed}")
    if asked["first_frame"] and asked["clip"]:
        raise click.UsageError("--first-frame and --continue both say what it begins with: leave one out")
    return StreamOptions(
        seed=asked["seed"],
        given=asked["first_frame"] or asked["clip"],
        references=asked["reference"],
        duration_s=asked["duration"],
        codec=asked["codec"],
        quality=asked["quality"],
        recipe=asked["recipe"],
        decoder=asked["decoder"],
        cues=story.story(
            asked["prompt"],
            [replace(cue, change=asked["change"]) for cue in asked["cues"]],
            asked["cuts"],
            asked["backs"],
        ),
    )


def _file(asked: _OutputAsked) -> Target:
    return STDOUT if asked["output"] == "-" else File(asked["output"], asked["force"])


def _shown(asked: _OutputAsked, *, play: bool) -> Target:
    if not play:
        return _file(asked)
    if asked["output"] is not None:
        raise click.UsageError("--play shows the stream instead of writing it: leave out --output, or --play")
    return Player()
