"""The engine: the only place where clock, network and decision meet.

Theory of operation. Everything that happens becomes an event in one inbox. For each event the scheduler names the
effects, the engine performs them without waiting (every peer has a bounded outbox), and what comes of them returns as
another event. The engine decides nothing: it moves bytes between workers, journal and clients as the effects say.

`step` handles one event from end to end; only `run` waits, for the next event. Clock and inbox are passed in, so
whoever steps drives a whole engine by hand, in a time of their own. All methods are called on one thread.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import replace

from cluster.cell.answers import Answers
from cluster.cell.attached import Attached, Port, Roster, event_of, gift_of, order_of
from cluster.cell.clients import Clients
from cluster.cell.durability import Released, Told
from cluster.cell.inbox import Inbox
from cluster.cell.journal import Journal
from cluster.cell.keeping import Keeping
from cluster.cell.outbox import Outbox, SegmentOut
from cluster.cell.ticking import Ticks
from cluster.journal.writer import Reached
from longtake.core.adoption import Adopted, AdoptFailed, Diverged, StepsSettled
from longtake.core.effects import (
    Closed,
    CueAccepted,
    CueApplied,
    CueSuperseded,
    Discard,
    Dispatch,
    DropJournal,
    Effect,
    Emit,
    EncodeText,
    Forget,
    Give,
    GiveUp,
    Inherit,
    LoadImage,
    Notice,
    PrepareStream,
    Recovered,
    Refused,
    RequestRefused,
    Stow,
    Take,
    Trim,
    Worked,
)
from longtake.core.endings import AtDeadline, Ending
from longtake.core.events import (
    Ack,
    Attach,
    Close,
    Detach,
    Drain,
    Event,
    OpDone,
    OpFailed,
    Pause,
    Play,
    Tick,
    WorkerJoined,
    WorkerLost,
)
from longtake.core.openings import AttachRefused, Opened, Resumed
from longtake.core.parts import EncodePictures
from longtake.core.scheduler import Scheduler
from longtake.core.work import (
    Batch,
    ConditioningRef,
    ConnectionNumber,
    DecodeWork,
    DispatchNumber,
    ForwardWork,
    Loss,
    SessionId,
    Work,
    WorkerId,
)
from monitoring.folding.histogram import Histogram
from monitoring.folding.recorder import AllRecorders, Recorder, Silent
from monitoring.folding.tally import Tally
from monitoring.folding.timeline import Timeline
from workers.messages import Done, Down, Failed, Heartbeat, Introduction, Task, Up


class Engine:
    """Moves events, effects and bytes between clients, scheduler and workers."""

    def __init__(
        self,
        scheduler: Scheduler,
        recorder: Recorder | None = None,
        *,
        now_s: Callable[[], float] = time.monotonic,
        inbox: Inbox | None = None,
    ) -> None:
        """`now_s` is the clock of all events that the engine makes; without `inbox` it has one of its own."""
        self.scheduler = scheduler
        self.journal = Journal()
        self.keeping = Keeping(self.journal)
        self.timeline = Timeline()
        self.tally = Tally()
        self.step_s = Histogram.of("longtake_engine_step_seconds")
        self.answers = Answers(self.submit)
        self._recorder = AllRecorders(recorder or Silent(), self.timeline, self.tally, self.answers)
        self.now_s = now_s
        """Seconds on the engine's monotonic clock, for events."""
        self._inbox = Inbox() if inbox is None else inbox
        self._ticks = Ticks(now_s, lambda at_s: self.submit(Tick(now_s=at_s)))
        self._segments: dict[tuple[WorkerId, DispatchNumber], bytes] = {}
        """Each segment, with the report that it came with, until that is handled: then it leaves or is dropped."""
        self._outputs: dict[tuple[WorkerId, DispatchNumber | None], list[tuple[ForwardWork, bytes]]] = {}
        self._workers = Roster()
        self.clients = Clients()
        self.is_draining = False
        """Whether a drain was asked for."""
        self.is_over = False
        """Whether the server ends its workers: one that leaves then is not lost."""

    # --- clients ----------------------------------------------------------------------------------------------------

    def submit(self, event: Event) -> None:
        """Put an event into the inbox; never waits."""
        self._inbox.put(event)

    def attach(self, session: SessionId, outbox: Outbox) -> None:
        """Send what concerns `session` to `outbox`, from before its Open until Refused, Moved or Closed."""
        self.clients.attach(session, outbox)

    def resume(self, session: SessionId, cursor: int | None, outbox: Outbox) -> ConnectionNumber:
        """Have the session go on with another call; what came after the segment `cursor` is sent again, to `outbox`.

        The first message there is Opened, or Refused.
        """
        connection = self.clients.arrive(cursor, outbox)
        self.submit(Attach(now_s=self.now_s(), session=session, connection=connection, cursor=cursor))
        return connection

    # --- workers ----------------------------------------------------------------------------------------------------

    def join(self, introduction: Introduction, port: Port) -> Engine:
        """Take in a worker that has dialled in; returns what it speaks with. An older link of its name is given up."""
        older = self._workers.get(introduction.worker)
        if older is not None:
            self.leave(introduction.worker, older.port, "it dialled in again", Loss.REPLACED)
        self._workers.join(introduction, port)
        self.submit(
            WorkerJoined(
                now_s=self.now_s(),
                worker=introduction.worker,
                role=introduction.role,
                ability=introduction.ability,
            )
        )
        return self

    def leave(self, worker: WorkerId, port: Port, reason: str, cause: Loss = Loss.LINK) -> None:
        """The link `port` has ended or is to be given up; nothing if it was already."""
        attached = self._workers.get(worker)
        if attached is None or attached.port is not port:
            return
        del self._workers[worker]
        port.end(reason)
        if self.is_over:
            reason, cause = "the server ends", Loss.ENDED
        self.submit(WorkerLost(now_s=self.now_s(), worker=worker, reason=reason, cause=cause))

    def broadcast(self, message: Down) -> None:
        """Send a message to every worker."""
        for attached in list(self._workers.values()):
            attached.port.send(message)

    def is_attached(self, worker: WorkerId) -> bool:
        """Whether the worker has a link now."""
        return worker in self._workers

    def vitals(self) -> dict[WorkerId, Heartbeat]:
        """What the attached workers said last of their processes; those that said nothing yet are missing."""
        return {worker: attached.vitals for worker, attached in self._workers.items() if attached.vitals is not None}

    def introductions(self) -> list[Introduction]:
        """What the attached workers said of themselves."""
        return [attached.introduction for attached in self._workers.values()]

    @property
    def drains_at_s(self) -> float:
        """When open sessions are to end, on this clock; infinity if the cell does not drain."""
        return self.scheduler.draining.deadline_s

    @property
    def inbox_events(self) -> int:
        """The number of events that wait."""
        return len(self._inbox)

    @property
    def segment_bytes(self) -> int:
        """Bytes of segments that wait with their reports."""
        return sum(map(len, self._segments.values()))

    def hear(self, worker: WorkerId, port: Port, message: Up) -> None:
        """Take what a worker said. One that breaks the order of its reports is given up."""
        attached = self._workers.get(worker)
        if attached is None or attached.port is not port:
            return
        match message:
            case Done():
                self._done(attached, message)
            case Failed():
                self._failed(attached, message)
            case Heartbeat():
                attached.vitals = message
            case _:
                if wrong := self.keeping.heard(worker, message, self.scheduler.cell.sessions):
                    self.leave(worker, port, wrong, Loss.PROTOCOL)
                else:
                    self.submit(event_of(message, worker, self.now_s()))

    def _done(self, attached: Attached, message: Done) -> None:
        work = self._reported(attached, message.sequence)
        if work is None:
            return
        if isinstance(work, DecodeWork):
            self._segments[attached.worker, message.sequence] = message.segment
        elif not self._take(attached, message, work):
            return
        self.submit(
            OpDone(
                now_s=self.now_s(),
                worker=attached.worker,
                sequence=message.sequence,
                seconds=message.seconds,
                segment_bytes=len(message.segment),
            )
        )

    def _failed(self, attached: Attached, message: Failed) -> None:
        if message.sequence is not None:
            work = self._reported(attached, message.sequence)
            if work is None:
                return
            if message.outputs and isinstance(work, tuple) and not self._take(attached, message, work):
                return
        self.submit(
            OpFailed(
                now_s=self.now_s(),
                worker=attached.worker,
                sessions=message.sessions,
                sequence=message.sequence,
                reason=message.reason,
            )
        )

    def _reported(self, attached: Attached, sequence: DispatchNumber) -> Work | None:
        """The oldest work in flight, if it is the one reported; else the worker is given up."""
        try:
            return attached.reported(sequence)
        except ValueError as error:
            self.leave(attached.worker, attached.port, str(error), Loss.PROTOCOL)
            return None

    def _take(self, attached: Attached, message: Done | Failed, batch: Batch) -> bool:
        """Take in what was sent; if there is not one output for each op that sends its own, the worker is given up."""
        sent, outputs = [work for work in batch if work.returns.are_sent], message.outputs
        if len(outputs) != len(sent):
            reason = f"it reported {len(outputs)} outputs of {len(sent)} ops that send theirs"
            self.leave(attached.worker, attached.port, reason, Loss.PROTOCOL)
            return False
        self._outputs[attached.worker, message.sequence] = [*zip(sent, outputs, strict=True)]
        return True

    def _keep(self, made: Sequence[tuple[ForwardWork, bytes]], effects: list[Effect]) -> None:
        """Journal what was sent by ops that count: what came behind one that failed starts from what is not there."""
        worked = (effect for effect in effects if isinstance(effect, Worked))
        counted = {(ticket.session, ticket.op) for effect in worked for ticket in effect.counted}
        for work, latents in made:
            if latents and (work.session, work.op) in counted and not self.keeping.latents(work, latents):
                self.submit(Diverged(now_s=self.now_s(), session=work.session, block=work.block))

    # --- the loop ---------------------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Handle events until cancelled. An exception here is a defect of ours and ends the server."""
        self._ticks.begin()
        try:
            while True:
                self.step(await self._inbox.get())
                self._ticks.wanted(self.scheduler.wakes_at_s)
        finally:
            self._ticks.end()

    def step(self, event: Event) -> None:
        """Handle one event wholly: have it decided, perform what was decided, and record both."""
        began_s = self.now_s()
        if isinstance(event, Attach):
            event = replace(event, held_from=self.clients.held_from(event.session))
        effects: list[Effect] = []
        segment = self._segments.pop((event.worker, event.sequence), b"") if isinstance(event, OpDone) else b""
        self._workers.handling(event)
        try:
            effects = self.scheduler.handle(event)
            if isinstance(event, OpDone | OpFailed):
                self._keep(self._outputs.pop((event.worker, event.sequence), ()), effects)
            for effect in effects:
                self._perform(effect, segment)
            if isinstance(event, Pause | Play):
                self.keeping.changed(event.session)
            elif isinstance(event, Ack) and not any(isinstance(effect, RequestRefused) for effect in effects):
                self.clients.acknowledged(event.session, event.segment)
                self.keeping.acknowledged(event.session, event.segment)
            elif isinstance(event, Tick):
                self._release(self.keeping.tick(event.now_s))
            self.step_s.observe(self.now_s() - began_s)
        finally:  # an event that breaks the engine is recorded too
            self._recorder.fold(event, effects)

    def written(self, reached: Reached) -> None:
        """The journal on disk has come further."""
        self._release(self.keeping.reached(reached))

    def _release(self, released: Released) -> None:
        """Tell what had to wait for the disk."""
        for told in released.told:
            self._pass_on(told)
        for session, reason in released.failed.items():
            self.submit(Close(now_s=self.now_s(), session=session, ending=Ending.FAILED, reason=reason))

    def begin_drain(self, grace_s: float = 0.0, *, end_streams: bool = False) -> None:
        """Open nothing more; after `grace_s` no session is left.

        Where there is a journal on disk streams stop then, and the next server goes on with them. Else, or with
        `end_streams`, they end with the blocks begun.
        """
        self.is_draining = True
        keeps = self.keeping.durability is not None and not end_streams
        streams = AtDeadline.KEEP if keeps else AtDeadline.END
        self.submit(Drain(now_s=self.now_s(), grace_s=grace_s, streams=streams))

    @property
    def is_drained(self) -> bool:
        """Whether it drains and nothing is open any more."""
        return self.scheduler.draining.is_done

    # --- effects ----------------------------------------------------------------------------------------------------

    def _perform(self, effect: Effect, segment: bytes) -> None:
        """Perform an effect; `segment` came with the event. Facts (longtake.core.effects.Fact) ask for nothing."""
        match effect:
            case Dispatch():
                self._dispatch(effect)
            case Emit():
                self._tell(SegmentOut(emit=effect, data=segment))
            case PrepareStream(session=session) | EncodeText(conditioning=ConditioningRef(session=session)):
                self.journal.begin(session)
                self._send(effect.worker, effect)
            case EncodePictures():
                self._send(effect.worker, gift_of(effect, self.journal))
            case Stow() | LoadImage() | Give() | Take() | Discard() | Forget():
                self._send(effect.worker, effect)
            case Adopted() | AdoptFailed() | Trim() | Inherit() | DropJournal() | StepsSettled():
                self.keeping.perform(effect, now_s=self.now_s())
            case GiveUp() if (hung := self._workers.known(effect.worker)) is not None:
                self.leave(effect.worker, hung.port, effect.reason, Loss.HANG)
            case Opened() | Resumed() | AttachRefused() | Refused() | Closed():
                self._tell(effect)
            case CueAccepted() | CueApplied() | CueSuperseded() | RequestRefused() | Recovered() | Notice():
                self._tell(effect)

    def _dispatch(self, effect: Dispatch) -> None:
        attached = self._workers.known(effect.worker)
        if attached is None:  # its loss is in the inbox behind this event
            return
        order = order_of(effect, self.journal)
        attached.sent(effect.sequence, effect.work)
        attached.port.send(Task(sequence=effect.sequence, order=order))

    def _send(self, worker: WorkerId, message: Down) -> None:
        if (attached := self._workers.known(worker)) is not None:
            attached.port.send(message)

    def _tell(self, told: Told) -> None:
        """Tell a client, once what that promises is on disk."""
        if not self.keeping.holds(told):
            self._pass_on(told)

    def _pass_on(self, told: Told) -> None:
        if isinstance(told, Opened | Resumed | AttachRefused | Refused | Closed):
            self._lost(told.session, self.clients.perform(told, self.now_s()))
        else:
            self._lost(told.session, self.clients.tell(told.session, told))

    def _lost(self, session: SessionId, connection: ConnectionNumber | None) -> None:
        """A call has lost its session, because its client reads too slowly; None: none has."""
        if connection is not None:
            self.submit(Detach(now_s=self.now_s(), session=session, connection=connection))
