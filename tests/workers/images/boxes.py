"""Workers on their threads for tests of images: orders go in by hand, reports come out in order."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from itertools import count
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor

from longtake.core.effects import Discard, Forget, Give, LoadImage, PrepareStream, Stow, Take
from longtake.core.work import (
    DecodeWork,
    DispatchNumber,
    ImageId,
    LatentRef,
    PageId,
    Role,
    SegmentSettings,
    SessionId,
    SlotId,
    WorkerId,
)
from tests.workers.model_dir import model_info
from workers.messages import (
    Decode,
    Forward,
    ImageGone,
    Shutdown,
    StartOver,
    Task,
    Up,
)
from workers.models.api import Compute
from workers.runner import Performer, Runner
from workers.start.loading import load_worker
from workers.start.spec import WorkerSpec

A, B = SessionId("a"), SessionId("b")
W = WorkerId("w")
RAW = SegmentSettings(codec="raw", quality=0)
INFO = model_info()
PAGES = 20
WAIT_S = 30.0

Answer = TypeVar("Answer", bound=Up)


class Box:
    """A worker on its threads, and what it reports."""

    def __init__(self, worker: Performer, meeting_point: str = "") -> None:
        self.worker = worker
        self._told: queue.SimpleQueue[Up] = queue.SimpleQueue()
        self.ended: queue.SimpleQueue[str | StartOver] = queue.SimpleQueue()
        self.runner = Runner(worker, report=self._told.put, ended=self.ended.put, meeting_point=meeting_point)
        self._numbers = count()
        self.runner.start()

    def put(self, *orders: Stow | LoadImage | Give | Take | Discard | Forget | PrepareStream) -> None:
        for order in orders:
            self.runner.put(order)

    def dispatch(self, order: tuple[Forward, ...] | Decode) -> None:
        self.runner.put(Task(sequence=DispatchNumber(next(self._numbers)), order=order))

    def hear(self, kind: type[Answer]) -> Answer:
        """The next report, which must be of a kind."""
        report = self._told.get(timeout=WAIT_S)
        assert isinstance(report, kind), report
        return report

    def hear_all(self, number: int) -> list[Up]:
        return [self._told.get(timeout=WAIT_S) for _ in range(number)]

    def close(self) -> None:
        self.runner.put(Shutdown())
        assert self.runner.join(WAIT_S)
        assert self._told.empty()


@contextmanager
def boxes(*workers: Performer, meeting_point: str = "") -> Iterator[list[Box]]:
    with ExitStack() as stack:
        made = []
        for worker in workers:
            made.append(Box(worker, meeting_point))
            stack.callback(made[-1].close)
        yield made


def denoiser(model: Path, device: str = "cpu") -> Performer:
    """A worker whose pages hold a canary pattern: every number is another."""
    spec = WorkerSpec(worker=W, role=Role.DENOISE, capacity=PAGES, model=model, compute=Compute(device=device))
    worker = load_worker(spec).fresh()
    for number in range(PAGES):
        page = worker.page(PageId(number))
        if page.dtype is torch.uint8:
            page.copy_(torch.arange(page.numel()).view(page.shape) + 3 * number + 1)
        else:
            page.copy_(torch.arange(page.numel()).view(page.shape) + number * page.numel())
    return worker


def decoder(model: Path, device: str = "cpu", slots: int = 2) -> Performer:
    return load_worker(
        WorkerSpec(worker=W, role=Role.DECODE, capacity=slots, model=model, compute=Compute(device=device))
    ).fresh()


def decode(block: int, slot: int, session: SessionId = A) -> Decode:
    """The decode of a block; each session has latents of its own."""
    latents = np.random.default_rng(block + 100 * (session == B)).normal(size=INFO.geometry.block_shape).astype("<f4")
    work = DecodeWork(
        session=session, block=block, slot=SlotId(slot), latents=LatentRef(session=session, block=block, step=3),
        first_picture=INFO.geometry.first_picture(block), picture_count=INFO.geometry.pictures(block), settings=RAW,
    )  # fmt: skip
    return Decode(work=work, latents=latents.tobytes())


def contents(worker: Performer) -> list[Tensor]:
    return [worker.page(PageId(number)).clone() for number in range(PAGES)]


def pages(*numbers: int) -> tuple[PageId, ...]:
    return tuple(PageId(number) for number in numbers)


def stow(number: int, source: tuple[PageId, ...] | SlotId, session: SessionId = A) -> Stow:
    return Stow(worker=W, session=session, image=ImageId(number), source=source)


def load(number: int, *target: int, session: SessionId = A) -> LoadImage:
    return LoadImage(worker=W, session=session, image=ImageId(number), target=pages(*target))


def give(number: int, giver: str = "one", taker: str = "other") -> Give:
    return Give(worker=WorkerId(giver), session=A, image=ImageId(number), to=WorkerId(taker))


def take(number: int, giver: str = "one", taker: str = "other") -> Take:
    return Take(worker=WorkerId(taker), session=A, image=ImageId(number), origin=WorkerId(giver))


def prepare(slot: int, session: SessionId = A, image: int | None = None) -> PrepareStream:
    number = None if image is None else ImageId(image)
    return PrepareStream(worker=W, session=session, slot=SlotId(slot), settings=RAW, image=number)


def gone(box: Box, number: int, reason: str) -> None:
    report = box.hear(ImageGone)
    assert report.image == number
    assert reason in report.reason


def until(true: Callable[[], bool]) -> None:
    """Wait for what another thread does."""
    deadline_s = time.monotonic() + WAIT_S
    while not true():
        assert time.monotonic() < deadline_s
        time.sleep(0.005)


def threads() -> set[str]:
    """Names of all that run."""
    return {thread.name for thread in threading.enumerate()}
