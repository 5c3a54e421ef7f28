"""What a worker compiles, it compiles while it starts: no stream waits for kernels."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
import torch
from torch._dynamo.utils import counters

from longtake.core.effects import PrepareStream
from longtake.core.recipe.ops import Kind
from longtake.core.work import DecodeWork, FromLane, LatentRef, PageId, Role, SlotId
from tests.workers.model_dir import model_info
from tests.workers.orders import RAW, SESSION, SPEC, done, task, work
from workers.models.api import Compute
from workers.start.loading import LoadedWorker


@pytest.fixture(autouse=True)
def traced(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Functions are traced as they are compiled, but run without kernels, which take minutes to make on a CPU."""
    torch.compiler.reset()
    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend="aot_eager"))
    yield
    torch.compiler.reset()


def loaded(model: Path, role: Role) -> LoadedWorker:
    return LoadedWorker(replace(SPEC, model=model, role=role, compute=Compute(compile=True)))


def graphs() -> int:
    return counters["stats"]["unique_graphs"]


def test_a_decode_worker_compiles_nothing_for_its_streams(model: Path) -> None:
    before = graphs()
    worker = loaded(model, Role.DECODE).fresh()
    made = graphs()
    assert made > before
    geometry = model_info().geometry
    for slot in (SlotId(0), SlotId(1)):
        (_,) = worker.perform(PrepareStream(worker=SPEC.worker, session=SESSION, slot=slot, settings=RAW))
        for block in range(3):
            order = DecodeWork(
                session=SESSION, block=block, slot=slot, latents=LatentRef(session=SESSION, block=block, step=3),
                first_picture=geometry.first_picture(block), picture_count=geometry.pictures(block), settings=RAW,
            )  # fmt: skip
            latents = torch.randn(geometry.block_shape).numpy().tobytes()
            assert done(worker.perform(task(order, number=block, latents=latents))).segment
    assert graphs() == made


def test_a_denoise_worker_compiles_nothing_for_its_streams(model: Path) -> None:
    before = graphs()
    worker = loaded(model, Role.DENOISE).fresh()
    made = graphs()
    assert made > before
    text = torch.randn(model_info().dit.text_len, model_info().dit.text_dim).numpy().tobytes()
    for number, pages in enumerate(((0, 1), (0, 1, 2, 3), (0, 2, 3, 4, 1))):
        ids = tuple(map(PageId, pages))
        for kind, given in ((Kind.DENOISE, {}), (Kind.COMMIT, {"input": FromLane()})):
            order = work(kind, reads=ids, writes=ids[-2:], **given)
            done(worker.perform(task(order, number=number, text=text)))
    assert graphs() == made
