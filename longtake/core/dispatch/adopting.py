"""Adopting: a session that another engine served goes on here, from what is known of it beside all workers.

Theory of operation. The truth of a stream is its record and its cues; latents are checkpoints. From those that are
there follows a frontier: the most blocks that may count as done, because a rebuild of every lane and of the decoder
finds all that it starts from. If latents are missing in the middle the frontier lies before them, and at worst it is 0:
then all is computed again, with the same bits. The session is taken in parked, without images, and its client is away.
What its client has consumed is not shown to it again; nobody knows how much it was sent.

A session that was promised to go on here is taken in whatever else there is. Any other is admitted as a new one is, but
for a place, which it wants when its client comes.
"""

from __future__ import annotations

from dataclasses import replace

from longtake.core.adoption import Adopted, AdoptFailed
from longtake.core.cell import Cell
from longtake.core.dispatch.admission import graph_for
from longtake.core.dispatch.attendance import Attendance
from longtake.core.effects import Effect
from longtake.core.errors import InvalidField, LongtakeError, WrongState
from longtake.core.events import Adopt
from longtake.core.sessions.draining import Draining
from longtake.core.sessions.loads import Loads
from longtake.core.sessions.place import NOWHERE, Classes
from longtake.core.sessions.prompts import REMEMBERED, Turn
from longtake.core.sessions.retention import covers
from longtake.core.sessions.session import Session
from longtake.core.sessions.ties import Kinship


def adopt(event: Adopt, cell: Cell, attendance: Attendance, draining: Draining, *, now_s: float) -> list[Effect]:
    """Take in a session, or say why that cannot be: its name is in use, there is no such recipe, or no room."""
    try:
        session, adopted = _session(event, cell)
        if not event.promised:
            draining.check_open()
            if not cell.limits.detached_s:
                raise WrongState("limits.detached_s is 0: no session waits here for its client")
            attendance.check_room(session)
    except LongtakeError as error:
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
    session.is_to_encode = False
    session.playing = event.playing
    _take_turns(session, event)
    _take_loads(session, event)
    acknowledged = max(event.acknowledged, event.first_block - 1)
    retention = cell.fleet.retention(graph)
    if graph.given_blocks and not covers(event.latents[-1], 0, graph.given_blocks):
        raise InvalidField(
            "latents", f"not all of {graph.given_blocks} blocks", "all that was given: nothing makes it again"
        )
    if graph.window.references and not event.has_reference:
        raise InvalidField("latents", "none of the reference", "all that was given: nothing makes it again")
    frontier = retention.frontier(event.latents, acknowledged=acknowledged, turns=session.prompts.turns)
    session.kin = Kinship(first_block=event.first_block, seeds=event.seeds, known_from=event.known_from)
    if max(frontier) < event.loads_known_from:
        allowed = f"those of all blocks before {event.loads_known_from}: it is not known what steps those took"
        raise InvalidField("latents", f"those that go on from block {max(frontier)}", allowed)
    session.resume_at(frontier, acknowledged=acknowledged)
    texts = retention.floors(session.progress, acknowledged=acknowledged).texts
    if texts < event.known_from:
        allowed = f"latents that blocks before {event.known_from} need not be made again for: it is not known how"
        raise InvalidField("latents", f"those that go on from block {max(frontier)}", allowed)
    session.kept = retention.found(event.latents, frontier, acknowledged=acknowledged)
    trim = session.trim(retention)
    floors, sinks, held = trim.floors, trim.sinks, trim.held
    return session, Adopted(session=session.id, frontier=max(frontier), floors=floors, sinks=sinks, held=held)


def _take_loads(session: Session, event: Adopt) -> None:
    """Under which loads its blocks were begun; InvalidField if its recipe has no such load."""
    most, blocks = session.graph.recipe.steps.most_load, [block for block, _ in event.loads]
    if blocks != sorted(set(blocks)) or any(block < 0 or not 0 <= load <= most for block, load in event.loads):
        raise InvalidField("loads", event.loads[:8], f"ascending blocks, each with a load of 0 to {most}")
    session.loads = Loads(changes=list(event.loads), known_from=event.loads_known_from)
    session.loads.settle_to(1 + max(blocks, default=-1))


def _take_turns(session: Session, event: Adopt) -> None:
    """The prompts as they were: of two cues for one block the later counts."""
    placed = [
        Turn(block=cue.block, version=cue.version, cue=cue.cue, prompt=cue.prompt, change=cue.change)
        for cue in event.cues
    ]
    turns = {turn.block: turn for turn in (Turn(block=event.first_block, version=0, cue=None), *placed)}
    first = replace(turns[min(turns)], block=0)  # whatever is missing, every block has a prompt
    session.prompts.turns = [first, *(turns[block] for block in sorted(turns)[1:])]
    session.prompts.answered = {turn.cue: turn for turn in placed[-REMEMBERED:] if turn.cue is not None}
    session.prompts.next_version = 1 + max((cue.version for cue in event.cues), default=0)
    inherited = {cue.block: cue.shot for cue in event.cues if cue.cue is None}
    session.story.retell(session.graph.shots, session.prompts.turns, 0, inherited)
