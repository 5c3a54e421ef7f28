"""Threads that encode beside the one that decodes: only where there are cores for them."""

from __future__ import annotations

import os

import pytest
import torch

from workers.decode.encoding import EncodingPool, encoding_beside


@pytest.mark.parametrize(
    ("device", "cores", "threads"),
    [("cpu", 1, 0), ("cpu", 2, 0), ("cpu", 3, 1), ("cpu", 64, 4), ("cuda", 1, 1), ("cuda", 2, 1), ("cuda", 16, 4)],
)
def test_threads_have_cores_of_their_own(
    device: str, cores: int, threads: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(cores)))
    pool = encoding_beside(torch.device(device))
    assert (0 if pool is None else pool.threads) == threads


def test_the_slower_of_decoding_and_encoding_sets_the_pace() -> None:
    assert EncodingPool(2).pace_s(0.1, 0.1) == 0.1
    assert EncodingPool(2).pace_s(0.1, 0.6) == 0.3
