"""Attention of the true shape, own tokens over a window, by the kernel that torch chooses: rate, error and bits."""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor

from benchmarks.gpu.bench import Bench, relative
from benchmarks.gpu.kernels import profiled, short
from benchmarks.gpu.model import matmul_rate, page_shape
from workers.models.api import sdpa

_BATCH = 2
_ROWS = 64
"""Queries that are compared with float64."""


def run(bench: Bench) -> None:
    """All steps."""
    info, shape = bench.info, page_shape(bench.info)
    frames, window = info.recipe.blocks.frames, info.recipe.page_count
    heads = shape.num_heads, shape.head_dim
    q_BLND = bench.normal(_BATCH, frames * shape.tokens_per_frame, *heads)
    k_BSND, v_BSND = (bench.normal(_BATCH, window * shape.tokens_per_frame, *heads) for _ in range(2))

    def attended(batch: int, pages: int = window) -> Tensor:
        keys = pages * shape.tokens_per_frame
        return sdpa(q_BLND[:batch], k_BSND[:batch, :keys], v_BSND[:batch, :keys])

    def rates() -> None:
        peak = matmul_rate(bench)
        flop = 4 * q_BLND.shape[1] * shape.num_heads * shape.head_dim * shape.tokens_per_frame
        for batch in range(1, _BATCH + 1):
            times = {
                pages: bench.timed(partial(attended, batch, pages)).ms for pages in range(frames, window + 1, frames)
            }
            found = {pages: batch * flop * pages / ms / 1e9 for pages, ms in times.items()}
            bench.fact(
                f"attention, batch {batch}",
                tflop_per_s=found,
                ms=times[window],
                of_matmul=found[window] / peak,
                kernel=short(profiled(bench, partial(attended, batch)).kernels[0].name),
            )

    def exactness() -> None:
        one, both = attended(1), attended(_BATCH)
        rows = torch.linspace(0, q_BLND.shape[1] - 1, _ROWS).long().to(bench.device)
        exact = sdpa(q_BLND[:1, rows].double(), k_BSND[:1].double(), v_BSND[:1].double())
        bench.fact(
            "attention: error and bits",
            rel=relative(one[:, rows], exact),
            equal_runs=torch.equal(one, attended(1)),
            equal_in_batch=torch.equal(one, both[:1]),
            finite=bool(torch.isfinite(both).all()),
        )

    bench.step("attention", rates)
    bench.step("attention: error and bits", exactness)
