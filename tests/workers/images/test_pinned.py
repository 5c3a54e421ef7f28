"""Pinned memory: counted as torch takes it, and shared out so that little is lost to its powers of two."""

from __future__ import annotations

from itertools import accumulate, pairwise, product

import pytest
import torch
from torch import Tensor

from workers.device_work import ALIGNMENT_BYTES
from workers.images.pinned import cut, runs, storage_bytes, taken_bytes

PAGE = 1560 * 1536 * 2 * 2 * 30
"""A page of Wan 1.3B at 480x832 in bfloat16."""


def total(sizes: list[int]) -> int:
    """What slabs of these tensors take, by the numbers of tensors that `runs` says."""
    ends = [0, *accumulate(runs(sizes))]
    assert ends[-1] == len(sizes)
    return sum(taken_bytes(sum(-(-size // 256) * 256 for size in sizes[a:b])) for a, b in pairwise(ends))


def test_one_allocation_takes_a_power_of_two() -> None:
    assert 4 * taken_bytes(PAGE) == 2_147_483_648  # as was measured on an H100 with torch 2.11: 2147 MB
    assert [taken_bytes(size) for size in (0, 1, 2, 3, 4096, 4097)] == [0, 1, 2, 4, 4096, 8192]


def test_pages_of_a_lane_lie_in_slabs_that_waste_little() -> None:
    assert sorted(runs([PAGE] * 18)) == [1, 3, 7, 7]
    assert total([PAGE] * 18) == pytest.approx(1.14 * 18 * PAGE, rel=0.002)
    assert 18 * taken_bytes(PAGE) == pytest.approx(1.87 * 18 * PAGE, rel=0.002)
    assert runs([]) == ()


def test_no_other_sharing_out_takes_less() -> None:
    for sizes in product((256, 768, 1280), repeat=6):
        ways = []
        for cuts in product((False, True), repeat=5):
            slab, way = 0, 0
            for size, ends in zip(sizes, (*cuts, True), strict=True):
                slab += size
                if ends:
                    way, slab = way + taken_bytes(slab), 0
            ways.append(way)
        assert total(list(sizes)) == min(ways)


def test_tensors_of_a_slab_are_whole_and_apart() -> None:
    made: list[Tensor] = []

    def slab(size_bytes: int) -> Tensor:
        made.append(torch.zeros(size_bytes, dtype=torch.uint8))
        return made[-1]

    kinds = ((3, 5), torch.float32), ((7,), torch.bfloat16), ((1,), torch.uint8), ((2, 0), torch.int64)
    wanted = [torch.empty(shape, dtype=dtype, device="meta") for shape, dtype in kinds * 40]
    tensors = cut(wanted, slab)
    for number, tensor in enumerate(tensors):
        tensor.fill_(number % 100)
    for number, (tensor, like) in enumerate(zip(tensors, wanted, strict=True)):
        assert (tensor.shape, tensor.dtype, tensor.is_contiguous()) == (like.shape, like.dtype, True)
        assert tensor.storage_offset() * tensor.itemsize % ALIGNMENT_BYTES == 0
        assert torch.all(tensor == number % 100)
    assert len(made) > 1
    assert sorted(filter(None, storage_bytes(tensors))) == sorted(memory.nbytes for memory in made if memory.nbytes)
