"""The compute thread: reports in order, failures told, defects end it."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Iterator
from dataclasses import replace

import pytest
import torch

from longtake.core.work import (
    DispatchNumber,
    PageId,
    Role,
    SessionId,
)
from tests.workers.orders import task, work
from workers.messages import Done, Failed, Shutdown, StartOver, Task, Up
from workers.orders import Answer, Later
from workers.runner import Runner


class Scripted:
    """A worker whose sessions' names say what happens.

    ok, bad (an op fails), lost (starts over), worse (a defect); the last also `later`, and `in time`: once `go` is set.
    """

    role = Role.DENOISE
    device = torch.device("cpu")

    def __init__(self) -> None:
        self.go = threading.Event()
        self.performed: list[str] = []

    def page(self, page: PageId) -> torch.Tensor:
        raise IndexError("no pages")

    def perform(self, message: object) -> Iterator[Answer]:
        assert isinstance(message, Task)
        (session,) = message.sessions
        self.performed.append(session)
        match session:
            case "in time":
                yield Later(made=lambda: self._in_time(message))
            case "bad later":
                yield Later(made=lambda: self._fail(RuntimeError("the device failed")))
            case "worse later":
                yield Later(made=lambda: self._fail(KeyError("a defect")))
            case "bad":
                raise RuntimeError("no memory")
            case "lost":
                raise StartOver("its neighbour is gone")
            case "worse":
                raise KeyError("a defect")
            case _:
                yield Done(sequence=message.sequence)

    def _in_time(self, message: Task) -> Up:
        assert self.go.wait(30)
        return Done(sequence=message.sequence, seconds=0.5)

    def _fail(self, error: Exception) -> Up:
        raise error


def run(*sessions: str, numbers: tuple[int, ...] = ()) -> list[Up | str | StartOver]:
    told: queue.Queue[Up | str | StartOver] = queue.Queue()
    runner = Runner(Scripted(), report=told.put, ended=told.put)
    for number, session in zip(numbers or range(len(sessions)), sessions, strict=True):
        runner.put(task(work(session=SessionId(session)), number=number))
    runner.put(Shutdown())
    runner.start()
    assert runner.join(10)
    return [told.get_nowait() for _ in range(told.qsize())]


def untimed(told: list[Up | str | StartOver]) -> list[Up | str | StartOver]:
    """The messages without the durations that the runner measured."""
    timed = [message for message in told if isinstance(message, Done)]
    assert all(0 < message.seconds < 1 for message in timed)
    return [replace(message, seconds=0.0) if isinstance(message, Done) else message for message in told]


def test_reports_come_in_the_order_of_dispatch_and_failures_do_not_stop_a_worker() -> None:
    assert untimed(run("ok", "bad", "ok")) == [
        Done(sequence=DispatchNumber(0)),
        Failed(sessions=(SessionId("bad"),), sequence=DispatchNumber(1), reason="RuntimeError: no memory"),
        Done(sequence=DispatchNumber(2)),
        "",
    ]


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_defect_ends_the_worker() -> None:
    assert untimed(run("ok", "worse", "ok")) == [
        Done(sequence=DispatchNumber(0)),
        "its compute thread ended by an unforeseen error",
    ]


def test_a_worker_that_cannot_go_on_with_others_asks_to_be_made_anew() -> None:
    done, ended = untimed(run("ok", "lost", "ok"))
    assert done == Done(sequence=DispatchNumber(0))
    assert isinstance(ended, StartOver)
    assert (str(ended), ended.__traceback__) == ("its neighbour is gone", None), "no frame holds on to the worker"


def test_a_gap_in_the_sequence_ends_the_worker() -> None:
    told = untimed(run("ok", "ok", numbers=(0, 2)))
    assert told == [Done(sequence=DispatchNumber(0)), "dispatch 2 arrived, expected 1"]


def test_a_report_that_waits_holds_back_those_behind_it_and_no_op() -> None:
    told: queue.Queue[Up | str | StartOver] = queue.Queue()
    worker = Scripted()
    runner = Runner(worker, report=told.put, ended=told.put)
    for number, session in enumerate(("ok", "in time", "ok", "bad", "last")):
        runner.put(task(work(session=SessionId(session)), number=number))
    runner.start()
    first = told.get(timeout=30)
    assert isinstance(first, Done)
    until_s = time.monotonic() + 30
    while "last" not in worker.performed and time.monotonic() < until_s:
        time.sleep(0.001)
    assert worker.performed[-1] == "last"
    assert told.empty()
    worker.go.set()
    runner.put(Shutdown())
    assert runner.join(30)
    reports = [told.get_nowait() for _ in range(told.qsize())]
    assert [report.sequence for report in reports if isinstance(report, Done | Failed)] == [1, 2, 3, 4]
    assert (reports[0], reports[-1]) == (Done(sequence=DispatchNumber(1), seconds=0.5), "")


def test_an_op_that_fails_on_the_device_is_reported_and_the_worker_goes_on() -> None:
    failed, done, ended = run("bad later", "ok")
    reason = "RuntimeError: the device failed"
    assert failed == Failed(sessions=(SessionId("bad later"),), sequence=DispatchNumber(0), reason=reason)
    assert (isinstance(done, Done), ended) == (True, "")


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_defect_in_a_report_ends_the_worker() -> None:
    told: queue.Queue[Up | str | StartOver] = queue.Queue()
    runner = Runner(Scripted(), report=told.put, ended=told.put)
    runner.put(task(work(session=SessionId("worse later"))))
    runner.start()
    assert runner.join(30)
    assert told.get_nowait() == "what became of its orders could not be reported, by an unforeseen error"
