"""Text encoders: from a prompt to the text features that condition the model."""

from __future__ import annotations

from collections.abc import Mapping

import torch

from longtake.core.errors import InvalidField
from workers.models import pocket_text as pocket_prompt
from workers.models.api import EncodedText, TextEncoder


class PocketText:
    """The vocabulary of the pocket world."""

    def __init__(self, text_dim: int) -> None:
        self._text_dim = text_dim

    def vocabulary(self) -> Mapping[str, tuple[str, ...]]:
        """The canonical word of each value of each attribute."""
        return pocket_prompt.vocabulary()

    def check(self, prompt: str) -> None:
        """InvalidField for a prompt without a word."""
        pocket_prompt.parse(prompt)

    def encode(self, prompt: str) -> EncodedText:
        """InvalidField for a prompt without a word; the notice names ignored words."""
        parsed = pocket_prompt.parse(prompt)
        features = torch.from_numpy(pocket_prompt.encode(parsed.scene, self._text_dim))
        return EncodedText(features_TC=features, notice=parsed.notice() or "")


def text_encoder(kind: str, text_dim: int) -> TextEncoder:
    """The encoder that a model's `text.kind` names."""
    match kind:
        case "pocket":
            return PocketText(text_dim)
        case _:
            raise InvalidField("text.kind", kind, "pocket")
