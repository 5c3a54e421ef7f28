"""What a device ran during a call, from the profiler: kernels by name and by class, the gaps between, the waits."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from torch.autograd.profiler_util import FunctionEvent
from torch.profiler import ProfilerActivity, profile

from benchmarks.gpu.bench import Bench

_CLASSES = (
    ("attention", ("fmha", "flash", "attention", "sdpa", "mha_")),
    ("conv", ("conv", "fprop", "implicit")),
    ("gemm", ("gemm", "nvjet", "cutlass", "cublas", "xmma", "splitk", "gemv", "addmm", "::mm", "::bmm", "linear")),
    ("norm", ("norm", "reduce_kernel", "softmax", "welford")),
    ("copy", ("copy", "memcpy", "memset", "cat", "index", "nchw", "nhwc", "transpose", "fill")),
    ("elementwise", ("elementwise", "gelu", "silu", "::mul", "::add", "::div", "::pow", "pointwise")),
)
"""In order: the first that has a mark in the kernel's name."""
_NOISE = ("void ", "at::native::", "(anonymous namespace)::", "c10::", "at::", "std::", "TensorIteratorBase&")
_ANNOTATIONS = ("Torch-Compiled Region", "## Call", "ProfilerStep", "CompiledFunction", "TorchDynamo", "Pregraph")
"""Spans around kernels, which would count twice."""
_SHOWN = 8


def class_of(kernel: str) -> str:
    """What a kernel is for, by its name."""
    name = kernel.lower()
    if name.startswith("triton_"):  # named after all that was fused into it, so the marks would mislead
        return "norm" if name.startswith(("triton_red", "triton_per")) else "elementwise"
    return next((label for label, marks in _CLASSES if any(mark in name for mark in marks)), "other")


def short(kernel: str) -> str:
    """A kernel's name without what most of them have."""
    for word in _NOISE:
        kernel = kernel.replace(word, "")
    return kernel[:110]


def covered(spans: Iterable[tuple[float, float]]) -> float:
    """The length of the union of spans (begin, end)."""
    total, reached = 0.0, float("-inf")
    for begin, end in sorted(spans):
        total += max(0.0, end - max(begin, reached))
        reached = max(reached, end)
    return total


@dataclass(frozen=True, slots=True, kw_only=True)
class Kernel:
    """All runs of one kernel; on a CPU of one operator."""

    name: str
    ms: float
    count: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Profile:
    """What ran during a call."""

    kernels: tuple[Kernel, ...]
    """Those that took longest first."""
    busy_ms: float
    """How long anything ran, copies too."""
    waits: dict[str, int]
    """How often the host waited for the device, by the runtime's call."""

    def by_class(self) -> dict[str, float]:
        """Milliseconds by class, the longest first."""
        sums: dict[str, float] = {}
        for kernel in self.kernels:
            sums[class_of(kernel.name)] = sums.get(class_of(kernel.name), 0.0) + kernel.ms
        return dict(sorted(sums.items(), key=lambda item: -item[1]))


def profiled(bench: Bench, call: Callable[[], object]) -> Profile:
    """Profile a call that ran before. RuntimeError if nothing was seen of it."""
    bench.wait()
    with profile(activities=[ProfilerActivity.CUDA if bench.has_cuda else ProfilerActivity.CPU]) as seen:
        call()
        bench.wait()
    events = list(seen.events() or [])
    ran = [event for event in events if not bench.has_cuda or event.device_type.name == "CUDA"]
    ran = [event for event in ran if not str(event.name).startswith(_ANNOTATIONS) and not event.is_user_annotation]
    found: dict[str, list[float]] = {}
    for event in ran:
        found.setdefault(str(event.name), []).append(_own_us(bench, event) / 1e3)
    if not found:
        raise RuntimeError("the profiler saw nothing run")
    kernels = [Kernel(name=name, ms=sum(times), count=len(times)) for name, times in found.items()]
    waits = [str(event.name) for event in events if bench.has_cuda and str(event.name).endswith("Synchronize")]
    return Profile(
        kernels=tuple(sorted(kernels, key=lambda kernel: -kernel.ms)),
        busy_ms=covered((event.time_range.start, event.time_range.end) for event in ran) / 1e3,
        waits={name: waits.count(name) for name in sorted(set(waits))},
    )


def _own_us(bench: Bench, event: FunctionEvent) -> float:
    """Microseconds that an event took without those within it: operators of a CPU call each other."""
    return float(event.time_range.end - event.time_range.start if bench.has_cuda else event.self_cpu_time_total)


def kernel_facts(bench: Bench, what: str, call: Callable[[], object]) -> None:
    """The classes of what a call runs, how long the device idles meanwhile, and the kernels that take longest."""
    alone_ms = bench.timed(call).ms
    seen = profiled(bench, call)
    bench.fact(
        f"{what}: kernels",
        ms=alone_ms,
        busy_ms=seen.busy_ms,
        gap_share=max(0.0, 1 - seen.busy_ms / alone_ms),
        count=sum(kernel.count for kernel in seen.kernels),
        ms_by_class=seen.by_class(),
    )
    for place, kernel in enumerate(seen.kernels[:_SHOWN], start=1):
        bench.fact(f"{what}: kernel {place}", ms=kernel.ms, n=kernel.count, kernel=short(kernel.name))
