"""What the commands that receive a stream have in common: it goes somewhere, with progress, until it ends."""

from __future__ import annotations

import asyncio
import signal
import sys
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import NoReturn

import click
from tqdm import tqdm

from longtake.cli import event_lines
from longtake.cli.output import Output
from longtake.cli.server import Server
from longtake.cli.steering import Steering
from longtake.cli.targets import STDERR, STDOUT, File, Target
from longtake.cli.values import shown
from longtake.client import CodecName, Stream, StreamOptions
from longtake.client.events import CueAcceptedEvent, CueAppliedEvent, OpenedEvent, SegmentEvent, StreamEvent
from longtake.client.recording import Recording


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamOutput:
    """Where a stream goes and what the user is told of it."""

    target: Target
    as_json: bool = False
    """Whether it is told as JSON, one event a line and a summary in the end."""
    keep_times: bool = False
    """Whether it has the times of the stream instead of beginning at 0 s."""
    tells_prompts: bool = False
    """Whether people are told of each prompt what it is taken for, and from when on it is shown."""

    def of(self, codec: CodecName) -> StreamOutput:
        """The same for a stream of this codec; UsageError if that cannot, or should not, be written there."""
        target = replace(self.target, codec=codec) if isinstance(self.target, File) else self.target
        target.check(codec)
        return replace(self, target=target)


@dataclass(frozen=True, slots=True, kw_only=True)
class WatchRange:
    """What is to be seen of somebody's stream."""

    from_segment: int | None = None
    """The first segment, which must still be kept; None: the next one."""
    length_s: Fraction | None = None
    """Seconds of video, None: to its end."""


class Show:
    """Records the events of one stream and shows how it goes, on standard error."""

    def __init__(self, output: StreamOutput, options: StreamOptions) -> None:
        self._output = output
        self._file: Output | None = None
        self._lines: Output | None = None
        """What takes the events as JSON."""
        if output.as_json:
            self._lines = Output(STDERR if output.target == STDOUT else STDOUT)
        self.recording = Recording(self._open, output.target.name, options.cues, keep_times=output.keep_times)
        self._bar: tqdm[NoReturn] = tqdm(
            unit=" pictures",
            file=sys.stderr,
            dynamic_ncols=True,
            disable=True if output.as_json else None,  # None: shown on a terminal only
        )

    def take(self, event: StreamEvent) -> None:
        """Record an event and show it."""
        text = self.recording.take(event)
        if self._lines is not None:
            self._lines.write(event_lines.event_line(event))
        elif self._output.tells_prompts and isinstance(event, OpenedEvent | CueAcceptedEvent | CueAppliedEvent):
            self.say(self._about_prompt(event))
        elif text:
            self.say(text)
        if isinstance(event, SegmentEvent):
            self._progress(event)

    def say(self, text: str) -> None:
        """Have somebody read this, beside the progress."""
        if not self._output.as_json:
            tqdm.write(text, file=sys.stderr)

    def _progress(self, event: SegmentEvent) -> None:
        opened = self.recording.opened
        if self.recording.segments == 1 and opened is not None and opened.pictures is not None:
            self._bar.reset(total=opened.pictures - event.first_picture)
        pace = f"{self.recording.realtime_factor:.2f} x real time, lag {max(0.0, self.recording.lag_s):.2f} s"
        self._bar.set_postfix_str(pace, refresh=False)
        self._bar.update(event.picture_count)

    def _about_prompt(self, event: OpenedEvent | CueAcceptedEvent | CueAppliedEvent) -> str:
        prompt, start_s = shown(event.prompt), self.recording.start_s
        if isinstance(event, CueAppliedEvent):
            since_s = 0.0 if start_s is None else float(event.start_s - start_s)
            return f"{shown(event.cue_id)}: shown from {since_s:.2f} s: {prompt}"
        reading = "" if event.reading is None or not event.reading.text else f" ({event.reading.text})"
        if isinstance(event, OpenedEvent):
            return f"{prompt}{reading}"
        place = "" if start_s is None else f" for {float(event.start_s - start_s):.2f} s"
        shot = "" if event.shot is None else f", shot {event.shot}"
        return f"{shown(event.cue_id)}: accepted{place}{shot}: {prompt}{reading}"

    def _open(self) -> Output:
        self._file = Output(self._output.target)
        return self._file

    @property
    def is_left(self) -> bool:
        """Whether what is shown is for nobody any more."""
        return self._file is not None and self._file.is_left

    async def room(self) -> None:
        """Wait until the outputs have taken nearly all; OSError, which names it, if one cannot."""
        for output in self._outputs():
            await output.room()

    async def written(self) -> None:
        """Close the output, and wait until it has taken all; OSError, which names it, if it cannot."""
        self.recording.close()
        if self._file is not None:
            await self._file.written()

    def hurry(self) -> None:
        """Wait no longer than a moment for an output that takes nothing."""
        for output in self._outputs():
            output.hurry()

    def _outputs(self) -> list[Output]:
        return [output for output in (self._file, self._lines) if output is not None]

    async def finish(self) -> None:
        """Close the progress bar, and print what it came to, whatever became of the output."""
        self._bar.close()
        self.recording.close()
        if self.recording.opened is not None:
            self._sum_up()
        if self._lines is not None:
            self._lines.close()
            await self._lines.written()

    def _sum_up(self) -> None:
        summary = self.recording.summary()
        if self._lines is not None:
            self._lines.write(event_lines.line("summary", summary.as_dict()))
        else:
            click.echo("\n".join(summary.lines()), err=True)


