"""What `longtake stream` and `longtake render` have in common: a stream into a file, with progress, until it ends."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, NoReturn

import click
from tqdm import tqdm

from longtake.cli.server import Server
from longtake.client import Stream, StreamOptions
from longtake.client.events import OpenedEvent, SegmentEvent, StreamEvent
from longtake.client.recording import Recording

STDOUT = "-"
SUFFIXES = {"h264": ".mp4", "mjpeg": ".mjpeg", "raw": ".rgb"}


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamOutput:
    """Where a stream goes and what the user is told of it."""

    path: str
    """A file, or `-` for standard output."""
    as_json: bool

    def check(self) -> None:
        """UsageError if the file cannot be written, before anything is generated for it."""
        if self.path == STDOUT:
            return
        path = Path(self.path)
        place = path if path.exists() else path.absolute().parent
        if path.is_dir() or not os.access(place, os.W_OK):
            raise click.UsageError(f"--output: {self.path!r} is not allowed; allowed: a file that can be written, or -")

    def open(self) -> BinaryIO:
        """Open the output for writing; an older file is overwritten."""
        return os.fdopen(os.dup(1), "wb") if self.path == STDOUT else Path(self.path).open("wb")


class Show:
    """Records the events of one stream and shows how it goes, on standard error."""

    def __init__(self, output: StreamOutput, options: StreamOptions) -> None:
        self._output = output
        self.recording = Recording(output.open, output.path, options.cues)
        self._bar: tqdm[NoReturn] = tqdm(
            unit=" pictures",
            file=sys.stderr,
            dynamic_ncols=True,
            disable=True if output.as_json else None,  # None: shown on a terminal only
        )

    def take(self, event: StreamEvent) -> None:
        """Record an event and show it."""
        text = self.recording.take(event)
        if text and not self._output.as_json:
            tqdm.write(text, file=sys.stderr)
        if isinstance(event, OpenedEvent):
            self._bar.reset(total=event.pictures)
        if isinstance(event, SegmentEvent):
            pace = f"{self.recording.realtime_factor:.2f} x real time, lag {max(0.0, self.recording.lag_s):.2f} s"
            self._bar.set_postfix_str(pace, refresh=False)
            self._bar.update(event.picture_count)

    def finish(self) -> None:
        """Close file and progress bar, and print what it came to."""
        self._bar.close()
        self.recording.close()
        if self.recording.opened is None:
            return
        summary = self.recording.summary()
        if self._output.as_json:
            click.echo(json.dumps(summary.as_dict()), err=self._output.path == STDOUT)
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

    def __call__(self, number: int) -> None:
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


async def stream_to_file(server: Server, prompt: str, options: StreamOptions, output: StreamOutput) -> int:
    """Stream from a server; returns the exit status. ClientError if the server refuses, or the stream breaks."""
    output.check()
    show = Show(output, options)
    try:
        with interruptible() as interrupt:
            async with server.client() as client, client.stream(prompt, options, waiting=show.take) as stream:
                interrupt.ask = stream.close
                await _consume(stream, show)
    finally:
        show.finish()
    return interrupt.status


async def _consume(stream: Stream, show: Show) -> None:
    async for event in stream:
        show.take(event)


async def render_to_file(
    render: Callable[[Callable[[StreamEvent], object]], Awaitable[None]], options: StreamOptions, output: StreamOutput
) -> int:
    """Record what `render` generates; returns the exit status."""
    output.check()
    show = Show(output, options)
    try:
        with interruptible() as interrupt:
            await render(show.take)
    finally:
        show.finish()
    return interrupt.status
