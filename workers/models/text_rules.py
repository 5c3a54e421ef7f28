"""What a prompt may be, by the kind of a model's text encoder; nothing here has weights."""

from __future__ import annotations

from collections.abc import Mapping

from longtake.core.errors import InvalidField
from workers.models import pocket_text
from workers.models.api import PromptParts, TextRules

KINDS = ("pocket", "umt5")

_WITH_WEIGHTS = frozenset({"umt5"})


def is_encoded_apart(kind: str) -> bool:
    """Whether a `text.kind` has weights, so that prompts take long and workers of their own encode them."""
    return kind in _WITH_WEIGHTS


class PocketRules:
    """The vocabulary of the pocket world (TextRules)."""

    def vocabulary(self) -> Mapping[str, tuple[str, ...]]:
        """The canonical word of each value of each attribute."""
        return pocket_text.vocabulary()

    def read(self, prompt: str) -> PromptParts:
        """Its attributes; InvalidField for a prompt without a word."""
        parsed = pocket_text.parse(prompt)
        values = {name: f"{name}: {getattr(parsed.scene, name)}" for name in pocket_text.vocabulary()}
        return PromptParts(
            understood=tuple(text for name, text in values.items() if name not in parsed.defaulted),
            ignored=parsed.ignored,
            defaulted=tuple(values[name] for name in parsed.defaulted),
        )


class FreeText:
    """Any text (TextRules)."""

    def vocabulary(self) -> Mapping[str, tuple[str, ...]]:
        """Nothing, because every word is understood."""
        return {}

    def read(self, prompt: str) -> None:
        """InvalidField for what UTF-8 cannot write, and no link can carry."""
        try:
            prompt.encode()
        except UnicodeEncodeError:
            raise InvalidField("prompt", prompt, "text without halves of surrogate pairs") from None


def text_rules(kind: str) -> TextRules:
    """The rules of a `text.kind`; InvalidField if there is no such kind."""
    match kind:
        case "pocket":
            return PocketRules()
        case "umt5":
            return FreeText()
        case _:
            raise InvalidField("text.kind", kind, " or ".join(KINDS))
