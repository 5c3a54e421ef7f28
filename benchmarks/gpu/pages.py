"""A page of K/V to host memory and back, by the server's own copies, and the memory that it takes there."""

from __future__ import annotations

import torch

from benchmarks.gpu.bench import Bench
from benchmarks.gpu.model import page_shape
from benchmarks.process_use import own_rss_bytes
from workers.denoise.kv import PageMemory
from workers.images.host_memory import HostMemory

_PAGES = 4


def run(bench: Bench) -> None:
    """All steps."""
    bench.step("a page to the host and back", lambda: _swap(bench))


def _swap(bench: Bench) -> None:
    shape = page_shape(bench.info)
    memory = PageMemory(shape, bench.info.recipe.page_count, device=bench.device, dtype=bench.dtype)
    pages = [memory.page(number).normal_() for number in range(_PAGES)]
    copies, size = HostMemory(bench.device), shape.size_bytes(bench.dtype)
    resident = own_rss_bytes()
    host = copies.down(pages)
    taken = own_rss_bytes() - resident
    before = pages[0].clone()
    peak_mb = bench.peak_mb(lambda: copies.fill(host[:1], pages[:1]))
    down = bench.clocked(lambda: copies.fill(host[:1], pages[:1]))
    pages[0].normal_()
    up = bench.clocked(lambda: copies.fill(pages[:1], host[:1]))
    equal = torch.equal(pages[0], before)
    bench.fact(
        "a page to the host and back",
        mb=size / 1e6,
        down_gb_per_s=size / down.ms / 1e6,
        up_gb_per_s=size / up.ms / 1e6,
        taken_mb_each=taken / _PAGES / 1e6,
        pinned=bench.has_cuda and all(copy.is_pinned() for copy in host),
        device_peak_mb=peak_mb,
        equal=equal,
    )
    if not equal:
        raise RuntimeError("a page came back changed")
