"""What the sources hold: which collection of tensors is taken for each part of a model, and what else there is."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from longtake.core.errors import InvalidField
from workers.convert.sources import Collection, collections, tokenizers
from workers.models.tensor_files import is_finite
from workers.models.wan.names import Component, Factor, Spelling, bare, is_lora, lora_target, spelling_of
from workers.models.weights import FORMAT_NAMES, FORMATS


@dataclass(frozen=True, slots=True)
class Found:
    """A collection that is a part of a model, by the names that are served."""

    part: Component
    collection: Collection
    publisher: str
    names: Mapping[str, str]
    """The name in the collection, by the name that is served."""

    def shape(self, name: str) -> tuple[int, ...]:
        """The shape of a tensor; InvalidField if there is none of this name."""
        if name not in self.names:
            raise InvalidField(f"{self.collection}: {name}", None, f"a tensor of this name, as a {self.part.value} has")
        return self.collection.tensors.shape(self.names[name])

    def dtype(self, name: str) -> torch.dtype:
        """The number format of a tensor."""
        return self.collection.tensors.dtype(self.names[name])

    def read(self, name: str) -> Tensor:
        """A tensor; InvalidField if it holds what is no number."""
        tensor = self.collection.tensors.read(self.names[name])
        if not is_finite(tensor):
            raise InvalidField(f"{self.collection}: {name}", "NaN or infinity", "finite numbers")
        return tensor

    def check_formats(self) -> None:
        """InvalidField names the first tensor whose number format cannot be served, and counts the others."""
        wrong = [name for name in self.names if self.dtype(name) not in FORMATS]
        if wrong:
            others = f" (and {len(wrong) - 1} more)" if len(wrong) > 1 else ""
            raise InvalidField(
                f"{self.collection}: {wrong[0]}{others}", str(self.dtype(wrong[0])).removeprefix("torch."), FORMAT_NAMES
            )

    @property
    def parameters(self) -> int:
        """Numbers in all its tensors."""
        return sum(math.prod(self.shape(name)) for name in self.names)

    def __str__(self) -> str:
        formats = sorted({str(self.dtype(name)).removeprefix("torch.") for name in self.names})
        return (
            f"{self.collection}: {self.part.value} with {self.publisher}'s names, {len(self.names)} tensors, "
            f"{self.parameters:,} parameters, {', '.join(formats)}"
        )


@dataclass(frozen=True, slots=True)
class Holdings:
    """Everything that lies in the sources."""

    found: tuple[Found, ...]
    """In the order of the sources."""
    tokenizers: tuple[Path, ...]
    """Folders."""
    others: tuple[Collection, ...]
    """Collections that are nothing that is known."""

    @property
    def is_tiny_decoder(self) -> bool:
        """Whether there is a tiny decoder and nothing else that is known."""
        return bool(self.found) and all(found.part is Component.TINY for found in self.found)

    def all_of(self, part: Component) -> list[Found]:
        """What is there for a part."""
        return [found for found in self.found if found.part is part]


def look(sources: Sequence[Path]) -> Holdings:
    """Look through the sources; reads names and shapes, no numbers. InvalidField for a file that cannot be read."""
    found, others = list[Found](), list[Collection]()
    for source in sources:
        for collection in collections(source):
            made = _recognised(collection)
            if made is None:
                others.append(collection)
            else:
                found.append(made)
    folders = tuple(folder for source in sources for folder in tokenizers(source))
    return Holdings(tuple(found), folders, tuple(others))


def _recognised(collection: Collection) -> Found | None:
    by_bare = {bare(name): name for name in collection.tensors.names}
    if len(by_bare) != len(collection.tensors.names):
        twice = next(name for name in collection.tensors.names if by_bare[bare(name)] != name)
        raise InvalidField(f"{collection}: {twice}", by_bare[bare(twice)], "one tensor of each name")
    if is_lora(by_bare):
        return Found(Component.LORA, collection, "PEFT", by_bare)
    layout = spelling_of(by_bare)
    return None if layout is None else Found(layout.part, collection, layout.publisher, _served(layout, by_bare))


def _served(layout: Spelling, by_bare: Mapping[str, str]) -> dict[str, str]:
    served = {layout.rename(name): original for name, original in by_bare.items()}
    unused = _UNUSED.get(layout.part, ())
    return {name: original for name, original in served.items() if not name.startswith(unused)}


_UNUSED = {Component.TEXT: ("decoder.", "lm_head."), Component.TINY: ("encoder.",)}
"""What a whole umT5 has beside its encoder, and a tiny autoencoder beside its decoder."""


@dataclass(frozen=True, slots=True)
class LoraChange:
    """What a LoRA does to one weight."""

    up: str
    down: str
    alpha: str | None


def changes(lora: Found) -> dict[str, LoraChange]:
    """What a LoRA changes, by the served name of the weight; InvalidField names what is half or foreign."""
    factors: dict[str, dict[Factor, str]] = {}
    for name in lora.names:
        target = lora_target(name)
        if target is None:
            raise InvalidField(f"{lora.collection}: {name}", list(lora.shape(name)), "a factor of a LoRA")
        factors.setdefault(target[0], {})[target[1]] = name
    for weight, held in factors.items():
        if not {Factor.UP, Factor.DOWN} <= held.keys():
            raise InvalidField(f"{lora.collection}: {weight}", sorted(f.value for f in held), "both factors, A and B")
    return {
        weight: LoraChange(held[Factor.UP], held[Factor.DOWN], held.get(Factor.ALPHA))
        for weight, held in factors.items()
    }
