"""Images from one worker's host memory to another's, each on a thread and in a process group of its own.

Host memory is where images rest, so gloo carries them beside CUDA too: a peer that dies breaks a socket, where NCCL
would hold the device and end the process.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable

import torch
from torch import Tensor

from longtake.core.effects import Give, Take
from longtake.core.errors import Unavailable
from longtake.core.work import ImageId, WorkerId
from workers.messages import OP_ERRORS, reason_of
from workers.peers import Empty, Pair

TIMEOUT_S = 30.0
"""How long the other end may say nothing."""

_GIVER, _TAKER = 0, 1

_log = logging.getLogger("longtake.worker")


class Transfers:
    """Starts transfers. Each calls back once, on its own thread, and keeps nothing alive but its image meanwhile."""

    def __init__(self, meeting_point: str, empty: Empty, timeout_s: float = TIMEOUT_S) -> None:
        """`empty` makes the memory for received images; with an empty `meeting_point` no transfer is possible."""
        self._meeting_point = meeting_point
        self._empty = empty
        self._timeout_s = timeout_s
        self._threads: list[threading.Thread] = []

    def give(self, order: Give, tensors: tuple[Tensor, ...], ended: Callable[[], None]) -> None:
        """Send an image to the worker that takes it; `ended` is called whether or not it has it."""
        image, meet = order.image, self._meeting(order.image, order.worker, order.to, _GIVER)

        def run() -> None:
            try:
                _send(meet(), tensors)
            except OP_ERRORS as error:
                _log.warning("image %d was not given to %s: %s", image, order.to, reason_of(error))
            finally:
                ended()

        self._start(run, f"give image {image}")

    def take(self, order: Take, arrived: Callable[[tuple[Tensor, ...]], None], failed: Callable[[str], None]) -> None:
        """Receive an image from the worker that gives it."""
        image, meet = order.image, self._meeting(order.image, order.origin, order.worker, _TAKER)
        empty = self._empty

        def run() -> None:
            reason = "its transfer ended by an unforeseen error"
            tensors: tuple[Tensor, ...] | None = None
            try:
                pair = meet()  # kept to the end of this function: its own end takes 20 ms, which nobody waits for
                tensors = _receive(pair, empty)
            except OP_ERRORS as error:
                reason = reason_of(error)
            finally:
                if tensors is None:
                    failed(reason)
                else:
                    arrived(tensors)

        self._start(run, f"take image {image}")

    def join(self, timeout_s: float) -> None:
        """Wait for transfers that are about to end; one that waits for a peer goes on waiting."""
        deadline_s = time.monotonic() + timeout_s
        for thread in self._threads:
            thread.join(max(0.0, deadline_s - time.monotonic()))

    def _meeting(self, image: ImageId, giver: WorkerId, taker: WorkerId, rank: int) -> Callable[[], Pair]:
        if not self._meeting_point:
            raise Unavailable("this worker has no meeting point, so it cannot reach another")
        where, timeout_s = self._meeting_point, self._timeout_s
        return lambda: Pair(where, f"image/{image}/{giver}/{taker}", rank, timeout_s=timeout_s)

    def _start(self, run: Callable[[], None], name: str) -> None:
        thread = threading.Thread(target=_single_threaded, args=(run,), name=name, daemon=True)
        thread.start()
        self._threads = [*(older for older in self._threads if older.is_alive()), thread]


def _send(pair: Pair, tensors: tuple[Tensor, ...]) -> None:
    pair.send_all(tensors)
    pair.receive(torch.empty(1))  # the last byte is there: the connection may be closed


def _receive(pair: Pair, empty: Empty) -> tuple[Tensor, ...]:
    tensors = pair.receive_all(empty)
    pair.send(torch.zeros(1))
    pair.close()
    return tuple(tensors)


def _single_threaded(run: Callable[[], None]) -> None:
    torch.set_num_threads(1)
    run()
