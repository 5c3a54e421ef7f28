"""Pinned host memory as torch gives it: every allocation takes a power of two, so tensors share well-chosen slabs.

Theory of operation. torch rounds a pinned allocation up to a power of two (measured with torch 2.11: four allocations
of 287.5 MB took 2147 MB). It has a setting against that (`pinned_max_round_threshold_mb`), which is not used: not every
torch that Longtake allows knows it, and with it torch 2.13 may hand out a freed block that is smaller than what was
asked for (CachingHostAllocator.h, `get_free_block`). Instead the tensors of an image are cut out of slabs, as many to a
slab as waste the least: of 18 pages of 287.5 MB 7 lie in each of two slabs, 3 in another and 1 alone, which wastes 14 %
and not 87 %.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import accumulate

from torch import Tensor

from workers.device_work import Packing, aligned

_LONGEST_RUN = 64
"""The most tensors of a slab: with more, less than a few per cent could be saved."""


def taken_bytes(size_bytes: int) -> int:
    """What torch takes for a pinned allocation of this size."""
    return 1 << (size_bytes - 1).bit_length() if size_bytes else 0


def runs(sizes_bytes: Sequence[int]) -> tuple[int, ...]:
    """How many tensors of these sizes, in their order, go into each slab, so that all slabs take the least memory."""
    ends = [0, *accumulate(map(aligned, sizes_bytes))]
    least, last = [0], [0]
    """The least memory for the first n tensors, and how many of them are in the last slab then."""
    for stop in range(1, len(ends)):
        ways = (
            (least[start] + taken_bytes(ends[stop] - ends[start]), stop - start)
            for start in range(max(0, stop - _LONGEST_RUN), stop)
        )
        total, count = min(ways)
        least.append(total)
        last.append(count)
    found: list[int] = []
    stop = len(sizes_bytes)
    while stop:
        found.append(last[stop])
        stop -= last[stop]
    return tuple(reversed(found))


def cut(wanted: Sequence[Tensor], slab: Callable[[int], Tensor]) -> tuple[Tensor, ...]:
    """Contiguous tensors of the shapes and types of `wanted`, out of memory that `slab` makes: so many bytes, uint8."""
    made: list[Tensor] = []
    for count in runs([tensor.nbytes for tensor in wanted]):
        packing = Packing(tensors=tuple(wanted[len(made) : len(made) + count]))
        made += packing.views(slab(packing.offsets[-1]))
    return tuple(made)


def storage_bytes(tensors: Sequence[Tensor]) -> list[int]:
    """The size of each piece of memory that these tensors lie in."""
    storages = [tensor.untyped_storage() for tensor in tensors]
    return list({storage.data_ptr(): storage.nbytes() for storage in storages}.values())
