"""Images of lanes as a cell without devices has them: what pages hold is copied by name, in the order of the orders."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

from longtake.core.effects import Discard, Give, Load, Stow, Take
from longtake.core.events import ImageFailed, Loaded, Stowed
from longtake.core.recipe.graph import Kind
from longtake.core.work import ImageId, SessionId, WorkerId

Order = Stow | Load | Give | Take | Discard
Answer = Stowed | Loaded | ImageFailed


@dataclass(frozen=True, slots=True)
class Content:
    """What was written to a page last: a latent frame of a lane, by a denoise op (scratch, mostly) or a commit op."""

    session: SessionId
    lane: int
    frame: int
    kind: Kind


@dataclass
class Images:
    """The host stores of all workers; each does its orders one after the other, when the test says."""

    pages: dict[tuple[WorkerId, int], Content | None]
    """(worker, page) -> content, shared with the cell; None: moved away, to be read by nobody."""
    orders: dict[WorkerId, deque[Order]] = field(default_factory=dict)
    stored: dict[tuple[WorkerId, ImageId], tuple[Content | None, ...]] = field(default_factory=dict)
    sent: dict[ImageId, tuple[Content | None, ...]] = field(default_factory=dict)
    sources: dict[ImageId, tuple[tuple[WorkerId, int], ...]] = field(default_factory=dict)
    moved: int = 0
    """Loads that were done."""

    def order(self, order: Order) -> None:
        self.orders.setdefault(order.worker, deque()).append(order)

    def lose(self, worker: WorkerId) -> None:
        self.orders.pop(worker, None)
        for key in [key for key in self.stored if key[0] == worker]:
            del self.stored[key]

    @property
    def ready(self) -> list[WorkerId]:
        """Workers that can do their next order now: not those that wait for an image still to be given."""
        return [worker for worker, orders in self.orders.items() if orders and not self._waits(orders[0])]

    def _waits(self, order: Order) -> bool:
        if not isinstance(order, Take) or order.image in self.sent:
            return False
        return any(isinstance(o, Give) and o.image == order.image for o in self.orders.get(order.origin, ()))

    def step(self, worker: WorkerId, *, now_s: float, fail: bool = False) -> Answer | None:
        """Do the worker's next order, or fail it if it is one that is answered; its answer, if there is one."""
        order = self.orders[worker].popleft()
        failed = ImageFailed(now_s=now_s, worker=worker, image=order.image, reason="no such image")
        match order:
            case Stow():
                if fail:
                    return failed
                assert isinstance(order.source, tuple)
                self.sources[order.image] = tuple((worker, page) for page in order.source)
                self.stored[worker, order.image] = tuple(self.pages.get(page) for page in self.sources[order.image])
                return Stowed(now_s=now_s, worker=worker, image=order.image)
            case Give():
                if (worker, order.image) in self.stored:
                    self.sent[order.image] = self.stored.pop((worker, order.image))
            case Take():
                if order.image in self.sent and not fail:
                    self.stored[worker, order.image] = self.sent[order.image]
                self.sent.pop(order.image, None)
            case Load():
                contents = self.stored.pop((worker, order.image), None)
                if contents is None:
                    return failed
                assert len(contents) == len(order.target)
                self._fill(worker, order, contents)
                return Loaded(now_s=now_s, worker=worker, image=order.image)
            case Discard():
                self.stored.pop((worker, order.image), None)
        return None

    def _fill(self, worker: WorkerId, order: Load, contents: tuple[Content | None, ...]) -> None:
        self.moved += 1
        for page, content, source in zip(order.target, contents, self.sources.pop(order.image), strict=True):
            self.pages[worker, page] = content
            if self.pages.get(source) == content:
                self.pages[source] = None
