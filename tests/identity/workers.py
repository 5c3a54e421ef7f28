"""Workers for the identity matrix: one that makes no pictures, and one in whose pages something goes wrong."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from longtake.core.effects import EncodeText, Forget, PrepareStream, Stow
from longtake.core.errors import UnknownPeer
from longtake.core.recipe.ops import Kind
from longtake.core.work import PageId, Role
from workers.denoise.worker import tensor_to_bytes
from workers.messages import Decode, Done, Encoded, EncodeGiven, GivenEncoded, Introduction, Prepared, Task
from workers.models.api import TextEncoder
from workers.orders import Answer, Detached, Filled, Order
from workers.runner import Performer

Giving = Callable[[EncodeGiven], bytes]
"""The latent frame of a part of what a stream begins with, or looks at."""


class WithoutPictures:
    """A decode worker that encodes prompts and answers every block with nothing."""

    role = Role.DECODE
    device = torch.device("cpu")

    def __init__(self, text: TextEncoder, giving: Giving | None = None) -> None:
        """`giving` makes latents of what is given."""
        self._text = text
        self._giving = giving

    def page(self, page: PageId) -> Tensor:
        """See workers.images.Holder."""
        raise UnknownPeer(f"a decode worker has no page {page}")

    def perform(self, message: Order) -> Iterator[Answer]:
        """See workers.runner.Performer."""
        match message:
            case Stow():
                yield Detached(image=message.image, tensors=())
            case Filled(order=PrepareStream(session=session)):
                yield Prepared(session=session, header=b"", media_type="")
            case Task(order=Decode()):
                yield Done(sequence=message.sequence)
            case PrepareStream():
                yield Prepared(session=message.session, header=b"", media_type="")
            case EncodeGiven(order=order) if self._giving is not None:
                yield GivenEncoded(session=order.session, part=order.part, latents=self._giving(message))
            case EncodeText():
                encoded = self._text.encode(message.prompt)
                tensor = tensor_to_bytes(encoded.features_TC)
                yield Encoded(conditioning=message.conditioning, tensor=tensor, notice="")
            case Forget():
                pass
            case _:
                raise AssertionError(message)


@dataclass(frozen=True)
class Ready:
    """A worker that is made by `make` and introduces itself so."""

    introduction: Introduction
    make: Callable[[], Performer]
    meeting_point: str

    def fresh(self) -> Performer:
        """See workers.link.dial.Weights."""
        return self.make()


class OnePageSwapped:
    """A denoise worker in whose pool two sealed pages of one lane change places, once, before one of its ops."""

    role = Role.DENOISE
    AFTER = 10
    """Ops before that."""

    def __init__(self, worker: Performer) -> None:
        self._worker = worker
        self._left = self.AFTER

    def perform(self, message: Order) -> Iterator[Answer]:
        """See workers.runner.Performer."""
        if isinstance(message, Task) and isinstance(message.order, tuple):
            self._left -= 1
            written = {page for each in message.order for page in each.work.pages.writes}
            for work in [each.work for each in message.order if each.work.kind is Kind.DENOISE]:
                sealed = [page for page in work.pages.reads if page not in written]
                if self._left <= 0 and len(sealed) > 1:
                    self._swap(sealed[0], sealed[1])
                    self._left = sys.maxsize
        yield from self._worker.perform(message)

    @property
    def device(self) -> torch.device:
        """See workers.images.Holder."""
        return self._worker.device

    def page(self, page: PageId) -> Tensor:
        """See workers.images.Holder."""
        return self._worker.page(page)

    def _swap(self, one: PageId, other: PageId) -> None:
        kept = self.page(one).clone()
        self.page(one).copy_(self.page(other))
        self.page(other).copy_(kept)
