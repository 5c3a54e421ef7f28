"""Opening: from what a client asks for to a session that may begin."""

from __future__ import annotations

from dataclasses import dataclass, replace

from longtake.core.carry import forking, rewinding
from longtake.core.cell import Cell
from longtake.core.dispatch.admission import graph_for
from longtake.core.effects import Effect
from longtake.core.errors import InvalidField
from longtake.core.events import Open
from longtake.core.openings import Opened
from longtake.core.recipe.graph import Graph
from longtake.core.sessions import cues, renewing
from longtake.core.sessions.life import State, Trigger
from longtake.core.sessions.place import NOWHERE
from longtake.core.sessions.session import Session


@dataclass(frozen=True, slots=True, kw_only=True)
class Petition:
    """What a client asks for, before it is let in."""

    session: Session
    """Without a place yet."""
    shares: Session | None = None
    """The session whose pages it will share, because it forks it where it is."""
    inherited: tuple[Effect, ...] = ()
    """What is to be kept for it once it is let in, because it forks the past of another."""


def petition(event: Open, cell: Cell) -> Petition:
    """The session that is asked for, and what it has of another.

    Raises InvalidField, UnknownSession, WrongState, PastGone or NoCapacity if it cannot be.
    """
    if event.session in cell.sessions:
        raise InvalidField("session", event.session, "an id that is not in use")
    parent = forking.parent_of(event, cell.sessions)
    if parent is not None:  # its state is of its parent's decoder
        settings = replace(event.settings, decoder=parent.request.settings.decoder)
        event = _by_the_clock_of(parent, replace(event, settings=settings))
    graph = graph_for(event, cell, parent)
    if parent is not None:  # and of its recipe, which the record of the session must name, and of what was given
        graph, given = _given_of(parent, event, cell)
        event = replace(event, recipe=parent.request.recipe, given_frames=given)
    geometry, flow = cell.geometry.divided(graph.blocks), cell.limits.flow_for(event)
    session = Session(request=event, graph=graph, geometry=geometry, place=NOWHERE, flow=flow)
    for request in event.cues:
        cues.note(session, request)
    if event.fork is None or parent is None:
        return Petition(session=session)
    forking.check_apart(parent)
    block = event.fork.block
    forking.check_place(block, parent)
    if block is None or forking.is_present(block, parent):
        forking.check(event, parent)
        return Petition(session=session, shares=parent)
    retention = cell.fleet.retention(graph)
    rewinding.check(event, parent, block, retention)
    return Petition(session=session, inherited=tuple(rewinding.begin(session, parent, block, retention)))


def _given_of(parent: Session, event: Open, cell: Cell) -> tuple[Graph, int]:
    """The graph of a fork, and how many latent frames are given of it: none of blocks that are its own."""
    block = None if event.fork is None else event.fork.block
    graph = parent.graph
    if block is None or block >= graph.given_blocks:
        return graph, parent.request.given_frames
    given = graph.blocks.first_frame(block)
    return cell.graph_with(cell.graphs[parent.request.recipe], given), given


def _by_the_clock_of(parent: Session, event: Open) -> Open:
    """The same request with all pictures counted from the start of `parent`, as those of a session are."""
    fork = event.fork
    if fork is None or not fork.own_clock:
        return event
    before = parent.geometry.first_picture(parent.next_block if fork.block is None else fork.block)
    return replace(
        event,
        picture_limit=None if event.picture_limit is None else event.picture_limit + before,
        cues=tuple(cue if cue.picture is None else replace(cue, picture=cue.picture + before) for cue in event.cues),
    )


def open_if_ready(session: Session, *, virtual_clock: float, now_s: float) -> list[Effect]:
    """Begin the stream if its header is there and all that its client gave is encoded, texts and pictures.

    `virtual_clock` says what others have got.
    """
    wanted = {0, *session.prompts.waiting}
    is_ready = session.header is not None and not session.is_to_encode and wanted <= session.prompts.encoded
    if session.state is not State.OPENING or not is_ready:
        return []
    session.follow(Trigger.READY)
    if not session.playing:
        session.follow(Trigger.PAUSE)
    session.start_clock(now_s=now_s)
    session.virtual_time = virtual_clock
    return tell_opened(session)


def tell_opened(session: Session) -> list[Effect]:
    """Begin the stream, with its reference if it has one; tell its client so, and which blocks take its first cues."""
    session.is_opened = True
    accepted = [effect for version in sorted(session.prompts.waiting) for effect in cues.accept(session, version)]
    if session.request.fork is None:
        renewing.place(session)
    return [opened(session, session.emitted), *accepted]


def opened(session: Session, segment: int) -> Opened:
    """What the client of a session is told of it, with `segment` the next one that it is sent."""
    return Opened(
        session=session.id,
        seed=session.request.seed,
        header=session.header or b"",
        media_type=session.media_type,
        decoder=session.request.settings.decoder,
        recipe=session.request.recipe,
        window=session.flow.window,
        pace=session.request.pace,
        picture_limit=session.request.picture_limit,
        segment=segment,
        prompt=session.prompt_at(segment),
        continuity=session.continuity,
        given_segments=session.graph.given_blocks,
    )
