"""Text encoders: from a prompt to the text features that condition the model."""

from __future__ import annotations

from pathlib import Path

import torch

from longtake.core.errors import InvalidField
from workers.models import pocket_text
from workers.models.api import Compute, EncodedText, TextEncoder
from workers.models.text_rules import KINDS
from workers.models.weights import ModelInfo


class PocketText:
    """The vocabulary of the pocket world, one row for each attribute; it needs no weights (TextEncoder)."""

    def __init__(self, text_dim: int) -> None:
        self._text_dim = text_dim

    def encode(self, prompt: str) -> EncodedText:
        """InvalidField for a prompt without a word; the notice names ignored words."""
        parsed = pocket_text.parse(prompt)
        features = torch.from_numpy(pocket_text.encode(parsed.scene, self._text_dim))
        return EncodedText(features_TC=features, notice=parsed.notice() or "")


def load_text_encoder(folder: Path, info: ModelInfo, compute: Compute) -> TextEncoder:
    """The encoder that a model's `text.kind` names, ready to serve.

    InvalidField if there is no such kind; InvalidField or Contradiction if its files are wrong.
    """
    match info.text_kind:
        case "pocket":
            return PocketText(info.text_width)
        case "umt5":
            from workers.models.umt5 import load_umt5  # seconds, of which the pocket model has no use

            return load_umt5(folder, info, compute)
        case kind:
            raise InvalidField("text.kind", kind, " or ".join(KINDS))
