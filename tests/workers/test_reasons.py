"""What the client of a stream is told of an op that failed."""

from __future__ import annotations

import pytest
import torch

from workers.messages import OP_ERRORS, reason_of


@pytest.mark.parametrize(
    "error",
    [
        MemoryError("Unable to allocate 3.00 GiB for an array with shape (3, 1024)"),
        torch.OutOfMemoryError(
            "CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has a total capacity of 79.1 GiB"
        ),
        RuntimeError(
            "[enforce fail at alloc_cpu.cpp:117] err == 0. DefaultCPUAllocator: can't allocate memory: you tried to "
            "allocate 68719476736 bytes. Error code 12 (Cannot allocate memory)"
        ),
    ],
)
def test_an_allocator_that_has_nothing_left_is_told_in_our_words(error: Exception) -> None:
    assert isinstance(error, OP_ERRORS), "the op fails, the worker goes on"
    reason = reason_of(error)
    assert reason.startswith("the device of a worker had no memory left for what this stream needs: try again later")
    assert "alloc_cpu" not in reason and "Tried" not in reason


def test_what_an_allocator_truly_says_is_known() -> None:
    with pytest.raises(RuntimeError) as caught:
        torch.empty(1 << 60, dtype=torch.uint8)
    assert reason_of(caught.value).startswith("the device of a worker had no memory left")


def test_other_errors_are_told_as_they_are() -> None:
    assert reason_of(ValueError("no such page")) == "ValueError: no such page"
