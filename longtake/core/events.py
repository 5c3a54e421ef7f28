"""What happens: the plain data that goes into the scheduler.

Latents, conditioning tensors and pictures never appear here, only references to them; the bytes stay in the journal
and in the outboxes. Time enters only as the field `now_s` of an event: seconds on the engine's monotonic clock.
"""

from __future__ import annotations

from dataclasses import dataclass

from longtake.core.adoption import Diverged, Freeze, HandOver, MadeBy, PlacedCue, Thaw
from longtake.core.endings import AtDeadline, Ending
from longtake.core.errors import Problem
from longtake.core.flow import Pace
from longtake.core.recipe.cues import CueEffect
from longtake.core.work import (
    Ability,
    ConditioningRef,
    ConnectionNumber,
    CueId,
    DispatchNumber,
    Fork,
    ImageId,
    Loss,
    Role,
    SegmentSettings,
    SessionId,
    WorkerId,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerJoined:
    """A worker dialled in, with weights loaded."""

    now_s: float
    worker: WorkerId
    role: Role
    ability: Ability


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerLost:
    """A worker's link ended, its heartbeat stopped, or it was given up."""

    now_s: float
    worker: WorkerId
    reason: str
    cause: Loss = Loss.LINK


@dataclass(frozen=True, slots=True, kw_only=True)
class CueRequest:
    """A prompt and where it shall take effect: at a block, at a picture, or (both None) as soon as possible."""

    cue: CueId
    prompt: str
    block: int | None = None
    picture: int | None = None
    change: CueEffect | None = None
    """What becomes of what the stream remembers; None: what the recipe says."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Open:
    """A client asks for a stream. Whoever makes one of a client's request has checked its fields against the limits."""

    now_s: float
    session: SessionId
    prompt: str
    seed: int
    pace: Pace
    window: int
    picture_limit: int | None
    """The stream ends before this picture; None lets it go on until it is closed."""
    settings: SegmentSettings
    """A fork has the decoder of its parent, whatever is said here."""
    cues: tuple[CueRequest, ...] = ()
    recipe: str = ""
    """Name of the recipe that the stream is made by; empty means the cell's default."""
    fork: Fork | None = None
    given_frames: int = 0
    """So many latent frames at the beginning are made of pictures that the client gave, which the engine has. A fork
    has those of its parent, whatever is said here."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Cue:
    """A client asks for another prompt."""

    now_s: float
    session: SessionId
    request: CueRequest


@dataclass(frozen=True, slots=True, kw_only=True)
class TextEncoded:
    """A worker has encoded the prompt of one conditioning version; the tensor is in the journal."""

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
class PicturesEncoded:
    """A decode worker has encoded one latent frame of what a client gave; it is in the journal."""

    now_s: float
    worker: WorkerId
    session: SessionId
    part: int
    """As in EncodePictures."""
    unfit: str = ""
    """Why its pictures cannot be encoded, which are not; empty if they could be."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Stowed:
    """A worker holds the image of a lane or of a decoder slot in host memory."""

    now_s: float
    worker: WorkerId
    image: ImageId


@dataclass(frozen=True, slots=True, kw_only=True)
class Loaded:
    """A worker has filled a lane's pages from an image."""

    now_s: float
    worker: WorkerId
    image: ImageId


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageFailed:
    """A worker could not stow, load or take an image; it does not have it any more."""

    now_s: float
    worker: WorkerId
    image: ImageId
    reason: str


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


@dataclass(frozen=True, slots=True, kw_only=True)
class Detach:
    """A client's call broke: its client is away, and may come back. Nothing follows if another call has the session."""

    now_s: float
    session: SessionId
    connection: ConnectionNumber


@dataclass(frozen=True, slots=True, kw_only=True)
class Attach:
    """A client goes on with its session on another call, whether the one before has broken or not."""

    now_s: float
    session: SessionId
    connection: ConnectionNumber
    cursor: int | None
    """The last segment that it has consumed; None if it has consumed none."""
    held_from: int | None = None
    """The engine, which fills this in, still holds what it has sent from this segment on; None if it holds nothing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Adopt:
    """A session that another engine served is to go on here. Comes when workers are there, who say how far back the
    state depends on the past."""

    now_s: float
    request: Open
    """What it was opened with; it is no fork any more."""
    made_by: MadeBy
    header: bytes
    media_type: str
    cues: tuple[PlacedCue, ...]
    """In the order in which they were accepted."""
    latents: tuple[tuple[tuple[int, int], ...], ...]
    """For step 1, 2, …: of which blocks the latents are there that enter it, as ranges (first, end) in order."""
    acknowledged: int
    """The last segment that its client is known to have consumed; -1 if none."""
    first_block: int = 0
    """The first block that is its own: above 0 if it was a fork."""
    seeds: tuple[tuple[int, int], ...] = ()
    """The seeds of blocks before that: up to which block each of them holds, in ascending order."""
    known_from: int = 0
    """Blocks before this one cannot be made again: of their cues not all are here."""
    has_reference: bool = False
    """Whether the latents of its reference are there, if its recipe has one."""
    loads: tuple[tuple[int, int], ...] = ()
    """From which blocks on which load held, in ascending order; before the first of them there was none."""
    loads_known_from: int = 0
    """The loads of blocks before this one are not known."""
    playing: bool = True
    """What its client said last, Play or Pause."""
    promised: bool = True
    """Whether its client was told that it goes on here; if not, it is taken in only where there is room for it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Close:
    """End a session now; what runs is waited for, its results are dropped."""

    now_s: float
    session: SessionId
    ending: Ending
    reason: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Drain:
    """Open nothing more; after the grace no session is left."""

    now_s: float
    grace_s: float = 0.0
    """How long open sessions may go on; of several Drains the one that ends them first counts."""
    streams: AtDeadline = AtDeadline.END
    """Of several Drains END counts, if one says so."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OpDone:
    """A worker has finished a dispatch; what it produced lies in the journal."""

    now_s: float
    worker: WorkerId
    sequence: DispatchNumber
    seconds: float = 0.0
    """How long the worker took for the whole dispatch, by its own clock; 0 if it was not measured."""
    segment_bytes: int = 0
    """Size of the segment that a decode op made."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OpFailed:
    """A worker could not do a dispatch, or (`sequence` None) a preparation; the ops for other sessions are done."""

    now_s: float
    worker: WorkerId
    sessions: tuple[SessionId, ...]
    sequence: DispatchNumber | None
    reason: str


# --- what the front end refuses: so that all that happens passes here and is counted ---------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class CallRefused:
    """Somebody was not let in, or may not go on. Nothing follows."""

    now_s: float
    problem: Problem


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenRefused:
    """A client was told why its Open cannot be, before there was an Open. Nothing follows."""

    now_s: float
    pace: Pace
    problem: Problem


@dataclass(frozen=True, slots=True, kw_only=True)
class FrameRefused:
    """What the client of a stream sent cannot be understood, or is not allowed; the client is told."""

    now_s: float
    session: SessionId
    cue: CueId | None
    """The cue that it asked for, if it was one."""
    problem: Problem


@dataclass(frozen=True, slots=True, kw_only=True)
class Tick:
    """Time has passed; REALTIME sessions may go on."""

    now_s: float


Event = (
    WorkerJoined
    | WorkerLost
    | Open
    | Adopt
    | Diverged
    | Freeze
    | Thaw
    | HandOver
    | Cue
    | TextEncoded
    | StreamPrepared
    | PicturesEncoded
    | Stowed
    | Loaded
    | ImageFailed
    | Ack
    | Pause
    | Play
    | Detach
    | Attach
    | Close
    | Drain
    | OpDone
    | OpFailed
    | CallRefused
    | OpenRefused
    | FrameRefused
    | Tick
)
