"""What a prompt may be, by the kind of a model's text encoder; nothing here has weights."""

from __future__ import annotations

from collections.abc import Mapping

from longtake.core.errors import InvalidField
from workers.models import pocket_text
from workers.models.api import TextRules


class PocketRules:
    """The vocabulary of the pocket world (TextRules)."""

    def vocabulary(self) -> Mapping[str, tuple[str, ...]]:
        """The canonical word of each value of each attribute."""
        return pocket_text.vocabulary()

    def check(self, prompt: str) -> None:
        """InvalidField for a prompt without a word."""
        pocket_text.parse(prompt)


def text_rules(kind: str) -> TextRules:
    """The rules of a `text.kind`; InvalidField if there is no such kind."""
    match kind:
        case "pocket":
            return PocketRules()
        case _:
            raise InvalidField("text.kind", kind, "pocket")
