"""The machine: versions, the commit, and the rates of matrix products and of copies that all else is held against."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import subprocess
from functools import partial
from pathlib import Path
from typing import Any

import torch

from benchmarks.gpu.bench import Bench
from benchmarks.gpu.model import matmul_rate

_cudnn: Any = torch.backends.cudnn
"""Without types: it has none."""
_PACKAGES = ("triton", "numpy", "safetensors", "transformers", "grpcio", "protobuf", "pydantic", "av", "flash-attn")
_SMI = "name,driver_version,memory.total,clocks.sm,power.draw,temperature.gpu,clocks_event_reasons.active"
_COPY_BYTES = 1 << 30


def run(bench: Bench) -> None:
    """All steps."""
    bench.step("versions", lambda: _versions(bench))
    bench.step("matrix product", lambda: _matmul(bench))
    bench.step("copies", lambda: _copies(bench))


def _said(*command: str) -> str:
    """What a command prints, on one line; empty if it is not here."""
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=10, check=False, cwd=Path(__file__).parent
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return " ".join(done.stdout.split())


def _smi() -> str | None:
    """What the driver's own tool reads of the device."""
    return _said("nvidia-smi", f"--query-gpu={_SMI}", "--format=csv,noheader") or None


def _versions(bench: Bench) -> None:
    found = {}
    for package in _PACKAGES:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            found[package] = "absent"
    properties = torch.cuda.get_device_properties(bench.device) if bench.has_cuda else None
    bench.fact(
        "versions",
        model=bench.info.name,
        commit=_said("git", "rev-parse", "HEAD"),
        clean=not _said("git", "status", "--porcelain", "--untracked-files=no"),
        python=platform.python_version(),
        torch=torch.__version__,
        cuda=torch.version.cuda,
        cudnn=_cudnn.version(),
        tf32={"matmul": torch.backends.cuda.matmul.allow_tf32, "conv": _cudnn.allow_tf32},
        cpus=os.cpu_count(),
        device=properties.name if properties else platform.processor() or platform.machine(),
        device_gb=properties.total_memory / 1e9 if properties else None,
        multiprocessors=properties.multi_processor_count if properties else None,
        smi=_smi(),
        packages=found,
    )


def _matmul(bench: Bench) -> None:
    bench.fact("matrix product", tflop_per_s=matmul_rate(bench), smi=_smi())


def _copies(bench: Bench) -> None:
    size = _COPY_BYTES >> 10 if bench.is_tiny else _COPY_BYTES
    there, other = (torch.randint(0, 255, (size,), dtype=torch.uint8, device=bench.device) for _ in range(2))
    rates = {"inside": 2 * size / bench.timed(lambda: other.copy_(there)).ms / 1e6}
    for kind in ("pageable", "pinned") if bench.has_cuda else ("pageable",):
        host = torch.empty(size, dtype=torch.uint8, pin_memory=kind == "pinned")
        for way, target, source in (("down", host, there), ("up", there, host)):
            copy = partial(target.copy_, source, non_blocking=True)
            copy()
            rates[f"{kind} {way}"] = size / bench.clocked(copy).ms / 1e6
    bench.fact("copies", gb_per_s=rates, mb=size / 1e6)
