"""One cell under a fake clock: it steps the real engine by hand, and looks at everything after each event."""

from __future__ import annotations

import math
import random
from collections import deque
from collections.abc import Sequence
from functools import partial
from unittest.mock import patch

from benchmarks.by_hand import Model
from cluster.cell import backlog, durability
from cluster.cell.engine import Engine
from cluster.journal.reading import StoredSession
from cluster.journal.writer import RETRY_S
from cluster.launch.link_server import Attachments
from longtake.core.effects import Closed, CueAccepted, Effect, Emit, Recovered
from longtake.core.endings import Ending
from longtake.core.errors import Fault as Reason
from longtake.core.errors import Problem
from longtake.core.events import Event, Open, Tick
from longtake.core.openings import Opened
from longtake.core.sessions.place import NOWHERE
from longtake.core.work import Continuity, ImageId, SessionId, WorkerId
from tests.simulation import faults
from tests.simulation.agenda import Agenda
from tests.simulation.calls import Violation
from tests.simulation.chains import Generation
from tests.simulation.clients import SimulatedClient
from tests.simulation.disks import DiskTrouble, Promised, SimulatedDisk, Spell
from tests.simulation.expectation import Circumstances, check_admitted, journal_bytes
from tests.simulation.failing import Failures
from tests.simulation.faults import Fault, Job, Moment, Phase, Plan, Trouble, is_renewal
from tests.simulation.fleets import names, scheduler_of, start
from tests.simulation.leftovers import check_empty
from tests.simulation.outcome import Outcome
from tests.simulation.scenarios import Scenario
from tests.simulation.server import Server
from tests.simulation.workers import PATIENCE_S, SimulatedProcess
from workers.simulated.fake import Image

PLENTY = 128
"""So many messages are all that a client has not acknowledged."""
UNREAD_S = 3.0
"""For so long a stream whose client may not have got its end stays on disk."""
ENDS_STREAMS = 0.3
LIMIT_S = 240.0
"""By then everything must be over: no wait in a scenario comes near it."""


