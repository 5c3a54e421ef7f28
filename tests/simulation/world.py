"""One cell under a fake clock: it steps the real engine by hand, and looks at everything after each event."""

from __future__ import annotations

import random
from collections import Counter, deque
from collections.abc import Sequence
from dataclasses import dataclass, field

from cluster.cell.chains import Chains
from cluster.cell.engine import LONGEST_TICK_S, SHORTEST_TICK_S, Engine
from cluster.cell.inbox import Inbox
from longtake.core.effects import Effect, Recovered
from longtake.core.events import Ending, Event, Open, Tick
from longtake.core.scheduler import Scheduler
from longtake.core.sessions.place import NOWHERE
from longtake.core.work import Continuity, ImageId, SessionId, WorkerId
from tests.simulation import faults
from tests.simulation.agenda import Agenda
from tests.simulation.chains import Generation
from tests.simulation.clients import SimulatedClient, Violation, Wish
from tests.simulation.expectation import Circumstances, journal_entries
from tests.simulation.failing import Failures
from tests.simulation.faults import Fault, Job, Moment, Phase, Plan, Trouble
from tests.simulation.fleets import start
from tests.simulation.scenarios import Scenario
from tests.simulation.workers import PATIENCE_S, SimulatedProcess
from workers.simulated.fake import Image

LIMIT_S = 240.0
"""By then everything must be over: no wait in a scenario comes near it."""


@dataclass(slots=True)
class Outcome:
    """What a run has shown."""

    struck: list[tuple[Fault, Moment]]
    events: Counter[str] = field(default_factory=Counter)
    """What the engine handled and did, by type."""
    endings: Counter[str] = field(default_factory=Counter)
    segments: int = 0


