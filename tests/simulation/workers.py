"""Workers as processes: fake ones that take their time, dial in, stop, die and come back with nothing."""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Protocol, TypeGuard

from benchmarks.by_hand import Model
from cluster.launch.link_server import SILENCE_S, Attachments
from longtake.core.effects import Discard, EncodeText, Forget, Give, LoadImage, PrepareStream, Stow, Take
from longtake.core.work import ImageId, Loss, SlotId
from tests.simulation.agenda import Action, Agenda
from tests.simulation.failing import FailingWorker, Failures
from tests.simulation.faults import Job, Phase, jobs_of
from tests.simulation.links import Pipe
from workers.messages import Decode, Down, EncodeGiven, ImageOrder, Introduction, JoinChain, Shutdown, Task, Up
from workers.simulated.fake import FakeWorker, Image
from workers.simulated.lanes import SimulatedLanes

PATIENCE_S = 2.0
"""How long a worker waits for another one that is to give or take an image."""
LOOK_S = 0.01

Queued = Task | PrepareStream | EncodeGiven | EncodeText | Forget | Stow


class Cell(Protocol):
    """What workers share."""

    agenda: Agenda
    draw: random.Random
    transit: dict[ImageId, Image]
    image_failures: float
    """The share of orders about images that fail."""
    failures: Failures

    @property
    def models(self) -> Sequence[Model]:
        """Of the cell's recipes."""
        ...

    @property
    def attachments(self) -> Attachments | None:
        """Whom workers dial in to; None while there is no server."""
        ...

    def settle(self) -> None:
        """Let the engine handle what has come."""
        ...

    def moment(self, job: Job, phase: Phase) -> None:
        """A moment of a job is there."""
        ...


@dataclass(frozen=True, slots=True)
class Parcel:
    """A report on its way, and the jobs that it reports."""

    report: Up
    jobs: tuple[Job, ...]


class WorkerLink:
    """One link of a worker, from its dialling in to the end (cluster.cell.attached.Port)."""

    def __init__(self, worker: SimulatedProcess, cell: Cell) -> None:
        self._worker = worker
        self._cell = cell
        self.down: Pipe[Down] = Pipe(cell.agenda, self._arrived_down, lambda: cell.draw.uniform(0.0002, 0.004))
        self.up: Pipe[Parcel] = Pipe(cell.agenda, self._arrived_up, lambda: cell.draw.uniform(0.0002, 0.004))
        self.is_over = False
        """Whether the engine has given it up."""
        self._attachments: Attachments | None = None

    def attach(self) -> None:
        """The worker's greeting has come, if there is a server."""
        attachments = self._cell.attachments
        if attachments is None:
            self._worker.cut_off(self)
            return
        self._attachments = attachments.join(self._worker.introduction, self)
        self._cell.settle()

    def send(self, message: Down) -> None:
        """See Port."""
        self.down.send(message)

    def end(self, reason: str) -> None:
        """See Port."""
        self.is_over = True
        self._cell.agenda.after(self._cell.draw.uniform(0.001, 0.1), lambda: self._worker.cut_off(self))

    def leave(self, reason: str, cause: Loss) -> None:
        """The engine's end of the link notices that it is over."""
        if self._attachments is not None:
            self._attachments.leave(self._worker.introduction.worker, self, reason, cause)
            self._cell.settle()

    def break_off(self) -> None:
        """The server has died: some of what it has sent still arrives, and nothing else."""
        if self._attachments is not None and not self.is_over:
            self.up.cut()
            self.down.cut(kept=self._cell.draw.randint(0, len(self.down)))
            self.end("the server has died")

    def stall(self, until_s: float) -> None:
        """Nothing arrives on either side until then."""
        self.down.stall(until_s)
        self.up.stall(until_s)

    def _arrived_down(self, message: Down) -> None:
        self._worker.receive(self, message)

    def _arrived_up(self, parcel: Parcel) -> None:
        assert self._attachments is not None
        self._attachments.hear(self._worker.introduction.worker, self, parcel.report)
        self._cell.settle()
        for job in () if self.is_over else parcel.jobs:
            self._cell.moment(job, Phase.TAKEN)


