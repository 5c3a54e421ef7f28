"""Pages of keys and values in memory that is taken once; nothing here knows what they are for.

Shape suffixes:
    Y held layer           U 0 for keys, 1 for values   P page
    L token (of a frame in PLND, of all the item's frames in BLND)
    N attention head       D channel of one head
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from workers.device_work import upload
from workers.models.api import PageShape


class PageMemory:
    """`pages` pages of `shape` on one device. Ids are 0..pages-1; who owns which is decided elsewhere."""

    def __init__(self, shape: PageShape, pages: int, *, device: torch.device, dtype: torch.dtype) -> None:
        self.shape = shape
        self.pages = pages
        size = (len(shape.layers), 2, pages, shape.tokens_per_frame, shape.num_heads, shape.head_dim)
        self.kv_YUPLND = torch.zeros(size, device=device, dtype=dtype)
        self._of_layer: dict[int, Tensor] = dict(zip(shape.layers, self.kv_YUPLND.unbind(), strict=True))

    @property
    def device(self) -> torch.device:
        """Where the pages lie."""
        return self.kv_YUPLND.device

    def size_bytes(self) -> int:
        """Memory of all pages in bytes."""
        return self.pages * self.shape.size_bytes(self.kv_YUPLND.dtype)

    def of_layer(self, layer: int) -> Tensor:
        """Keys and values [2, P, L, N, D] of one layer: a view of the memory."""
        return self._of_layer[layer]

    def page(self, page: int) -> Tensor:
        """Keys and values [Y, 2, L, N, D] of one page: a view of the memory; IndexError if it is not in there."""
        self.check((page,))
        return self.kv_YUPLND[:, :, page]

    def check(self, pages: Sequence[int]) -> None:
        """IndexError for an id that is not in the memory."""
        for page in pages:
            if not 0 <= page < self.pages:
                raise IndexError(f"page {page} is not in a pool of {self.pages}")

    def index(self, pages: Sequence[int]) -> Tensor:
        """Page ids as an index on the memory's device; IndexError for an id that is not in the memory."""
        self.check(pages)
        (index,) = upload(self.device, torch.tensor(pages, dtype=torch.int64))
        return index

    def export(self, pages: Sequence[int]) -> Tensor:
        """Copy [Y, 2, len(pages), L, N, D] of pages in the order given, to be parked, sent or mirrored."""
        return self.kv_YUPLND.index_select(2, self.index(pages))

    def restore(self, pages: Sequence[int], kv_YUPLND: Tensor) -> None:
        """Overwrite pages with what `export` returned, whatever ids it had there."""
        self.kv_YUPLND.index_copy_(2, self.index(pages), kv_YUPLND.to(self.device))
