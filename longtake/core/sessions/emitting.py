"""Emitting: a segment leaves, with the receipt of a cue that it is the first to show."""

from __future__ import annotations

from longtake.core.effects import CueApplied, Effect, Emit
from longtake.core.sessions.session import Session


def emit(session: Session, block: int, *, now_s: float) -> list[Effect]:
    """Emit the segment of `block`, and before it the receipt of a cue that it is the first to show."""
    geometry = session.geometry
    slack_s = session.flow.slack_s(block, now_s=now_s, geometry=geometry)
    is_given = block < session.graph.given_blocks
    if not is_given:  # with what is given nothing can keep up: it is there at once, or short
        session.flow = session.flow.played(block, now_s=now_s, geometry=geometry)
    is_known = not is_given and block >= session.loads.known_from
    turn = session.prompts.turn_at(block)
    segment = Emit(
        session=session.id,
        block=block,
        first_picture=geometry.first_picture(block),
        picture_count=session.picture_count(block),
        prompt_version=turn.version,
        steps=len(session.steps(block).numbers) if is_known else 0,
        load=session.loads.at(block),
        slack_s=slack_s,
        shot=session.story.at(block).number,
    )
    if turn.block == block and turn.cue is not None:
        picture = segment.first_picture
        applied = CueApplied(session=session.id, cue=turn.cue, block=block, first_picture=picture, prompt=turn.prompt)
        return [applied, segment]
    return [segment]
