"""Images of lanes in simulated time: every worker does its orders one after the other, at so many bytes a second."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

from longtake.core.effects import Discard, Give, Load, Stow, Take
from longtake.core.events import ImageFailed, Loaded, Stowed
from longtake.core.work import ImageId, WorkerId

Order = Stow | Load | Give | Take | Discard


class Clock(Protocol):
    """What the simulation offers."""

    now_s: float

    def at(self, time_s: float, action: Callable[[], None]) -> None:
        """Do something later."""
        ...


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


@dataclass(slots=True)
class Store:
    """One worker's images and what it still has to do with them."""

    orders: deque[Order] = field(default_factory=deque)
    pages: dict[ImageId, int] = field(default_factory=dict)
    busy: bool = False


@dataclass(slots=True)
class Images:
    """The stores of all workers of a cell."""

    clock: Clock
    copying: Copying
    report: Callable[[Stowed | Loaded | ImageFailed], None]
    stores: dict[WorkerId, Store] = field(default_factory=dict)
    sent: dict[ImageId, int] = field(default_factory=dict)
    """Given and not taken yet."""
    lanes_moved: int = 0
    bytes_moved: float = 0.0

    def order(self, order: Order) -> None:
        """An order has come to its worker."""
        store = self.stores.setdefault(order.worker, Store())
        store.orders.append(order)
        if not store.busy:
            self._next(order.worker, store)

    def lose(self, worker: WorkerId) -> None:
        """The worker is gone with everything it holds."""
        self.stores.pop(worker, None)

    def _next(self, worker: WorkerId, store: Store) -> None:
        store.busy = bool(store.orders)
        if not store.orders or self.stores.get(worker) is not store:
            return
        order = store.orders.popleft()
        now_s, copying = self.clock.now_s, self.copying
        match order:
            case Stow():
                assert isinstance(order.source, tuple)
                seconds = len(order.source) * copying.page_bytes / copying.host_bytes_per_s
            case Load():
                seconds = store.pages.get(order.image, 0) * copying.page_bytes / copying.host_bytes_per_s
            case Give():
                seconds = store.pages.get(order.image, 0) * copying.page_bytes / copying.network_bytes_per_s
            case Take():
                self._take(order, store, until_s=now_s + copying.timeout_s)
                return
            case Discard():
                seconds = 0.0
        self.clock.at(now_s + seconds, lambda: self._done(order, store))

    def _take(self, order: Take, store: Store, *, until_s: float) -> None:
        """Look for the image until it has come or the patience ends; the order to load says which it was."""
        if self.stores.get(order.worker) is not store:
            return
        if order.image in self.sent:
            store.pages[order.image] = self.sent.pop(order.image)
        elif self.clock.now_s < until_s:
            self.clock.at(self.clock.now_s + 0.01, lambda: self._take(order, store, until_s=until_s))
            return
        self._next(order.worker, store)

    def _done(self, order: Stow | Load | Give | Discard, store: Store) -> None:
        worker, image, now_s = order.worker, order.image, self.clock.now_s
        if self.stores.get(worker) is not store:
            return
        match order:
            case Stow():
                store.pages[image] = len(order.source) if isinstance(order.source, tuple) else 0
                self.report(Stowed(now_s=now_s, worker=worker, image=image))
            case Load() if image in store.pages:
                self.lanes_moved += 1
                self.bytes_moved += store.pages.pop(image) * self.copying.page_bytes
                self.report(Loaded(now_s=now_s, worker=worker, image=image))
            case Load():
                self.report(ImageFailed(now_s=now_s, worker=worker, image=image, reason="it did not come"))
            case Give():
                self.sent[image] = store.pages.pop(image, 0)
            case Discard():
                store.pages.pop(image, None)
        self._next(worker, store)
