"""Images of lanes in simulated time: every worker does its orders one after the other, at so many bytes a second."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

from longtake.core.effects import Give, LoadImage, Stow, Take
from longtake.core.work import ImageId, WorkerId
from workers.messages import Done, ImageLoaded, ImageOrder
from workers.simulated.fake import FakeWorker, Image, Report

_LOOK_S = 0.01
"""How often a worker that waits for an image looks whether it has come."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Copying:
    """How fast images are made and moved. Forwards go on beside it."""

    page_bytes: float = 287.5e6
    """K/V of one latent frame of one lane: Wan2.1-1.3B at 480x832 in 16 bits."""
    host_bytes_per_s: float = 20e9
    """Between a device and its host's memory."""
    network_bytes_per_s: float = 10e9
    """Between two hosts."""
    timeout_s: float = 10.0
    """After which a worker gives up waiting for an image."""


class Clock(Protocol):
    """What the simulation offers."""

    now_s: float

    def at(self, time_s: float, action: Callable[[], None]) -> None:
        """Do something later."""
        ...


@dataclass(slots=True)
class Images:
    """What is common to all workers of a cell."""

    clock: Clock
    copying: Copying
    report: Callable[[WorkerId, Report], None]
    transit: dict[ImageId, Image] = field(default_factory=dict)
    lanes_moved: int = 0
    bytes_moved: float = 0.0


@dataclass(slots=True)
class Copies:
    """What one worker has to do with images. When it is lost and joins again, it has other ones."""

    images: Images
    id: WorkerId
    worker: FakeWorker
    is_lost: bool = False
    _orders: deque[ImageOrder] = field(default_factory=deque)

    def order(self, order: ImageOrder) -> None:
        """An order has come to its worker."""
        self._orders.append(order)
        if len(self._orders) == 1:
            self._begin()

    def _begin(self) -> None:
        clock, copying, order = self.images.clock, self.images.copying, self._orders[0]
        match order:
            case Take():
                self._look(order.image, until_s=clock.now_s + copying.timeout_s)
            case Stow(source=tuple() as pages):
                clock.at(clock.now_s + len(pages) * copying.page_bytes / copying.host_bytes_per_s, self._end)
            case LoadImage():
                clock.at(clock.now_s + self._size_bytes(order.image) / copying.host_bytes_per_s, self._end)
            case Give():
                clock.at(clock.now_s + self._size_bytes(order.image) / copying.network_bytes_per_s, self._end)
            case _:
                clock.at(clock.now_s, self._end)

    def _size_bytes(self, image: ImageId) -> float:
        found = self.worker.images.get(image)
        return 0.0 if found is None else len(found.content) * self.images.copying.page_bytes

    def _look(self, image: ImageId, *, until_s: float) -> None:
        """Wait for an image until it has come or the patience ends."""
        clock = self.images.clock
        if image in self.worker.transit or clock.now_s >= until_s:
            self._end()
        else:
            clock.at(clock.now_s + _LOOK_S, lambda: self._look(image, until_s=until_s))

    def _end(self) -> None:
        if self.is_lost:
            return
        order = self._orders[0]
        size_bytes = self._size_bytes(order.image) if isinstance(order, LoadImage) else 0.0
        answer = self.worker.perform(order)
        if isinstance(answer, ImageLoaded):
            self.images.lanes_moved += 1
            self.images.bytes_moved += size_bytes
        if answer is not None:
            assert not isinstance(answer, Done)
            self.images.report(self.id, answer)
        self._orders.popleft()
        if self._orders:
            self._begin()
