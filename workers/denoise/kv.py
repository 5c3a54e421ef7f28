"""Pages of keys and values in a preallocated pool, and the self-attention that reads and writes them by id.

Shape suffixes:
    Y held layer           U 0 for keys, 1 for values   P page
    L token (of a frame in PLND, of all the item's frames in BLND)   B batch item
    N attention head       D channel of one head
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from workers.models.wan.dit import sdpa


@dataclass(frozen=True, slots=True, kw_only=True)
class PageShape:
    """What one page holds: the keys and values of one latent frame in `layers`."""

    layers: range
    tokens_per_frame: int
    num_heads: int
    head_dim: int

    def size_bytes(self, dtype: torch.dtype) -> int:
        """Memory of one page in bytes."""
        elements = 2 * len(self.layers) * self.tokens_per_frame * self.num_heads * self.head_dim
        return elements * dtype.itemsize


@dataclass(frozen=True, slots=True, kw_only=True)
class ItemPages:
    """Page ids of one batch item.

    `reads` is what it attends to, in canonical order and with its own pages; `writes` has one page per own
    frame, in frame order.
    """

    reads: tuple[int, ...]
    writes: tuple[int, ...]


class PagePool:
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
        """Keys and values [2, P, L, N, D] of one layer: a view of the pool."""
        return self._of_layer[layer]

    def page(self, page: int) -> Tensor:
        """Keys and values [Y, 2, L, N, D] of one page: a view of the pool; IndexError if it is not in the pool."""
        if not 0 <= page < self.pages:
            raise IndexError(f"page {page} is not in a pool of {self.pages}")
        return self.kv_YUPLND[:, :, page]

    def index(self, pages: Sequence[int]) -> Tensor:
        """Page ids as an index on the pool's device; IndexError for an id that is not in the pool."""
        for page in pages:
            if not 0 <= page < self.pages:
                raise IndexError(f"page {page} is not in a pool of {self.pages}")
        return torch.tensor(pages, dtype=torch.int64, device=self.device)

    def export(self, pages: Sequence[int]) -> Tensor:
        """Copy [Y, 2, len(pages), L, N, D] of pages in the order given, to be parked, sent or mirrored."""
        return self.kv_YUPLND.index_select(2, self.index(pages))

    def restore(self, pages: Sequence[int], kv_YUPLND: Tensor) -> None:
        """Overwrite pages with what `export` returned, whatever ids it had there."""
        self.kv_YUPLND.index_copy_(2, self.index(pages), kv_YUPLND.to(self.device))


class PagedAttention:
    """Self-attention of one batched forward: every item writes its own pages, then attends to all it reads.

    All writes of a layer precede all reads, so an item may read what a batch mate writes in the same forward
    (the commit of a block fused with the denoising of the next). The result depends on the contents and the
    order of `reads`, not on the ids.
    """

    def __init__(self, pool: PagePool, items: Sequence[ItemPages]) -> None:
        self._pool = pool
        self._batch = len(items)
        self._writes = _Run.of(pool, [page for item in items for page in item.writes])
        by_length: dict[int, list[int]] = {}
        for number, item in enumerate(items):
            if not set(item.writes) <= set(item.reads):
                raise ValueError(f"item {number} writes pages {item.writes} but reads only {item.reads}")
            by_length.setdefault(len(item.reads), []).append(number)
        self._groups = [
            _Group(
                members=None if len(members) == len(items) else torch.tensor(members, device=pool.device),
                size=len(members),
                reads=_Run.of(pool, [page for number in members for page in items[number].reads]),
            )
            for members in by_length.values()
        ]

    def store(self, layer: int, k_BLND: Tensor, v_BLND: Tensor) -> None:
        """Write the items' own keys (normed and rotated) and values of a layer to their pages."""
        kv_UPLND = self._pool.of_layer(layer)
        shape = (-1, *kv_UPLND.shape[2:])
        self._writes.write(kv_UPLND[0], k_BLND.reshape(shape))
        self._writes.write(kv_UPLND[1], v_BLND.reshape(shape))

    def attend(self, layer: int, q_BLND: Tensor, k_BLND: Tensor, v_BLND: Tensor) -> Tensor:
        """`store`, then attention [B, L, N, D] of each item over the pages it reads."""
        self.store(layer, k_BLND, v_BLND)
        kv_UPLND = self._pool.of_layer(layer)
        if len(self._groups) == 1:
            return self._groups[0].attend(q_BLND, kv_UPLND)
        out_BLND = torch.empty_like(q_BLND)
        for group in self._groups:
            members = group.members
            assert members is not None  # there are several groups
            out_BLND.index_copy_(0, members, group.attend(q_BLND.index_select(0, members), kv_UPLND))
        return out_BLND


@dataclass(frozen=True, slots=True)
class _Run:
    """Pages in order: a slice of the pool where the ids are consecutive, else an index."""

    pages: slice | Tensor

    @staticmethod
    def of(pool: PagePool, pages: Sequence[int]) -> "_Run":
        index = pool.index(pages)
        first = pages[0]
        consecutive = all(page == first + offset for offset, page in enumerate(pages))
        return _Run(slice(first, first + len(pages)) if consecutive else index)

    def read(self, pool_PLND: Tensor) -> Tensor:
        if isinstance(self.pages, slice):
            return pool_PLND[self.pages]
        return pool_PLND.index_select(0, self.pages)

    def write(self, pool_PLND: Tensor, pages_PLND: Tensor) -> None:
        if isinstance(self.pages, slice):
            pool_PLND[self.pages].copy_(pages_PLND)
        else:
            pool_PLND.index_copy_(0, self.pages, pages_PLND)


@dataclass(frozen=True, slots=True)
class _Group:
    """Items that read equally many pages, so one attention serves them; `members` None is the whole batch."""

    members: Tensor | None
    size: int
    reads: _Run

    def attend(self, q_BLND: Tensor, kv_UPLND: Tensor) -> Tensor:
        shape = (self.size, -1, *kv_UPLND.shape[3:])
        return sdpa(q_BLND, self.reads.read(kv_UPLND[0]).view(shape), self.reads.read(kv_UPLND[1]).view(shape))
