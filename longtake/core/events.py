"""What happens and what shall be done about it: the plain data that goes into and comes out of the scheduler.

Latents, conditioning tensors and pictures never appear here, only references to them; the bytes stay in the journal
and in the outboxes. Time enters only as the field `now_s` of an event: seconds on the engine's monotonic clock.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import NewType

from longtake.core.errors import LongtakeError
from longtake.core.flow import Pace
from longtake.core.schedule import Kind

SessionId = NewType("SessionId", str)
WorkerId = NewType("WorkerId", str)
CueId = NewType("CueId", str)
PageId = NewType("PageId", int)
SlotId = NewType("SlotId", int)
Sequence = NewType("Sequence", int)
"""Number of a dispatch on its worker's link: 0, 1, 2, … since the worker joined."""


class Role(Enum):
    """What a worker's capacity is made of."""

    DENOISE = "denoise"
    """Runs forwards; its capacity is pages."""
    DECODE = "decode"
    """Encodes prompts, decodes latents and encodes segments; its capacity is decoder slots."""


# --- references and inputs ------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class LatentRef:
    """The latents of one block as they enter `step`; step S (the number of steps) is the finished x0."""

    session: SessionId
    block: int
    step: int
    sha256: str = ""
    """Hex digest of the bytes, once known."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ConditioningRef:
    """The encoded prompt of one session; each cue makes a new version."""

    session: SessionId
    version: int


@dataclass(frozen=True, slots=True)
class FromNoise:
    """Start from the session's keyed noise of the block, draw 0."""


@dataclass(frozen=True, slots=True)
class FromLane:
    """Start from the output of the last denoise op in the same lane, which the worker keeps."""


@dataclass(frozen=True, slots=True)
class FromLatent:
    """Start from latents that travel with the dispatch."""

    ref: LatentRef


Input = FromNoise | FromLane | FromLatent


@dataclass(frozen=True, slots=True, kw_only=True)
class SegmentSettings:
    """How a session's segments are encoded."""

    codec: str
    """h264, mjpeg or raw."""
    quality: int
    """x264's constant rate factor (h264, 0 best to 51), JPEG quality (mjpeg, 1 to 100 best), unused (raw)."""


# --- work for workers -----------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class ForwardWork:
    """One forward of the model: a denoise op or a commit op."""

    session: SessionId
    lane: int
    kind: Kind
    step: int
    block: int
    timestep: float
    sigma: float
    """Noise level of the input."""
    next_sigma: float | None
    """A denoise op re-noises its x0 to this level (draw step + 1); None: its output is x0. Unused by a commit."""
    seed: int
    positions: tuple[int, ...]
    """Numbers of the block's latent frames, from the start of the stream."""
    reads: tuple[PageId, ...]
    """All pages attended to, in canonical order, the own ones among them."""
    writes: tuple[PageId, ...]
    """The own pages, in frame order."""
    conditioning: ConditioningRef
    input: Input


@dataclass(frozen=True, slots=True, kw_only=True)
class DecodeWork:
    """Decode the finished latents of one block and encode them as one segment."""

    session: SessionId
    block: int
    slot: SlotId
    latents: LatentRef
    first_picture: int
    picture_count: int
    """How many pictures of the block belong to the stream (its length limit may end inside a block)."""
    settings: SegmentSettings


Work = ForwardWork | DecodeWork


