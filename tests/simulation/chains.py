"""Workers that are one replica together: each has its own process and link, and an op passes through all of them.

The first of a chain holds the pages of all, and computes what the others would; those take their time, in their order,
and report for themselves. So whatever of a generation is mixed up with another one shows in the bytes.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Protocol

from longtake.core.effects import LoadImage, Stow
from longtake.core.work import DispatchNumber, WorkerId
from tests.simulation.workers import Cell, SimulatedProcess
from workers.messages import Done, Down, ImageLoaded, ImageStowed, Introduction, JoinChain, Seat, Task, Up


@dataclass(slots=True)
class Generation:
    """What the workers of a chain have together from one gathering to the next."""

    done: list[int]
    """How many dispatches each of them has done, by rank."""
    outputs: dict[DispatchNumber, tuple[bytes, ...]] = field(default_factory=dict)
    """What has left the first and not the last."""


class ChainCell(Cell, Protocol):
    """What the workers of chains share."""

    generations: dict[tuple[WorkerId, int], Generation]


class ChainMember(SimulatedProcess):
    """One of them."""

    def __init__(self, introduction: Introduction, cell: ChainCell, seat: Seat, *, begins_s: float) -> None:
        super().__init__(introduction, cell, begins_s=begins_s)
        self._generations = cell.generations
        self._seat = seat
        self._together: Generation | None = None

    def meet(self, message: JoinChain) -> None:
        """All are there."""
        fresh = Generation([0] * self._seat.length)
        self._together = self._generations.setdefault((self._seat.replica, message.generation), fresh)

    def is_ready(self, message: Down) -> bool:
        """Whether a dispatch has passed through the workers before."""
        if not isinstance(message, Task) or not self._seat.rank:
            return True
        assert self._together is not None
        return self._together.done[self._seat.rank - 1] > message.sequence

    def perform(self, message: Down) -> Up | None:
        """Do it, or, behind the first, do as if."""
        together, rank = self._together, self._seat.rank
        assert together is not None, f"{self.introduction.worker} was told {message} before it met the others"
        report = self.fake.perform(message) if not rank else _as_if(message)
        if isinstance(message, Task):
            together.done[rank] += 1
            if isinstance(report, Done):
                together.outputs[message.sequence] = report.outputs
            last = together.outputs.pop(message.sequence) if self._seat.is_last else ()
            return Done(sequence=message.sequence, outputs=last)
        return report


def _as_if(message: Down) -> Up | None:
    match message:
        case Stow():
            return ImageStowed(image=message.image)
        case LoadImage():
            return ImageLoaded(image=message.image)
        case _:
            return None
