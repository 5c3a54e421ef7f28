"""Steering a stream by lines of standard input: a prompt for as soon as possible, or one for a time."""

from __future__ import annotations

import asyncio
import os
import sys
import threading
from collections.abc import Callable
from fractions import Fraction

from longtake.cli.story import typed
from longtake.cli.values import parse_time, shown
from longtake.client import ClientError, CueAt, OptionError, Stream
from longtake.client.recording import Recording

HELP = (
    "PROMPT changes the picture as soon as possible, 10s=PROMPT at a time; /cut PROMPT begins a new shot, "
    "/back SHOT PROMPT one that remembers an earlier shot; /pause, /play and /end do what they say"
)
MOST_BYTES = 1 << 16
"""A longer line is none."""


class Steering:
    """Asks the stream for what is typed, until its end; the end of the lines is not that of the stream."""

    def __init__(self, stream: Stream, recording: Recording, say: Callable[[str], None]) -> None:
        """`recording` knows where the file begins, from which times count; `say` tells somebody something."""
        self._stream = stream
        self._recording = recording
        self._say = say
        self._loop = asyncio.get_running_loop()
        self._lines: asyncio.Queue[bytes] = asyncio.Queue()
        self._begun = asyncio.Event()
        if sys.stdin is not None and sys.stdin.isatty():
            say(HELP)
        threading.Thread(target=self._read, name="steering", daemon=True).start()
        self._task = asyncio.create_task(self._steer())

    def look(self) -> None:
        """Note what has changed in the recording."""
        if self._recording.start_s is not None:
            self._begun.set()

    def end(self) -> None:
        """Steer no more."""
        self._task.cancel()

    async def _steer(self) -> None:
        while True:
            line = await self._lines.get()
            try:
                text = line.decode().strip()
                if text:
                    await self._ask(text)
            except UnicodeDecodeError:
                self._say("this line is no UTF-8 and changes nothing")
            except OptionError as error:
                self._say("; ".join(one.description for one in error.violations))
            except ClientError as error:
                self._say(error.message)

    async def _ask(self, text: str) -> None:
        match text:
            case "/pause":
                await self._stream.pause()
            case "/play":
                await self._stream.play()
            case "/end":
                await self._stream.close()
            case _ if text.startswith("/"):
                await self._cut(text)
            case _:
                await self._stream.cue(await self._cue(text))

    async def _cut(self, text: str) -> None:
        try:
            cue = typed(text)
        except ValueError as error:
            self._say(shown(str(error)))
            return
        if cue is None:
            self._say(f"{shown(text)!r} is not known; {HELP}")
        else:
            await self._stream.cue(cue)

    async def _cue(self, text: str) -> CueAt:
        """What stands in front of the first `=` is a time, if it is one."""
        place, sign, prompt = text.partition("=")
        try:
            time_s = parse_time(place.strip())
        except ValueError:
            return CueAt(prompt=text)
        if not sign:
            return CueAt(prompt=text)
        return CueAt(prompt=prompt.strip(), time_s=await self._start_s() + time_s)

    async def _start_s(self) -> Fraction:
        """Where in the stream the file begins."""
        if self._stream.opened.segment == 0:
            return Fraction(0)
        await self._begun.wait()
        return self._recording.start_s or Fraction(0)

    # --- on its thread ------------------------------------------------------------------------------------------------

    def _read(self) -> None:
        """Read without a buffer, whose lock would hold the end of the process."""
        rest = b""
        try:
            while data := os.read(0, 1 << 12):
                *lines, rest = (rest + data).split(b"\n")
                for line in lines:
                    self._loop.call_soon_threadsafe(self._lines.put_nowait, line[:MOST_BYTES])
                rest = rest[:MOST_BYTES]
            self._loop.call_soon_threadsafe(self._lines.put_nowait, rest)
        except (OSError, RuntimeError):  # there is no standard input, or the loop has ended
            return