# --- events ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerJoined:
    """A worker dialled in, with weights loaded."""

    now_s: float
    worker: WorkerId
    role: Role
    capacity: int
    """Pages (denoise) or decoder slots (decode)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerLost:
    """A worker's link ended, or its heartbeat stopped."""

    now_s: float
    worker: WorkerId
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class CueRequest:
    """A prompt and where it shall take effect: at a block, at a picture, or (both None) as soon as possible."""

    cue: CueId
    prompt: str
    block: int | None = None
    picture: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Open:
    """A client asks for a stream."""

    now_s: float
    session: SessionId
    prompt: str
    seed: int
    pace: Pace
    window: int
    picture_limit: int | None
    """The stream ends before this picture; None: it goes on until closed."""
    settings: SegmentSettings
    cues: tuple[CueRequest, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Cue:
    """A client asks for another prompt."""

    now_s: float
    session: SessionId
    request: CueRequest


@dataclass(frozen=True, slots=True, kw_only=True)
class TextEncoded:
    """A decode worker has encoded the prompt of one conditioning version; the tensor is in the journal."""

    now_s: float
    worker: WorkerId
    conditioning: ConditioningRef
    notice: str
    """What the client should know about the prompt (words that were ignored); empty if nothing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamPrepared:
    """A decode worker has cleared a slot for the session and knows the header of its stream."""

    now_s: float
    worker: WorkerId
    session: SessionId
    header: bytes
    media_type: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Ack:
    """A client has consumed all segments up to and including this one."""

    now_s: float
    session: SessionId
    segment: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Pause:
    now_s: float
    session: SessionId


@dataclass(frozen=True, slots=True, kw_only=True)
class Play:
    now_s: float
    session: SessionId


class Ending(Enum):
    """Why a session ended."""

    COMPLETED = "completed"
    """Its length limit was reached and every segment sent."""
    CLIENT = "client"
    """The client closed it, or its connection broke."""
    OPERATOR = "operator"
    """CloseSession was called."""
    DRAINED = "drained"
    """The server shuts down; the blocks already begun were delivered."""
    LOST = "lost"
    """A worker that held its state was lost."""
    FAILED = "failed"
    """An op failed, or the session could not be prepared."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Close:
    """End a session now; what runs is waited for, its results are dropped."""

    now_s: float
    session: SessionId
    ending: Ending


@dataclass(frozen=True, slots=True, kw_only=True)
class Drain:
    """Start no further block anywhere, deliver those begun, close every session, refuse new ones."""

    now_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class OpDone:
    """A worker has finished a dispatch. `sha256` names the latents a denoise op produced, now in the journal."""

    now_s: float
    worker: WorkerId
    sequence: Sequence
    sha256: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class OpFailed:
    """A worker could not do a dispatch (`sequence`) or a preparation (`sequence` None) for the session."""

    now_s: float
    worker: WorkerId
    session: SessionId
    sequence: Sequence | None
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Tick:
    """Time has passed; REALTIME sessions may go on."""

    now_s: float


Event = (
    WorkerJoined
    | WorkerLost
    | Open
    | Cue
    | TextEncoded
    | StreamPrepared
    | Ack
    | Pause
    | Play
    | Close
    | Drain
    | OpDone
    | OpFailed
    | Tick
)


# --- effects --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Dispatch:
    """Send work to a worker, with the bytes it lacks: the latents of `work`, the conditioning if `attach_conditioning`.

    The journal may drop latents once they were sent.
    """

    worker: WorkerId
    sequence: Sequence
    work: Work
    attach_conditioning: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class PrepareStream:
    """Ask a decode worker to clear `slot` for the session; answered by StreamPrepared."""

    worker: WorkerId
    session: SessionId
    slot: SlotId
    settings: SegmentSettings


@dataclass(frozen=True, slots=True, kw_only=True)
class EncodeText:
    """Ask a decode worker to encode a prompt; answered by TextEncoded."""

    worker: WorkerId
    conditioning: ConditioningRef
    prompt: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Forget:
    """Tell a worker to drop one version of a session's conditioning; None: everything it holds of the session."""

    worker: WorkerId
    session: SessionId
    version: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class DropJournal:
    """The journal may drop everything of a session."""

    session: SessionId


@dataclass(frozen=True, slots=True, kw_only=True)
class Opened:
    """Tell the client that its stream begins."""

    session: SessionId
    seed: int
    header: bytes
    media_type: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Refused:
    """Answer an Open that starts nothing."""

    session: SessionId
    error: LongtakeError


@dataclass(frozen=True, slots=True, kw_only=True)
class Emit:
    """Send the segment of `block`, which lies with the engine since its decode op was done, to the client."""

    session: SessionId
    block: int
    first_picture: int
    picture_count: int
    prompt_version: int


@dataclass(frozen=True, slots=True, kw_only=True)
class CueAccepted:
    session: SessionId
    cue: CueId
    block: int


@dataclass(frozen=True, slots=True, kw_only=True)
class CueApplied:
    """The next segment, of `block`, is the first that shows the cue."""

    session: SessionId
    cue: CueId
    block: int


@dataclass(frozen=True, slots=True, kw_only=True)
class CueSuperseded:
    """A later cue took the same block; this one will never be shown."""

    session: SessionId
    cue: CueId
    by: CueId
    block: int


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestRefused:
    """A request on an open stream (a cue, an acknowledgement …) cannot be met; the stream goes on."""

    session: SessionId
    cue: CueId | None
    error: LongtakeError


@dataclass(frozen=True, slots=True, kw_only=True)
class Notice:
    """Something the client should know; the stream goes on."""

    session: SessionId
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Closed:
    """The session has ended; nothing more will be sent for it."""

    session: SessionId
    ending: Ending
    reason: str
    segments: int
    """How many segments were sent."""


Effect = (
    Dispatch
    | PrepareStream
    | EncodeText
    | Forget
    | DropJournal
    | Opened
    | Refused
    | Emit
    | CueAccepted
    | CueApplied
    | CueSuperseded
    | RequestRefused
    | Notice
    | Closed
)
