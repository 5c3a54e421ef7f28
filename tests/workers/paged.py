"""The primitives that serve, driven like the oracle: lanes are page tables over one pool, ids scattered."""

import random
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from workers.kv import ItemPages, PagedAttention, PagePool, PageShape
from workers.models.wan import TextKV, WanModel

DECOY = 1000
"""Added to a session's number: the decoy beside it."""


def window_frames(first: int, count: int, window: int, sinks: int) -> list[int]:
    """Latent frames that a block of `count` frames from `first` attends to, its own included, ascending."""
    end = first + count
    if end <= window:
        return list(range(end))
    return [*range(sinks), *range(max(sinks, end - (window - sinks)), end)]


def slot(frame: int, window: int, sinks: int) -> int:
    """Canonical place of a frame in its lane's page table: sinks first, then a ring."""
    return frame if frame < sinks else sinks + frame % (window - sinks)


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

    `window` is in latent frames, (all, sinks). With `decoys`, every session has a batch mate in all its
    passes that does the same with the negated latent.
    """

    def __init__(
        self,
        model: WanModel,
        tokens_per_frame: int,
        window: tuple[int, int],
        pages: int,
        decoys: bool = False,
    ) -> None:
        self.model, self.decoys = model, decoys
        self.window, self.sinks = window
        shape = PageShape(
            layers=model.layers,
            tokens_per_frame=tokens_per_frame,
            num_heads=model.config.num_heads,
            head_dim=model.config.head_dim,
        )
        self.pool = PagePool(shape, pages, device=torch.device("cpu"), dtype=torch.float32)
        self.pool.kv_YUPLND.fill_(torch.nan)  # whoever reads a page that nobody wrote will notice
        self.free = list(range(pages))
        random.Random(7).shuffle(self.free)
        self.tables: dict[tuple[str, int], list[int]] = {}

    def pages(self, lane: str, session: int, frames: Iterable[int]) -> tuple[int, ...]:
        """Page ids of frames of a lane, whose table is taken from the free pages at first use."""
        key = (lane, session)
        if key not in self.tables:
            self.tables[key] = [self.free.pop() for _ in range(self.window)]
        return tuple(self.tables[key][slot(frame, self.window, self.sinks)] for frame in frames)

    def item(self, work: Work) -> ItemPages:
        """What one batch item reads, in canonical order, and writes."""
        first, count = work.first_frame, work.x_FCHW.shape[0]
        seen = window_frames(first, count, self.window, self.sinks)
        in_order = sorted(seen, key=lambda frame: slot(frame, self.window, self.sinks))
        return ItemPages(
            reads=self.pages(work.lane, work.session, in_order),
            writes=self.pages(work.lane, work.session, range(first, first + count)),
        )

    def arguments(self, works: Sequence[Work]) -> tuple[Tensor, Tensor, Tensor, PagedAttention]:
        """Latents, timesteps, positions and attention of one batched forward."""
        x_BFCHW = torch.stack([work.x_FCHW for work in works])
        count = x_BFCHW.shape[1]
        timestep_BF = torch.tensor([[work.timestep] * count for work in works])
        position_BF = torch.tensor([list(range(w.first_frame, w.first_frame + count)) for w in works])
        attention = PagedAttention(self.pool, [self.item(work) for work in works])
        return x_BFCHW, timestep_BF, position_BF, attention

    def forward(self, works: Sequence[Work], text: TextKV) -> Tensor:
        """Flow of any batch of works; each leaves its own K/V in its lane."""
        x, timestep, position, attention = self.arguments(works)
        flow: Tensor = self.model(x, timestep, position, text, attention)
        return flow

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
        x, t, position, attention = self.arguments(self._works(lane, first_frame, x_BFCHW, timestep))
        self.model.commit(x, t, position, self._text(text), attention)

    def contents(self, lane: str, layer: int, frames: Iterable[int], batch: int) -> Tensor:
        """Keys and values [2, B, S, N, D] of frames of a lane of the first `batch` sessions."""
        kv_UPLND = self.pool.of_layer(layer)
        wanted = list(frames)
        return torch.stack(
            [kv_UPLND[:, list(self.pages(lane, session, wanted))].flatten(1, 2) for session in range(batch)],
            1,
        )
