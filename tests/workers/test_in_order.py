"""Actions that wait hold back the ones behind them, and nobody else."""

from __future__ import annotations

import threading
import time

import pytest

from workers.in_order import InOrder


def test_what_need_not_wait_is_done_at_once_by_the_thread_that_asks() -> None:
    done: list[threading.Thread] = []
    order = InOrder(broken=lambda: None)
    order.do(lambda: done.append(threading.current_thread()), waits=False)
    assert done == [threading.current_thread()]
    order.stop()


def test_an_action_that_waits_holds_back_what_comes_behind_it_and_not_the_one_who_asks() -> None:
    done: list[int] = []
    released = threading.Event()
    order = InOrder(broken=lambda: None)

    def wait() -> None:
        assert released.wait(30)
        done.append(0)

    order.do(wait, waits=True)
    for number in range(1, 50):
        order.do(lambda number=number: done.append(number), waits=number % 3 == 0)  # type: ignore[misc]
    assert done == [], "nothing may come before the action that waits"
    released.set()
    order.stop()
    assert done == list(range(50))


def test_after_a_while_without_waiting_actions_are_done_at_once_again() -> None:
    done: list[threading.Thread] = []
    waited = threading.Event()
    order = InOrder(broken=lambda: None)
    order.do(waited.set, waits=True)
    assert waited.wait(30)
    until_s = time.monotonic() + 30  # the action is over a moment after its last deed
    while threading.current_thread() not in done and time.monotonic() < until_s:
        order.do(lambda: done.append(threading.current_thread()), waits=False)
        time.sleep(0.001)
    assert done[-1] is threading.current_thread()
    order.stop()


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_defect_is_told_and_ends_it() -> None:
    told = threading.Event()
    order = InOrder(broken=told.set)

    def fail() -> None:
        raise KeyError("a defect")

    order.do(fail, waits=True)
    assert told.wait(30)
    order.stop()
