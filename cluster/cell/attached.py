"""A worker that is joined, as the engine knows it: its port, what it is sent, what it has not reported yet, and what
it reports."""

from __future__ import annotations

from collections import Counter, deque
from typing import Protocol

from cluster.cell.journal import Journal
from longtake.core.effects import Dispatch
from longtake.core.events import (
    Event,
    ImageFailed,
    Loaded,
    PicturesEncoded,
    Stowed,
    StreamPrepared,
    TextEncoded,
    WorkerJoined,
)
from longtake.core.parts import EncodePictures
from longtake.core.work import DecodeWork, DispatchNumber, ForwardWork, FromLatent, Work, WorkerId
from workers.messages import (
    Decode,
    Down,
    Encoded,
    EncodeGiven,
    Forward,
    GivenEncoded,
    Heartbeat,
    ImageGone,
    ImageLoaded,
    ImageStowed,
    Introduction,
    Prepared,
)


class Port(Protocol):
    """The engine's end of the way to one worker."""

    def send(self, message: Down) -> None:
        """Pass a message on; never waits."""
        ...

    def end(self, reason: str) -> None:
        """The engine has given this worker up; it may dial in again."""
        ...


class Attached:
    """One worker, from its dialling in to the end of its link."""

    def __init__(self, introduction: Introduction, port: Port) -> None:
        self.introduction = introduction
        self.worker = introduction.worker
        self.port = port
        self.vitals: Heartbeat | None = None
        """What the worker said last of its process."""
        self._in_flight: deque[tuple[DispatchNumber, Work]] = deque()
        """The dispatches it has not reported, oldest first."""

    def sent(self, sequence: DispatchNumber, work: Work) -> None:
        """Note that the worker was given a dispatch."""
        self._in_flight.append((sequence, work))

    def reported(self, sequence: DispatchNumber) -> Work:
        """The work of the dispatch that the worker reports; ValueError if another dispatch is the oldest."""
        if not self._in_flight or self._in_flight[0][0] != sequence:
            expected = self._in_flight[0][0] if self._in_flight else "none"
            raise ValueError(f"it reported dispatch {sequence}, expected {expected}")
        return self._in_flight.popleft()[1]


class Roster(dict[WorkerId, Attached]):
    """The workers that have a link, by name.

    A worker may dial in again before the scheduler has heard that the one before it is gone. What is decided until then
    is meant for that one, and must not reach the new one, which holds nothing of what orders name.
    """

    def __init__(self) -> None:
        super().__init__()
        self._unheard: Counter[WorkerId] = Counter()
        """How many of the times that a worker has joined the scheduler has not handled."""

    def join(self, introduction: Introduction, port: Port) -> None:
        """Take in a worker; that it has joined is put into the inbox."""
        self[introduction.worker] = Attached(introduction, port)
        self._unheard[introduction.worker] += 1

    def handling(self, event: Event) -> None:
        """The scheduler is handling an event: if a worker has joined, orders that follow are for it."""
        if isinstance(event, WorkerJoined):
            self._unheard[event.worker] -= 1

    def known(self, worker: WorkerId) -> Attached | None:
        """The worker that orders are meant for; None if it is gone."""
        return None if self._unheard[worker] else self.get(worker)


WorkerReport = Encoded | Prepared | GivenEncoded | ImageStowed | ImageLoaded | ImageGone


def event_of(report: WorkerReport, worker: WorkerId, now_s: float) -> Event:
    """The event that a report of `worker` means."""
    match report:
        case Encoded():
            return TextEncoded(now_s=now_s, worker=worker, conditioning=report.conditioning, notice=report.notice)
        case Prepared():
            return StreamPrepared(
                now_s=now_s,
                worker=worker,
                session=report.session,
                header=report.header,
                media_type=report.media_type,
            )
        case GivenEncoded(session=session, part=part, unfit=unfit):
            return PicturesEncoded(now_s=now_s, worker=worker, session=session, part=part, unfit=unfit)
        case ImageStowed():
            return Stowed(now_s=now_s, worker=worker, image=report.image)
        case ImageLoaded():
            return Loaded(now_s=now_s, worker=worker, image=report.image)
        case ImageGone():
            return ImageFailed(now_s=now_s, worker=worker, image=report.image, reason=report.reason)


def gift_of(order: EncodePictures, journal: Journal) -> EncodeGiven:
    """What a worker is sent that is to encode a part of what a client gave: with the pictures of it."""
    return EncodeGiven(order=order, pictures=journal.pictures(order))


def order_of(dispatch: Dispatch, journal: Journal) -> tuple[Forward, ...] | Decode:
    """What a worker is sent of a dispatch: each item with the bytes that the worker lacks."""
    work = dispatch.work
    if isinstance(work, DecodeWork):
        return Decode(work=work, latents=journal.latents(work.latents))
    attach = dispatch.attach_conditioning
    return tuple(_forward(item, journal, attach=here) for item, here in zip(work, attach, strict=True))


def _forward(work: ForwardWork, journal: Journal, *, attach: bool) -> Forward:
    latents = journal.latents(work.input.ref) if isinstance(work.input, FromLatent) else b""
    conditioning = journal.conditioning(work.conditioning) if attach else b""
    return Forward(work=work, latents=latents, conditioning=conditioning)
