"""What is kept of a parked session: where the image of each part lies, and which answers are awaited."""

from __future__ import annotations

from dataclasses import dataclass, field

from longtake.core.effects import Effect, Give, Take
from longtake.core.sessions.place import Homes
from longtake.core.work import ImageId, SessionId, WorkerId

SLOT = -1
"""Stands for the slot where other parts are named by their lanes."""


@dataclass(frozen=True, slots=True)
class HeldImage:
    """A copy in the host memory of `worker`."""

    id: ImageId
    worker: WorkerId
    origin: WorkerId | None = None
    """The worker from which it is, or was, on its way to that one."""

    def to(self, worker: WorkerId) -> HeldImage:
        """The same image, where it is sent to."""
        return HeldImage(self.id, worker, self.worker if worker != self.worker else None)

    def sent(self, session: SessionId, to: WorkerId) -> list[Give | Take]:
        """What has it sent to the worker that needs it."""
        if self.worker == to:
            return []
        return [
            Give(worker=self.worker, session=session, image=self.id, to=to),
            Take(worker=to, session=session, image=self.id, origin=self.worker),
        ]


@dataclass(slots=True)
class ParkedState:
    """What is known of a session from the beginning of its parking to the end of its return."""

    lanes: dict[int, HeldImage] = field(default_factory=dict)
    """The image of each lane; one that has none keeps nothing between blocks, or is rebuilt from the journal."""
    slot: HeldImage | None = None
    """That of the slot, which is rebuilt if it has none."""
    slot_is_gone: bool = False
    """Whether the slot was given up, and its image is lost."""
    owed: dict[ImageId, WorkerId] = field(default_factory=dict)
    """Images in orders that are not answered, each with the worker that is to answer."""
    gave_up: bool = False
    """An image could not be made: it stays where it is."""
    is_torn: bool = False
    """A part of its place was lost: it gives up the rest, and makes no more images."""
    preparing: bool = False
    """A decoder slot is being prepared without an image."""
    left: tuple[WorkerId, ...] = ()
    """Workers of the place that the session gave up which still keep something of it."""

    @property
    def images(self) -> tuple[HeldImage, ...]:
        return (*self.lanes.values(), *((self.slot,) if self.slot is not None else ()))

    def homes(self, lanes: int) -> Homes | None:
        """Where its images lie, if there is one of each of so many lanes, and one of the slot."""
        if self.slot is None or len(self.lanes) < lanes:
            return None
        return Homes(lanes=tuple(self.lanes[lane].worker for lane in range(lanes)), decoder=self.slot.worker)

    def drop(self, image: ImageId) -> int | None:
        """The image is used up or never came to be; returns its lane, or SLOT; None if it was neither."""
        lane = next((lane for lane, held in self.lanes.items() if held.id == image), None)
        if lane is not None:
            del self.lanes[lane]
        elif self.slot is not None and self.slot.id == image:
            self.slot = None
            return SLOT
        return lane


@dataclass(frozen=True, slots=True, kw_only=True)
class ParkingAnswer:
    """What follows from an answer about an image."""

    session: SessionId
    effects: list[Effect]
