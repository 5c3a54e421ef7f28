"""Which layers each worker of a chain holds, so that its slowest worker is as fast as it can be."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import accumulate

from longtake.core.errors import InvalidField


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerTimes:
    """Measured seconds of the parts of one forward."""

    embed_s: float
    """Seconds before the layers, on the first worker."""
    layer_s: float
    """Seconds of one layer."""
    head_s: float
    """Seconds after the layers, on the last worker."""

    def __post_init__(self) -> None:
        for name, value in (("embed_s", self.embed_s), ("layer_s", self.layer_s), ("head_s", self.head_s)):
            if not 0 <= value < float("inf"):
                raise InvalidField(f"layer_times.{name}", value, "0 or more seconds, finite")


def check_length(length: int, layers: int) -> None:
    """InvalidField if a chain of `length` workers is not possible with so many layers."""
    if not 1 <= length <= layers:
        raise InvalidField("cluster.layer_split", length, f"1 to {layers} workers, one for each layer of the model")


def balanced_ranges(times: LayerTimes, layers: int, length: int) -> tuple[range, ...]:
    """Ranges of `layers` layers for a chain of `length` workers, in order, each of 1 or more layers.

    No other ranges have a faster slowest worker: each further layer goes to the worker that is done earliest with it,
    or to the last of several that are equally early. InvalidField if there are more workers than layers.
    """
    check_length(length, layers)
    counts = [1] * length

    def done_s(rank: int, count: int) -> float:
        ends = times.embed_s * (rank == 0) + times.head_s * (rank == length - 1)
        return ends + count * times.layer_s

    for _ in range(layers - length):
        counts[min(range(length), key=lambda rank: (done_s(rank, counts[rank] + 1), -rank))] += 1
    stops = list(accumulate(counts))
    return tuple(range(stop - count, stop) for stop, count in zip(stops, counts, strict=True))
