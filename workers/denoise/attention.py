"""Self-attention over pages: what one forward reads and writes, planned before it runs.

Shape suffixes: those of workers.denoise.kv, and B batch item.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Protocol

import torch
from torch import Tensor

from workers.denoise.kv import PageMemory
from workers.device_work import upload
from workers.models.api import SelfAttention, sdpa
from workers.models.rotary import Rotation, rotate, time_turn


@dataclass(frozen=True, slots=True, kw_only=True)
class ItemPages:
    """Page ids of one batch item."""

    reads: tuple[int, ...]
    """The pages that the item attends to, in canonical order, its own among them."""
    writes: tuple[int, ...]
    """One page per own frame, in frame order."""
    turns: tuple[int, ...] = ()
    """Where on the time axis the keys of each page in `reads` stand, which have no time yet; empty: they have."""
    bias: tuple[tuple[float, ...], ...] = ()
    """What is added to the logits of the queries of each own frame, for each page in `reads`; empty: nothing."""


class AttentionBackend(Protocol):
    """The part of a worker that turns page ids into attention; another kernel is another back end."""

    def plan(self, memory: PageMemory, items: Sequence[ItemPages]) -> SelfAttention:
        """The self-attention of one forward, whose batch items are `items`.

        IndexError for a page that is not in the memory; ValueError for an item that writes what it does not read, or
        turns or weighs more or fewer pages than it reads.
        """
        ...


AttentionKernel = Callable[[Tensor, Tensor, Tensor], Tensor]
"""Attention [B, L, N, D] of queries [B, L, N, D] over keys and values [B, S, N, D]."""
Rotate = Callable[[Tensor, Rotation], Tensor]
"""Keys [P, L, N, D] of pages turned by factors [P, 1, 1, D], the same for all tokens of a page."""


@dataclass(frozen=True, slots=True)
class SdpaBackend:
    """A kernel over a view of the memory where pages lie in one run, else over a copy of them."""

    kernel: AttentionKernel = sdpa
    rotate: Rotate = rotate

    def plan(self, memory: PageMemory, items: Sequence[ItemPages]) -> PagedAttention:
        """See AttentionBackend."""
        return PagedAttention(memory, items, self.kernel, self.rotate)


class PagedAttention:
    """Self-attention of one batched forward: every item writes its own pages, then attends to all it reads.

    All writes of a layer precede all reads, so an item may read what a batch mate writes in the same forward
    (the commit of a block fused with the denoising of the next). The result depends on the contents and the
    order of `reads`, not on the ids.

    Keys whose place on the time axis changes from read to read are stored without it, and turned as they are read: all
    of a page by one factor for each pair of channels. In a batch where some are, the others are turned by 0, which
    leaves their bits as they are.

    Where something is added to the logits, it is the same for all tokens of a frame and of a page. It is given in
    float64 and rounded once, to float32 and from there to the type of the queries. Items without it are attended to
    apart from those with it: adding 0 would be another kernel for them.
    """

    def __init__(
        self,
        memory: PageMemory,
        items: Sequence[ItemPages],
        kernel: AttentionKernel = sdpa,
        rotate: Rotate = rotate,
    ) -> None:
        self._memory = memory
        self._kernel = kernel
        self._writes = _Run.of(memory, [page for item in items for page in item.writes])
        alike: dict[tuple[int, bool], list[int]] = {}
        for number, item in enumerate(items):
            if not set(item.writes) <= set(item.reads):
                raise ValueError(f"item {number} writes pages {item.writes} but reads only {item.reads}")
            if item.turns and len(item.turns) != len(item.reads):
                raise ValueError(f"item {number} turns {len(item.turns)} pages and reads {len(item.reads)}")
            if item.bias and {len(row) for row in item.bias} != {len(item.reads)}:
                raise ValueError(f"item {number} weighs {len(item.bias[0])} pages and reads {len(item.reads)}")
            alike.setdefault((len(item.reads), bool(item.bias)), []).append(number)
        self._groups = [
            _Group(
                members=None if len(members) == len(items) else upload(memory.device, torch.tensor(members))[0],
                size=len(members),
                reads=_Run.of(memory, [page for number in members for page in items[number].reads]),
                turning=_Turning.of(memory, [items[number] for number in members], rotate),
                bias_B1LS=_biases(memory, [items[number] for number in members]),
            )
            for members in alike.values()
        ]

    def store(self, layer: int, k_BLND: Tensor, v_BLND: Tensor) -> None:
        """Write the items' own keys (normed, and rotated as they are stored) and values of a layer to their pages."""
        kv_UPLND = self._memory.of_layer(layer)
        shape = (-1, *kv_UPLND.shape[2:])
        self._writes.write(kv_UPLND[0], k_BLND.reshape(shape))
        self._writes.write(kv_UPLND[1], v_BLND.reshape(shape))

    def attend(self, layer: int, q_BLND: Tensor, k_BLND: Tensor, v_BLND: Tensor) -> Tensor:
        """`store`, then attention [B, L, N, D] of each item over the pages it reads."""
        self.store(layer, k_BLND, v_BLND)
        kv_UPLND = self._memory.of_layer(layer)
        if len(self._groups) == 1:
            return self._groups[0].attend(q_BLND, kv_UPLND, self._kernel)
        out_BLND = torch.empty_like(q_BLND)
        for group in self._groups:
            members = group.members
            assert members is not None  # there are several groups
            some_BLND = group.attend(q_BLND.index_select(0, members), kv_UPLND, self._kernel)
            out_BLND.index_copy_(0, members, some_BLND)
        return out_BLND


