"""How many sessions there are of each kind, without a word about any single one."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Self

from longtake.core.flow import Pace
from longtake.core.sessions.life import State
from longtake.core.sessions.session import Session


@dataclass(frozen=True, slots=True, kw_only=True)
class Census:
    """The numbers of sessions at one moment; kinds without any session are left out."""

    sessions: Mapping[tuple[State, Pace], int]
    stalled: Mapping[Pace, int]
    """Running sessions that generate nothing because their client gives no credit."""
    detached: int
    """Sessions whose client is away."""

    @classmethod
    def of(cls, sessions: Iterable[Session]) -> Self:
        """Count `sessions`, which may be tens of thousands.

        Members of an enum are told apart by identity here, because their hash costs more than everything else.
        """
        held = list(sessions)
        counts = Counter([(id(session.state), id(session.request.pace)) for session in held])
        kinds = {(id(state), id(pace)): (state, pace) for state in State for pace in Pace}
        running = [session for session in held if session.state is State.RUNNING]
        return cls(
            sessions={kinds[kind]: count for kind, count in counts.items()},
            detached=sum([session.presence.is_away for session in held]),
            stalled=Counter(session.request.pace for session in running if is_stalled(session)),
        )


def is_stalled(session: Session) -> bool:
    """Whether the session would generate, but has sent all it has begun and lacks the credit to begin more."""
    return session.state is State.RUNNING and session.is_at_rest and not session.wants_place
