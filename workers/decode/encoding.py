"""Threads that encode pictures as segments, beside the thread that decodes."""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

T = TypeVar("T")

_MOST_THREADS = 4
"""What encoding one decode worker's pictures ever needs: a device decodes few blocks while a core encodes one."""


class EncodingPool:
    """A few threads; encoders have no state, so any of them may encode what another thread's encoder made before."""

    def __init__(self, threads: int | None = None) -> None:
        """As many threads as there are cores beside the one that gives the device its work, up to four."""
        cores = len(os.sched_getaffinity(0))
        self.threads = threads or max(1, min(_MOST_THREADS, cores - 1))
        self._executor = ThreadPoolExecutor(self.threads, thread_name_prefix="encode")

    def submit(self, encode: Callable[[], T]) -> Future[T]:
        """Encode behind what was submitted before."""
        return self._executor.submit(encode)

    def pace_s(self, decode_s: float, encode_s: float) -> float:
        """Seconds between segments when decoding one block takes `decode_s`, and encoding it `encode_s` of a core."""
        return max(decode_s, encode_s / self.threads)
