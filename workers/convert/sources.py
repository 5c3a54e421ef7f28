"""Checkpoints as they are published: named tensors in safetensors files or in pickles, and the settings beside them.

Theory of operation. A source that the user names is a file or a folder. In it lie collections of tensors: safetensors
files that share a name, and pickles, of which a training checkpoint holds several collections (`generator`,
`generator_ema`, ...). Nothing is read before it is asked for: safetensors files and pickles are mapped into memory.
A pickle is read by torch's own reader of plain data, which runs no code; one that would need code is refused.
"""

from __future__ import annotations

import json
import pickle
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import torch
from torch import Tensor

from longtake.core.errors import InvalidField
from workers.models.tensor_files import INDEX_SUFFIX, SUFFIX, TensorFiles, files_of

PICKLES = (".pt", ".pth", ".bin", ".ckpt")
CONFIG_FILE = "config.json"
TOKENIZER_FILE = "tokenizer.json"
_DEPTH = 2
"""Folders within folders that are looked into: Wan's tokenizer lies two below its checkpoint."""
_SHARD = re.compile(r"-\d{5}-of-\d{5}$")
_DTYPES = {
    "F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16,
    "F8_E4M3": torch.float8_e4m3fn, "F8_E5M2": torch.float8_e5m2, "I64": torch.int64, "I32": torch.int32,
    "I16": torch.int16, "I8": torch.int8, "U8": torch.uint8, "BOOL": torch.bool,
}  # fmt: skip


class Tensors(Protocol):
    """Named tensors that are read one by one."""

    @property
    def names(self) -> tuple[str, ...]:
        """Their names, as the file has them."""
        ...

    def shape(self, name: str) -> tuple[int, ...]:
        """The shape of one; reads no numbers."""
        ...

    def dtype(self, name: str) -> torch.dtype:
        """The number format of one; reads no numbers."""
        ...

    def read(self, name: str) -> Tensor:
        """One of them."""
        ...


@dataclass(frozen=True, slots=True)
class Collection:
    """Tensors that belong together."""

    path: Path
    """The file; of several with one name the first."""
    entry: str
    """The key under which a pickle holds them; empty if they are all that is in the file."""
    tensors: Tensors
    config: Mapping[str, object] = field(default_factory=dict)
    """What config.json beside them says; empty without one."""

    @property
    def files(self) -> tuple[Path, ...]:
        """All files that they lie in."""
        if self.path.suffix != SUFFIX:
            return (self.path,)
        return files_of(self.path.parent, _stem(self.path))

    def __str__(self) -> str:
        return f"{self.path.name}{f' ({self.entry})' if self.entry else ''}"


class _Safetensors:
    """The tensors of safetensors files."""

    def __init__(self, files: TensorFiles) -> None:
        self._files = files
        self.names = files.names

    def shape(self, name: str) -> tuple[int, ...]:
        return self._files.shape(name)

    def dtype(self, name: str) -> torch.dtype:
        known = self._files.dtype(name)
        if known not in _DTYPES:
            raise InvalidField(f"{self._files.name}: {name}", known, "a number format that torch has")
        return _DTYPES[known]

    def read(self, name: str) -> Tensor:
        return self._files.read(name)


class _Pickled:
    """The tensors of a pickle, which are mapped into memory."""

    def __init__(self, tensors: Mapping[str, Tensor]) -> None:
        self._tensors = tensors
        self.names = tuple(tensors)

    def shape(self, name: str) -> tuple[int, ...]:
        return tuple(self._tensors[name].shape)

    def dtype(self, name: str) -> torch.dtype:
        return self._tensors[name].dtype

    def read(self, name: str) -> Tensor:
        return self._tensors[name]


def collections(source: Path) -> Iterator[Collection]:
    """All collections in a file or folder; InvalidField if it is neither, or no checkpoint at all."""
    if source.is_file():
        yield from _in_file(source)
    elif source.is_dir():
        for path in _files_below(source):
            yield from _in_file(path)
    else:
        raise InvalidField("source", str(source), "a file or a folder that is there")


def tokenizers(source: Path) -> Iterator[Path]:
    """The folders with a tokenizer in a source."""
    for folder in _folders(source) if source.is_dir() else ():
        if (folder / TOKENIZER_FILE).is_file():
            yield folder


def _folders(root: Path, depth: int = _DEPTH) -> Iterator[Path]:
    yield root
    for path in sorted(root.iterdir()) if depth else ():
        if path.is_dir() and not path.name.startswith("."):
            yield from _folders(path, depth - 1)


def _files_below(root: Path) -> Iterator[Path]:
    """One file of each name: of several safetensors files with one index only the first."""
    for folder in _folders(root):
        stems = set[str]()
        for path in sorted(folder.iterdir()):
            if path.suffix in PICKLES and path.is_file():
                yield path
            elif path.name.endswith(SUFFIX) and _stem(path) not in stems:
                stems.add(_stem(path))
                yield path


def _stem(path: Path) -> str:
    """The name that the parts of one collection share."""
    return _SHARD.sub("", path.name.removesuffix(SUFFIX))


def _in_file(path: Path) -> Iterator[Collection]:
    config = _config_beside(path)
    if path.name.endswith((SUFFIX, INDEX_SUFFIX)):
        first = path.parent / path.name.replace(INDEX_SUFFIX, SUFFIX)
        try:
            tensors = TensorFiles(path.parent, _stem(first))
        except FileNotFoundError as error:
            raise InvalidField(str(path), Path(str(error)).name, "all files that belong together") from None
        yield Collection(first, "", _Safetensors(tensors), config)
    elif path.suffix in PICKLES:
        yield from (Collection(path, entry, _Pickled(held), config) for entry, held in _entries(_unpickled(path)))
    else:
        raise InvalidField("source", str(path), f"a folder or a file that ends in {SUFFIX} or {', '.join(PICKLES)}")


def _config_beside(path: Path) -> Mapping[str, object]:
    config = path.parent / CONFIG_FILE
    if not config.is_file():
        return {}
    try:
        table = json.loads(config.read_text(encoding="utf-8"))
    except (UnicodeDecodeError, json.JSONDecodeError) as error:
        raise InvalidField(str(config), str(error), "a JSON object") from None
    if not isinstance(table, dict):
        raise InvalidField(str(config), table, "a JSON object")
    return table


def _unpickled(path: Path) -> object:
    """What the pickle holds; InvalidField if it is none, or would run code."""
    try:
        return torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except pickle.UnpicklingError as error:
        reason = str(error).split("WeightsUnpickler error: ")[-1].splitlines()[0]
        raise InvalidField(str(path), reason, "a pickle of tensors and plain data; this one would run code") from None
    except (RuntimeError, EOFError, ValueError) as error:
        raise InvalidField(str(path), str(error).splitlines()[0], "a checkpoint written by torch.save") from None


def _entries(held: object, entry: str = "") -> Iterator[tuple[str, Mapping[str, Tensor]]]:
    """The collections in what a pickle holds, each under its key; settings and counters are none."""
    if not isinstance(held, Mapping):
        return
    tensors = {str(name): value for name, value in held.items() if isinstance(value, Tensor)}
    if tensors:
        yield entry, tensors
        return
    for key, value in held.items():
        if not entry:  # optimizers hold tensors deeper down, and are nobody's model
            yield from _entries(value, str(key))
