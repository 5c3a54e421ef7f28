"""How a stream is written: on a thread of its own that may be left behind.

A pipe that nobody reads, and a disk that hangs, block whoever writes. So the event loop never does: it hands over what
is to be written, and waits for room between one event and the next, where a signal can end the waiting. The thread is a
daemon, and the file has no buffer in this process: whatever it is stuck in, the process can end.
"""

from __future__ import annotations

import asyncio
import errno
import os
import queue
import threading

from longtake.cli.targets import Player, Target

MOST_WAITING_BYTES = 4 << 20
"""So much may wait to be written before the stream is asked to wait."""
LINGER_S = 3.0
"""So long an output that moves no more is waited for by who is in a hurry."""


class Output:
    """What is written behind the scenes. One event loop uses it."""

    def __init__(self, target: Target) -> None:
        """Open `target`; an older file is overwritten. OSErrors come with `write`."""
        self._target = target
        self._name = target.name
        self._loop = asyncio.get_running_loop()
        self._changed = asyncio.Event()
        self._queue: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
        self._waiting_bytes = 0
        self._is_over = False
        self._hurried = False
        self._error: OSError | None = None
        threading.Thread(target=self._run, name="output", daemon=True).start()

    @property
    def is_left(self) -> bool:
        """Whether it is a player that somebody has closed: what comes is for nobody, which is no error."""
        return isinstance(self._target, Player) and isinstance(self._error, BrokenPipeError)

    def write(self, data: bytes) -> None:
        """Have this written; OSError, which names the file, if something before could not be."""
        self._complain()
        self._waiting_bytes += len(data)
        self._queue.put(data)

    def close(self) -> None:
        """Nothing more comes."""
        self._queue.put(None)

    async def room(self) -> None:
        """Wait until little waits to be written, or somebody is in a hurry; OSError as of `write`."""
        while self._waiting_bytes > MOST_WAITING_BYTES and not self._hurried and self._error is None:
            await self._change()
        self._complain()

    async def written(self) -> None:
        """Wait until all that came before `close` is written; OSError as of `write`, or if it is left behind."""
        while not self._is_over:
            try:
                async with asyncio.timeout(LINGER_S if self._hurried else None):
                    await self._change()
            except TimeoutError:
                left = f"{self._waiting_bytes} bytes are left behind, because nobody takes them"
                raise OSError(errno.EAGAIN, left, self._name) from None
        self._complain()

    def hurry(self) -> None:
        """Wait no more for room, and not for long until all is written."""
        self._hurried = True
        if isinstance(self._target, Player):
            self._target.end()
        self._changed.set()

    async def _change(self) -> None:
        self._changed.clear()
        await self._changed.wait()

    def _complain(self) -> None:
        if self._error is not None and not self.is_left:
            raise self._error

    # --- on its thread ------------------------------------------------------------------------------------------------

    def _run(self) -> None:
        try:
            with self._target.open() as file:
                while (data := self._queue.get()) is not None:
                    left = memoryview(data)
                    while left:
                        left = left[file.write(left) :]
                    self._tell(len(data), is_over=False)
        except OSError as error:
            self._error = OSError(error.errno, os.strerror(error.errno or 0), self._name)
            self._tell(0, is_over=False)
        self._target.finish()
        self._tell(0, is_over=True)

    def _tell(self, size_bytes: int, *, is_over: bool) -> None:
        def note() -> None:
            self._waiting_bytes -= size_bytes
            self._is_over = is_over
            self._changed.set()

        try:
            self._loop.call_soon_threadsafe(note)
        except RuntimeError:  # the loop has ended: nobody waits
            self._is_over = is_over
