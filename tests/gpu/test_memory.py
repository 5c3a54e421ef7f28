"""Memory of a real GPU: it is read without taking any, peaks are measured, and what has no room is refused."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch

from longtake.core.errors import NoCapacity
from longtake.core.work import Role, WorkerId
from tests.workers.model_dir import write_model
from workers.models.api import Compute
from workers.start.child import VISIBLE
from workers.start.device_memory import read_memory
from workers.start.loading import LoadedWorker, load_worker
from workers.start.probe import peak_bytes
from workers.start.spec import WorkerSpec

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device")]
CUDA = torch.device("cuda")


def test_another_process_reads_what_this_one_sees() -> None:
    name = os.environ.get(VISIBLE, "0").split(",")[0]
    found, (free, total) = read_memory((name,))[name], torch.cuda.mem_get_info()
    assert found.total_bytes == total
    assert abs(found.free_bytes - free) < 2e9  # its own context


def test_a_peak_is_what_was_held_at_once_beside_what_is_held_already() -> None:
    held = torch.zeros(1 << 24, device=CUDA)

    def run() -> None:
        torch.zeros(1 << 22, device=CUDA).add_(torch.zeros(1 << 22, device=CUDA))

    assert peak_bytes(run, CUDA) == 2 * 4 * (1 << 22)
    assert held.is_cuda


@pytest.mark.parametrize("role", [Role.DENOISE, Role.DECODE])
def test_a_worker_takes_its_memory_when_it_is_loaded_or_says_what_fits(tmp_path: Path, role: Role) -> None:
    write_model(tmp_path)
    few = WorkerSpec(worker=WorkerId("w"), role=role, capacity=40, model=tmp_path, compute=Compute(device="cuda"))
    LoadedWorker(few)
    with pytest.raises(NoCapacity, match=r"cuda has no room for \d+ .* GB were free, so \d+ of them fit"):
        load_worker(WorkerSpec(worker=few.worker, role=role, capacity=10**8, model=tmp_path, compute=few.compute))
