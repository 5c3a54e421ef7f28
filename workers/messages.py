"""What the engine and a worker say to each other, as plain data with bytes; the link carries it 1:1."""

from __future__ import annotations

from dataclasses import dataclass

from longtake.core.effects import EncodeText, Forget, PrepareStream
from longtake.core.work import ConditioningRef, Role, Sequence, SessionId, Work, WorkerId


@dataclass(frozen=True, slots=True, kw_only=True)
class Introduction:
    """A worker that has its weights loaded and asks for work."""

    worker: WorkerId
    role: Role
    capacity: int
    """Pages (denoise) or decoder slots (decode)."""
    model_digest: str
    forward_s: float = 0.0
    """Calibrated time of one op; 0: unknown."""


# --- down: engine to worker -----------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """Work and the bytes that the worker lacks for it; float32 little-endian, contiguous; empty where not needed."""

    sequence: Sequence
    work: Work
    latents: bytes = b""
    """Shape (F, C, H, W)."""
    conditioning: bytes = b""
    """Shape (rows, text width)."""


@dataclass(frozen=True, slots=True)
class Shutdown:
    """Finish what is queued, then end."""


Down = Task | PrepareStream | EncodeText | Forget | Shutdown


# --- up: worker to engine -------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Done:
    """A task is done; `latents` of a denoise op, `segment` of a decode op."""

    sequence: Sequence
    sha256: str = ""
    """Hex digest of `latents`."""
    latents: bytes = b""
    segment: bytes = b""
    seconds: float = 0.0
    """How long it took, measured by the worker; 0: not measured."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Failed:
    """A task (`sequence`) or a preparation (None) could not be done; the worker goes on."""

    session: SessionId
    sequence: Sequence | None
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Encoded:
    """A prompt as text features, float32 little-endian, shape (rows, text width)."""

    conditioning: ConditioningRef
    tensor: bytes
    notice: str
    """Empty if there is nothing to tell the client."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Prepared:
    """A decoder slot is clear; what goes before the stream's first segment."""

    session: SessionId
    header: bytes
    media_type: str


@dataclass(frozen=True, slots=True)
class Heartbeat:
    """The process is alive."""


Up = Done | Failed | Encoded | Prepared | Heartbeat
