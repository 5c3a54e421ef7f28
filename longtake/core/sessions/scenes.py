"""Scenes: what a block of a story sees, what is committed anew where it goes back, and what a lane is rebuilt from."""

from __future__ import annotations

from typing import NamedTuple

from longtake.core.errors import InvalidField
from longtake.core.recipe.cues import Back, CueEffect
from longtake.core.recipe.ops import Op
from longtake.core.recipe.positions import Places
from longtake.core.recipe.renewals import Renewal
from longtake.core.recipe.window import Window
from longtake.core.sessions.replay import Stretch
from longtake.core.sessions.retention import Retention
from longtake.core.sessions.session import Session


def window(session: Session, block: int) -> Window:
    """What is in sight of a block."""
    return session.graph.window.of_shot(session.story.at(block), block)


def places(session: Session, block: int, seen: Window) -> Places:
    """Where the frames stand in time that a block reads whose lane has this window now: its sinks may have moved."""
    graph = session.graph
    if graph.shots.can_cut:
        return graph.recipe.positions.of(window(session, block), block)
    return graph.places(block) if seen is graph.window else graph.recipe.positions.of(seen, block)


def pages_read(session: Session, op: Op) -> int:
    """How many pages a forward reads, when it is sent."""
    graph, block = session.graph, op.block
    table = session.place.tables[graph.chain_of(op).lane or 0]
    if graph.shots.can_cut:
        seen = window(session, block)
        is_again = session.progress.is_replay(graph.number_of(op), block)
        return table.count_in(seen, block) if is_again else seen.count(block)
    return table.count(block) if table.rebuilt_from else graph.shape(block)[1]


def check_back(session: Session, change: CueEffect | None, block: int) -> None:
    """InvalidField if a cue for this block goes back to a shot that is not remembered then."""
    if not isinstance(change, Back):
        return
    rule, shot = session.graph.shots, session.story.at(block - 1)
    target = rule.target(shot, change)
    if target is None:
        first, last = shot.known[0].shot, shot.known[-1].shot
        raise InvalidField("cue.back", change.shot, f"a shot from {first} to {last}: these are remembered then")
    if not rule.room and not rule.is_sunk(target.block):
        raise InvalidField("cue.back", change.shot, "a cut: by this recipe nothing is kept of a shot when it is over")


def renewal(session: Session, block: int) -> Renewal | None:
    """What is committed anew before a block, because the story goes back there; None if it is nothing."""
    graph, shot = session.graph, session.story.at(block)
    pin = graph.shots.again(shot) if shot.first == block else None
    if pin is None:
        return None
    return Renewal(
        block=block,
        version=session.prompts.turn_at(pin.block).version,
        blocks=range(pin.block, pin.block + 1),
        kept=range(min(graph.window.sinks, graph.blocks.first_frame(pin.block))),
        window=graph.window.of_shot(shot, block),
        is_joint=False,
    )


class Rebuild(NamedTuple):
    """What is to be done once more for a lane that was lost."""

    lead: tuple[Stretch, ...]
    """For its sinks, and the first blocks of shots, where its window does not go back to them."""
    body: tuple[Stretch, ...]
    """For its window."""


def rebuild(session: Session, lane: int, retention: Retention) -> Rebuild:
    """What a lane of a story is rebuilt by.

    Of each shot, as far back as the present one depends on any, that is the first block, and before it what was
    committed anew there.
    """
    graph, until = session.graph, session.progress.done[session.graph.sealing[lane]]
    sinks, shots = min(graph.sink_blocks, until), [shot for shot in session.story.shots if shot.first < until]
    lead = [Stretch(range(sinks))]
    for shot in shots[-(retention.shots_back + 1) :]:
        again = renewal(session, shot.first)
        if again is not None:
            lead.append(Stretch(again.blocks, again))
        if shot.first >= sinks:
            lead.append(Stretch(range(shot.first, shot.first + 1)))
    begun = shots[-1].first + 1 if shots else 0
    start = max(until - retention.lane_blocks, begun, sinks)
    body = [Stretch(range(start, until))]
    is_renewed = session.progress.again.renewed.get(lane) == until
    if is_renewed and (again := renewal(session, until)) is not None:
        body.append(Stretch(again.blocks, again))
    return Rebuild(tuple(lead), tuple(body))
