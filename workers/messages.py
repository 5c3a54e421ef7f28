"""What the engine and a worker say to each other, as plain data with bytes; the link carries it 1:1."""

from __future__ import annotations

import logging
from dataclasses import dataclass

from longtake.core.effects import Discard, EncodeText, Forget, Give, LoadImage, PrepareStream, Stow, Take
from longtake.core.errors import LongtakeError
from longtake.core.parts import EncodePictures
from longtake.core.recipe.ops import Kind
from longtake.core.work import (
    Ability,
    ConditioningRef,
    DecodeWork,
    DispatchNumber,
    ForwardWork,
    ImageId,
    Role,
    SessionId,
    WorkerId,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Seat:
    """The place of one worker in a chain of workers that hold ranges of layers and are one replica together."""

    replica: WorkerId
    """The name by which the chain is known to the engine."""
    rank: int
    """The place in the chain: 0 holds the first layers, length - 1 the last ones."""
    length: int
    """Workers in the chain, 2 or more."""

    @property
    def is_last(self) -> bool:
        """Whether outputs come from here."""
        return self.rank == self.length - 1

    @property
    def member(self) -> WorkerId:
        """The name of the worker that has this seat."""
        return WorkerId(f"{self.replica}.{self.rank + 1}of{self.length}")

    def takes_latents(self, kind: Kind) -> bool:
        """Whether the worker needs the latents that an op starts from: the first, and for x0 also the last."""
        return self.rank == 0 or (self.is_last and kind is Kind.DENOISE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """What a worker of a chain holds."""

    seat: Seat
    layers: range
    """Numbers of its layers."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Site:
    """Where a worker runs; what is not known is empty."""

    node: str
    """The machine: on Kubernetes the node's name."""
    pod: str
    """The pod, on Kubernetes."""
    device: str
    """`cpu`, `simulated`, or the GPU's UUID."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Introduction:
    """A worker that has its weights loaded and asks for work."""

    worker: WorkerId
    role: Role
    ability: Ability
    """What this worker alone can do: each worker of a chain introduces itself."""
    model_digest: str
    part: Part | None = None
    """The part of the model that it holds; None if it holds the whole model."""
    sites: tuple[Site, ...] = ()
    """Where it runs; of a chain, where each of its workers does. Empty if it does not say."""


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

    sequence: DispatchNumber
    order: tuple[Forward, ...] | Decode
    """The ops of one forward (longtake.core.work.Batch), or a decode op."""

    @property
    def sessions(self) -> tuple[SessionId, ...]:
        """The sessions that it is for, each once, in order."""
        orders = (self.order,) if isinstance(self.order, Decode) else self.order
        return tuple(dict.fromkeys(order.work.session for order in orders))


@dataclass(frozen=True, slots=True, kw_only=True)
class EncodeGiven:
    """One latent frame of what a client gave is to be encoded."""

    order: EncodePictures
    pictures: tuple[bytes, ...]
    """As many as the order names: PNG or JPEG."""

    @property
    def session(self) -> SessionId:
        """Whose they are."""
        return self.order.session


@dataclass(frozen=True, slots=True)
class JoinChain:
    """All workers of the chain are attached: meet the neighbours. Comes first and once."""

    generation: int
    """Counts how often the chain has come together; nothing of an earlier generation can be taken for this one's."""


@dataclass(frozen=True, slots=True)
class Shutdown:
    """Finish what is queued, then end."""


ImageOrder = Stow | LoadImage | Give | Take | Discard
"""What a worker is to do with images."""
Down = Task | PrepareStream | EncodeGiven | EncodeText | Forget | JoinChain | ImageOrder | Shutdown


# --- up: worker to engine -------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Done:
    """A task is done; `outputs` of denoise ops, in the order of the task, or the `segment` of a decode op."""

    sequence: DispatchNumber
    outputs: tuple[bytes, ...] = ()
    segment: bytes = b""
    seconds: float = 0.0
    """How long it took, measured by the worker; 0 if it was not measured."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Failed:
    """A task (`sequence`) or a preparation (None) could not be done for `sessions`; the worker goes on.

    The task's ops for other sessions are done. Without sessions: the worker has lost its chain, and starts over.
    """

    sessions: tuple[SessionId, ...]
    sequence: DispatchNumber | None
    reason: str
    outputs: tuple[bytes, ...] = ()
    """The outputs as in Done; those of ops that failed are empty. There are none at all if nothing of the task was
    done."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Encoded:
    """A prompt as text features, float32 little-endian, shape (rows, text width)."""

    conditioning: ConditioningRef
    tensor: bytes
    notice: str
    """What to tell the client; empty if there is nothing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Prepared:
    """A decoder slot is clear; what goes before the stream's first segment."""

    session: SessionId
    header: bytes
    media_type: str


@dataclass(frozen=True, slots=True, kw_only=True)
class GivenEncoded:
    """One latent frame of what a client gave is encoded."""

    session: SessionId
    part: int
    """As in EncodePictures."""
    latents: bytes = b""
    """As in Forward, of one frame; empty if its pictures cannot be encoded."""
    unfit: str = ""
    """Why they cannot; empty if they could be."""


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


@dataclass(frozen=True, slots=True, kw_only=True)
class Heartbeat:
    """The process is alive, and what it uses."""

    host_bytes: int = 0
    """Host memory that images take."""
    resident_bytes: int = 0
    """Resident memory of the process; 0 if it is not known, or the process is not the worker's own."""
    copied_out_bytes: int = 0
    """Bytes of K/V and decoder state that were copied from the device to host memory since the worker attached."""
    copied_in_bytes: int = 0
    """Bytes that were copied from host memory to the device since the worker attached."""


class StartOver(Exception):
    """A worker lost the neighbours that its ops pass through: whatever it holds is worthless, its weights are not."""


OP_ERRORS = (LongtakeError, RuntimeError, ValueError, IndexError, OSError, MemoryError)
"""What may go wrong with an op; anything else is a defect of the worker."""
_NO_MEMORY = ("OutOfMemoryError", "t allocate memory", "out of memory")
"""How torch says that an allocator has nothing left: on CUDA, on the host, and of libraries beneath."""
_log = logging.getLogger("longtake.worker")


def reason_of(error: Exception) -> str:
    """The text of Failed.reason, which the client of a stream may be told."""
    if isinstance(error, MemoryError) or any(words in f"{type(error).__name__}: {error}" for words in _NO_MEMORY):
        _log.warning("out of memory: %s: %s", type(error).__name__, error)
        return (
            "the device of a worker had no memory left for what this stream needs: try again later; whoever runs the "
            "server can let in fewer (limits.max_sessions, cluster.sessions_per_worker)"
        )
    return f"{type(error).__name__}: {error}"


Up = Done | Failed | Encoded | Prepared | GivenEncoded | ImageStowed | ImageLoaded | ImageGone | Heartbeat
