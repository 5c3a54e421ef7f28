"""What a worker is asked to do: self-contained orders that refer to latents and conditioning, never hold them."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import NamedTuple, NewType

from longtake.core.recipe.ops import Kind, Op, Returns, Times
from longtake.core.recipe.positions import NO_BIAS, Bias

SessionId = NewType("SessionId", str)
WorkerId = NewType("WorkerId", str)
CueId = NewType("CueId", str)
PageId = NewType("PageId", int)
SlotId = NewType("SlotId", int)
ImageId = NewType("ImageId", int)
ConnectionNumber = NewType("ConnectionNumber", int)
"""A call that has, or has had, a session. The number of a later call is greater."""
FIRST_CONNECTION = ConnectionNumber(0)
"""The call that opened a session."""
"""Number of a copy of a lane's pages or of a decoder slot in a worker's host memory, never used twice in a cell."""
DispatchNumber = NewType("DispatchNumber", int)
"""Number of a dispatch on its worker's link, counted from 0 since the worker joined."""


def image_ids() -> Iterator[ImageId]:
    """The numbers of a cell's images, counted from 1."""
    return map(ImageId, itertools.count(1))


class Role(Enum):
    """What a worker's capacity is made of."""

    DENOISE = "denoise"
    """Runs forwards; its capacity is pages."""
    DECODE = "decode"
    """Decodes latents and encodes segments; its capacity is decoder slots."""
    TEXT = "text"
    """Encodes prompts, one after the other; its capacity is 1 and takes nothing up."""

    __hash__ = object.__hash__
    """By identity, as members are compared; Enum's own is slow."""


class Loss(Enum):
    """How a worker was lost."""

    LINK = "link"
    """Its link ended: the process, its machine or the way to it is gone, or it gave up by itself."""
    SILENCE = "silence"
    """It said nothing for too long, or did not read what it was sent."""
    HANG = "hang"
    """It lives, and takes far too long for what it was sent."""
    PROTOCOL = "protocol"
    """It said what it must not say, or in the wrong order."""
    REPLACED = "replaced"
    """It dialled in again before its old link was known to be dead."""
    ENDED = "ended"
    """The server itself ends, and its workers with it: nothing is lost by that."""


class DecoderKind(Enum):
    """Which network makes a session's pictures of its latents: what a session chooses, since it changes them."""

    FULL = "full"
    """The decoder of the model's own autoencoder."""
    TINY = "tiny"
    """A tiny one for the same latents, if the model has one: less exact, and much less of the device's time."""

    __hash__ = object.__hash__
    """By identity, as members are compared; Enum's own is slow."""


class Continuity(Enum):
    """What a stream is, after a part of its state was lost, against the one that would have been without the loss."""

    EXACT = "exact"
    """The same, bit for bit."""
    APPROXIMATE = "approximate"
    """Alike: from some block on it was made by workers that round otherwise, or from less than its state remembers."""
    RESTARTED = "restarted"
    """Another one from some block on: what had been made before could not be made again."""

    __hash__ = object.__hash__
    """By identity, as members are compared; Enum's own is slow."""


class ShapeTime(NamedTuple):
    """How long a forward of one shape takes."""

    frames: int
    """Latent frames of the block."""
    pages: int
    """Pages that it reads, with a full window."""
    seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Ability:
    """What a worker can do, as it found out when it started."""

    capacity: int
    """The number of its pages (denoise) or decoder slots (decode)."""
    batch_limit: int = 1
    """How many ops one forward may serve: as many as are exact and pay; 1 means no batching."""
    mixes_kinds: bool = False
    """Whether it has proved that denoise ops and commits may share a forward."""
    joint_ops: int = 0
    """Among how many ops of one stream that go together (recipe/joint.py) a commit may be without a change of bits, as
    it has proved; of more than that, commits go alone. 0: it has tried none."""
    forward_s: float = 0.0
    """Calibrated time of one op (a forward, or the full decode of a block); 0 if it is unknown."""
    tiny_s: float = 0.0
    """The same of a block's decode by the tiny decoder; 0 also if the worker has none."""
    shape_s: tuple[ShapeTime, ...] = ()
    """Of a denoise worker the same as `forward_s` for the blocks of other recipes, by their shapes."""
    encodes_text: bool = True
    """Whether a decode worker encodes the prompts of its sessions: where that takes long, text workers do it."""
    chain_length: int = 1
    """How many layer-split workers are this worker together; an op passes through all of them."""
    numerics: str = ""
    """Fingerprint of all that its results depend on to the last bit. Workers of one role that have the same are of one
    class: they give the same bits. Empty: it says nothing, as all do that say nothing."""
    replay_depth: int = 0
    """How far back what it holds remembers: a denoise worker the layers of the whole model, a decode worker the latent
    frames that a decoder's state depends on, the most of its decoders; 0: it does not say, or holds nothing."""


