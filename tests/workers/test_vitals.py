"""What a heartbeat says of a process, and what the system shows of it."""

from __future__ import annotations

import threading
from pathlib import Path

import torch

from workers.images.thread import ImageThread
from workers.messages import Heartbeat
from workers.vitals import show_name, vitals


class Nothing:
    """A worker without any memory."""

    device = torch.device("cpu")

    def page(self, page: int) -> torch.Tensor:
        """None."""
        raise IndexError(page)


def images() -> ImageThread:
    return ImageThread(Nothing(), meeting_point="", report=print, hand_over=print)


def test_of_a_process_with_several_workers_each_says_its_part() -> None:
    alone, shared = vitals(images(), workers=1), vitals(images(), workers=4)
    assert alone.resident_bytes > 50e6  # torch alone is more
    assert 0.2 < shared.resident_bytes / alone.resident_bytes < 0.3


def test_a_worker_in_the_engines_process_says_nothing_of_its_memory() -> None:
    assert vitals(images(), workers=0) == Heartbeat()


def test_a_thread_carries_the_name_of_its_worker_as_far_as_it_fits() -> None:
    shown: list[str] = []

    def work() -> None:
        show_name("denoise-12.3of4 and more")
        shown.append(Path("/proc/thread-self/comm").read_text())

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert shown == ["denoise-12.3of4\n"]
