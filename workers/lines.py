"""Lines that a thread of their own writes: whoever adds one never waits, whatever becomes of the output.

A pipe that nobody reads and a disk that hangs block whoever writes; a full disk refuses. So an event loop hands its
lines over. Of those that wait there is a bound: more are left out, and counted. The thread is a daemon, and it has no
buffer of Python's, for which a process would wait at its end.
"""

from __future__ import annotations

import os
import queue
import threading
import time
from collections.abc import Callable

MOST_WAITING = 2048
"""Lines that may wait."""
MOST_BYTES = 16 << 10
"""Of one line."""
RETRY_S = 1.0
"""How soon a line that could not be written is tried again."""
SLOW_S = 5.0
"""An output that takes longer than this for a line is in trouble."""
_CUT = " … (cut)".encode()

Descriptor = Callable[[], int]
"""The file descriptor for the next line; OSError if there is none now."""


class Lines:
    """What is written behind the scenes; any thread may add to it."""

    def __init__(self, name: str, descriptor: Descriptor, lost: Callable[[int], str]) -> None:
        """`lost` is the line that tells how many are missing in its place."""
        self._descriptor = descriptor
        self._lost = lost
        self._lock = threading.RLock()  # of a handler of signals, too
        self._waiting: queue.SimpleQueue[str | threading.Event | None] = queue.SimpleQueue()
        self.dropped = 0
        """Lines that were left out."""
        self._told = 0
        """How many of them the output was told of."""
        self._is_over = False
        self._failure = ""
        self._writing_since_s: float | None = None
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    @property
    def trouble(self) -> str:
        """Why lines are not written now; empty if they are."""
        since_s = self._writing_since_s
        if self._failure:
            return self._failure
        if since_s is not None and time.monotonic() - since_s > SLOW_S:
            return "it takes no line"
        return ""

    def add(self, line: str) -> None:
        """Have this written, unless too many wait."""
        with self._lock:
            # Once some are missing there is to be room for many, or every second line would tell of the one before.
            most = MOST_WAITING if self.dropped == self._told else MOST_WAITING // 2
            if self._is_over or self._waiting.qsize() >= most:
                self.dropped += 1
                return
            self._tell_lost()
            self._waiting.put(line)

    def settle(self, within_s: float) -> bool:
        """Wait until all that was added is written, but not longer than this; returns whether it is."""
        written = threading.Event()
        with self._lock:
            self._tell_lost()
            self._waiting.put(written)
        return written.wait(within_s)

    def close(self, within_s: float) -> bool:
        """The same, and nothing is written after that; the thread has ended if it is."""
        with self._lock:
            self._tell_lost()
            self._is_over = True
            self._waiting.put(None)
        self._thread.join(within_s)
        return not self._thread.is_alive()

    def _tell_lost(self) -> None:
        if self.dropped > self._told:
            self._waiting.put(self._lost(self.dropped - self._told))
            self._told = self.dropped

    # --- on its thread ------------------------------------------------------------------------------------------------

    def _run(self) -> None:
        while (item := self._waiting.get()) is not None:
            if isinstance(item, threading.Event):
                item.set()
                continue
            self._write(item)
            with self._lock:
                if self._waiting.empty():
                    self._tell_lost()

    def _write(self, line: str) -> None:
        data = line.encode(errors="backslashreplace")
        data = (data if len(data) <= MOST_BYTES else data[:MOST_BYTES] + _CUT) + b"\n"
        output, written = -1, 0
        self._writing_since_s = time.monotonic()
        while written < len(data):
            try:
                output = output if written else self._descriptor()
                written += os.write(output, data[written:])  # what of a line is there stays: the rest of it follows
                self._failure = ""
            except OSError as error:
                self._failure = os.strerror(error.errno or 0)
                if self._is_over:
                    self.dropped += 1
                    return
                time.sleep(RETRY_S)
        self._writing_since_s = None
