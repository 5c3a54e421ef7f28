"""Reporting: what follows for a session when its ops have reported."""

from __future__ import annotations

from longtake.core.cell import Cell
from longtake.core.dispatch.lateness import Lateness
from longtake.core.effects import Effect, Emit, GiveUp
from longtake.core.errors import UnknownPeer
from longtake.core.events import Event, OpDone, OpFailed, PicturesEncoded
from longtake.core.facts import Overdue, Renewed
from longtake.core.fleet.errands import ErrandAnswer, ErrandOrder, Thread
from longtake.core.fleet.hangs import Hangs
from longtake.core.fleet.peers import Fleet
from longtake.core.fleet.worker import Worker
from longtake.core.recipe.ops import Kind
from longtake.core.sessions import cues
from longtake.core.sessions.emitting import emit
from longtake.core.sessions.session import Session
from longtake.core.work import Ticket


class Reports:
    """Takes reported ops off their workers and counts them."""

    def __init__(self, cell: Cell) -> None:
        self._cell = cell
        self._hangs = Hangs()
        self.lateness = Lateness(cell)

    def tick(self, *, now_s: float) -> list[GiveUp | Overdue]:
        """The workers that will never answer, and the blocks that have become overdue; to be asked at every tick."""
        hung = self._hangs.look(self._cell.workers.values(), now_s=now_s)
        return [*hung, *self.lateness.tick(now_s=now_s)]

    def ordered(self, effects: list[Effect], *, now_s: float) -> list[Effect]:
        """Note with each worker what these effects order it beside ops; returns them."""
        for effect in effects:
            if isinstance(effect, ErrandOrder) and (worker := self._cell.workers.get(effect.worker)) is not None:
                worker.errands.ordered(effect, now_s=now_s)
        return effects

    def answered(self, event: Event, *, now_s: float) -> None:
        """Note with its worker what an event answers, if that is an order beside ops."""
        if isinstance(event, ErrandAnswer) and (worker := self._cell.workers.get(event.worker)) is not None:
            worker.errands.answered(event, now_s=now_s)
            if isinstance(event, PicturesEncoded | OpFailed):
                worker.clips.answered(event)

    def take(self, report: OpDone | OpFailed) -> tuple[list[Effect], tuple[Ticket, ...], list[Session]]:
        """Take a reported dispatch off its worker; returns the fact that it has worked, and its ops that count.

        Also returned: the sessions of those that do not. The time that it took is noted. There is nothing if the worker
        has gone meanwhile, or if what it reports was no dispatch. Raises UnknownPeer if another dispatch is the oldest.
        """
        worker = self._cell.workers.get(report.worker)
        if worker is None or report.sequence is None:
            return [], (), []
        if not worker.in_flight or worker.in_flight[0].sequence != report.sequence:
            expected = worker.in_flight[0].sequence if worker.in_flight else "nothing"
            raise UnknownPeer(f"worker {worker.id} reports dispatch {report.sequence}, expected {expected}")
        flying = worker.in_flight.popleft()
        worker.errands.through(Thread.COMPUTE, now_s=report.now_s)
        landed = self._landed(flying.tickets)
        if landed and isinstance(report, OpDone) and not self._makes_nothing(landed[0]):
            session = self._cell.sessions[landed[0].session]
            decoder, graph = session.request.settings.decoder, session.graph
            self._cell.fleet.measured(worker, report.seconds, len(landed), decoder, graph)
        if len(landed) == len(flying.tickets):
            return [flying.worked(report, landed)], landed, []
        late = [self._cell.sessions[ticket.session] for ticket in flying.tickets if ticket not in landed]
        return [flying.worked(report, landed)], landed, late

    def _makes_nothing(self, ticket: Ticket) -> bool:
        """Whether it was a decode for the state alone, whose time says nothing about the others."""
        session, op = self._cell.sessions[ticket.session], ticket.op
        return op.kind is Kind.DECODE and session.shown_next(op.block) > op.block

    def lose(self, worker: Worker) -> None:
        """Forget the dispatches of a worker that has gone: they will never report."""
        for flying in worker.in_flight:
            self._landed(flying.tickets)

    def _landed(self, tickets: tuple[Ticket, ...]) -> tuple[Ticket, ...]:
        """Note that these ops have reported; returns those that count because they were not taken back."""
        counted = []
        for ticket in tickets:
            session = self._cell.sessions[ticket.session]
            number = session.graph.number_of(ticket.op)
            if session.progress.mark_reported(number, ticket.op.block, ticket.attempt):
                counted.append(ticket)
        return tuple(counted)


def count(session: Session, ticket: Ticket, fleet: Fleet, lateness: Lateness, *, now_s: float) -> list[Effect]:
    """Count an op as done: its segment leaves, and what nothing will be computed from any more is dropped."""
    op, number, again = ticket.op, session.graph.number_of(ticket.op), session.progress.again
    effects: list[Effect] = []
    renewal = again.renewal(number, op.block) if again.renews(number) else None
    is_progress = session.progress.mark_done(number, op.block)
    if renewal is not None and renewal.is_recache and number not in again:
        kind = "back" if session.graph.shots.can_cut else session.graph.recipe.cues.change.value
        effects.append(Renewed(session=session.id, block=renewal.block, kind=kind))
    if is_progress and op.kind is Kind.DECODE:
        shown = emit(session, op.block, now_s=now_s) if op.block >= session.shown_from else []
        if shown and isinstance(shown[-1], Emit):
            lateness.left(session, shown[-1], now_s=now_s)
        effects = [*shown, session.trim(fleet.retention(session.graph))]
    if len(session.prompts.turns) > 1:
        effects += cues.forget(session)
    return effects
