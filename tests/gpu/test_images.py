"""Images on a CUDA device: pinned, on a stream of their own, complete when they are reported."""

from __future__ import annotations

import queue

import pytest
import torch

from benchmarks.paging import size_of, swap_seconds
from longtake.core.effects import LoadImage, Stow
from longtake.core.work import ImageId, PageId, SessionId, WorkerId
from tests.workers.model_dir import model_info
from workers.denoise.kv import PageMemory
from workers.images.host_memory import HostMemory
from workers.images.thread import ImagesBroken, ImageThread
from workers.messages import ImageLoaded, ImageStowed, Up
from workers.models.api import PageShape
from workers.orders import Filled

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device; none is here"),
]

CUDA = torch.device("cuda")
SHAPE = PageShape(layers=range(8), tokens_per_frame=256, num_heads=8, head_dim=64, time_pairs=12)
W, A = WorkerId("w"), SessionId("a")


class Holder:
    device = CUDA

    def __init__(self) -> None:
        self.pool = PageMemory(SHAPE, 16, device=CUDA, dtype=torch.bfloat16)
        self.pool.kv_YUPLND.normal_()

    def page(self, page: PageId) -> torch.Tensor:
        return self.pool.page(page)


def busy() -> None:
    """Keep the compute stream occupied for a while, without waiting for it."""
    side = torch.randn(4096, 4096, device=CUDA)
    for _ in range(40):
        side = side @ side
        side /= side.norm()


def test_a_copy_sees_what_was_ordered_before_it_and_lies_in_pinned_memory() -> None:
    memory, pool = HostMemory(CUDA), Holder().pool
    torch.cuda.synchronize()
    busy()
    pool.page(3).fill_(7.0)  # behind all that
    (copy,) = memory.down([pool.page(3)])
    assert copy.is_pinned() and copy.is_contiguous()
    assert torch.equal(copy, torch.full_like(copy, 7.0))


def test_pages_come_back_under_other_ids_while_the_device_computes() -> None:
    holder, told = Holder(), queue.SimpleQueue[Up | Filled | ImagesBroken]()
    images = ImageThread(holder, meeting_point="", report=told.put, hand_over=told.put)
    images.start()
    before = holder.pool.kv_YUPLND.clone()
    source, target = [PageId(page) for page in (1, 5, 2)], [PageId(page) for page in (9, 4, 12)]
    busy()
    images.put(Stow(worker=W, session=A, image=ImageId(0), source=tuple(source)))
    assert told.get(timeout=60) == ImageStowed(image=ImageId(0))
    busy()
    images.put(LoadImage(worker=W, session=A, image=ImageId(0), target=tuple(target)))
    assert told.get(timeout=60) == ImageLoaded(image=ImageId(0))
    before[:, :, target] = before[:, :, source]
    assert torch.equal(holder.pool.kv_YUPLND, before)
    assert images.stop(60)


def test_images_lie_in_pinned_memory_and_are_counted_as_torch_takes_it() -> None:
    memory = HostMemory(CUDA)
    state = [torch.randn(3, 5, 700_000, device=CUDA), torch.tensor([1], dtype=torch.uint8)]
    before = torch.cuda.host_memory_stats()["active_bytes.current"]
    copies = memory.down(state)
    assert all(copy.is_pinned() for copy in copies)
    assert all(torch.equal(a, b.cpu()) for a, b in zip(copies, state, strict=True))
    taken = torch.cuda.host_memory_stats()["active_bytes.current"] - before
    assert memory.taken_bytes(copies) == taken > sum(tensor.nbytes for tensor in state)


def test_the_benchmark_swaps_on_the_device() -> None:
    info = model_info()
    size = size_of(info, layers=2, tokens=0, device="cuda", dtype=torch.bfloat16)
    assert min(swap_seconds(size, 2)) > 0
