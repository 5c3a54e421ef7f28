"""Fused networks behind the engine: the same segments in every layout, and those of plain ones but for rounding."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from cluster.cell.outbox import ClientMessage, SegmentOut
from cluster.render import render
from longtake.core.events import Open
from longtake.core.flow import Pace
from longtake.core.work import SegmentSettings, SessionId
from tests.workers.model_dir import write_model
from workers.models.api import Compute


@pytest.fixture(autouse=True)
def traced(monkeypatch: pytest.MonkeyPatch) -> None:
    """Functions are traced as they are compiled, but run without kernels, which take minutes to make on a CPU."""
    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend="aot_eager"))


async def pictures(model: Path, compute: Compute, workers: int) -> NDArray[np.int16]:
    """All pictures of a short stream, as one flat array."""
    parts: list[bytes] = []

    def tell(message: ClientMessage) -> None:
        if isinstance(message, SegmentOut):  # raw has no header
            parts.append(message.data)

    request = Open(
        now_s=0.0, session=SessionId("r"), prompt="a red ball", seed=5, pace=Pace.FAST, window=4,
        picture_limit=29, settings=SegmentSettings(codec="raw", quality=0),
    )  # fmt: skip
    await render(model, request, tell, compute=compute, denoise=workers)
    assert parts
    return np.frombuffer(b"".join(parts), np.uint8).astype(np.int16)


@pytest.mark.slow
async def test_compiled_streams_are_alike_in_every_layout_and_the_plain_ones_but_for_rounding(tmp_path: Path) -> None:
    write_model(tmp_path)
    plain = await pictures(tmp_path, Compute(), 1)
    alone, spread = [await pictures(tmp_path, Compute(compile=True), workers) for workers in (1, 3)]
    assert np.array_equal(alone, spread)
    assert np.abs(alone - plain).max() <= 1
