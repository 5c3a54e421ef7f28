"""Errands: what a worker was ordered beside ops and has not answered: preparations, prompts, copies of state.

Theory of operation. A worker answers every such order, or says that it failed. Preparations, prompts and given pictures
it does among its ops, on the thread that computes, one after the other; copies beside them, and what names one image in
order. So the oldest order of either thread is what that thread is at, or what it waits for. How long errands take is
measured from when a thread was through with what came before: one that has many in a row is not slow.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum
from math import inf

from longtake.core.effects import EncodeText, LoadImage, PrepareStream, Stow
from longtake.core.events import (
    ImageFailed,
    Loaded,
    OpFailed,
    PicturesEncoded,
    Stowed,
    StreamPrepared,
    TextEncoded,
)
from longtake.core.parts import EncodePictures

KNOWN = 3
"""So many errands of one kind a worker must have done before its own time for them counts."""
_MEMORY = 32
"""Errands over which their time is averaged."""

ErrandOrder = PrepareStream | EncodeText | EncodePictures | Stow | LoadImage
"""The orders beside dispatches that are answered."""
ErrandAnswer = StreamPrepared | TextEncoded | PicturesEncoded | Stowed | Loaded | ImageFailed | OpFailed


class Thread(Enum):
    """Which of a worker's threads does an order."""

    COMPUTE = "compute"
    IMAGES = "images"

    __hash__ = object.__hash__
    """By identity, as members are compared; Enum's own is slow."""


@dataclass(frozen=True, slots=True)
class Errand:
    """One order that is not answered."""

    order: ErrandOrder
    ordered_s: float

    @property
    def thread(self) -> Thread:
        """Who does it; a slot is stowed and filled by both, one after the other."""
        copies = isinstance(self.order, Stow | LoadImage) or self._fills
        return Thread.IMAGES if copies else Thread.COMPUTE

    @property
    def kind(self) -> tuple[type, bool]:
        """Errands of one kind take about the same time."""
        return type(self.order), self._fills

    @property
    def may_wait(self) -> bool:
        """Whether it may need an image that is on its way from another worker."""
        return isinstance(self.order, LoadImage) or self._fills

    @property
    def name(self) -> str:
        """What it is, in a sentence."""
        match self.order:
            case EncodeText():
                return "a prompt"
            case EncodePictures():
                return "a part of what a client gave"
            case PrepareStream(image=None):
                return "the preparation of a stream"
            case _:
                return "a copy of a stream's state"

    @property
    def _fills(self) -> bool:
        return isinstance(self.order, PrepareStream) and self.order.image is not None

    def is_answered_by(self, answer: ErrandAnswer) -> bool:
        """Whether this is what became of it, if nothing older is."""
        match self.order, answer:
            case PrepareStream(session=session), StreamPrepared(session=prepared):
                return session == prepared
            case EncodeText(conditioning=wanted), TextEncoded(conditioning=made):
                return wanted == made
            case EncodePictures(session=session, part=part), PicturesEncoded(session=given, part=encoded):
                return (session, part) == (given, encoded)
            case Stow(image=image), Stowed(image=there):
                return image == there
            case LoadImage(image=image), Loaded(image=there):
                return image == there
            case Stow(image=image) | LoadImage(image=image) | PrepareStream(image=image), ImageFailed(image=gone):
                return image == gone
            case (
                PrepareStream(image=None, session=session) | EncodePictures(session=session),
                OpFailed(sequence=None, sessions=struck),
            ):
                return session in struck
            case EncodeText(conditioning=wanted), OpFailed(sequence=None, sessions=struck):
                return wanted.session in struck
            case _:
                return False


@dataclass(slots=True)
class _Usual:
    seconds: float = 0.0
    count: int = 0

    def fold(self, seconds: float) -> None:
        self.count = min(self.count + 1, _MEMORY)
        self.seconds += (seconds - self.seconds) / self.count


class Errands:
    """Those of one worker, from its joining to its loss."""

    __slots__ = ("_owed", "_through_s", "_usual", "count")

    def __init__(self) -> None:
        self.count = 0
        """How many are not answered: a field, for every tick asks it of every worker."""
        self._owed: dict[Thread, list[Errand]] = {thread: [] for thread in Thread}
        """What is not answered, oldest first."""
        self._through_s = dict.fromkeys(Thread, -inf)
        """When each thread was last through with something."""
        self._usual: dict[tuple[type, bool], _Usual] = {}

    def __iter__(self) -> Iterator[Errand]:
        """What is not answered."""
        return (errand for owed in self._owed.values() for errand in owed)

    def oldest(self, thread: Thread) -> Errand | None:
        """The oldest that this thread has not answered."""
        owed = self._owed[thread]
        return owed[0] if owed else None

    def usual_s(self, errand: Errand) -> float | None:
        """How long the worker takes for errands of this kind; None while it has done too few."""
        usual = self._usual.get(errand.kind)
        return usual.seconds if usual is not None and usual.count >= KNOWN else None

    def mean_s(self, kind: type[EncodePictures | EncodeText]) -> float:
        """How long the worker has taken for such orders, be they few; 0 if there were none."""
        usual = self._usual.get((kind, False))
        return 0.0 if usual is None else usual.seconds

    def ordered(self, order: ErrandOrder, *, now_s: float) -> None:
        """Note that the worker was sent an order."""
        errand = Errand(order, now_s)
        self._owed[errand.thread].append(errand)
        self.count += 1

    def answered(self, answer: ErrandAnswer, *, now_s: float) -> None:
        """Note what became of an order. An image that failed is reported once for all orders that name it."""
        if isinstance(answer, ImageFailed):
            for errand in [errand for errand in self if errand.is_answered_by(answer)]:
                self._strike(errand, now_s=now_s)
            return
        found = next((errand for errand in self if errand.is_answered_by(answer)), None)
        if found is not None:
            took_s = self._strike(found, now_s=now_s)
            if not isinstance(answer, OpFailed):
                self._usual.setdefault(found.kind, _Usual()).fold(took_s)

    def _strike(self, errand: Errand, *, now_s: float) -> float:
        """It is answered; returns how long it took."""
        thread = errand.thread
        self._owed[thread].remove(errand)
        self.count -= 1
        took_s = now_s - max(errand.ordered_s, self._through_s[thread])
        self.through(thread, now_s=now_s)
        return took_s

    def through(self, thread: Thread, *, now_s: float) -> None:
        """Note that a thread has done something, an op for instance."""
        self._through_s[thread] = now_s
