"""What the engine and a worker say to each other, as plain data with bytes; the link carries it 1:1."""

from __future__ import annotations

from dataclasses import dataclass

from longtake.core.effects import Discard, EncodeText, Forget, Give, Load, PrepareStream, Stow, Take
from longtake.core.errors import LongtakeError
from longtake.core.work import ConditioningRef, DecodeWork, ForwardWork, ImageId, Role, Sequence, SessionId, WorkerId


@dataclass(frozen=True, slots=True, kw_only=True)
class Introduction:
    """A worker that has its weights loaded and asks for work."""

    worker: WorkerId
    role: Role
    capacity: int
    """Pages (denoise) or decoder slots (decode)."""
    batch_limit: int = 1
    """Ops that one dispatch may hold."""
    model_digest: str
    forward_s: float = 0.0
    """Calibrated time of one op; 0: unknown."""


# --- down: engine to worker -----------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Forward:
    """One op of a forward and the bytes that the worker lacks for it: float32 little-endian, contiguous, or empty."""

    work: ForwardWork
    latents: bytes = b""
    """Shape (F, C, H, W)."""
    conditioning: bytes = b""
    """Shape (rows, text width)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Decode:
    """A decode op and the latents to decode, as in Forward."""

    work: DecodeWork
    latents: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """One dispatch."""

    sequence: Sequence
    order: tuple[Forward, ...] | Decode
    """The ops of one forward (longtake.core.work.Batch), or a decode op."""

    @property
    def sessions(self) -> tuple[SessionId, ...]:
        """Whom it is for, each once, in order."""
        orders = (self.order,) if isinstance(self.order, Decode) else self.order
        return tuple(dict.fromkeys(order.work.session for order in orders))


@dataclass(frozen=True, slots=True)
class Shutdown:
    """Finish what is queued, then end."""


Down = Task | PrepareStream | EncodeText | Forget | Stow | Load | Give | Take | Discard | Shutdown


# --- up: worker to engine -------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Output:
    """The latents that a denoise op produced, as in Forward."""

    sha256: str
    """Hex digest of `latents`."""
    latents: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Done:
    """A task is done; `outputs` of denoise ops, in the order of the task, or the `segment` of a decode op."""

    sequence: Sequence
    outputs: tuple[Output, ...] = ()
    segment: bytes = b""
    seconds: float = 0.0
    """How long it took, measured by the worker; 0: not measured."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Failed:
    """A task (`sequence`) or a preparation (None) could not be done for `sessions`; the worker goes on.

    The task's ops for other sessions are done.
    """

    sessions: tuple[SessionId, ...]
    sequence: Sequence | None
    reason: str
    outputs: tuple[Output, ...] = ()
    """As in Done; of ops that failed they are empty. None at all: nothing of the task was done."""


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


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageStowed:
    """An image is in host memory; what it was made of may be used again."""

    image: ImageId


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageLoaded:
    """The pages hold what the image held."""

    image: ImageId


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageGone:
    """An order that names the image could not be done, and it is not here any more. May be said more than once."""

    image: ImageId
    reason: str


@dataclass(frozen=True, slots=True)
class Heartbeat:
    """The process is alive."""


OP_ERRORS = (LongtakeError, RuntimeError, ValueError, IndexError, OSError)
"""What may go wrong with an op; anything else is a defect of the worker."""


def reason_of(error: Exception) -> str:
    """The text of Failed.reason."""
    return f"{type(error).__name__}: {error}"


Up = Done | Failed | Encoded | Prepared | ImageStowed | ImageLoaded | ImageGone | Heartbeat
