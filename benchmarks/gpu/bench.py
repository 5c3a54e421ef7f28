"""What all phases share: the device, the stopwatch, the file of facts, and steps that may break or find no time."""

from __future__ import annotations

import gc
import statistics
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import Any

import torch
from torch import Tensor

from benchmarks.gpu.lines import append, reason
from benchmarks.tiny_model import tiny_info
from workers.models.api import Compute
from workers.models.wan.config import TaehvConfig
from workers.models.weights import ModelInfo, load_info

_cuda: Any = torch.cuda
"""torch.cuda without types: its events have none."""
_WARM_UPS = 2
_LEAST_RUNS, _MOST_RUNS = 5, 25
_TINY = TaehvConfig(z_dim=4, widths=(16, 8, 8, 8), growth=(1, 2, 2))
_RUNS_S = 0.5
"""How long the runs of one measurement may take together, if that are not fewer than the least."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """What is measured and where the facts go; a phase's process gets it as JSON."""

    facts: str
    """The file that facts are appended to."""
    scratch: str
    """A folder that the phases of one run share, for the model directory."""
    model: str
    """A directory with a model.json; empty for the tiny model."""
    device: str
    seconds: float
    """How long the phase may take."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Time:
    """A median over several runs."""

    ms: float
    least_ms: float
    most_ms: float

    @staticmethod
    def of(times_ms: list[float]) -> Time:
        return Time(ms=statistics.median(times_ms), least_ms=min(times_ms), most_ms=max(times_ms))

    def divided(self, parts: int) -> Time:
        """The time of one of so many equal parts."""
        return Time(ms=self.ms / parts, least_ms=self.least_ms / parts, most_ms=self.most_ms / parts)

    def fields(self) -> dict[str, object]:
        """For a fact."""
        return {"ms": self.ms, "least_ms": self.least_ms, "most_ms": self.most_ms}


class Mark:
    """A moment of a device: when it has done what it was given so far. On a CPU, now."""

    def __init__(self, has_cuda: bool) -> None:
        self._has_cuda, self._clock_s = has_cuda, time.perf_counter()
        if has_cuda:
            self._event = _cuda.Event(enable_timing=True)
            self._event.record()

    def ms_since(self, earlier: Mark) -> float:
        """Milliseconds between two moments that have passed."""
        if self._has_cuda:
            return float(earlier._event.elapsed_time(self._event))
        return (self._clock_s - earlier._clock_s) * 1e3


class Bench:
    """One phase on its way."""

    def __init__(self, phase: str, setting: Setting) -> None:
        self._phase = phase
        self._file = Path(setting.facts)
        self._ends_s = time.monotonic() + setting.seconds
        self.is_tiny = not setting.model
        self.info: ModelInfo = load_info(Path(setting.model)) if setting.model else replace(tiny_info(), tiny=_TINY)
        self.scratch = Path(setting.scratch)
        self.compute = Compute(device=setting.device, dtype="bfloat16")
        self.device, self.dtype = self.compute.torch_device, self.compute.torch_dtype
        self.has_cuda = self.device.type == "cuda"
        torch.set_num_threads(1)  # as in a worker
        torch.manual_seed(0)

    def computes(self) -> dict[str, Compute]:
        """How the model is served, and under "plain " the same without kernels made at start, if it has such."""
        plain = {"plain ": replace(self.compute, compile=False)} if self.compute.fuses else {}
        return {"": self.compute, **plain}

    def left_s(self) -> float:
        """Seconds that the phase may still take."""
        return self._ends_s - time.monotonic()

    def fact(self, what: str, **fields: object) -> None:
        """Write a line."""
        append(self._file, self._phase, what, fields)

    def step(self, what: str, call: Callable[[], None], *, need_s: float = 5.0) -> None:
        """Do a part of the phase: if there is no time for it, or it breaks, a line says so and the phase goes on."""
        if self.left_s() < need_s:
            self.fact(what, skipped=f"{self.left_s():.0f} s are left, it needs about {need_s:.0f}")
            return
        with Noted(self, what), torch.inference_mode():
            call()
        gc.collect()  # a cell that has ended holds its weights by circles
        if self.has_cuda:
            torch.cuda.empty_cache()

    def wait(self) -> None:
        """Until the device has done everything."""
        if self.has_cuda:
            torch.cuda.synchronize(self.device)

    def normal(self, *shape: int) -> Tensor:
        """Random numbers on the device."""
        return torch.randn(shape, device=self.device, dtype=self.dtype)

    def mark(self) -> Mark:
        """This moment of the device."""
        return Mark(self.has_cuda)

    def timed(self, call: Callable[[], object]) -> Time:
        """A call's time on the device, where a call's launches hide behind the work of the one before."""
        for _ in range(_WARM_UPS):
            call()
        once_s = self.clocked(call, runs=1).ms / 1e3
        most = _LEAST_RUNS if self.is_tiny else _MOST_RUNS
        marks = []
        for _ in range(max(_LEAST_RUNS, min(most, int(_RUNS_S / once_s)))):
            begin = self.mark()
            call()
            marks.append((begin, self.mark()))
        self.wait()
        return Time.of([end.ms_since(begin) for begin, end in marks])

    def clocked(self, call: Callable[[], object], *, runs: int = _LEAST_RUNS) -> Time:
        """A call's time by the clock, with the device waited for before and after each run. No warm-up."""
        times_ms = []
        for _ in range(runs):
            self.wait()
            began_s = time.perf_counter()
            call()
            self.wait()
            times_ms.append((time.perf_counter() - began_s) * 1e3)
        return Time.of(times_ms)

    def peak_mb(self, call: Callable[[], object]) -> float | None:
        """Device memory that a call takes beside what is taken already; None without CUDA."""
        self.wait()
        before = torch.cuda.memory_allocated(self.device) / 1e9 if self.has_cuda else 0.0
        self.forget_peak()
        call()
        self.wait()
        peak_gb = self.peak_gb()
        return None if peak_gb is None else 1e3 * (peak_gb - before)

    def peak_gb(self) -> float | None:
        """The most device memory since `forget_peak`; None without CUDA, where torch does not count."""
        return torch.cuda.max_memory_allocated(self.device) / 1e9 if self.has_cuda else None

    def forget_peak(self) -> None:
        """Have `peak_gb` begin anew."""
        if self.has_cuda:
            torch.cuda.reset_peak_memory_stats(self.device)

    def held(self) -> dict[str, int] | None:
        """What the process holds of the device; None without CUDA, where torch does not count."""
        if not self.has_cuda:
            return None
        self.wait()
        stats = torch.cuda.memory_stats(self.device)
        # What was asked for, not what torch gave: where a block is not worth splitting, it gives more now and then.
        held = {name: stats[f"{name}.all.current"] for name in ("requested_bytes", "allocation", "reserved_bytes")}
        return held | {"pinned_bytes": torch.cuda.host_memory_stats()["allocated_bytes.current"]}


class Noted:
    """Makes a line of whatever breaks within it."""

    def __init__(self, bench: Bench, what: str) -> None:
        self._bench, self._what = bench, what

    def __enter__(self) -> None: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool:
        if not isinstance(error, Exception):
            return False
        traceback.print_exception(error)
        self._bench.fact(self._what, error=reason(error))
        return True


def relative(out: Tensor, reference: Tensor) -> float:
    """|out - reference| / |reference|, in float64."""
    return float((out.double() - reference.double()).norm() / reference.double().norm())
