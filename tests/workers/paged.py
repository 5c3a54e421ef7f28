"""The primitives that serve, driven like the oracle: lanes are page tables over one pool, ids scattered."""

import random
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from longtake.core.pages import PageTable
from longtake.core.recipe.recipe import Recipe
from longtake.core.work import PageId
from workers.denoise.attention import ItemPages, PagedAttention
from workers.denoise.kv import PageMemory
from workers.models.api import Conditioning, Denoiser, Inputs, TextKV

DECOY = 1000
"""Added to a session's number: the decoy beside it."""


@dataclass(frozen=True, kw_only=True)
class Work:
    """One batch item of a forward: a block of one session in one lane."""

    lane: str
    session: int
    first_frame: int
    x_FCHW: Tensor
    timestep: float


class PagedLanes:
    """Lanes of any number of sessions over one pool of `pages` pages that starts out as NaN.

    Which frames a block sees, and where they live, are the core's decisions. With `decoys`, every session has
    a batch mate in all its passes that does the same with the negated latent.
    """

    def __init__(
        self, model: Denoiser, tokens_per_frame: int, recipe: Recipe, pages: int, decoys: bool = False
    ) -> None:
        self.model, self.recipe, self.decoys = model, recipe, decoys
        shape = model.page_shape(tokens_per_frame)
        self.pool = PageMemory(shape, pages, device=torch.device("cpu"), dtype=torch.float32)
        self.pool.kv_YUPLND.fill_(torch.nan)  # whoever reads a page that nobody wrote will notice
        self.free = list(range(pages))
        random.Random(7).shuffle(self.free)
        self.tables: dict[tuple[str, int], PageTable] = {}

    def table(self, lane: str, session: int) -> PageTable:
        """The page table of a lane, taken from the free pages at first use."""
        key = (lane, session)
        if key not in self.tables:
            self.tables[key] = PageTable(
                self.recipe.window, tuple(PageId(self.free.pop()) for _ in range(self.recipe.page_count))
            )
        return self.tables[key]

    def item(self, work: Work) -> ItemPages:
        """What one batch item reads, in canonical order, and writes."""
        table, block = self.table(work.lane, work.session), self.recipe.blocks.block_of(work.first_frame)
        return ItemPages(
            reads=table.reads(block),
            writes=table.writes(block),
        )

    def inputs(self, works: Sequence[Work], text: TextKV) -> Inputs:
        """What one batched forward is given."""
        x_BFCHW = torch.stack([work.x_FCHW for work in works])
        count = x_BFCHW.shape[1]
        return Inputs(
            x_BFCHW=x_BFCHW,
            timestep_BF=torch.tensor([[work.timestep] * count for work in works]),
            position_BF=torch.tensor([list(range(w.first_frame, w.first_frame + count)) for w in works]),
            conditioning=Conditioning(text=text),
            attention=PagedAttention(self.pool, [self.item(work) for work in works]),
        )

    def forward(self, works: Sequence[Work], text: TextKV) -> Tensor:
        """Flow of any batch of works; each leaves its own K/V in its lane."""
        return self.model.denoise(self.inputs(works, text))

    def _works(self, lane: str, first_frame: int, x_BFCHW: Tensor, timestep: float) -> list[Work]:
        sessions = dict(enumerate(x_BFCHW))
        if self.decoys:
            sessions |= {DECOY + session: -x_FCHW for session, x_FCHW in sessions.items()}
        return [
            Work(lane=lane, session=session, first_frame=first_frame, x_FCHW=x_FCHW, timestep=timestep)
            for session, x_FCHW in sessions.items()
        ]

    def _text(self, text: TextKV) -> TextKV:
        return TextKV.batch([text, text]) if self.decoys and len(text) > 1 else text

    def denoise(self, lane: str, first_frame: int, x_BFCHW: Tensor, timestep: float, text: TextKV) -> Tensor:
        """See oracle.Lanes; every batch item is a session with a lane of its own."""
        works = self._works(lane, first_frame, x_BFCHW, timestep)
        return self.forward(works, self._text(text))[: len(x_BFCHW)]

    def commit(self, lane: str, first_frame: int, x_BFCHW: Tensor, timestep: float, text: TextKV) -> None:
        """See oracle.Lanes."""
        self.model.commit(self.inputs(self._works(lane, first_frame, x_BFCHW, timestep), self._text(text)))

    def contents(self, lane: str, layer: int, frames: Iterable[int], batch: int) -> Tensor:
        """Keys and values [2, B, S, N, D] of frames of a lane of the first `batch` sessions."""
        kv_UPLND = self.pool.of_layer(layer)
        slots = [self.recipe.window.slot(frame) for frame in frames]
        return torch.stack(
            [
                kv_UPLND[:, [self.table(lane, session).pages[slot] for slot in slots]].flatten(1, 2)
                for session in range(batch)
            ],
            1,
        )
