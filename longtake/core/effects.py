"""What shall be done: the plain data that comes out of the scheduler, for workers, journal and clients."""

from __future__ import annotations

from dataclasses import dataclass

from longtake.core.adoption import Adopted, AdoptFailed, HandOverRefused, StepsSettled
from longtake.core.endings import Ending, Remains
from longtake.core.errors import Problem
from longtake.core.facts import LaneMoved, Overdue, Renewed, Stalled
from longtake.core.openings import AttachRefused, ClientAway, Opened, Resumed
from longtake.core.parts import EncodePictures
from longtake.core.work import (
    ConditioningRef,
    Continuity,
    CueId,
    DispatchNumber,
    ImageId,
    PageId,
    SegmentSettings,
    SessionId,
    SlotId,
    Ticket,
    Work,
    WorkerId,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Dispatch:
    """Send work to a worker, with the bytes it lacks: latents, and the conditioning that it was never sent."""

    worker: WorkerId
    sequence: DispatchNumber
    work: Work
    attach_conditioning: tuple[bool, ...] = ()
    """For each item of a batch, whether its conditioning must go along."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PrepareStream:
    """Ask a decode worker to clear `slot` for the session, or to fill it; answered by StreamPrepared."""

    worker: WorkerId
    session: SessionId
    slot: SlotId
    settings: SegmentSettings
    image: ImageId | None = None
    """The state to fill the slot with, which the worker has stowed or taken; it is used up."""
    origin: SlotId | None = None
    """A slot of the same worker to copy the state from, after the ops that were ordered before; excludes `image`."""
    started: bool = False
    """Whether the cleared slot begins in the middle of its stream; excludes `image` and `origin`."""


# --- images: copies of lanes and decoder slots in host memory -------------------------------------------------------
# Nothing of this holds up an op of another session. Beside its ops, a worker does the orders that name one image one
# after the other: so they may be given at once. What names another image may be done before them. The scheduler sees to
# it that no op, and no other order, names the pages or the slot meanwhile.


@dataclass(frozen=True, slots=True, kw_only=True)
class Stow:
    """Copy a lane's pages, in this order, or a decoder slot to host memory; answered by Stowed.

    Pages may be used again once it is answered, a slot is free for another session then.
    """

    worker: WorkerId
    session: SessionId
    image: ImageId
    source: tuple[PageId, ...] | SlotId


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadImage:
    """Fill pages from an image that this worker has stowed or taken, in the order of its stowing; answered by Loaded.

    The image is used up.
    """

    worker: WorkerId
    session: SessionId
    image: ImageId
    target: tuple[PageId, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Give:
    """Send an image to another worker, which is told to take it; it is gone here afterwards. Not answered."""

    worker: WorkerId
    session: SessionId
    image: ImageId
    to: WorkerId


@dataclass(frozen=True, slots=True, kw_only=True)
class Take:
    """Receive an image that another worker is told to give. Not answered: what uses the image is."""

    worker: WorkerId
    session: SessionId
    image: ImageId
    origin: WorkerId


@dataclass(frozen=True, slots=True, kw_only=True)
class Discard:
    """Drop an image if it is here. Not answered."""

    worker: WorkerId
    image: ImageId


@dataclass(frozen=True, slots=True, kw_only=True)
class EncodeText:
    """Ask a worker to encode a prompt; answered by TextEncoded."""

    worker: WorkerId
    conditioning: ConditioningRef
    prompt: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Forget:
    """Tell a worker to drop a version of a session's conditioning, which the journal keeps, or (None) all it holds."""

    worker: WorkerId
    session: SessionId
    version: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Trim:
    """The journal may drop what nothing of a session will be computed from any more."""

    session: SessionId
    floors: tuple[int, ...]
    """For the latents that enter step 1, 2, …: those of blocks before this one may go, but for the sinks'."""
    sinks: int
    """The first blocks, this many, are kept whatever the floors say; so are those in the ranges of `held`."""
    held: tuple[tuple[int, int], ...] = ()
    versions: tuple[int, ...] = ()
    """Versions of its conditioning that nothing reads any more."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Inherit:
    """A fork stands on its own from now on: the journal shares with it what it may be rebuilt from."""

    session: SessionId
    parent: SessionId
    before: int
    """Latents of the parent's blocks before this one become the fork's, too."""
    versions: tuple[tuple[int, int], ...]
    """Versions of the parent's conditioning, each with the version that it has in the fork."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DropJournal:
    """The journal may drop everything of a session that this engine holds."""

    session: SessionId
    remains: Remains = Remains.NOTHING
    """On disk, if there is one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Refused:
    """Answer an Open that starts nothing."""

    session: SessionId
    problem: Problem


@dataclass(frozen=True, slots=True, kw_only=True)
class Emit:
    """Send the segment of `block`, which lies with the engine since its decode op was done, to the client."""

    session: SessionId
    block: int
    first_picture: int
    picture_count: int
    prompt_version: int
    steps: int
    """Denoising steps that the block took; 0: it was given, or it is not known any more."""
    load: int = 0
    """Under which load that was: above 0 they are fewer than usual."""
    shot: int = 0
    """Number of the shot that the block belongs to."""
    slack_s: float | None = None
    """How long before its first picture is due it leaves; below 0 it is late; None if nothing is due yet, or ever."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CueAccepted:
    session: SessionId
    cue: CueId
    block: int
    first_picture: int
    prompt: str
    shot: int | None = None
    """Number of the shot that begins with it; None if none does."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CueApplied:
    """The next segment, of `block`, is the first that shows the cue."""

    session: SessionId
    cue: CueId
    block: int
    first_picture: int
    prompt: str


@dataclass(frozen=True, slots=True, kw_only=True)
class CueSuperseded:
    """A later cue took the same block; this one will never be shown."""

    session: SessionId
    cue: CueId
    by: CueId
    block: int


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestRefused:
    """A request on an open stream (a cue or an acknowledgement, say) cannot be met; the stream goes on."""

    session: SessionId
    cue: CueId | None
    problem: Problem


@dataclass(frozen=True, slots=True, kw_only=True)
class Notice:
    """Something the client should know; the stream goes on."""

    session: SessionId
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Recovered:
    """All that was lost of the session's state is there again."""

    session: SessionId
    continuity: Continuity
    from_block: int
    """The next segment to leave; those before it are what they would have been."""
    seconds: float
    """How long a part of the state was missing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Closed:
    """The session has ended; nothing more will be sent for it."""

    session: SessionId
    ending: Ending
    reason: str
    segments: int
    """How many segments were sent."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GiveUp:
    """End the link of a worker that hangs; answered by WorkerLost, as any end of a link is."""

    worker: WorkerId
    reason: str


# --- facts: nothing is to be done, recorders take note -------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Worked:
    """A worker has reported a dispatch."""

    worker: WorkerId
    ops: tuple[Ticket, ...]
    """The ops that are done, in their order in the dispatch; those that failed are not among them."""
    counted: tuple[Ticket, ...]
    """Those of them whose results count: others were taken back, or came behind one that failed."""
    batch: int
    """How many ops the dispatch held, those that failed included."""
    dispatched_s: float
    """When it was dispatched, on the engine's clock."""
    seconds: float
    """How long the whole dispatch took by the worker's clock; 0 if it was not measured or a part of it failed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Parked:
    """A session has given up its place."""

    session: SessionId


@dataclass(frozen=True, slots=True, kw_only=True)
class Restored:
    """A parked session has a place again."""

    session: SessionId


Fact = Worked | Overdue | Renewed | LaneMoved | Parked | Restored | Stalled | ClientAway | HandOverRefused

Effect = (
    Dispatch
    | StepsSettled
    | PrepareStream
    | Stow
    | LoadImage
    | Give
    | Take
    | Discard
    | EncodeText
    | EncodePictures
    | Forget
    | GiveUp
    | Trim
    | Inherit
    | Adopted
    | AdoptFailed
    | DropJournal
    | Opened
    | Resumed
    | AttachRefused
    | Refused
    | Emit
    | CueAccepted
    | CueApplied
    | CueSuperseded
    | RequestRefused
    | Notice
    | Recovered
    | Closed
    | Fact
)
