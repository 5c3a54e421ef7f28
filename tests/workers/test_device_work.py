"""What passes between host and device: packed without loss, and on a CPU not copied at all."""

from __future__ import annotations

import torch
from hypothesis import given
from hypothesis import strategies as st

from workers.device_work import DeviceWork, Packing, items_of, upload

CPU = torch.device("cpu")
DTYPES = (torch.float32, torch.float64, torch.int64, torch.bfloat16, torch.uint8)
SHAPES = st.lists(st.integers(0, 5), max_size=4).map(tuple)


Kinds = list[tuple[torch.dtype, tuple[int, ...]]]


@given(st.lists(st.tuples(st.sampled_from(DTYPES), SHAPES), min_size=1, max_size=6), st.integers(0, 2**32))
def test_tensors_of_all_kinds_share_one_piece_of_memory(kinds: Kinds, seed: int) -> None:
    random = torch.Generator().manual_seed(seed)
    tensors = tuple(torch.randint(0, 200, shape, generator=random).to(dtype) for dtype, shape in kinds)
    packing = Packing(tensors=tensors)
    memory = torch.full((packing.offsets[-1],), 255, dtype=torch.uint8)
    packing.fill(memory)
    for view, tensor in zip(packing.views(memory), tensors, strict=True):
        assert view.dtype is tensor.dtype
        assert torch.equal(view, tensor)
    assert all(offset % 256 == 0 for offset in packing.offsets), "each may be read by vectors of any width"


def test_a_transposed_tensor_is_packed_in_its_own_order() -> None:
    tensor = torch.arange(6.0).view(2, 3).t()
    packing = Packing(tensors=(tensor,))
    memory = torch.empty(packing.offsets[-1], dtype=torch.uint8)
    packing.fill(memory)
    assert torch.equal(packing.views(memory)[0], tensor)


def test_beside_a_cpu_nothing_is_copied_and_nothing_is_waited_for() -> None:
    tensor = torch.arange(3.0)
    assert upload(CPU, tensor)[0] is tensor
    work = DeviceWork(CPU)
    landed = work.land(tensor)
    work.finish()
    assert (landed.data_ptr(), work.is_over) == (tensor.data_ptr(), True)
    assert work.wait() == work.wait() > 0


def test_items_of_a_batch() -> None:
    batch = torch.arange(12.0).view(4, 3)
    assert items_of(batch, [0, 1, 2, 3]) is batch
    assert torch.equal(items_of(batch, [1, 3]), batch[[1, 3]])
