"""The server's process: a real engine with its journal on disk, from its start to its death."""

from __future__ import annotations

import contextlib
import random
from collections.abc import Callable, Iterator, Sequence
from typing import Protocol

from cluster.access.owners import Owners
from cluster.adoption import Keeper
from cluster.cell.chains import Chains
from cluster.cell.engine import Engine
from cluster.cell.identity import Identity
from cluster.cell.inbox import Inbox
from cluster.cell.ticking import LONGEST_TICK_S, SHORTEST_TICK_S
from cluster.journal.reading import JournalFolder, StoredSession
from cluster.journal.writer import JournalWriter, Reached
from longtake.core.effects import DropJournal, Effect, Refused
from longtake.core.events import Ack, Event, Tick
from longtake.core.scheduler import Scheduler
from longtake.core.work import WorkerId
from monitoring.folding.recorder import AllRecorders, Recorder
from tests.simulation.agenda import Agenda
from tests.simulation.disks import DiskOfProcess, ServerDied, SimulatedDisk
from tests.simulation.faults import Job, Phase
from tests.simulation.links import Pipe

LOOK_S = 0.05
IDENTITY = Identity(model_digest="m", recipe_digest="r0", recipes={f"r{number}": f"r{number}" for number in (1, 2)})
"""The recipes of a cell are called by their numbers, the first one is what streams have that name none."""


class Cell(Recorder, Protocol):
    """What a server runs in."""

    agenda: Agenda
    draw: random.Random

    @property
    def names(self) -> Sequence[WorkerId]:
        """The workers that a server waits for when it starts."""
        ...

    def moment(self, job: Job, phase: Phase) -> None:
        """A moment of a job is there."""
        ...

    def after(self, event: Event) -> None:
        """The engine has handled an event."""
        ...

    def found(self, stored: StoredSession) -> None:
        """A session is about to be taken over."""
        ...

    def settle(self) -> None:
        """Let the engine handle what has come."""
        ...


class Server:
    """One process; the next one is another of these."""

    def __init__(self, cell: Cell, scheduler: Scheduler, disk: SimulatedDisk | None) -> None:
        agenda, draw = cell.agenda, cell.draw
        self._cell = cell
        self._inbox = Inbox()
        self.is_up = True
        self.owners = Owners()
        recorder = AllRecorders(cell, _Owned(self.owners))
        self.engine = Engine(scheduler, recorder, now_s=lambda: agenda.now_s, inbox=self._inbox)
        self.attachments = Chains(self.engine)
        """Whom workers dial in to."""
        self._ticks_at_s = self._ticked_s = agenda.now_s
        agenda.at(agenda.now_s, lambda: self._tick(self._ticks_at_s))
        if disk is None:
            return
        self._disk = DiskOfProcess(disk, lambda: self.is_up, cell.moment)
        self.writer = JournalWriter(self._disk, now_s=lambda: agenda.now_s)
        self._keeper = Keeper(self._disk, self.writer, self.engine, self.owners, IDENTITY)
        self._newest = 0
        self._reached: Pipe[Reached] = Pipe(agenda, self._written, lambda: draw.uniform(0.0001, 0.005))
        self._missing = set(cell.names)
        self._write()
        self._wait(JournalFolder(self._disk).sessions())

    def end(self) -> None:
        """The process ends."""
        self.is_up = False

    def finish(self) -> bool:
        """Write what waits, as a server does that ends in order; whether it has come to that."""
        self.writer.close()
        with contextlib.suppress(ServerDied):
            for _ in self.writer.finish():
                pass
        return self.is_up

    # --- the engine's loop ------------------------------------------------------------------------------------------

    def settle(self) -> None:
        """Handle what has come, one event after the other."""
        while self.is_up and (event := self._inbox.take()) is not None:
            self.engine.step(event)
            self._cell.after(event)
        if self.engine.scheduler.wakes_at_s < self._ticks_at_s:
            self._tick_at(max(self.engine.scheduler.wakes_at_s, self._ticked_s + SHORTEST_TICK_S))

    def _tick(self, at_s: float) -> None:
        """As the engine's own loop does."""
        if self.is_up and at_s == self._ticks_at_s:
            self._ticked_s = at_s
            self.engine.submit(Tick(now_s=at_s))
            self._tick_at(at_s + LONGEST_TICK_S)
            self._cell.settle()

    def _tick_at(self, at_s: float) -> None:
        self._ticks_at_s = max(at_s, self._cell.agenda.now_s)
        due_s = self._ticks_at_s
        self._cell.agenda.at(due_s, lambda: self._tick(due_s))

    # --- the writer's thread ----------------------------------------------------------------------------------------

    def _write(self) -> None:
        """A step of it; the next one comes when the disk lets it."""
        if not self.is_up:
            return
        try:
            reached = self.writer.step()
        except ServerDied:
            return
        if reached.number > self._newest or reached.failed:
            self._reached.send(reached)
        self._newest = reached.number
        draw = self._cell.draw
        self._cell.agenda.after(draw.uniform(0.001, draw.choice([0.01, 0.01, 0.1])), self._write)

    def _written(self, reached: Reached) -> None:
        if self.is_up:
            self.engine.written(reached)
            self._cell.settle()

    # --- taking over ------------------------------------------------------------------------------------------------

    def _wait(self, stored: Iterator[StoredSession]) -> None:
        """Wait until every worker was there once."""
        self._missing = {worker for worker in self._missing if not self.attachments.is_attached(worker)}
        self._later(lambda: self._wait(stored) if self._missing else self._take_over(stored), LOOK_S)

    def _take_over(self, stored: Iterator[StoredSession]) -> None:
        """One session after the other, as their bytes come from the disk."""
        try:
            session = next(stored, None)
        except ServerDied:
            return
        if session is None:
            self.engine.keeping.is_adopting = False
            return
        latents = self._keeper.latents(session)
        self._cell.found(session)
        self._keeper.adopt(session, session.record, latents)
        self._cell.settle()
        self._later(lambda: self._take_over(stored), self._cell.draw.uniform(0.001, 0.05))

    def _later(self, act: Callable[[], None], delay_s: float) -> None:
        self._cell.agenda.after(delay_s, lambda: act() if self.is_up else None)


class _Owned:
    """What cluster.access.tenancy.Tenancy tells the owners of sessions."""

    def __init__(self, owners: Owners) -> None:
        self._owners = owners

    def fold(self, event: Event, effects: Sequence[Effect]) -> None:
        """See Recorder."""
        if isinstance(event, Ack):
            self._owners.acknowledged(event.session, event.segment)
        for effect in effects:
            match effect:
                case Refused():
                    self._owners.forget(effect.session)
                case DropJournal():
                    self._owners.ended(effect.session, event.now_s)
                case _:
                    pass
