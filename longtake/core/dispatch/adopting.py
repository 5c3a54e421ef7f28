"""Adopting: a session that another engine served goes on here, from what is known of it beside all workers.

Theory of operation. The truth of a stream is its record and its cues; latents are checkpoints. From those that are
there follows a frontier: the most blocks that may count as done, because a rebuild of every lane and of the decoder
finds all that it starts from. If latents are missing in the middle the frontier lies before them, and at worst it is 0:
then all is computed again, with the same bits. The session is taken in parked, without images, and its client is away.
What its client has consumed is not shown to it again; nobody knows how much it was sent.
"""

from __future__ import annotations

from longtake.core.adoption import Adopted, AdoptFailed
from longtake.core.cell import Cell
from longtake.core.dispatch.admission import graph_for
from longtake.core.dispatch.attendance import Attendance
from longtake.core.effects import Effect
from longtake.core.errors import CallerFault, InvalidField
from longtake.core.events import Adopt
from longtake.core.sessions.place import NOWHERE, Classes
from longtake.core.sessions.prompts import REMEMBERED, Turn
from longtake.core.sessions.session import Session
from longtake.core.sessions.ties import Kinship


def adopt(event: Adopt, cell: Cell, attendance: Attendance, *, now_s: float) -> list[Effect]:
    """Take in a session, or say why that cannot be: its name is in use, or there is no such recipe."""
    try:
        session, adopted = _session(event, cell)
    except CallerFault as error:
        return [AdoptFailed(session=event.request.session, problem=error.problem)]
    cell.sessions[session.id] = session
    cell.speak_for(session)
    attendance.adopted(session, now_s=now_s)
    return [adopted]


def _session(event: Adopt, cell: Cell) -> tuple[Session, Adopted]:
    request = event.request
    if request.session in cell.sessions:
        raise InvalidField("session", request.session, "an id that is not in use")
    graph = graph_for(request, cell, None)
    geometry, flow = cell.geometry.divided(graph.blocks), cell.limits.flow_for(request)
    session = Session(request=request, graph=graph, geometry=geometry, place=NOWHERE, flow=flow)
    session.classes = Classes(lanes=event.made_by.lanes, decoder=event.made_by.decoder)
    session.header, session.media_type, session.is_opened = event.header, event.media_type, True
    _take_turns(session, event)
    acknowledged = max(event.acknowledged, event.first_block - 1)
    retention = cell.fleet.retention(graph)
    frontier = retention.frontier(event.latents, acknowledged=acknowledged)
    session.kin = Kinship(first_block=event.first_block, seeds=event.seeds)
    session.resume_at(frontier, acknowledged=acknowledged)
    session.kept = retention.found(event.latents, frontier, acknowledged=acknowledged)
    trim = session.trim(retention)
    adopted = Adopted(session=session.id, frontier=max(frontier), floors=trim.floors, sinks=trim.sinks)
    return session, adopted


def _take_turns(session: Session, event: Adopt) -> None:
    """The prompts as they were: of two cues for one block the later counts."""
    placed = [Turn(block=cue.block, version=cue.version, cue=cue.cue, prompt=cue.prompt) for cue in event.cues]
    turns = {turn.block: turn for turn in (Turn(block=event.first_block, version=0, cue=None), *placed)}
    session.prompts.turns = [turns[block] for block in sorted(turns)]
    session.prompts.answered = {turn.cue: turn for turn in placed[-REMEMBERED:] if turn.cue is not None}
    session.prompts.next_version = 1 + max((cue.version for cue in event.cues), default=0)
