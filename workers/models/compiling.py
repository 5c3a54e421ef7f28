"""Functions whose operations are fused into kernels made for the device, by torch.compile."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar, cast

import torch

Function = TypeVar("Function", bound=Callable[..., object])

_SHAPES = 64
"""For how many combinations of shapes one function may be compiled: torch's own limit is meant for mistakes."""


def compiled(function: Function) -> Function:
    """The function as kernels made for each combination of shapes that it meets; an error, not slowness, beyond 64.

    Kernels are chosen by rule and not by trial, so two processes with one torch and one kind of device have the same.
    """
    dynamo: Any = torch._dynamo
    dynamo.config.recompile_limit = _SHAPES
    inductor: Any = torch._inductor
    inductor.config.compile_threads = 1  # no processes of its own beside a worker
    return cast(Function, torch.compile(function, dynamic=False, fullgraph=True))
