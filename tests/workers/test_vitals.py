"""What a heartbeat says of a process."""

from __future__ import annotations

import torch

from workers.images.thread import ImageThread
from workers.messages import Heartbeat
from workers.vitals import vitals


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
