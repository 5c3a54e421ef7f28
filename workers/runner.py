"""One worker's compute thread: does what arrives, in the order of arrival, and reports each thing when it is done."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Protocol

import torch

from longtake.core.effects import Discard, EncodeText, Forget, Give, LoadImage, PrepareStream, Stow, Take
from longtake.core.work import Role
from workers.images.thread import Holder, ImagesBroken, ImageThread, Missing, Wanted
from workers.messages import OP_ERRORS, Done, Down, Failed, JoinChain, Shutdown, StartOver, Task, Up, reason_of
from workers.orders import Detached, Filled, Order

COPY_S = 5.0
"""How long the queued work on images may take when the worker ends."""


class Performer(Holder, Protocol):
    """What a runner drives: a DenoiseWorker, a ChainMember or a DecodeWorker."""

    role: Role

    def perform(self, message: Order) -> Iterator[Up | Detached]:
        """Do one thing and yield what to report."""
        ...


class Runner:
    """A thread around a worker, and one beside it for images.

    `report` is called on both, `ended` on the first. `ended` comes last and once, with the reason: empty after
    Shutdown, StartOver if a fresh worker is to take its place, else what broke. An op that fails is reported as Failed
    and the worker goes on; an error of an unforeseen kind ends the thread, because nobody knows then what state the
    worker is in. The worker itself ends with the thread: its pages are free then, its neighbours in a chain notice.
    """

    def __init__(
        self,
        worker: Performer,
        report: Callable[[Up], None],
        ended: Callable[[str | StartOver], None],
        *,
        meeting_point: str = "",
    ) -> None:
        self._worker = worker
        self._report = report
        self._ended = ended
        self._inbox: queue.SimpleQueue[Order | Shutdown | ImagesBroken] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, name=f"{worker.role.value} worker", daemon=True)
        self._next_sequence = 0
        self.images = ImageThread(worker, meeting_point=meeting_point, report=report, hand_over=self._inbox.put)

    def start(self) -> None:
        """Start both threads."""
        self.images.start()
        self._thread.start()

    def put(self, message: Down) -> None:
        """Queue a message; never waits."""
        match message:
            case LoadImage() | Give() | Take() | Discard() | Stow(source=tuple()):
                self.images.put(message)
            case Stow() | Forget(version=None):
                self.images.put(message)  # first: it must know of the image when the slot's state is handed to it
                self._inbox.put(message)
            case PrepareStream(image=int() as image):
                self._inbox.put(message)  # first: the state must be awaited when it is handed back
                self.images.put(Wanted(order=message, image=image))
            case _:
                self._inbox.put(message)

    def join(self, timeout_s: float) -> bool:
        """Wait for the thread to end; returns whether it did."""
        self._thread.join(timeout_s)
        return not self._thread.is_alive()

    def _run(self) -> None:
        reason: str | StartOver = "its compute thread ended by an unforeseen error"
        # OpenMP keeps this number per thread, and results depend on it: sums are split by it.
        torch.set_num_threads(1)
        try:
            reason = self._loop()
        finally:
            self.images.stop(COPY_S)
            del self._worker
            self._ended(reason)

    def _loop(self) -> str | StartOver:
        while True:
            message = self._inbox.get()
            if isinstance(message, Shutdown):
                return ""
            if isinstance(message, ImagesBroken):
                return "its thread for images ended by an unforeseen error"
            if isinstance(message, Task):
                if message.sequence != self._next_sequence:
                    return f"dispatch {message.sequence} arrived, expected {self._next_sequence}"
                self._next_sequence += 1
            began_s = time.monotonic()
            try:
                for report in self._worker.perform(message):
                    if isinstance(report, Detached):
                        self.images.put(report)
                    else:
                        self._report(_timed(report, time.monotonic() - began_s))
            except StartOver as error:
                return StartOver(str(error))  # without the frames that hold on to the worker
            except OP_ERRORS as error:
                reason = reason_of(error)
                if isinstance(message, Stow):
                    self.images.put(Missing(image=message.image, reason=reason))
                else:
                    self._report(_failure(message, reason))


def _timed(report: Up, seconds: float) -> Up:
    """The report with its duration, unless the worker knows it better.

    A device that works asynchronously ends a commit op before its kernels have run and makes the next denoise op wait
    for them, so only the mean over many ops is the time of a forward.
    """
    return replace(report, seconds=seconds) if isinstance(report, Done) and not report.seconds else report


def _failure(message: Task | PrepareStream | EncodeText | Forget | JoinChain | Filled, reason: str) -> Failed:
    match message:
        case Task():
            return Failed(sessions=message.sessions, sequence=message.sequence, reason=reason)
        case EncodeText():
            return Failed(sessions=(message.conditioning.session,), sequence=None, reason=reason)
        case Filled():
            return Failed(sessions=(message.order.session,), sequence=None, reason=reason)
        case JoinChain():  # of a chain that this worker is not part of
            return Failed(sessions=(), sequence=None, reason=reason)
        case _:
            return Failed(sessions=(message.session,), sequence=None, reason=reason)
