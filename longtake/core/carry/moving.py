"""Moving lanes: the pages of one lane go to another worker while its stream runs on.

Theory of operation. Between two blocks a lane is nothing but its sealed pages: every op before the boundary is done,
the next one starts from noise or from latents that travel anyway. So a move is

    begin      pages are reserved at the target; the lane is held: it begins no further block
    boundary   its last op has reported: Stow, Give, Take and LoadImage go out at once: workers do them in order
    Loaded     the place is the target's, the pages at the origin are free, the hold ends

and the other lanes of the stream go on meanwhile, as far as latents between steps allow. Only pages that the next block
reads are copied; if there are none (a stream that has not begun) the lane moves at once.

A move that fails costs nothing but its time: stowing only copies, so the lane goes on where it is. What must wait is
the target: its pages may still be written until it answers the order to load them, so they stay reserved until then (or
until it is lost), even when the session has ended meanwhile. A lane counts in the load of its target from the begin.

An ended session, a lost worker and a failed image all end a move in the same way (`_abandon`); a lane whose origin was
lost is rebuilt from the journal then. Workers are held as objects, not by name: one that was lost and has joined again
is another one.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from longtake.core.cell import Cell
from longtake.core.effects import Discard, Effect, Forget, Give, LoadImage, Stow, Take
from longtake.core.errors import InternalFault
from longtake.core.events import ImageFailed, Loaded, Stowed
from longtake.core.facts import LaneMoved
from longtake.core.fleet.worker import Worker
from longtake.core.sessions.holds import Hold
from longtake.core.sessions.session import Session
from longtake.core.work import ImageId, SessionId, WorkerId


class Stage(Enum):
    """How far a move has come."""

    WAITING = "waiting"
    """The move waits until the lane is at a block boundary."""
    COPYING = "copying"
    ABANDONED = "abandoned"
    """The move was given up, but the target has not answered its order yet."""


@dataclass(slots=True)
class Move:
    """One lane on its way."""

    image: ImageId
    session: Session
    lane: int
    origin: Worker
    target: Worker
    stage: Stage = Stage.WAITING


class Mover:
    """Carries out moves; which lane goes where is decided elsewhere."""

    def __init__(self, cell: Cell) -> None:
        self._cell = cell
        self._moves: dict[ImageId, Move] = {}
        self._of_session: dict[SessionId, dict[int, Move]] = {}
        """The moves that are not abandoned, by session and lane."""

    # --- what others may ask ------------------------------------------------------------------------------------------

    def owner(self, image: ImageId) -> SessionId | None:
        """The session that this image was made for, if it was made here."""
        move = self._moves.get(image)
        return None if move is None else move.session.id

    @property
    def is_idle(self) -> bool:
        """Whether no move is under way, nor one that was abandoned."""
        return not self._moves

    def is_moving(self, session: SessionId) -> bool:
        """Whether a lane of the session is on its way."""
        return session in self._of_session

    def homes(self) -> dict[tuple[SessionId, int], WorkerId]:
        """The workers to which the lanes are on their way."""
        moves = (move for by_lane in self._of_session.values() for move in by_lane.values())
        return {(move.session.id, move.lane): move.target.id for move in moves}

    def check(self) -> None:
        """Pages are reserved for exactly the moves that are under way; InternalFault says which are not."""
        reserved = {image for worker in self._cell.workers.values() for image in worker.arriving}
        if reserved != self._moves.keys():
            raise InternalFault(f"pages are reserved for images {sorted(reserved)}, moves are {sorted(self._moves)}")

    # --- one move -----------------------------------------------------------------------------------------------------

    def begin(self, session: Session, lane: int, target: Worker) -> list[Effect]:
        """Move a lane that is not on its way yet, of a session that has not ended, to a worker that has room for it.

        The target gives the same bits as the origin: it is of the same class.
        """
        origin = self._cell.workers[session.place.lanes[lane]]
        if origin is target or origin.numerics != target.numerics or lane in self._of_session.get(session.id, {}):
            raise InternalFault(f"lane {lane} of {session.id} cannot move from {origin.id} to {target.id}")
        move = Move(next(self._cell.images), session, lane, origin, target)
        target.arriving[move.image] = target.new_table(session, self._cell.fleet.demands(session).lane)
        self._moves[move.image] = move
        self._of_session.setdefault(session.id, {})[lane] = move
        origin.moves += 1
        target.moves += 1
        self._recount(move, origin, target)
        session.lane_holds.add((lane, Hold.MOVING))
        self._withdraw(session, lane, origin)
        return self._try(move)

    def advance(self, session: Session) -> list[Effect]:
        """Go on after ops of the session were done: lanes may have come to their boundary."""
        if session.id not in self._of_session:
            return []
        return [effect for move in tuple(self._of_session[session.id].values()) for effect in self._try(move)]

    def heard(self, event: Stowed | Loaded | ImageFailed) -> list[Effect]:
        """Go on after an answer about an image of ours. Its session may go on when the move is done."""
        move = self._moves[event.image]
        if event.worker not in (move.origin.id, move.target.id) or isinstance(event, Stowed):
            return []
        failed = isinstance(event, ImageFailed)
        effects = self._abandon(move) if failed and move.stage is Stage.COPYING else []
        if event.worker != move.target.id:
            return effects  # the target still has an order to load, which it will answer
        if move.stage is Stage.COPYING:
            return self._arrive(move)
        self._forget(move)
        return effects

    def ended(self, session: Session) -> list[Effect]:
        """Give up the moves of a session that has ended."""
        effects: list[Effect] = []
        for move in tuple(self._of_session.get(session.id, {}).values()):
            effects += self._abandon(move)
        return effects

    def lost(self, worker: Worker) -> tuple[list[Effect], list[Session]]:
        """A worker has gone: moves from it and to it end, too.

        Also returned: the sessions whose lanes these were.
        """
        effects: list[Effect] = []
        sessions = []
        for move in [move for move in self._moves.values() if worker in (move.origin, move.target)]:
            if move.stage is not Stage.ABANDONED:
                sessions.append(move.session)
                effects += self._abandon(move)
            if move.target is worker and move.image in self._moves:
                self._forget(move)
        return effects, sessions

    # --- stages -------------------------------------------------------------------------------------------------------

    def _try(self, move: Move) -> list[Effect]:
        """Copy the pages if the lane has come to its boundary; before a stream has begun its reference is not there."""
        session = move.session
        is_there = session.is_opened or not session.graph.window.references
        block = session.progress.boundary(move.lane) if is_there and move.stage is Stage.WAITING else None
        if block is None:
            return []
        source = session.place.tables[move.lane].kept(block)
        if not source:
            return self._arrive(move)
        arriving = move.target.arriving[move.image]
        arriving.move_sinks(session.place.tables[move.lane].window)
        target = arriving.kept(block)
        move.stage = Stage.COPYING
        origin_id, target_id, image = move.origin.id, move.target.id, move.image
        return [
            Stow(worker=origin_id, session=session.id, image=image, source=source),
            Give(worker=origin_id, session=session.id, image=image, to=target_id),
            Take(worker=target_id, session=session.id, image=image, origin=origin_id),
            LoadImage(worker=target_id, session=session.id, image=image, target=target),
        ]

    def _arrive(self, move: Move) -> list[Effect]:
        """The lane is at its target."""
        session, origin, target = move.session, move.origin, move.target
        origin.pool.release(session.place.tables[move.lane])
        table = target.arriving.pop(move.image)
        session.place = session.place.with_lane(move.lane, target.id, table)
        if session.progress.riding is not None:
            session.progress.riding.carried()
            session.progress.riding.ride(target.joined.ability)
        target.sessions.add(session.id)
        self._end(move)
        self._done(move)
        self._cell.fleet.changed(origin, target)
        moved = LaneMoved(session=session.id, origin=origin.id, target=target.id)
        if origin.id in session.place.workers:
            return [moved]
        origin.sessions.discard(session.id)
        session.prompts.drop_worker(origin.id)
        return [moved, Forget(worker=origin.id, session=session.id, version=None)]

    def _abandon(self, move: Move) -> list[Effect]:
        """The lane stays where it is (or goes with its session)."""
        copying = move.stage is Stage.COPYING
        move.stage = Stage.ABANDONED
        self._end(move)
        self._recount(move, move.target, move.origin)
        if not copying:
            self._forget(move)
            return []
        return [
            Discard(worker=worker.id, image=move.image) for worker in (move.origin, move.target) if self._is_up(worker)
        ]

    def _end(self, move: Move) -> None:
        """The stream has nothing to do with the move any more."""
        move.origin.moves -= 1
        move.session.lane_holds.discard((move.lane, Hold.MOVING))
        moves = self._of_session[move.session.id]
        del moves[move.lane]
        if not moves:
            del self._of_session[move.session.id]

    def _forget(self, move: Move) -> None:
        """Nothing writes the pages at the target any more."""
        move.target.pool.release(move.target.arriving.pop(move.image))
        self._done(move)
        if self._is_up(move.target):
            self._cell.fleet.changed(move.target)

    def _done(self, move: Move) -> None:
        """The target has nothing to do with the move any more."""
        move.target.moves -= 1
        del self._moves[move.image]

    def _recount(self, move: Move, leaves: Worker, comes: Worker) -> None:
        demand = self._cell.fleet.demands(move.session).lane
        for worker, number in ((leaves, -1), (comes, 1)):
            worker.load.count(number, demand, realtime=move.session.is_realtime)
            if self._is_up(worker):
                self._cell.fleet.changed(worker)

    def _withdraw(self, session: Session, lane: int, worker: Worker) -> None:
        """Take what would begin a block off the ready list."""
        for number in session.graph.in_lane[lane]:
            block = session.progress.next(number)
            if session.graph.chains[number].begins_block and not session.progress.is_replay(number, block):
                ticket = session.ticket(number, block)
                if ticket in worker.ready:
                    worker.ready.drop(ticket)

    def _is_up(self, worker: Worker) -> bool:
        return self._cell.workers.get(worker.id) is worker
