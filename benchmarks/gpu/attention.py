"""Attention of the true shape, own tokens over a window: rate, error and bits of what is served, and of torch's own."""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor

from benchmarks.gpu.bench import Bench, relative
from benchmarks.gpu.kernels import profiled, short
from benchmarks.gpu.model import matmul_rate, page_shape
from workers.denoise.attention import AttentionKernel, SdpaBackend
from workers.models.api import sdpa
from workers.start.attention import Extent, choose

_BATCH = 2
_ROWS = 64
"""Queries that are compared with float64."""


def run(bench: Bench) -> None:
    """All steps."""
    kernels: dict[str, AttentionKernel] = {"plain attention": sdpa}
    for label, compute in bench.computes().items():
        chosen = choose(Extent.of(bench.info), compute)
        assert isinstance(chosen.backend, SdpaBackend)
        kernels[f"{label}attention"] = chosen.backend.kernel
    for name, kernel in kernels.items():
        attention = Attention(bench, name, kernel)
        bench.step(name, attention.rates)
        bench.step(f"{name}: error and bits", attention.exactness)


class Attention:
    """The measurements of one kernel."""

    def __init__(self, bench: Bench, name: str, kernel: AttentionKernel) -> None:
        self._bench, self._name, self._kernel = bench, name, kernel
        self._shape, self._window = page_shape(bench.info), bench.info.recipe.page_count
        self._frames, self._tokens = bench.info.recipe.blocks.frames, self._shape.tokens_per_frame
        heads = self._shape.num_heads, self._shape.head_dim
        self._q_BLND = bench.normal(_BATCH, self._frames * self._tokens, *heads)
        self._k_BSND, self._v_BSND = (bench.normal(_BATCH, self._window * self._tokens, *heads) for _ in range(2))

    def _attended(self, batch: int, pages: int) -> Tensor:
        keys = pages * self._tokens
        return self._kernel(self._q_BLND[:batch], self._k_BSND[:batch, :keys], self._v_BSND[:batch, :keys])

    def rates(self) -> None:
        """By pages read, alone and with a batch mate."""
        peak = matmul_rate(self._bench)
        flop = 4 * self._q_BLND[0].numel() * self._tokens
        for batch in range(1, _BATCH + 1):
            fills = range(self._frames, self._window + 1, self._frames)
            times = {pages: self._bench.timed(partial(self._attended, batch, pages)).ms for pages in fills}
            found = {pages: batch * flop * pages / ms / 1e9 for pages, ms in times.items()}
            self._bench.fact(
                f"{self._name}, batch {batch}",
                tflop_per_s=found,
                ms=times[self._window],
                of_matmul=found[self._window] / peak,
                kernel=short(profiled(self._bench, partial(self._attended, batch, self._window)).kernels[0].name),
            )

    def exactness(self) -> None:
        """Some rows against float64; two runs; a batch mate."""
        one, both = self._attended(1, self._window), self._attended(_BATCH, self._window)
        rows = torch.linspace(0, one.shape[1] - 1, _ROWS).long().to(self._bench.device)
        exact = sdpa(self._q_BLND[:1, rows].double(), self._k_BSND[:1].double(), self._v_BSND[:1].double())
        self._bench.fact(
            f"{self._name}: error and bits",
            rel=relative(one[:, rows], exact),
            equal_runs=torch.equal(one, self._attended(1, self._window)),
            equal_in_batch=torch.equal(one, both[:1]),
            finite=bool(torch.isfinite(both).all()),
        )
