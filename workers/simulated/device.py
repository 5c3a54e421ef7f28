"""A device that computes nothing and only takes its time: its name, its times, and how exactly it keeps them."""

from __future__ import annotations

import re
import time
from dataclasses import dataclass

from longtake.core.errors import InvalidField
from workers.simulated.arithmetic import REACH, Reach

PREFIX = "simulated:"
ALLOWED = (
    f"{PREFIX}TIME with a time such as 60ms, then as wanted ,decode=TIME ,factor=NUMBER ,layers=NUMBER ,latents=NUMBER"
)
_TIME = re.compile(r"([0-9]+(?:\.[0-9]+)?)(ms|s)")
_LONGEST_S = 60.0
_FURTHEST = 100
_OPTIONS = {"decode": "0ms", "factor": "1", "layers": str(REACH.layers), "latents": str(REACH.latents)}
"""The options of a device's name, each with its default."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SimulatedDevice:
    """How long a worker on this device sleeps for each op."""

    forward_s: float
    """The time of one forward, whatever its kind and shape."""
    decode_s: float = 0.0
    """The time to decode one block."""
    factor: float = 1.0
    """How many times as long everything takes; more than 1 makes a straggler."""
    reach: Reach = REACH
    """What its results depend on; all workers of a cell must agree."""

    def __str__(self) -> str:
        """The device's name, as it is written in a configuration."""
        parts = [f"{PREFIX}{1000 * self.forward_s:g}ms"]
        if self.decode_s:
            parts.append(f"decode={1000 * self.decode_s:g}ms")
        if self.factor != 1.0:
            parts.append(f"factor={self.factor:g}")
        if self.reach != REACH:
            parts.append(f"layers={self.reach.layers},latents={self.reach.latents}")
        return ",".join(parts)


def is_simulated(device: str) -> bool:
    """Whether a device name is one of a simulated device."""
    return device.startswith(PREFIX)


def parse_device(device: str) -> SimulatedDevice:
    """A device such as `simulated:60ms,decode=5ms,factor=1.3`; InvalidField if it cannot be read."""
    forward, *options = device.removeprefix(PREFIX).split(",")
    values = dict(option.partition("=")[::2] for option in options)
    if not is_simulated(device) or len(values) < len(options) or not values.keys() <= _OPTIONS.keys():
        raise InvalidField("model.device", device, ALLOWED)
    given = _OPTIONS | values
    try:
        factor = float(given["factor"])
        reach = Reach(layers=int(given["layers"]), latents=int(given["latents"]))
    except ValueError:
        raise InvalidField("model.device", device, ALLOWED) from None
    if not 0 < factor <= 100:
        raise InvalidField("model.device", device, "a factor above 0 and up to 100")
    if not (1 <= reach.layers <= _FURTHEST and 1 <= reach.latents <= _FURTHEST):
        raise InvalidField("model.device", device, f"layers and latents from 1 to {_FURTHEST}")
    return SimulatedDevice(
        forward_s=_seconds(forward, device), decode_s=_seconds(given["decode"], device), factor=factor, reach=reach
    )


def _seconds(text: str, device: str) -> float:
    match = _TIME.fullmatch(text)
    if match is None:
        raise InvalidField("model.device", device, ALLOWED)
    seconds = float(match[1]) / (1000 if match[2] == "ms" else 1)
    if seconds > _LONGEST_S:
        raise InvalidField("model.device", device, f"times up to {_LONGEST_S:g} s")
    return seconds


class DevicePace:
    """Sleeps until ops are over; counts how much too long that took, and the time between ops. One thread uses it.

    Lost time is not caught up: an op that ends late makes the next one begin late, as on a real device.
    """

    def __init__(self) -> None:
        self.ops = 0
        self.late_s = 0.0
        """By how much ops ended too late, in all."""
        self.latest_s = 0.0
        self.idle_s = 0.0
        """The time between the end of an op and the beginning of the next, in all."""
        self._ended_s: float | None = None

    def wait(self, began_s: float, lasting_s: float) -> None:
        """Sleep, without using the CPU, until `lasting_s` after `began_s` on the monotonic clock."""
        end_s = began_s + lasting_s
        left_s = end_s - time.monotonic()
        if left_s > 0:
            time.sleep(left_s)
        now_s = time.monotonic()
        if self._ended_s is not None:
            self.idle_s += began_s - self._ended_s
        self._ended_s = now_s
        late_s = now_s - end_s
        self.ops += 1
        self.late_s += late_s
        self.latest_s = max(self.latest_s, late_s)

    def __str__(self) -> str:
        mean_s = self.late_s / self.ops if self.ops else 0.0
        late = f"on average {1e3 * mean_s:.3f} ms too long, at most {1e3 * self.latest_s:.3f} ms"
        return f"{self.ops} ops, {late}, idle for {self.idle_s:.3f} s between them"
