"""Threads that encode pictures as segments, beside the thread that decodes."""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

import torch

T = TypeVar("T")

_MOST_THREADS = 4
"""What encoding one decode worker's pictures ever needs: a device decodes few blocks while a core encodes one."""


class EncodingPool:
    """A few threads; encoders have no state, so any of them may encode what another thread's encoder made before."""

    def __init__(self, threads: int) -> None:
        """With so many threads."""
        self.threads = threads
        self._executor = ThreadPoolExecutor(self.threads, thread_name_prefix="encode")

    def submit(self, encode: Callable[[], T]) -> Future[T]:
        """Encode behind what was submitted before."""
        return self._executor.submit(encode)

    def pace_s(self, decode_s: float, encode_s: float) -> float:
        """Seconds between segments when decoding one block takes `decode_s`, and encoding it `encode_s` of a core."""
        return max(decode_s, encode_s / self.threads)


def encoding_beside(device: torch.device) -> EncodingPool | None:
    """A pool with a thread for each spare core, up to four; None if there is no spare core.

    A GPU takes one core of its decode worker. On a CPU decoding takes a core of its own, and denoising another: where
    there are only these two, one stream went 8 % slower with a thread beside them.
    """
    cores = len(os.sched_getaffinity(0))
    spare = cores - 2 if device.type == "cpu" else max(1, cores - 1)
    return EncodingPool(min(_MOST_THREADS, spare)) if spare > 0 else None
