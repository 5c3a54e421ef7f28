"""Views: what others may know of a session."""

from __future__ import annotations

from dataclasses import dataclass

from longtake.core.flow import Pace
from longtake.core.sessions.holds import Hold
from longtake.core.sessions.life import State
from longtake.core.sessions.session import Session
from longtake.core.work import SessionId


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionView:
    """What others may know of a session."""

    session: SessionId
    state: State
    prompt: str
    """The one that it was opened with."""
    shown: str
    """The one that the newest segment shows, or the first one will."""
    shown_from: int
    """The block from which on that prompt holds."""
    seed: int
    window: int
    recipe: str
    """The name of its recipe, as it was asked for; empty means the cell's default."""
    pace: Pace
    segments_sent: int
    segments_acknowledged: int
    blocks_begun: int
    cues_pending: int
    attached: bool
    """Whether its client is there."""
    holds: tuple[Hold, ...]
    """Why no further block begins now; empty if one may."""


def view(session: Session, *, now_s: float) -> SessionView:
    """The public face of a session."""
    first = session.kin.first_block
    turn = session.prompts.shown_at(max(session.emitted - 1, first))
    return SessionView(
        session=session.id,
        state=session.state,
        prompt=session.request.prompt,
        shown=turn.prompt or session.request.prompt,
        shown_from=turn.block,
        seed=session.request.seed,
        window=session.flow.window,
        recipe=session.request.recipe,
        pace=session.request.pace,
        segments_sent=session.segments_sent,
        segments_acknowledged=session.flow.acknowledged + 1 - first,
        blocks_begun=session.next_block,
        cues_pending=session.cues_pending,
        attached=not session.presence.is_away,
        holds=tuple(session.holds(0, now_s=now_s)),
    )
