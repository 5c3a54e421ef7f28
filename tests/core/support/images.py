"""Images in a cell of fake workers: each worker does its orders one after the other, when the test says."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

import numpy as np

from cluster.cell.attached import event_of
from longtake.core.effects import Discard, Give, LoadImage, PrepareStream, Stow, Take
from longtake.core.events import Event
from longtake.core.work import ImageId, PageId, SlotId, WorkerId
from workers.messages import Done, ImageGone, ImageOrder
from workers.simulated.fake import FakeWorker, Image

Order = ImageOrder | PrepareStream


@dataclass
class Images:
    """What all workers have to do with images, beside their ops."""

    fakes: dict[WorkerId, FakeWorker]
    orders: dict[WorkerId, deque[Order]] = field(default_factory=dict)
    sent: dict[ImageId, Image] = field(default_factory=dict)
    """Given and not taken yet."""
    sources: dict[ImageId, Stow] = field(default_factory=dict)
    """By which order each image was made."""
    dropped: set[ImageId] = field(default_factory=set)
    """Those that were to be dropped: the lane that they were made of may have stayed, or come back."""
    loaded: dict[tuple[WorkerId, PageId], int] = field(default_factory=dict)
    """How many images had been made when a page was loaded last."""
    shares_pages: bool = False
    """There are forks, so that the pages of which an image was made may be those of others too."""
    given: int = 0
    moved: int = 0
    """Loads that were done."""

    def order(self, order: Order) -> None:
        if isinstance(order, Discard):
            self.dropped.add(order.image)
        if order.worker in self.fakes:
            self.orders.setdefault(order.worker, deque()).append(order)

    def lose(self, worker: WorkerId) -> None:
        """The worker is gone with everything it holds and has to do."""
        self.fakes.pop(worker, None)
        for order in self.orders.pop(worker, ()):
            if isinstance(order, Take):
                self.sent.pop(order.image, None)

    def wanted(self, worker: WorkerId) -> list[Order]:
        """The worker's orders, without copies that it is told to drop as soon as they are made."""
        orders = self.orders.get(worker, ())
        dropped = {order.image for order in orders if isinstance(order, Discard)}
        return [order for order in orders if not (isinstance(order, Stow) and order.image in dropped)]

    @property
    def ready(self) -> list[WorkerId]:
        """Workers that can do their next order now: not those that wait for an image still to be given."""
        return [worker for worker, orders in self.orders.items() if orders and not self._waits(orders[0])]

    def _waits(self, order: Order) -> bool:
        if not isinstance(order, Take) or order.image in self.sent:
            return False
        return any(isinstance(o, Give) and o.image == order.image for o in self.orders.get(order.origin, ()))

    def step(self, worker: WorkerId, *, now_s: float, fail: bool = False) -> Event | None:
        """Do the worker's next order, or have it fail; what is heard of it."""
        order, fake = self.orders[worker].popleft(), self.fakes[worker]
        answer = fake.fail(order) if fail else fake.perform(order)
        assert not isinstance(answer, Done)
        match order:
            case Stow():
                self.sources[order.image] = order
            case Give() if order.image in self.sent:
                self.given += 1
                if not any(isinstance(o, Take) and o.image == order.image for o in self.orders.get(order.to, ())):
                    del self.sent[order.image]  # the taker is gone
            case LoadImage() if not isinstance(answer, ImageGone):
                self.moved += 1
                self.loaded |= {(order.worker, page): len(self.sources) for page in order.target}
                if not self.shares_pages and order.image not in self.dropped:
                    self._blank(self.sources[order.image], order)
        return None if answer is None else event_of(answer, worker, now_s)

    def _blank(self, stow: Stow, load: LoadImage) -> None:
        """What a lane has left behind is to be read by nobody."""
        assert isinstance(stow.source, tuple)
        loaded, made = self.fakes[load.worker].lanes.pages, list(self.sources).index(stow.image)
        for source, target in zip(stow.source, load.target, strict=True):
            if self.loaded.get((stow.worker, source), 0) > made:
                continue  # another lane has it by now, which may hold the same
            if stow.worker in self.fakes and (stow.worker != load.worker or source not in load.target):
                left = self.fakes[stow.worker].lanes.pages
                if np.array_equal(left[source], loaded[target]):
                    left[source] = 0

    @property
    def stored(self) -> list[tuple[WorkerId, ImageId]]:
        """The images that are in the memory of workers."""
        return [(worker, image) for worker, fake in self.fakes.items() for image in fake.images]

    @property
    def slots(self) -> list[tuple[WorkerId, SlotId]]:
        """The decoder slots that are open."""
        return [(worker, slot) for worker, fake in self.fakes.items() for slot in fake.states]