class Interrupt:
    """Ctrl-C and SIGTERM: the first asks the stream to end, the next one does not wait for it."""

    def __init__(self) -> None:
        self.status = 0
        self._task = asyncio.current_task()
        self._asking: asyncio.Task[None] | None = None
        self.ask: Callable[[], Awaitable[None]] | None = None
        """The function that asks the stream to end; None if it is just given up."""
        self.hurry: Callable[[], None] = lambda: None
        """Called with each signal."""

    def __call__(self, number: int) -> None:
        self.hurry()
        first = self.status == 0
        self.status = 128 + number
        if first and self.ask is not None:
            self._asking = asyncio.ensure_future(_awaited(self.ask))
        elif self._task is not None:
            self._task.cancel()


async def _awaited(ask: Callable[[], Awaitable[None]]) -> None:
    await ask()


@contextmanager
def interruptible() -> Iterator[Interrupt]:
    """Within it, signals go to the Interrupt, and a cancellation by it ends the block quietly."""
    loop = asyncio.get_running_loop()
    interrupt = Interrupt()
    numbers = (signal.SIGINT, signal.SIGTERM)
    for number in numbers:
        loop.add_signal_handler(number, interrupt, number)
    try:
        yield interrupt
    except asyncio.CancelledError:
        if not interrupt.status:
            raise
    finally:
        for number in numbers:
            loop.remove_signal_handler(number)


async def stream_to(
    server: Server, prompt: str, options: StreamOptions, output: StreamOutput, *, interactive: bool = False
) -> int:
    """Stream from a server; returns the exit status. ClientError if the server refuses, or the stream breaks.

    If `interactive`, lines of standard input steer it.
    """
    output = output.of(options.codec)
    show = Show(output, options)
    try:
        with interruptible() as interrupt:
            async with server.client() as client, client.stream(prompt, options, waiting=show.take) as stream:
                interrupt.ask, interrupt.hurry = stream.close, show.hurry
                steering = Steering(stream, show.recording, show.say) if interactive else None
                try:
                    await _consume(stream, show, steering)
                finally:
                    if steering is not None:
                        steering.end()
            await show.written()
    finally:
        await show.finish()
    return interrupt.status


async def _consume(stream: Stream, show: Show, steering: Steering | None) -> None:
    async for event in stream:
        show.take(event)
        if steering is not None:
            steering.look()
        await show.room()
        if show.is_left:
            await stream.close()


async def watch_to(server: Server, session_id: str, output: StreamOutput, what: WatchRange) -> int:
    """Watch somebody's stream; returns the exit status. ClientError if it cannot be seen, or ends with an error."""
    show: Show | None = None
    try:
        with interruptible() as interrupt:
            async with server.client() as client, client.watch(session_id, from_segment=what.from_segment) as watch:
                output = output.of(codec_of(watch.opened))
                show = Show(output, StreamOptions())
                interrupt.ask, interrupt.hurry = watch.aclose, show.hurry
                async for event in watch:
                    show.take(event)
                    await show.room()
                    if show.is_left or (what.length_s is not None and show.recording.video_s >= what.length_s):
                        break
                show.recording.leave()
            if show is not None:
                await show.written()
    finally:
        if show is not None:
            await show.finish()
    return interrupt.status


async def render_to(render: Callable[[Show], Awaitable[None]], options: StreamOptions, output: StreamOutput) -> int:
    """Record what `render` generates; returns the exit status."""
    output = output.of(options.codec)
    show = Show(output, options)
    try:
        with interruptible() as interrupt:
            interrupt.hurry = show.hurry
            await render(show)
            await show.written()
    finally:
        await show.finish()
    return interrupt.status


def codec_of(opened: OpenedEvent) -> CodecName:
    """How the segments of a stream are encoded."""
    if opened.media_type.startswith("video/mp4"):
        return "h264"
    return "mjpeg" if opened.media_type.startswith("multipart/") else "raw"
