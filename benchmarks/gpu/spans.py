"""When the ops of running workers began and ended on the device, and how long their hosts took to order them."""

from __future__ import annotations

import contextlib
import math
import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import ParamSpec, TypeVar, cast

from benchmarks.gpu.bench import Bench, Mark
from benchmarks.gpu.kernels import covered
from workers.models import weights

OPS = {"denoise": "D", "commit": "C", "decode": "V"}
"""What is watched of a network, and the kind of op that it is. Where forwards serve several ops, a D may hold a C."""
_LOADERS = ("load_denoiser", "load_decoder")
P = ParamSpec("P")
T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Span:
    """One op."""

    kind: str
    begin_ms: float
    end_ms: float
    host_ms: float
    """How long the call took that ordered it."""

    @property
    def ms(self) -> float:
        """How long the device had it; what it did for others meanwhile is in it."""
        return self.end_ms - self.begin_ms


class Spans:
    """Watches the networks that workers load while `watching`, and notes their ops between `start` and `stop`."""

    def __init__(self, bench: Bench) -> None:
        self._bench = bench
        self._is_on = False
        self._base = bench.mark()
        self._noted: list[tuple[str, Mark, Mark, float]] = []

    @contextlib.contextmanager
    def watching(self) -> Iterator[None]:
        """Within it, workers load networks that are watched for as long as they live."""
        plain = {name: getattr(weights, name) for name in _LOADERS}
        try:
            for name, load in plain.items():
                setattr(weights, name, self._watched(load))
            yield
        finally:
            for name, load in plain.items():
                setattr(weights, name, load)

    def start(self) -> None:
        """Note ops from now on."""
        self._noted.clear()
        self._base = self._bench.mark()
        self._is_on = True

    def stop(self) -> list[Span]:
        """The ops since `start`, in the order in which they were given; RuntimeError if there are none."""
        self._is_on = False
        noted = list(self._noted)  # an op that has just begun may still add itself
        self._bench.wait()
        if not noted:
            raise RuntimeError("no op was seen: the workers load their networks by another way")
        return [
            Span(kind=kind, begin_ms=begin.ms_since(self._base), end_ms=end.ms_since(self._base), host_ms=host_ms)
            for kind, begin, end, host_ms in noted
        ]

    def around(self, kind: str, call: Callable[P, T]) -> Callable[P, T]:
        """The call, noted as an op of this kind."""

        def noted(*args: P.args, **options: P.kwargs) -> T:
            if not self._is_on:
                return call(*args, **options)
            began_s, begin = time.perf_counter(), self._bench.mark()
            result = call(*args, **options)
            self._noted.append((kind, begin, self._bench.mark(), (time.perf_counter() - began_s) * 1e3))
            return result

        return noted

    def _watched(self, load: Callable[P, T]) -> Callable[P, T]:
        def loaded(*args: P.args, **options: P.kwargs) -> T:
            return cast(T, Watched(load(*args, **options), self))

        return loaded


class Watched:
    """A network (Denoiser or LatentDecoder) whose ops are noted; all else is its own."""

    def __init__(self, network: object, spans: Spans) -> None:
        self._network, self._spans = network, spans

    def __getattr__(self, name: str) -> object:
        found = getattr(self._network, name)
        return self._spans.around(OPS[name], found) if name in OPS else found


def share_between(spans: list[Span]) -> float:
    """The share of the time from the first op to the last in which the device had none."""
    wall_ms = max(span.end_ms for span in spans) - min(span.begin_ms for span in spans)
    return 1 - covered((span.begin_ms, span.end_ms) for span in spans) / wall_ms


def idle_before(spans: list[Span]) -> dict[str, float]:
    """Milliseconds in which the device had none of the ops, by the kind of the op that ended each such time."""
    idle_ms: dict[str, float] = {}
    seen_ms = math.inf
    for span in sorted(spans, key=lambda span: span.begin_ms):
        if span.begin_ms > seen_ms:
            idle_ms[span.kind] = idle_ms.get(span.kind, 0.0) + span.begin_ms - seen_ms
        seen_ms = span.end_ms if math.isinf(seen_ms) else max(seen_ms, span.end_ms)
    return idle_ms


def summary(spans: list[Span]) -> dict[str, object]:
    """Medians by kind of op, on the device and of the calls, and the idle time: for a fact."""
    kinds = dict.fromkeys(span.kind for span in spans)
    return {
        "device_ms": {k: statistics.median(span.ms for span in spans if span.kind == k) for k in kinds},
        "host_ms": {k: statistics.median(span.host_ms for span in spans if span.kind == k) for k in kinds},
        "idle_between_ops": share_between(spans),
        "idle_ms_before": idle_before(spans),
    }
