"""The text worker: encodes prompts and nothing else, so that no stream waits for a large text encoder."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from longtake.core.effects import EncodeText, Forget
from longtake.core.errors import UnknownPeer
from longtake.core.work import PageId, Role, SessionId
from workers.decode.worker import encoded
from workers.messages import Up
from workers.models.api import TextEncoder
from workers.orders import Order


class TextWorker:
    """Encodes prompts, one after the other. Not thread-safe: one thread does everything."""

    role = Role.TEXT

    def __init__(self, text: TextEncoder, device: torch.device) -> None:
        self._text = text
        self.device = device
        """Where its weights lie."""

    def perform(self, message: Order) -> Iterator[Up]:
        """Do one thing and yield what to report. InvalidField for a bad prompt, UnknownPeer for another order."""
        match message:
            case EncodeText():
                yield encoded(message, self._text)
            case Forget():
                pass
            case _:
                raise UnknownPeer(f"a text worker cannot do {type(message).__name__}")

    def page(self, page: PageId) -> Tensor:
        """Raise UnknownPeer: a text worker has no pages."""
        raise UnknownPeer(f"a text worker has no page {page}")

    @property
    def held_sessions(self) -> set[SessionId]:
        """Nothing is kept for any session."""
        return set()
