"""Workers for the identity matrix: one that makes no pictures, and one in whose pages something goes wrong."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from cluster.cell.engine import Engine
from cluster.cell.journal import GivenPictures
from longtake.core.effects import EncodeText, Forget, PrepareStream, Stow
from longtake.core.errors import UnknownPeer
from longtake.core.work import PageId, Role, SessionId
from tests.workers.oracle_reference import some_reference
from workers.denoise.worker import tensor_to_bytes
from workers.messages import Decode, Done, Encoded, Introduction, Prepared, PrepareGiven, Task
from workers.models.api import TextEncoder
from workers.orders import Answer, Detached, Filled, Order
from workers.runner import Performer


def give_reference(engine: Engine, session: SessionId, recipe: str) -> None:
    """Give a session that is about to be opened what its recipe needs: in place of an image, latents."""
    cell = engine.scheduler.cell
    made, (_, *frame_shape) = cell.graphs[recipe].recipe, cell.geometry.block_shape
    reference = tensor_to_bytes(some_reference(made, tuple(frame_shape)))
    engine.journal.give(session, GivenPictures(references=(reference,) * bool(reference)))


class WithoutPictures:
    """A decode worker that encodes prompts and answers every block with nothing."""

    role = Role.DECODE
    device = torch.device("cpu")

    def __init__(self, text: TextEncoder) -> None:
        self._text = text

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
            case PrepareGiven():  # what stands for an image are its latents
                references = b"".join(message.references)
                yield Prepared(session=message.session, header=b"", media_type="", references=references)
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
            work = message.order[0].work
            sealed = [page for page in work.pages.reads if page not in work.pages.writes]
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
