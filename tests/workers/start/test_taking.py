"""Pages and slots that a device has no room for: what was asked for, what was free, what fits, and no traceback."""

from __future__ import annotations

import logging
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from longtake.core.errors import NoCapacity
from longtake.core.recipe.context import Level
from longtake.core.recipe.cues import CuePolicy, CueRule
from longtake.core.recipe.recipe import Recipe
from longtake.core.work import Role, WorkerId
from tests.core.support.recipes import altered
from tests.workers.model_dir import model_info, write_model
from workers.link_trust import write_secret
from workers.start.child import environment
from workers.start.loading import LoadedWorker, load_worker
from workers.start.probe import Subject
from workers.start.spec import WorkerSpec, to_line
from workers.start.taking import Stock, taken

CPU = torch.device("cpu")
TOO_MANY = 10**14
"""Pages or values that no machine has room for."""


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("model")
    write_model(folder)
    return folder


def denoiser(model: Path, pages: int) -> WorkerSpec:
    return WorkerSpec(worker=WorkerId("denoise-0"), role=Role.DENOISE, capacity=pages, model=model)


def test_too_many_pages_are_refused_with_what_fits(model: Path) -> None:
    with pytest.raises(NoCapacity, match=r"cpu has no room for 100000000000000 pages of \S+ MB = \S+ GB: \S+ GB were "
                       r"free, so \d+ of them fit; ask for less with cluster.sessions_per_worker"):  # fmt: skip
        load_worker(denoiser(model, TOO_MANY))


def test_room_is_kept_for_the_most_ops_that_a_recipe_puts_into_one_forward(
    model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = model_info(Level.CLEAN).recipe
    recaching = replace(altered(made, window_frames=6, sink_frames=0), cues=CuePolicy(change=CueRule.JOINT))
    tried: dict[Recipe, int] = {}

    def peak_bytes(subject: Subject, size: int) -> int:
        tried[subject.recipe] = max(size, tried.get(subject.recipe, 0))
        return 0

    monkeypatch.setattr("workers.start.loading.forward_peak_bytes", peak_bytes)
    stepping = model_info(Level.STAGGERED).recipe
    load_worker(replace(denoiser(model, 40), max_batch=1, recipes=(recaching, stepping)))
    assert tried[recaching] == recaching.most_together == 3
    assert stepping.joint is not None and tried[stepping] == stepping.joint.live == 2


def test_a_device_that_is_full_says_what_would_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    def full() -> None:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 3.8 GB")

    def broken() -> None:
        raise RuntimeError("something else")

    monkeypatch.setattr("workers.start.taking.free_bytes", lambda device: 3 * 10**9)
    stock = Stock(kind="decoder slots", count=2, unit_bytes=1_900_000_000, workspace_bytes=0, planned_bytes=1)
    with pytest.raises(NoCapacity, match=r"2 decoder slots of 1900 MB = 3.80 GB: 3.00 GB were free, so 1 of them fit"):
        taken(stock, CPU, full)
    with pytest.raises(RuntimeError, match="something else"):
        taken(stock, CPU, broken)


def test_a_device_without_room_for_the_weights_says_so(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 3.8 GB\nand more")

    monkeypatch.setattr("workers.models.weights.load_denoiser", full)
    with pytest.raises(NoCapacity, match=r"^cpu has no room for the weights: CUDA out of memory. Tried .* 3.8 GB$"):
        load_worker(denoiser(model, 10))


def test_a_worker_has_its_memory_when_it_is_loaded(model: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, logger="longtake.worker"):
        loaded = LoadedWorker(denoiser(model, 40))
    assert "40 pages of" in caplog.text and "of cpu are free" in caplog.text
    first = loaded.fresh()
    assert loaded.fresh() is not first


def test_a_process_ends_with_the_reason_in_its_log_and_on_its_output(model: Path) -> None:
    ended = subprocess.run(
        [sys.executable, "-P", "-m", "workers.link", "--engine=127.0.0.1:1"],
        input=write_secret("x" * 43) + to_line(denoiser(model, TOO_MANY)).encode(),
        env=environment(),
        capture_output=True,
        timeout=100,
        check=False,
    )
    said, log = ended.stdout.decode(), ended.stderr.decode()
    assert ended.returncode == 1
    assert said.splitlines()[-1].startswith("cpu has no room for 100000000000000 pages")
    assert "worker denoise-0 ends: cpu has no room for" in log and "Traceback" not in log
