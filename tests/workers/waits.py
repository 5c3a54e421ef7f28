"""Counts calls of torch for which the host would wait until a CUDA device is done."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

_READS = {
    Tensor.item, Tensor.tolist, Tensor.numpy, Tensor.cpu, Tensor.cuda, Tensor.nonzero, Tensor.__bool__, Tensor.__int__,
    Tensor.__float__, Tensor.__index__, torch.nonzero, torch.equal, Tensor.equal, torch.masked_select,
    Tensor.masked_select,
}  # fmt: skip
_MADE = {torch.tensor, torch.as_tensor, torch.asarray, torch.scalar_tensor}
_INDEXED = {Tensor.__getitem__, Tensor.__setitem__}


class Waits(TorchFunctionMode):
    """Notes each call for which the host waits until a CUDA device has done all that it was given before."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[str] = []

    def __torch_function__(
        self,
        func: Callable[..., object],
        types: object,
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> object:
        kwargs = kwargs or {}
        given = [*args[1:], *kwargs.values()]
        moves = func is Tensor.to and not kwargs.get("non_blocking") and any(map(_is_place, given))
        made_there = func in _MADE and kwargs.get("device") is not None
        picks = func in _INDEXED and _picks(args[1])
        if func in _READS or moves or made_there or picks:
            self.calls.append(getattr(func, "__name__", str(func)))
        return func(*args, **kwargs)


def _is_place(value: object) -> bool:
    return isinstance(value, torch.device) or (isinstance(value, str) and value.split(":")[0] in ("cpu", "cuda"))


def _picks(index: object) -> bool:
    """Whether an index is data, which has to travel, or a mask, whose size must be known."""
    return any(isinstance(part, list | Tensor) for part in (index if isinstance(index, tuple) else (index,)))
