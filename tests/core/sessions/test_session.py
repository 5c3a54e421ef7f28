"""The life cycle is a table: no edge is missing, none leads back from the end."""

from __future__ import annotations

import pytest

from longtake.core.errors import WrongState
from longtake.core.sessions.life import TRANSITIONS, State, Trigger, next_state


def test_every_state_can_end_and_the_end_is_final() -> None:
    assert set(TRANSITIONS) == set(State)
    assert TRANSITIONS[State.CLOSED] == {}
    for state in set(State) - {State.CLOSED, State.CLOSING}:
        ended = next_state(next_state(state, Trigger.END), Trigger.QUIET)
        assert ended is State.CLOSED


def test_an_edge_that_is_not_in_the_table_is_refused_with_what_is_possible() -> None:
    with pytest.raises(WrongState, match="play is not possible while the session is finishing; allowed: drain, end"):
        next_state(State.FINISHING, Trigger.PLAY)
    with pytest.raises(WrongState, match="allowed: nothing"):
        next_state(State.CLOSED, Trigger.END)


def test_nothing_returns_from_closing() -> None:
    assert set(TRANSITIONS[State.CLOSING].values()) == {State.CLOSING, State.CLOSED}
