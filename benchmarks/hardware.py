"""Modelled devices for cells in simulated time: how long they take, how evenly, and what they remember."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from benchmarks.image_model import Copying
from longtake.core.plan.model import retention
from longtake.core.plan.presets import PRESETS
from longtake.core.sessions.retention import Depths

ENOUGH_BYTES = 1 << 44
"""Memory of the engine for its journal, where the devices are to be the only limit."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Hardware:
    """Modelled devices. Times in seconds."""

    devices: int
    forward_s: float
    decode_s: float = 0.0
    """Decode and encode of one block on a decode worker; 0: decoders are no bottleneck."""
    link_s: float = 0.0
    """One way between engine and worker, and between engine and client."""
    jitter: float = 0.0
    """Standard deviation of a forward's time, as a share of it."""
    hiccups: float = 0.0
    """Share of forwards that take three times as long."""
    decoders: int = 1
    stragglers: Mapping[str, float] = field(default_factory=dict)
    """Workers that are slower than the others of their kind, by name ("denoise-0"), and by which factor."""
    sessions_per_device: int = 64
    copying: Copying = field(default_factory=Copying)
    calibrated: bool = True
    """Whether workers say on joining how long their forward takes."""
    depths: Depths = retention(PRESETS["wan2.1-1.3b-480p"]).depths
    """How far back what workers hold remembers: so much is computed again when one is lost."""

    @property
    def mean_forward_s(self) -> float:
        """Expected time of a forward on a device that is no straggler."""
        return self.forward_s * (1 + 2 * self.hiccups)
