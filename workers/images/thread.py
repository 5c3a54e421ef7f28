"""Images: copies of lanes and decoder slots in a worker's host memory, and the thread that makes and uses them.

Theory of operation. The thread does what arrives in the order of arrival, beside the compute thread. All it ever waits
for is a copy between device and host memory. An image that is not here yet (it is being received, or the compute thread
has yet to give up the slot) is *coming*: orders that name it wait with it, in their order, and orders that name other
images go on. Giving and receiving run on a short-lived thread each, with a process group of their own. So nothing waits
for a thread that could wait for it, whatever workers give each other at the same time: no deadlock is possible. A peer
that does not come, or dies, costs its own image after `timeout_s` and nothing else. An image that is discarded on its
way from a peer is gone at once, because that peer may hang.

Decoder slots belong to the compute thread, which alone opens and closes them. To stow one, it first does the decodes
that were ordered before, then hands the state over to be copied; to fill one, it copies what is handed to it here. What
arrives for a session that was forgotten meanwhile is dropped. The thread reports each image that was coming for that
session as gone, so that every order to stow or load is answered, whatever happens.

The threads that give and receive hold nothing but one image, so a worker that ends frees its device at once.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Protocol

import torch
from torch import Tensor

from longtake.core.effects import Discard, Forget, Give, LoadImage, PrepareStream, Stow, Take
from longtake.core.errors import InternalFault, UnknownPeer
from longtake.core.work import ImageId, PageId, SessionId
from workers.images.host_memory import HostMemory
from workers.images.transfers import TIMEOUT_S, Transfers
from workers.messages import OP_ERRORS, ImageGone, ImageLoaded, ImageStowed, Shutdown, Up, reason_of
from workers.orders import Detached, Filled

LINGER_S = 0.5
"""How long transfers that are about to end may still take when the worker ends."""


class Holder(Protocol):
    """The worker of whose pages and slots images are made."""

    @property
    def device(self) -> torch.device:
        """Where its pages and slots lie."""
        ...

    def page(self, page: PageId) -> Tensor:
        """The memory of one page, a view; IndexError or UnknownPeer if it has no such page."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """The image that `order` fills a decoder slot from."""

    order: PrepareStream
    image: ImageId


@dataclass(frozen=True, slots=True, kw_only=True)
class Missing:
    """An image that was coming will not come."""

    image: ImageId
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ImagesBroken:
    """The thread for images ended by a defect."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Arrived:
    image: ImageId
    tensors: tuple[Tensor, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Given:
    image: ImageId


_Use = LoadImage | Give | Wanted | Discard
"""What can only be done when its image is here."""

_Message = Stow | Take | _Use | Forget | Detached | Missing | _Arrived | _Given | Shutdown


@dataclass(frozen=True, slots=True, kw_only=True)
class _Image:
    session: SessionId
    tensors: tuple[Tensor, ...]
    """The image in host memory: for a lane one tensor for each page, for a slot what its worker detached."""

    taken_bytes: int
    """The host memory that they take."""

    @property
    def size_bytes(self) -> int:
        return sum(tensor.nbytes for tensor in self.tensors)


@dataclass(slots=True, kw_only=True)
class _Coming:
    session: SessionId
    peer: bool
    """Whether it comes from another worker, and not from the compute thread of this one."""
    waiting: list[_Use] = field(default_factory=list)


class ImageThread:
    """The images of one worker. It reports on a thread of its own."""

    def __init__(
        self,
        holder: Holder,
        *,
        meeting_point: str,
        report: Callable[[Up], None],
        hand_over: Callable[[Filled | ImagesBroken], None],
        timeout_s: float = TIMEOUT_S,
    ) -> None:
        """`hand_over` passes something to the compute thread."""
        self._holder = holder
        self._host = HostMemory(holder.device)
        self._transfers = Transfers(meeting_point, self._host.empty, timeout_s)
        self._report = report
        self._hand_over = hand_over
        self._inbox: queue.SimpleQueue[_Message] = queue.SimpleQueue()
        self._images: dict[ImageId, _Image] = {}
        self._coming: dict[ImageId, _Coming] = {}
        self._leaving: dict[ImageId, _Image] = {}
        """Images that are being given: gone for every order, but still in memory."""
        self.copied_out_bytes = self.copied_in_bytes = 0
        """The bytes that were copied from the device to host memory so far."""
        self._thread = threading.Thread(target=self._run, name="images", daemon=True)

    def start(self) -> None:
        """Begin to work."""
        self._thread.start()

    def put(self, message: _Message) -> None:
        """Queue a message; never waits."""
        self._inbox.put(message)

    def stop(self, timeout_s: float) -> bool:
        """Do what is queued, then end; returns whether in time. A transfer with a silent peer is left behind."""
        self._inbox.put(Shutdown())
        self._thread.join(timeout_s)
        self._transfers.join(LINGER_S)
        return not self._thread.is_alive()

    @property
    def held(self) -> dict[ImageId, SessionId]:
        """The images that are here or coming, each with its session."""
        coming = {image: entry.session for image, entry in list(self._coming.items())}
        return coming | {image: entry.session for image, entry in list(self._images.items())}

    @property
    def host_bytes(self) -> int:
        """The host memory that all images take, those that are being given included."""
        return sum(image.taken_bytes for image in (*self._images.values(), *self._leaving.values()))

    # --- on its thread ------------------------------------------------------------------------------------------------

    def _run(self) -> None:
        torch.set_num_threads(1)
        done = False
        try:
            while not isinstance(message := self._inbox.get(), Shutdown):
                self._handle(message)
            done = True
        finally:
            del self._holder  # its pages are free when its worker ends, whoever still holds on to this object
            if not done:
                self._hand_over(ImagesBroken())

    def _handle(self, message: _Message) -> None:
        match message:
            case LoadImage() | Give() | Wanted() | Discard():
                coming = self._coming.get(message.image)
                if coming is not None and coming.peer and isinstance(message, Discard):
                    self._miss(message.image, "it was discarded on its way")
                elif coming is not None:
                    coming.waiting.append(message)
                else:
                    self._attempt(message, lambda: self._use(message))
            case Stow() | Take():
                self._attempt(message, lambda: self._begin(message))
            case Detached() | _Arrived():
                self._arrive(message)
            case Missing():
                self._miss(message.image, message.reason)
            case _Given():
                del self._leaving[message.image]
            case Forget():
                self._forget(message.session)

    def _attempt(self, order: Stow | Take | _Use, act: Callable[[], None]) -> None:
        """Carry out an order, or report why that is not possible; then the image is gone."""
        try:
            act()
        except OP_ERRORS as error:
            self._images.pop(order.image, None)
            self._report(ImageGone(image=order.image, reason=reason_of(error)))

    def _begin(self, order: Stow | Take) -> None:
        """Begin an image: it comes into being, or begins to come."""
        if order.image in self.held:
            raise InternalFault(f"image {order.image} is here already")
        if isinstance(order, Take):
            inbox, image = self._inbox, order.image  # the transfer's thread keeps these alive, but not the worker
            self._transfers.take(
                order,
                arrived=lambda tensors: inbox.put(_Arrived(image=image, tensors=tensors)),
                failed=lambda reason: inbox.put(Missing(image=image, reason=reason)),
            )
            self._coming[order.image] = _Coming(session=order.session, peer=True)
        elif isinstance(order.source, tuple):
            pages = self._down(self._holder.page(page) for page in order.source)
            self._keep(order.image, order.session, pages)
            self._report(ImageStowed(image=order.image))
        else:  # the compute thread has this order too, and hands the state over
            self._coming[order.image] = _Coming(session=order.session, peer=False)

    def _keep(self, image: ImageId, session: SessionId, tensors: tuple[Tensor, ...]) -> None:
        taken_bytes = self._host.taken_bytes(tensors)
        self._images[image] = _Image(session=session, tensors=tensors, taken_bytes=taken_bytes)

    def _use(self, order: _Use) -> None:
        """Use an image that is here, which uses it up."""
        image = self._images.get(order.image)
        if image is None:
            if isinstance(order, Discard):
                return
            raise UnknownPeer(f"image {order.image} is not here")
        if isinstance(order, Give):
            self._give(order, image)
        del self._images[order.image]
        match order:
            case LoadImage():
                self._load(order, image)
                self._report(ImageLoaded(image=order.image))
            case Wanted():
                self._hand_over(Filled(image=order.image, order=order.order, tensors=image.tensors))
                self.copied_in_bytes += image.size_bytes

    def _give(self, order: Give, image: _Image) -> None:
        self._leaving[order.image] = image
        inbox = self._inbox  # see _begin
        try:
            self._transfers.give(order, image.tensors, ended=lambda: inbox.put(_Given(image=order.image)))
        except OP_ERRORS:
            del self._leaving[order.image]
            raise

    def _load(self, order: LoadImage, image: _Image) -> None:
        targets = [self._holder.page(page) for page in order.target]
        found = [(tuple(tensor.shape), tensor.dtype) for tensor in image.tensors]
        allowed = [(tuple(target.shape), target.dtype) for target in targets]
        if found != allowed:  # told before the first page is overwritten
            raise InternalFault(f"image {order.image} holds {found}, the {len(targets)} pages it is for hold {allowed}")
        self._host.fill(targets, image.tensors)
        self.copied_in_bytes += image.size_bytes

    def _down(self, tensors: Iterable[Tensor]) -> tuple[Tensor, ...]:
        copies = self._host.down(tuple(tensors))
        self.copied_out_bytes += sum(copy.nbytes for copy in copies)
        return copies

    def _arrive(self, message: Detached | _Arrived) -> None:
        coming = self._coming.get(message.image)
        if coming is None:  # it was discarded, or its session forgotten, meanwhile
            return
        tensors = message.tensors
        if isinstance(message, Detached):
            try:
                tensors = self._down(tensors)
            except OP_ERRORS as error:
                self._miss(message.image, reason_of(error))
                return
            self._report(ImageStowed(image=message.image))
        self._keep(message.image, coming.session, tensors)
        del self._coming[message.image]
        for order in coming.waiting:
            self._handle(order)

    def _miss(self, image: ImageId, reason: str) -> None:
        """Report a missing image, once for all orders that wait for it."""
        if self._coming.pop(image, None) is not None:
            self._report(ImageGone(image=image, reason=reason))

    def _forget(self, session: SessionId) -> None:
        for image in [image for image, entry in self._images.items() if entry.session == session]:
            del self._images[image]
        for image in [image for image, entry in self._coming.items() if entry.session == session]:
            del self._coming[image]
            self._report(ImageGone(image=image, reason=f"session {session} was forgotten"))