@dataclass(frozen=True, slots=True)
class _Run:
    """Pages in order: a slice of the memory where the ids are consecutive, else an index."""

    pages: slice | Tensor

    @staticmethod
    def of(memory: PageMemory, pages: Sequence[int]) -> _Run:
        first = pages[0]
        if all(page == first + offset for offset, page in enumerate(pages)):
            memory.check(pages)
            return _Run(slice(first, first + len(pages)))
        return _Run(memory.index(pages))

    def read(self, memory_PLND: Tensor) -> Tensor:
        if isinstance(self.pages, slice):
            return memory_PLND[self.pages]
        return memory_PLND.index_select(0, self.pages)

    def write(self, memory_PLND: Tensor, pages_PLND: Tensor) -> None:
        if isinstance(self.pages, slice):
            memory_PLND[self.pages].copy_(pages_PLND)
        else:
            memory_PLND.index_copy_(0, self.pages, pages_PLND)


@lru_cache(maxsize=256)
def _factors(turns: tuple[int, ...], pairs: int, head_dim: int, device: torch.device) -> Rotation:
    """Turns [P, 1, 1, D] of one item's pages: all steps of a block ask for the same, and so does each lap of a ring."""
    (position_P,) = upload(device, torch.tensor(turns, dtype=torch.int64))
    return time_turn(position_P, pairs, head_dim)


@dataclass(frozen=True, slots=True)
class _Turning:
    """How the keys of a group's pages are turned as they are read; `by` None: all were turned when written."""

    by: Rotation | None
    rotate: Rotate

    @staticmethod
    def of(memory: PageMemory, items: Sequence[ItemPages], rotate: Rotate) -> _Turning:
        if not any(item.turns for item in items):
            return _Turning(None, rotate)
        shape, device = memory.shape, memory.device
        turns = [
            _factors(item.turns or (0,) * len(item.reads), shape.time_pairs, shape.head_dim, device) for item in items
        ]
        by = turns[0] if len(turns) == 1 else Rotation(*(torch.cat(parts) for parts in zip(*turns, strict=True)))
        return _Turning(by, rotate)

    def turned(self, k_PLND: Tensor) -> Tensor:
        return k_PLND if self.by is None else self.rotate(k_PLND, self.by)


def _biases(memory: PageMemory, items: Sequence[ItemPages]) -> Tensor | None:
    """What is added to the logits [B, 1, L, S] of items of which either each adds something or none does."""
    if not items[0].bias:
        return None
    (bias_BFP,) = upload(memory.device, torch.tensor([item.bias for item in items], dtype=torch.float64).float())
    tokens, wide = memory.shape.tokens_per_frame, bias_BFP.to(memory.kv_YUPLND.dtype)
    return wide.repeat_interleave(tokens, 1).repeat_interleave(tokens, 2).unsqueeze(1)


@dataclass(frozen=True, slots=True)
class _Group:
    """Items that read equally many pages, so one attention serves them; `members` None is the whole batch."""

    members: Tensor | None
    size: int
    reads: _Run
    turning: _Turning
    bias_B1LS: Tensor | None
    """What is added to the logits; None: nothing is."""

    def attend(self, q_BLND: Tensor, kv_UPLND: Tensor, kernel: AttentionKernel) -> Tensor:
        shape = (self.size, -1, *kv_UPLND.shape[3:])
        k_PLND, v_PLND = (self.reads.read(kv_PLND) for kv_PLND in kv_UPLND)
        k_BSND, v_BSND = self.turning.turned(k_PLND).view(shape), v_PLND.view(shape)
        if self.bias_B1LS is not None:
            return sdpa(q_BLND, k_BSND, v_BSND, self.bias_B1LS)
        return kernel(q_BLND, k_BSND, v_BSND)
