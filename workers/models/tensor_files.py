"""Named tensors in safetensors files, in one file or in several with an index; each is read when it is asked for."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Protocol

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from longtake.core.errors import InvalidField

SUFFIX = ".safetensors"
INDEX_SUFFIX = ".safetensors.index.json"
_SHARD_NAME = re.compile(r"[\w.-]+\.safetensors")
SHARD_BYTES = 1_000_000_000
"""A file is closed before it grows beyond this; whoever writes holds one file's tensors in memory."""


class _Slice(Protocol):
    def get_shape(self) -> Iterable[int]: ...

    def get_dtype(self) -> str: ...


class _Handle(Protocol):
    """An open safetensors file; the library itself has no types."""

    def keys(self) -> Iterable[str]: ...

    def get_slice(self, name: str) -> _Slice: ...

    def get_tensor(self, name: str) -> Tensor: ...


class TensorFiles:
    """The tensors of the files that share the name `stem`: `stem.safetensors`, or those that its index names."""

    def __init__(self, folder: Path, stem: str, device: str = "cpu") -> None:
        """Open them; FileNotFoundError if there are none, InvalidField if one is no safetensors file."""
        self.name = f"{stem}{SUFFIX}"
        """What they are called in messages."""
        self._folder = folder
        self._device = device
        self._open: dict[Path, _Handle] = {}
        self._paths: dict[str, Path] = {}
        for path in files_of(folder, stem):
            for name in list(self._opened(path).keys()):
                self._paths[name] = path

    @property
    def names(self) -> tuple[str, ...]:
        """The names of all tensors."""
        return tuple(self._paths)

    def shape(self, name: str) -> tuple[int, ...]:
        """The shape of one; reads no numbers."""
        return tuple(self._opened(self._paths[name]).get_slice(name).get_shape())

    def dtype(self, name: str) -> str:
        """The number format of one as safetensors calls it, such as F32; reads no numbers."""
        return self._opened(self._paths[name]).get_slice(name).get_dtype()

    def read(self, name: str) -> Tensor:
        """One tensor, on the device."""
        return self._opened(self._paths[name]).get_tensor(name)

    def _opened(self, path: Path) -> _Handle:
        if path not in self._open:
            try:
                self._open[path] = safe_open(path, framework="pt", device=self._device)
            except SafetensorError as error:
                label = path.relative_to(self._folder).as_posix()
                raise InvalidField(label, str(error), "a safetensors file") from None
        return self._open[path]


def files_of(folder: Path, stem: str) -> tuple[Path, ...]:
    """The files that share the name `stem`, in order; FileNotFoundError if one is missing, InvalidField for the index.

    `stem` may lead into a folder below. One file goes before an index, as for everybody who writes both.
    """
    single, index = folder / f"{stem}{SUFFIX}", folder / f"{stem}{INDEX_SUFFIX}"
    if single.is_file():
        return (single,)
    if not index.is_file():
        raise FileNotFoundError(single)
    label = index.relative_to(folder).as_posix()
    try:
        table = json.loads(index.read_text(encoding="utf-8"))
    except (UnicodeDecodeError, json.JSONDecodeError, RecursionError) as error:
        raise InvalidField(label, str(error), "a JSON object") from None
    held = table.get("weight_map") if isinstance(table, dict) else None
    names = list(held.values()) if isinstance(held, dict) else []
    if not names or not all(isinstance(name, str) and _SHARD_NAME.fullmatch(name) for name in names):
        raise InvalidField(f"{label}.weight_map", held, "by tensor, the name of a safetensors file beside this")
    paths = tuple(index.parent / name for name in sorted(set(names)))
    for path in paths:
        if not path.is_file():
            raise FileNotFoundError(path)
    return paths


def is_finite(tensor: Tensor) -> bool:
    """Whether all its numbers are finite."""
    # Both ends are NaN where anything is, and to find them takes no second tensor of gigabytes.
    return not tensor.numel() or all(math.isfinite(end.item()) for end in torch.aminmax(tensor))


def write_tensors(
    folder: Path, stem: str, sizes: Mapping[str, int], read: Callable[[str], Tensor], *, shard_bytes: int = SHARD_BYTES
) -> tuple[Path, ...]:
    """Write the tensors that `sizes` names (in bytes), each read when its turn comes; returns the files.

    One file, or several and an index if they would be larger than `shard_bytes` together: equal tensors, equal files.
    """
    shards = tuple(_shards(sizes, shard_bytes))
    if len(shards) == 1:
        path = folder / f"{stem}{SUFFIX}"
        _save(path, shards[0], read)
        return (path,)
    paths = tuple(folder / f"{stem}-{number:05}-of-{len(shards):05}{SUFFIX}" for number in range(1, len(shards) + 1))
    for path, names in zip(paths, shards, strict=True):
        _save(path, names, read)
    index = folder / f"{stem}{INDEX_SUFFIX}"
    where = {name: path.name for path, names in zip(paths, shards, strict=True) for name in names}
    table = {"metadata": {"total_size": sum(sizes.values())}, "weight_map": dict(sorted(where.items()))}
    index.write_text(json.dumps(table, indent=2) + "\n", encoding="utf-8")
    return (*paths, index)


def _shards(sizes: Mapping[str, int], limit: int) -> Iterable[list[str]]:
    names: list[str] = []
    held = 0
    for name in sorted(sizes):
        if names and held + sizes[name] > limit:
            yield names
            names, held = [], 0
        names.append(name)
        held += sizes[name]
    yield names


def _save(path: Path, names: Iterable[str], read: Callable[[str], Tensor]) -> None:
    save_file({name: read(name).contiguous() for name in names}, path)
    path.chmod(path.parent.stat().st_mode & 0o666)  # the library lets nobody else read it
