"""What stands for the encoding of prompts where there are no weights."""

from __future__ import annotations

import numpy as np
import torch

from workers.models.api import EncodedText, TextEncoder, TextRules
from workers.models.text import PocketText
from workers.models.text_rules import text_rules
from workers.models.weights import ModelInfo
from workers.simulated.arithmetic import mix


class SimulatedText:
    """One row of features: the prompt's hash, spread over the text width (TextEncoder)."""

    def __init__(self, rules: TextRules, text_dim: int) -> None:
        self._rules = rules
        self._text_dim = text_dim

    def encode(self, prompt: str) -> EncodedText:
        """See TextEncoder. There is never a notice."""
        self._rules.read(prompt)
        values = np.frombuffer(mix(b"prompt", prompt.encode()), np.uint8)
        return EncodedText(features_TC=torch.from_numpy(np.resize(values, (1, self._text_dim))).float(), notice="")


def simulated_text(info: ModelInfo) -> TextEncoder:
    """The model's own encoder if that needs no weights, else a simulated one; InvalidField for an unknown kind."""
    rules = text_rules(info.text_kind)
    return PocketText(info.text_width) if info.text_kind == "pocket" else SimulatedText(rules, info.text_width)