class SimulatedProcess:
    """One worker's process and those that follow it under its name: ops in order, images beside them."""

    def __init__(self, introduction: Introduction, cell: Cell, *, begins_s: float) -> None:
        self.introduction = introduction
        self._cell = cell
        self._life = 0
        """Counts its beginnings, so that what an earlier one had to do is not done by a later one."""
        self._idle_until_s = 0.0
        """It does nothing before: it was stopped."""
        self._held: deque[tuple[int, Action]] = deque()
        """What would have been done meanwhile, each with the life that it is of."""
        self._away_until_s = 0.0
        """It is stopped, or cannot be reached, until then."""
        self._link: WorkerLink | None = None
        self._reset()
        cell.agenda.at(begins_s, self._start)

    @property
    def is_up(self) -> bool:
        """Whether it is there, attached as far as it knows, and has nothing to do."""
        is_there = self._away_until_s <= self._cell.agenda.now_s
        return is_there and self._link is not None and not (self._link.is_over or self._ops or self._images)

    # --- its life -----------------------------------------------------------------------------------------------------

    def _start(self) -> None:
        """Begin with nothing, and dial in."""
        self._life += 1
        self._reset()
        link = self._link = WorkerLink(self, self._cell)
        self._soon(self._cell.draw.uniform(0.0, 0.05), link.attach)

    def _reset(self) -> None:
        """Hold nothing, and have nothing to do."""
        pages = self.introduction.ability.capacity
        lanes = SimulatedLanes(self._cell.models[0].geometry, pages=pages, reach=self._cell.models[0].reach)
        self.fake = FakeWorker(lanes, self._cell.transit)
        self._failing = FailingWorker(self.fake, self._cell.failures)
        self._ops: deque[Queued] = deque()
        self._images: dict[ImageId, deque[ImageOrder | PrepareStream]] = {}
        self._next_sequence = 0
        self._cleared: dict[SlotId, bool] = {}
        """Slots that nothing was decoded in since they were cleared, and whether that was in the middle of a stream."""

    def _end(self) -> WorkerLink | None:
        """End at once, and with it all that it had to do."""
        self._life += 1
        link, self._link = self._link, None
        self._ops.clear()
        self._images.clear()
        return link

    def die(self, back_after_s: float) -> None:
        """Its process ends; some of what it has sent still arrives, then the engine sees the link end, or a new one."""
        cell, link = self._cell, self._end()
        self._idle_until_s = 0.0
        if link is not None:
            link.down.cut()
            link.up.cut(kept=cell.draw.randint(0, len(link.up)))
            noticed_s = max(link.up.empty_at_s, cell.agenda.now_s + cell.draw.uniform(0.0, 0.5))
            cell.agenda.at(noticed_s, lambda: link.leave("its link broke", Loss.LINK))
        life = self._life
        cell.agenda.after(back_after_s, lambda: self._start() if self._life == life else None)

    def stop(self, lasts_s: float) -> None:
        """Its process does nothing for a while; given up by silence if that is long."""
        self._idle_until_s = max(self._idle_until_s, self._cell.agenda.now_s + lasts_s)
        self._fall_silent(lasts_s)

    def stall(self, lasts_s: float) -> None:
        """Its link carries nothing for a while; given up by silence if that is long."""
        if self._link is not None:
            self._link.stall(self._cell.agenda.now_s + lasts_s)
            self._fall_silent(lasts_s)

    def _fall_silent(self, lasts_s: float) -> None:
        link = self._link
        self._away_until_s = max(self._away_until_s, self._cell.agenda.now_s + lasts_s)
        if lasts_s > SILENCE_S and link is not None:
            self._cell.agenda.after(SILENCE_S, lambda: link.leave("it was silent", Loss.SILENCE))

    def server_died(self) -> None:
        """The server is gone, and with it the link."""
        if self._link is not None:
            self._link.break_off()

    def cut_off(self, link: WorkerLink) -> None:
        """The worker notices that the engine has given up its link: it dials in again with nothing but its weights."""
        if link is not self._link:
            return
        self._end()
        wake_s = max(self._idle_until_s, self._cell.agenda.now_s) + self._cell.draw.uniform(0.01, 0.5)
        life = self._life
        self._cell.agenda.at(wake_s, lambda: self._start() if self._life == life else None)

    def _soon(self, delay_s: float, action: Action) -> None:
        """Do something later, in this life, and not while the process is stopped: then in its turn, when it goes on."""
        life = self._life

        def act() -> None:
            if self._life != life:
                return
            if self._held or self._idle_until_s > self._cell.agenda.now_s:
                self._held.append((life, action))
                if len(self._held) == 1:
                    self._cell.agenda.at(self._idle_until_s, self._go_on)
            else:
                action()

        self._cell.agenda.after(delay_s, act)

    def _go_on(self) -> None:
        """Do what has waited for the process to go on, until it is stopped again."""
        while self._held and self._idle_until_s <= self._cell.agenda.now_s:
            life, action = self._held.popleft()
            if self._life == life:
                action()
        if self._held:
            self._cell.agenda.at(self._idle_until_s, self._go_on)

    # --- what a worker of a chain does otherwise ----------------------------------------------------------------------

    def meet(self, message: JoinChain) -> None:
        """The chain has come together."""
        raise AssertionError(f"{self.introduction.worker} is in no chain")

    def is_ready(self, message: Down) -> bool:
        """Whether it can be done, as far as others are concerned."""
        return True

    def perform(self, message: Down) -> Up | None:
        """Do it now; what there is to report."""
        return self._failing.perform(message) if isinstance(message, Task) else self.fake.perform(message)

    # --- what it is told ----------------------------------------------------------------------------------------------

    def receive(self, link: WorkerLink, message: Down) -> None:
        """Something has arrived, by the link that it has or by an older one."""
        if link is self._link:
            self._soon(0.0, lambda: self._take_up(message))

    def _take_up(self, message: Down) -> None:
        match message:
            case Stow(source=int()):
                self._images[message.image] = deque([message])  # what names the image waits until it is there
                self._queue(message)
            case Task() | EncodeText() | Forget() | EncodeGiven() | PrepareStream(image=None):
                self._queue(message)
            case Stow() | LoadImage() | Give() | Take() | Discard() | PrepareStream():
                assert message.image is not None
                orders = self._images.setdefault(message.image, deque())
                orders.append(message)
                if len(orders) == 1:
                    self._begin_image(message.image)
            case JoinChain():
                self.meet(message)
            case Shutdown():
                pass

    def _queue(self, message: Queued) -> None:
        self._ops.append(message)
        if len(self._ops) == 1:
            self._begin()

    # --- ops, one after the other -------------------------------------------------------------------------------------

    def _begin(self) -> None:
        message, draw = self._ops[0], self._cell.draw
        if not self._lives_through(jobs_of(message), Phase.BEFORE):
            return
        self._check(message)
        match message:
            case Task():
                seconds = draw.uniform(0.005, 0.02) * (1 if isinstance(message.order, Decode) else len(message.order))
            case EncodeText() | EncodeGiven():
                seconds = draw.uniform(0.001, 0.03)
            case _:
                seconds = draw.uniform(0.0, 0.003)
        self._soon(seconds, self._finish)

    def _finish(self) -> None:
        message = self._ops[0]
        if not self.is_ready(message):
            self._soon(LOOK_S, self._finish)
            return
        report = self.fake.fail(message) if self._fails(message) else self.perform(message)
        jobs = jobs_of(message)
        if not self._lives_through(jobs, Phase.AFTER):
            return
        self._ops.popleft()
        if isinstance(message, Stow | PrepareStream) and message.image is not None:
            self._image_done(message.image)
        if self._ops:
            self._soon(0.0, self._begin)
        if report is not None:
            self._report(report, jobs)

    def _check(self, message: Queued) -> None:
        """Dispatches come in order; a slot that was cleared in the middle of a stream is not taken for a new one."""
        match message:
            case Task():
                assert message.sequence == self._next_sequence, f"{self.introduction.worker}: {message.sequence}"
                self._next_sequence += 1
                if isinstance(message.order, Decode):
                    work = message.order.work
                    started = self._cleared.pop(work.slot, work.block > 0)
                    assert started == (work.block > 0), f"{work} in a slot that was prepared with started={started}"
            case PrepareStream(image=None, origin=None):
                self._cleared[message.slot] = message.started
            case PrepareStream():
                self._cleared.pop(message.slot, None)

    def _lives_through(self, jobs: tuple[Job, ...], phase: Phase) -> bool:
        """Tell of a moment; returns whether the process is still the same afterwards."""
        life = self._life
        for job in jobs:
            self._cell.moment(job, phase)
        return self._life == life

    def _report(self, report: Up, jobs: tuple[Job, ...]) -> None:
        assert self._link is not None
        self._link.up.send(Parcel(report, jobs))
        self._lives_through(jobs, Phase.REPORT)

    # --- images, beside the ops; what names one image is done in order ------------------------------------------------

    def _begin_image(self, image: ImageId) -> None:
        order = self._images[image][0]
        patience_s = self._cell.agenda.now_s + PATIENCE_S
        self._soon(self._cell.draw.uniform(0.001, 0.03), lambda: self._try_image(order, patience_s))

    def _try_image(self, order: ImageOrder | PrepareStream, patience_s: float) -> None:
        """Do an order, or wait: for an image that is being given, or for the session to be forgotten first."""
        waits = isinstance(order, Take) and order.image not in self.fake.transit
        if (waits and self._cell.agenda.now_s < patience_s) or self._is_being_forgotten(order):
            self._soon(LOOK_S, lambda: self._try_image(order, patience_s))
            return
        if isinstance(order, PrepareStream):  # slots are opened and closed among the ops
            self._queue(order)
            return
        jobs, image = jobs_of(order), order.image
        if not self._lives_through(jobs, Phase.BEFORE):
            return
        report = self.fake.fail(order) if self._fails(order) else self.perform(order)
        if not self._lives_through(jobs, Phase.AFTER):
            return
        if isinstance(order, Give):  # nobody keeps what is not taken
            self._cell.agenda.after(PATIENCE_S, partial(self.fake.transit.pop, image, None))
        self._image_done(image)
        if report is not None:
            self._report(report, jobs)

    def _fails(self, order: Queued | ImageOrder) -> TypeGuard[ImageOrder]:
        """Whether an order about an image fails."""
        return isinstance(order, ImageOrder) and self._cell.draw.random() < self._cell.image_failures

    def _is_being_forgotten(self, order: ImageOrder | PrepareStream) -> bool:
        """Whether all that is kept of its session is still to be dropped, as it was told before."""
        if isinstance(order, Discard):
            return False
        return any(isinstance(op, Forget) and op.version is None and op.session == order.session for op in self._ops)

    def _image_done(self, image: ImageId) -> None:
        self._images[image].popleft()
        if self._images[image]:
            self._begin_image(image)
        else:
            del self._images[image]