class World:
    """The cell of one scenario."""

    def __init__(self, made: Scenario) -> None:
        self.scenario = made
        self.agenda = Agenda()
        self.draw = random.Random(f"times {made.seed}")
        self._lags = random.Random(f"lags {made.seed}")
        self.transit: dict[ImageId, Image] = {}
        self.plan = Plan(made.faults)
        self.trace: deque[str] = deque(maxlen=400)
        """What happened last, for whoever looks for the cause of a failure."""
        self.outcome = Outcome(struck=self.plan.struck)
        self.disk = SimulatedDisk() if made.has_disk else None
        self._kept: dict[SessionId, float] = {}
        """Streams that the next server must find, and until when."""
        self._forgotten: set[SessionId] = set()
        """Streams that were over before a server died."""
        self._ended: set[SessionId] = set()
        self._is_handing_on = False
        """Whether a server that has kept its streams is about to end."""
        self._was_deceived = False
        """Whether a disk that had lied has lost what it promised."""
        self.names = tuple(names(made.fleet))
        self.server = self._new_server()
        self.generations: dict[tuple[WorkerId, int], Generation] = {}
        self.image_failures = made.image_failures
        self.failures = Failures(made.op_failures, self.draw)
        self.workers = start(made.fleet, self)
        self.clients: list[SimulatedClient] = []
        for wish in made.wishes:
            parent = None if wish.fork_of is None else self.clients[wish.fork_of]
            self.clients.append(SimulatedClient(wish, self, parent))
        for spell in made.spells:
            self.agenda.at(spell.begins_s, partial(self._trouble, spell))
        self.restarts = 0
        self._was_drained = self._has_ended_streams = False
        """Whether a server was told to shut down, and whether it was to end its streams."""
        if made.drain_s is not None:
            self.agenda.at(made.drain_s, self._drain)

    # --- the engine ---------------------------------------------------------------------------------------------------

    def _new_server(self) -> Server:
        made = self.scenario
        return Server(self, scheduler_of(made.models, made.limits, made.seed), self.disk)

    @property
    def models(self) -> Sequence[Model]:
        """Of the cell's recipes."""
        return self.scenario.models

    @property
    def engine(self) -> Engine:
        """The engine that is running, or was the last to run."""
        return self.server.engine

    @property
    def attachments(self) -> Attachments | None:
        """Whom workers dial in to; None while there is no server."""
        return self.server.attachments if self.server.is_up else None

    def settle(self) -> None:
        """Have the engine handle what has come: at once, or after a while in which other things come as well."""
        if self._lags.random() < self.scenario.lag:
            self.agenda.after(self._lags.uniform(0.0, 0.02), self._settle)
        else:
            self._settle()

    def _settle(self) -> None:
        """Let the engine handle what has come, one event after the other, and look at everything in between."""
        if self.server.is_up:
            self.server.settle()
            for client in self.clients:
                client.read()

    def fold(self, event: Event, effects: Sequence[Effect]) -> None:
        """See monitoring.folding.recorder.Recorder."""
        self.outcome.events[type(event).__name__] += 1
        for effect in effects:
            self.outcome.events[type(effect).__name__] += 1
            if isinstance(effect, Recovered) and not self._may_be(effect):
                raise Violation(f"all workers give the same bits, and yet: {effect}")
            match effect:
                case Closed():
                    self._ended.add(effect.session)
                    kept_s = {Ending.KEPT: math.inf, Ending.COMPLETED: UNREAD_S}.get(effect.ending, 0.0)
                    self._kept[effect.session] = self.agenda.now_s + kept_s
                case Opened():
                    self._kept[effect.session] = math.inf
                case CueAccepted(cue=str() as cue):
                    client = self._client_of(effect.session)
                    if effect.session == client.session:
                        client.accepted(cue, effect.block)
                case Emit() if effect.steps:
                    client = self._client_of(effect.session)
                    if effect.session == client.session:
                        client.script.loads[effect.block] = effect.load
        if not isinstance(event, Tick) or effects:
            self.trace.append(f"{self.agenda.now_s:9.4f} {event} -> {[type(effect).__name__ for effect in effects]}")

    def after(self, event: Event) -> None:
        """The engine has handled an event."""
        scheduler = self.engine.scheduler
        scheduler.check()
        if isinstance(event, Open) and event.fork is not None and scheduler.session(event.session) is not None:
            client = self._client_of(event.session)
            if client.session == event.session and client.script.parent is not None:
                kin = scheduler.inspect(event.session).kin
                client.script.first, client.has_depended = kin.first_block, kin.depends
                self.outcome.rewinds += event.fork.block is not None and not kin.depends
                client.script.parent = client.script.parent.as_it_is()
        check_admitted(event, scheduler)
        latents = self.engine.journal.sizes_bytes()["latents"]
        rewinds = self.scenario.limits.rewind_blocks
        there = {*self.engine.journal.sessions, *scheduler.cell.sessions}
        clients = map(self._client_of, sorted(there))  # one that is adopted next has its latents before
        bound = sum(journal_bytes(client.script, client.wish, rewinds) for client in clients)
        if latents > bound:
            raise Violation(f"the journal holds {latents} bytes of latents, {bound} are enough")
        if self.engine.is_drained and self._keeps_streams and not self._is_handing_on:
            self._is_handing_on = True
            server = self.server
            self.agenda.after(self.draw.uniform(0.01, 0.5), lambda: self._hand_on(server))

    # --- what befalls it ----------------------------------------------------------------------------------------------

    def _client_of(self, session: SessionId) -> SimulatedClient:
        return self.clients[int(session.partition("-")[0])]

    def moment(self, job: Job, phase: Phase) -> None:
        """A moment of a job is there: a fault may strike now."""
        if not self.server.is_up:
            return
        moment = Moment(self._client_of(job.session).wish.number, job.what, job.step, job.block, phase)
        moment = self.plan.told(moment, renews=is_renewal(self.engine.scheduler, job))
        fault = self.plan.due(moment)
        if fault is None:
            return
        if fault.victim == faults.SERVER:
            self.plan.strike(fault, moment)
            self.trace.append(f"{self.agenda.now_s:9.4f} {moment}: server {fault}")
            self._kill(fault)
            return
        victims = self._victims(fault)
        if not victims:
            return
        victim = self.draw.choice(victims)
        self.plan.strike(fault, moment)
        self.trace.append(f"{self.agenda.now_s:9.4f} {moment}: {victim.introduction.worker} {fault}")
        match fault.trouble:
            case Trouble.DIES:
                victim.die(fault.lasts_s)
            case Trouble.STOPS:
                victim.stop(fault.lasts_s)
            case Trouble.STALLS:
                victim.stall(fault.lasts_s)

    def _victims(self, fault: Fault) -> list[SimulatedProcess]:
        """The worker, or the workers of the chain, that the fault is meant for now; none if there is no such."""
        scheduler, session = self.engine.scheduler, self.clients[fault.client].session
        if scheduler.session(session) is None or (place := scheduler.inspect(session).place) is NOWHERE:
            return []
        match fault.victim:
            case faults.DECODER:
                name = place.decoder
            case faults.TEXTER:
                name = WorkerId("text-0")
            case lane:
                name = place.lanes[lane % len(place.lanes)]
        return [process for worker, process in self.workers.items() if worker.partition(".")[0] == name]

    def _hand_on(self, server: Server) -> None:
        """A server that has kept its streams ends, after it has written what waits; the next one is started later."""
        if not (server is self.server and server.is_up and server.finish()):
            return
        self._gone()
        assert self.disk is not None
        self.disk.end_process()
        self.agenda.after(self.draw.uniform(0.1, 3.0), self._restart)

    def _gone(self) -> None:
        """The server's process is there no more."""
        for client in self.clients:
            client.server_died()
        self.transit = {}  # workers meet where their server says, and that is gone with it
        for process in self.workers.values():
            process.server_died()
        now_s = self.agenda.now_s
        lost = {client.session for client in self.clients if self._kept.get(client.session, 0.0) <= now_s}
        self._forgotten |= lost
        self.server.end()

    def _kill(self, fault: Fault) -> None:
        """The server dies, and is started again later."""
        self._gone()
        if self.disk is not None and fault.trouble is Trouble.POWER:
            self._was_deceived |= self.disk.has_lied
            self.disk.crash(self.draw)
        elif self.disk is not None:
            self.disk.end_process()
        self.agenda.after(fault.lasts_s, self._restart)

    def _restart(self) -> None:
        self.restarts += 1
        self._is_handing_on = False
        self.generations.clear()
        self.server = self._new_server()

    def _may_be(self, recovered: Recovered) -> bool:
        """Whether a stream may go on so: all workers give the same bits, but a memory may be rebuilt from less."""
        folds = self._client_of(recovered.session).model.recipe.memory.folds
        return recovered.continuity in (Continuity.EXACT, *[Continuity.APPROXIMATE] * folds)

    def found(self, stored: StoredSession) -> None:
        """A session is about to be taken over: what its client was told is in it."""
        client = self._client_of(stored.record.session)
        if client.session != stored.record.session:
            return
        if not self._was_deceived:
            client.check_found({cue.cue for cue in stored.cues if cue.cue is not None})
        client.taken_over({cue.block: cue.cue for cue in stored.cues if cue.cue is not None})

    def promised(self, session: SessionId) -> Promised | None:
        """What the disk has said to hold of a session; None if there is no disk."""
        is_open = self.engine.scheduler.session(session) is not None
        ends = not is_open and session not in self._ended  # with this event: what waited is told before it is folded
        if self.disk is None or ends or not (is_open or self._kept.get(session, 0.0) > self.agenda.now_s):
            return None  # what is over is remembered, and after a while not on disk
        return self.disk.promised(session)

    def delay_s(self) -> float:
        """How long a message to or from a client is on its way."""
        return self.draw.uniform(0.0005, 0.01)

    @property
    def backlog_is_short(self) -> bool:
        """Whether the server may have forgotten what it would have to tell again."""
        return self.scenario.backlog < PLENTY or self._was_deceived

    def may_be_lost(self, session: SessionId, problem: Problem) -> bool:
        """Whether the client of this stream may be turned away for good, for this reason.

        What is held of a stream whose last segment was sent is bounded.
        """
        match problem.kind:
            case Reason.UNKNOWN_TOKEN:
                return session in self._forgotten or self._was_deceived
            case Reason.OUT_OF_RANGE:
                return session in self._ended and self.backlog_is_short
            case Reason.UNKNOWN_SESSION | Reason.DRAINING:
                return self._has_ended_streams
            case _:
                return False

    def _trouble(self, spell: Spell) -> None:
        assert self.disk is not None
        self.disk.begin(spell.trouble)
        self.trace.append(f"{self.agenda.now_s:9.4f} {spell}")
        self.agenda.after(spell.lasts_s, self.disk.heal)

    def _drain(self) -> None:
        if not self.server.is_up:
            return
        ends = self.draw.random() < ENDS_STREAMS
        self._was_drained, self._has_ended_streams = True, self.disk is None or ends
        self.engine.begin_drain(self.draw.choice([0.0, 1.0]), end_streams=ends)
        self.settle()

    @property
    def _keeps_streams(self) -> bool:
        return self.engine.scheduler.draining.keeps_streams

    def seen(self, client: SimulatedClient) -> None:
        """The client has seen another segment: who forks its stream then may begin."""
        self.outcome.segments += 1
        came = client.next - client.script.first
        for fork in self.clients:
            if fork.parent is client and fork.wish.fork_after == came:
                fork.open()

    # --- the whole of it ----------------------------------------------------------------------------------------------

    def run(self) -> Outcome:
        """Let everything happen; Violation or InternalFault says what must not be."""
        short = patch.object(backlog, "MOST_MESSAGES", self.scenario.backlog)
        with short, patch.object(durability, "UNREAD_S", UNREAD_S):
            return self._run()

    def _run(self) -> Outcome:
        until_s = 0.0
        while self.agenda.now_s < until_s or not self._is_over():
            if not self._is_over():  # images that nobody has taken are gone so long after it was
                until_s = max(self.agenda.now_s + 2 * PATIENCE_S, self._disk_is_free_s())
            self._next()
        self._settle()
        self._check_endings()
        # What could not be removed when a server started is left to the next one.
        unwritable = any(spell.trouble is DiskTrouble.READ_ONLY for spell in self.scenario.spells)
        may_leave_files = self.restarts > 0 and unwritable
        check_empty(self.engine, self.workers, self.transit, self.disk, may_leave_files=may_leave_files)
        return self.outcome

    def _disk_is_free_s(self) -> float:
        """When whatever is on disk and not wanted may be gone."""
        healed_s = max((spell.begins_s + spell.lasts_s for spell in self.scenario.spells), default=0.0)
        return max(self.agenda.now_s + UNREAD_S, healed_s) + 2 * RETRY_S

    def _next(self) -> None:
        self.agenda.next()
        if self.agenda.now_s > LIMIT_S:
            busy = [str(worker) for worker, process in self.workers.items() if not process.is_up]
            raise Violation(f"not over after {LIMIT_S:g} s: {self.engine.scheduler.sessions()}; not up: {busy}")

    def _is_over(self) -> bool:
        if (
            not self.server.is_up
            or self.engine.keeping.is_adopting
            or self.engine.scheduler.cell.sessions
            or not all(map(self._is_done, self.clients))
        ):
            return False
        attached = all(map(self.server.attachments.is_attached, self.workers))
        return attached and all(process.is_up for process in self.workers.values())

    def _is_done(self, client: SimulatedClient) -> bool:
        """Whether nothing more comes of a client; a fork may never have begun."""
        return client.is_over or (client.parent is not None and not client.attempts and self._is_done(client.parent))

    def _check_endings(self) -> None:
        for client in self.clients:
            ending = client.ending
            drained = self._has_ended_streams or (self._was_drained and not client.is_opened)
            self.outcome.endings[client.came_to] += 1
            if ending in (None, Ending.COMPLETED):
                continue
            circumstances = Circumstances(
                asked=client.asked_to_end,
                drained=drained,
                orphaned=self._is_orphan(client),
                unkept=bool(self.scenario.spells) and client.is_unkept,
            )
            if not circumstances.allow(ending):
                raise Violation(f"client {client.wish.number}: its stream ended, {ending.value}")

    def _is_orphan(self, client: SimulatedClient) -> bool:
        """Whether its stream may have ended with the one that it forks."""
        return client.has_depended and client.parent is not None and client.parent.ending is not Ending.COMPLETED