class World:
    """The cell of one scenario."""

    def __init__(self, made: Scenario) -> None:
        self.scenario = made
        self.model = made.model
        self.agenda = Agenda()
        self.draw = random.Random(f"times {made.seed}")
        self.transit: dict[ImageId, Image] = {}
        self.plan = Plan(made.faults)
        self.trace: deque[str] = deque(maxlen=400)
        """What happened last, for whoever looks for the cause of a failure."""
        self.outcome = Outcome(struck=self.plan.struck)
        self._inbox = Inbox()
        scheduler = Scheduler(made.model.recipe, made.model.geometry, made.limits)
        self.engine = Engine(scheduler, self, now_s=lambda: self.agenda.now_s, inbox=self._inbox)
        self.attachments = Chains(self.engine)
        """Whom workers dial in to."""
        self._ticks_at_s = 0.0
        self._ticked_s = 0.0
        self.generations: dict[tuple[WorkerId, int], Generation] = {}
        self.image_failures = made.image_failures
        self.failures = Failures(made.op_failures, self.draw)
        self.workers = start(made.fleet, self)
        self.clients: list[SimulatedClient] = []
        for wish in made.wishes:
            parent = None if wish.fork_of is None else self.clients[wish.fork_of]
            self.clients.append(SimulatedClient(wish, self, parent))
        self.agenda.at(0.0, lambda: self._tick(0.0))
        if made.drain_s is not None:
            self.agenda.at(made.drain_s, self._drain)

    # --- the engine ---------------------------------------------------------------------------------------------------

    def settle(self) -> None:
        """Let the engine handle what has come, one event after the other, and look at everything in between."""
        while (event := self._inbox.take()) is not None:
            self.engine.step(event)
            self._after(event)
        for client in self.clients:
            client.read()
        if self.engine.scheduler.wakes_at_s < self._ticks_at_s:
            self._tick_at(max(self.engine.scheduler.wakes_at_s, self._ticked_s + SHORTEST_TICK_S))

    def _tick(self, at_s: float) -> None:
        """As the engine's own loop does."""
        if at_s == self._ticks_at_s:
            self._ticked_s = at_s
            self.engine.submit(Tick(now_s=at_s))
            self._tick_at(at_s + LONGEST_TICK_S)
            self.settle()

    def _tick_at(self, at_s: float) -> None:
        self._ticks_at_s = max(at_s, self.agenda.now_s)
        due_s = self._ticks_at_s
        self.agenda.at(due_s, lambda: self._tick(due_s))

    def fold(self, event: Event, effects: Sequence[Effect]) -> None:
        """See monitoring.folding.recorder.Recorder."""
        self.outcome.events[type(event).__name__] += 1
        for effect in effects:
            self.outcome.events[type(effect).__name__] += 1
            if isinstance(effect, Recovered) and effect.continuity is not Continuity.EXACT:
                raise Violation(f"all workers give the same bits, and yet: {effect}")
        if not isinstance(event, Tick) or effects:
            self.trace.append(f"{self.agenda.now_s:9.4f} {event} -> {[type(effect).__name__ for effect in effects]}")

    def _after(self, event: Event) -> None:
        scheduler = self.engine.scheduler
        scheduler.check()
        if isinstance(event, Open) and event.fork is not None and scheduler.session(event.session) is not None:
            client = self._client_of(event.session)
            client.outbox.script.first = scheduler.inspect(event.session).kin.first_block
        latents = self.engine.journal.sizes_bytes()["latents"]
        bound = sum(self._journal_bytes(self._client_of(view.session).wish) for view in scheduler.sessions())
        if latents > bound:
            raise Violation(f"the journal holds {latents} bytes of latents, {bound} are enough")

    def _journal_bytes(self, wish: Wish) -> int:
        frames, channels, height, width = self.model.geometry.block_shape
        return journal_entries(self.model, wish.window) * frames * channels * height * width * 4

    # --- what befalls it ----------------------------------------------------------------------------------------------

    def _client_of(self, session: SessionId) -> SimulatedClient:
        return self.clients[int(session.partition(".")[0])]

    def moment(self, job: Job, phase: Phase) -> None:
        """A moment of a job is there: a fault may strike now."""
        moment = Moment(self._client_of(job.session).wish.number, job.what, job.step, job.block, phase)
        fault = self.plan.due(moment)
        if fault is None:
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
                name = place.lanes[lane]
        return [process for worker, process in self.workers.items() if worker.partition(".")[0] == name]

    def _drain(self) -> None:
        self.engine.begin_drain(self.draw.choice([0.0, 1.0]))
        self.settle()

    def seen(self, client: SimulatedClient) -> None:
        """The client has seen another segment: who forks its stream then may begin."""
        self.outcome.segments += 1
        came = client.next - client.outbox.script.first
        for fork in self.clients:
            if fork.parent is client and fork.wish.fork_after == came:
                fork.open()

    # --- the whole of it ----------------------------------------------------------------------------------------------

    def run(self) -> Outcome:
        """Let everything happen; Violation or InternalFault says what must not be."""
        while not self._is_over():
            self._next()
        until_s = self.agenda.now_s + 2 * PATIENCE_S  # images that nobody has taken are gone by then
        while self.agenda.now_s < until_s:
            self._next()
        self._check_endings()
        self._check_empty()
        return self.outcome

    def _next(self) -> None:
        self.agenda.next()
        if self.agenda.now_s > LIMIT_S:
            busy = [str(worker) for worker, process in self.workers.items() if not process.is_up]
            raise Violation(f"not over after {LIMIT_S:g} s: {self.engine.scheduler.sessions()}; not up: {busy}")

    def _is_over(self) -> bool:
        if self.engine.scheduler.sessions() or not all(map(self._is_done, self.clients)):
            return False
        attached = all(map(self.attachments.is_attached, self.workers))
        return attached and all(process.is_up for process in self.workers.values())

    def _is_done(self, client: SimulatedClient) -> bool:
        """Whether nothing more comes of a client; a fork may never have begun."""
        return client.is_over or (client.parent is not None and not client.attempts and self._is_done(client.parent))

    def _check_endings(self) -> None:
        for client in self.clients:
            ending = client.ending
            self.outcome.endings[client.came_to] += 1
            if ending in (None, Ending.COMPLETED):
                continue
            circumstances = Circumstances(
                asked=client.asked_to_end,
                drained=self.engine.is_draining,
                orphaned=client.parent is not None and client.parent.ending is not Ending.COMPLETED,
            )
            if not circumstances.allow(ending):
                raise Violation(f"client {client.wish.number}: its stream ended, {ending.value}")

    def _check_empty(self) -> None:
        engine = self.engine
        left: dict[str, object] = {
            "sessions": engine.scheduler.sessions(),
            "journal": engine.journal.sessions,
            "segments": engine.segment_bytes,
            "events": engine.inbox_events,
            "images on their way": tuple(self.transit),
            "units": [view for view in engine.scheduler.workers() if view.free != view.ability.capacity],
            "on workers": [
                view for view in engine.scheduler.workers() if view.sessions or view.in_flight or view.ready
            ],
            "images": [name for name, process in self.workers.items() if process.fake.images],
            "slots": [name for name, process in self.workers.items() if process.fake.states],
            "lanes": [name for name, process in self.workers.items() if process.fake.lanes.memory.sessions],
        }
        leaked = {what: held for what, held in left.items() if held}
        if leaked:
            raise Violation(f"left behind: {leaked}")
