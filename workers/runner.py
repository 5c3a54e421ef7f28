"""One worker's compute thread: does what arrives, in the order of arrival, and reports each thing when it is done."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from typing import Protocol

import torch

from longtake.core.effects import Discard, EncodeText, Forget, Give, LoadImage, PrepareStream, Stow, Take
from longtake.core.work import Role
from workers.images.thread import Holder, ImagesBroken, ImageThread, Missing, Wanted
from workers.in_order import InOrder
from workers.messages import (
    OP_ERRORS,
    Done,
    Down,
    Failed,
    ImageGone,
    JoinChain,
    Shutdown,
    StartOver,
    Task,
    Up,
    reason_of,
)
from workers.orders import Answer, Detached, Filled, Later, Order

COPY_S = 5.0
"""How long the queued work on images may take when the worker ends."""


class Performer(Holder, Protocol):
    """What a runner drives: a DenoiseWorker, a ChainMember or a DecodeWorker."""

    role: Role

    def perform(self, message: Order) -> Iterator[Answer]:
        """Do one thing and yield what to report."""
        ...


class _AnswersBroken:
    """What became of an order could not be passed on, by a defect."""


class Runner:
    """A thread around a worker, one beside it for images, and one for reports that have to wait.

    `report` is called on all of them, `ended` on the first. `ended` comes last and once, with the reason: empty after
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
        self._inbox: queue.SimpleQueue[Order | Shutdown | ImagesBroken | _AnswersBroken] = queue.SimpleQueue()
        self._answers = InOrder(broken=lambda: self._inbox.put(_AnswersBroken()))
        self._thread = threading.Thread(target=self._run, name=f"{worker.role.value} worker", daemon=True)
        self._next_sequence = 0
        self._images_hang = False
        self.images = ImageThread(worker, meeting_point=meeting_point, report=report, hand_over=self._inbox.put)

    def start(self) -> None:
        """Start the threads for ops and for images; the third begins when a report has to wait."""
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
        """Wait for the threads to end; returns whether they did."""
        self._thread.join(timeout_s)
        return not self.hanging

    @property
    def hanging(self) -> str:
        """Which thread has not ended; empty if all have."""
        if self._thread.is_alive():
            return "its compute thread"
        return "its thread for images" if self._images_hang else ""

    def _run(self) -> None:
        reason: str | StartOver = "its compute thread ended by an unforeseen error"
        # OpenMP keeps this number per thread, and results depend on it: sums are split by it.
        torch.set_num_threads(1)
        try:
            reason = self._loop()
        finally:
            self._answers.stop()
            self._images_hang = not self.images.stop(COPY_S)
            del self._worker
            self._ended(reason)

    def _loop(self) -> str | StartOver:
        while True:
            message = self._inbox.get()
            if isinstance(message, Shutdown):
                return ""
            if isinstance(message, ImagesBroken):
                return "its thread for images ended by an unforeseen error"
            if isinstance(message, _AnswersBroken):
                return "what became of its orders could not be reported, by an unforeseen error"
            if isinstance(message, Task):
                if message.sequence != self._next_sequence:
                    return f"dispatch {message.sequence} arrived, expected {self._next_sequence}"
                self._next_sequence += 1
            began_s = time.monotonic()
            try:
                for report in self._worker.perform(message):
                    self._answer(message, _timed(report, time.monotonic() - began_s))
            except StartOver as error:
                return StartOver(str(error))  # without the frames that hold on to the worker
            except OP_ERRORS as error:
                self._answer(message, _failure(message, reason_of(error)))

    def _answer(self, message: Order, report: Answer | Missing) -> None:
        """Pass on what became of an order, behind what became of the orders before it."""
        self._answers.do(partial(self._pass_on, message, report), waits=isinstance(report, Later))

    def _pass_on(self, message: Order, report: Answer | Missing) -> None:
        if isinstance(report, Later):
            try:
                report = report.made()
            except OP_ERRORS as error:
                report = _failure(message, reason_of(error))
        if isinstance(report, Detached | Missing):
            self.images.put(report)
        else:
            self._report(report)


def _timed(report: Answer, seconds: float) -> Answer:
    """The report with its duration, unless the worker knows it better."""
    return replace(report, seconds=seconds) if isinstance(report, Done) and not report.seconds else report


def _failure(message: Order, reason: str) -> Failed | ImageGone | Missing:
    match message:
        case Stow():
            return Missing(image=message.image, reason=reason)
        case Task():
            return Failed(sessions=message.sessions, sequence=message.sequence, reason=reason)
        case EncodeText():
            return Failed(sessions=(message.conditioning.session,), sequence=None, reason=reason)
        case Filled():
            return ImageGone(image=message.image, reason=reason)
        case JoinChain():  # of a chain that this worker is not part of
            return Failed(sessions=(), sequence=None, reason=reason)
        case _:
            return Failed(sessions=(message.session,), sequence=None, reason=reason)
