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
from typing import NoReturn

import click
from tqdm import tqdm

from longtake.cli.output import STDOUT, Output
from longtake.cli.server import Server
from longtake.client import Stream, StreamOptions
from longtake.client.events import OpenedEvent, SegmentEvent, StreamEvent
from longtake.client.recording import Recording

SUFFIXES = {"h264": (".mp4", ".m4v"), "mjpeg": (".mjpeg", ".mjpg"), "raw": (".rgb", ".raw")}
"""How names of files may end that hold a codec, the usual way first."""
_MEDIA = {".avi", ".gif", ".jpeg", ".jpg", ".mkv", ".mov", ".png", ".ts", ".webm", ".webp", ".yuv"}.union(
    *SUFFIXES.values()
)


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamOutput:
    """Where a stream goes and what the user is told of it."""

    path: str
    """A file, or `-` for standard output."""
    codec: str
    as_json: bool
    is_meant: bool = True
    """Whether the user named the file, or asked to overwrite one; if not, an older file stays."""

    def check(self) -> None:
        """UsageError if the file cannot be written, before anything is generated for it."""
        if self.path == STDOUT:
            if sys.stdout is None:  # so Python says that it was closed: its number is somebody else's by now
                raise click.UsageError("--output: '-' is not allowed; standard output is closed; allowed: a file")
            return
        if not self.path:
            raise click.UsageError("--output: '' is not allowed; allowed: a file that can be written, or -")
        try:
            self._check_file(Path(self.path))
        except (OSError, ValueError) as error:  # too long a name, say
            why = error.strerror if isinstance(error, OSError) else error
            allowed = f"a file that can be written, or - ({why})"
            raise click.UsageError(f"--output: {self.path!r} is not allowed; allowed: {allowed}") from None

    def _check_file(self, path: Path) -> None:
        own = set(SUFFIXES[self.codec])
        if path.suffix.lower() in _MEDIA - own:
            allowed = f"{' or '.join(sorted(own))} for {self.codec}, or a name without such an ending"
            raise click.UsageError(f"--output: {self.path!r} is not allowed; allowed: {allowed}")
        if not self.is_meant and path.exists():
            raise click.UsageError(f"{self.path} is there already: name another file with -o, or overwrite it with -f")
        place = path if path.exists() else path.absolute().parent
        if path.is_dir() or not os.access(place, os.W_OK):
            raise click.UsageError(f"--output: {self.path!r} is not allowed; allowed: a file that can be written, or -")


class Show:
    """Records the events of one stream and shows how it goes, on standard error."""

    def __init__(self, output: StreamOutput, options: StreamOptions) -> None:
        self._output = output
        self._file: Output | None = None
        self.recording = Recording(self._open, output.path, options.cues)
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

    def _open(self) -> Output:
        self._file = Output(self._output.path)
        return self._file

    async def room(self) -> None:
        """Wait until the output has taken nearly all; OSError, which names it, if it cannot."""
        if self._file is not None:
            await self._file.room()

    async def written(self) -> None:
        """Close the output, and wait until it has taken all; OSError, which names it, if it cannot."""
        self.recording.close()
        if self._file is not None:
            await self._file.written()

    def hurry(self) -> None:
        """Wait no longer than a moment for an output that takes nothing."""
        if self._file is not None:
            self._file.hurry()

    def finish(self) -> None:
        """Close the progress bar, and print what it came to, whatever became of the output."""
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


async def stream_to_file(server: Server, prompt: str, options: StreamOptions, output: StreamOutput) -> int:
    """Stream from a server; returns the exit status. ClientError if the server refuses, or the stream breaks."""
    output.check()
    show = Show(output, options)
    try:
        with interruptible() as interrupt:
            async with server.client() as client, client.stream(prompt, options, waiting=show.take) as stream:
                interrupt.ask, interrupt.hurry = stream.close, show.hurry
                await _consume(stream, show)
            await show.written()
    finally:
        show.finish()
    return interrupt.status


async def _consume(stream: Stream, show: Show) -> None:
    async for event in stream:
        show.take(event)
        await show.room()


async def render_to_file(
    render: Callable[[Show], Awaitable[None]], options: StreamOptions, output: StreamOutput
) -> int:
    """Record what `render` generates; returns the exit status."""
    output.check()
    show = Show(output, options)
    try:
        with interruptible() as interrupt:
            interrupt.hurry = show.hurry
            await render(show)
            await show.written()
    finally:
        show.finish()
    return interrupt.status