class Ticket(NamedTuple):
    """An op of a session as it waits for a worker and flies: `attempt` is how often it was taken back before."""

    session: SessionId
    op: Op
    attempt: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class LatentRef:
    """The latents of one block as they enter `step`; step S (the number of steps) is the finished x0."""

    session: SessionId
    block: int
    step: int


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
    """How a session's segments are made of its latents."""

    codec: str
    """h264, mjpeg or raw."""
    quality: int
    """x264's constant rate factor (h264, 1 best to 51), JPEG quality (mjpeg, 1 to 100 best), unused (raw)."""
    decoder: DecoderKind = DecoderKind.FULL
    """The same for as long as the session lives, and for all its forks: its decoder slot has this decoder's state."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Pages:
    """The pages that an op names, in its own lane."""

    reads: tuple[PageId, ...]
    """All pages that the op attends to, in canonical order, its own pages among them."""
    writes: tuple[PageId, ...]
    """The pages of the block's own frames, in frame order."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FoldWork:
    """Several pages of a lane become one, before a forward of that lane (recipe/memory.py; SoulX-LiveAct's ConvKV).

    In every layer that a worker holds the tokens of the pages that are read, one page after the other, are a sequence
    of which each k neighbours become one, by the weights of the model, or their mean if it has none; k is the number of
    the pages. Of keys that is done without their places, and what comes of it is turned by rows and columns as any
    token of its own page. All pages are read before the one is written, which may be among them.
    """

    reads: tuple[PageId, ...]
    """From the oldest to the newest."""
    write: PageId

    @staticmethod
    def of(reads: Sequence[PageId], writes: Sequence[PageId]) -> tuple[FoldWork, ...]:
        """As many pages become each of `writes`, in this order; nothing does if there are none of these."""
        size = len(reads) // max(1, len(writes))
        return tuple([FoldWork(reads=tuple(reads[at * size :][:size]), write=page) for at, page in enumerate(writes)])


@dataclass(frozen=True, slots=True, kw_only=True)
class NoiseKey:
    """Key of the noise that a block starts from (draw 0), of what is added to what enters step s (draw s) and of what a
    commit adds (draw S, the number of steps)."""

    seed: int
    block: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ForwardWork:
    """A denoise op or a commit op: one item of a forward of the model."""

    session: SessionId
    lane: int
    op: Op
    """That of block -1 commits the reference (recipe/references.py)."""
    pages: Pages
    times: Times
    positions: tuple[int, ...]
    """Where the block's latent frames stand on the time axis: by these numbers their queries are rotated."""
    key_positions: tuple[int, ...]
    """The same for their keys, as they are stored. All 0, which is no rotation, where places change from read to read;
    then `read_turns` has them."""
    noise: NoiseKey
    enters: int
    """The step that its output enters: it is named so where it travels, and what is added is the draw of this number.
    S is for finished latents, to which nothing is added; 0 for a commit, which puts nothing out."""
    conditioning: ConditioningRef
    input: Input
    returns: Returns
    read_turns: tuple[int, ...] = ()
    """Where the keys of each page in `pages.reads`, which are stored without their time, stand on the time axis when
    this op reads them. Empty: they are stored with it."""
    bias: Bias = NO_BIAS
    """What is added to the logits of its attention; the queries of a frame stand where `positions` says."""
    folds: tuple[FoldWork, ...] = ()
    """What is done in its lane before the forward, in this order, and once however often that is tried."""

    @property
    def kind(self) -> Kind:
        return self.op.kind

    @property
    def step(self) -> int:
        return self.op.step

    @property
    def block(self) -> int:
        return self.op.block


@dataclass(frozen=True, slots=True, kw_only=True)
class DecodeWork:
    """Decode the finished latents of one block and encode them as one segment, or only take the state past them."""

    session: SessionId
    block: int
    slot: SlotId
    latents: LatentRef
    first_picture: int
    picture_count: int
    """How many pictures of the block are wanted: the stream's length limit may end inside a block, and 0 are wanted of
    one whose segment was sent before; then there is no segment."""
    settings: SegmentSettings
    later_frames: int = 0
    """Where no pictures are wanted: of how many latent frames that come next none are wanted either. So much of the
    state as only their pictures depend on need not be computed."""


Batch = tuple[ForwardWork, ...]
"""Ops that run as one forward: denoise ops and commits with equally many pages, none in the lane of another."""

Work = Batch | DecodeWork


@dataclass(frozen=True, slots=True, kw_only=True)
class Fork:
    """The stream that a new one goes on from, and where; pictures are counted from its start."""

    session: SessionId
    block: int | None = None
    """The first block of the new stream's own; None: the first that the other one has not begun."""
    own_clock: bool = False
    """Whether the length, and the places of cues that come with it, are asked for from its own first picture on."""
