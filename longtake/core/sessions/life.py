"""The life of a session: its states, and the one table of what moves it from one to the next."""

from __future__ import annotations

from enum import Enum

from longtake.core.errors import WrongState


class State(Enum):
    """Where a session stands."""

    QUEUED = "queued"
    """There was no room for it: it holds nothing and waits for a place."""
    OPENING = "opening"
    """Its prompt is being encoded and its decoder slot cleared."""
    RUNNING = "running"
    PAUSED = "paused"
    """The client paused it: no further block starts, blocks begun are finished and sent."""
    PARKING = "parking"
    """Its lanes and its decoder slot are copied to host memory, or what is left of its place is given up."""
    PARKED = "parked"
    """It holds no page, slot or rate; what it needs to go on, if it ever ran, lies in host memory or in the journal."""
    RESTORING = "restoring"
    """It has a place again and its state comes back to it."""
    FINISHING = "finishing"
    """The server drains: the session behaves as if paused, then it ends."""
    CLOSING = "closing"
    """The client has been told that it ended; ops in flight are waited for, then its pages are free."""
    CLOSED = "closed"


GENERATING = (State.RUNNING, State.PAUSED, State.FINISHING)
"""States in which blocks may be under way."""


class Trigger(Enum):
    """What moves a session from state to state."""

    ADMIT = "admit"
    READY = "ready"
    PAUSE = "pause"
    PLAY = "play"
    PARK = "park"
    STOWED = "stowed"
    LOSE = "lose"
    """A part of its place is lost, and there is no room for that elsewhere."""
    RESTORE = "restore"
    RESTORED = "restored"
    DRAIN = "drain"
    END = "end"
    QUIET = "quiet"
    """Nothing that names its pages or its slot is in flight any more."""


TRANSITIONS: dict[State, dict[Trigger, State]] = {
    State.QUEUED: {
        Trigger.PAUSE: State.QUEUED,
        Trigger.PLAY: State.QUEUED,
        Trigger.ADMIT: State.OPENING,
        Trigger.END: State.CLOSING,
    },
    State.OPENING: {
        Trigger.PAUSE: State.OPENING,
        Trigger.PLAY: State.OPENING,
        Trigger.READY: State.RUNNING,
        Trigger.LOSE: State.PARKING,
        Trigger.END: State.CLOSING,
    },
    State.RUNNING: {
        Trigger.PAUSE: State.PAUSED,
        Trigger.PLAY: State.RUNNING,
        Trigger.PARK: State.PARKING,
        Trigger.DRAIN: State.FINISHING,
        Trigger.LOSE: State.PARKING,
        Trigger.END: State.CLOSING,
    },
    State.PAUSED: {
        Trigger.PAUSE: State.PAUSED,
        Trigger.PLAY: State.RUNNING,
        Trigger.PARK: State.PARKING,
        Trigger.DRAIN: State.FINISHING,
        Trigger.LOSE: State.PARKING,
        Trigger.END: State.CLOSING,
    },
    State.PARKING: {
        Trigger.PAUSE: State.PARKING,
        Trigger.PLAY: State.PARKING,
        Trigger.STOWED: State.PARKED,
        Trigger.RESTORE: State.RESTORING,
        Trigger.LOSE: State.PARKING,
        Trigger.END: State.CLOSING,
    },
    State.PARKED: {
        Trigger.PAUSE: State.PARKED,
        Trigger.PLAY: State.PARKED,
        Trigger.RESTORE: State.RESTORING,
        Trigger.END: State.CLOSING,
    },
    State.RESTORING: {
        Trigger.PAUSE: State.RESTORING,
        Trigger.PLAY: State.RESTORING,
        Trigger.RESTORED: State.PAUSED,
        Trigger.LOSE: State.PARKING,
        Trigger.END: State.CLOSING,
    },
    State.FINISHING: {Trigger.DRAIN: State.FINISHING, Trigger.END: State.CLOSING},
    State.CLOSING: {Trigger.DRAIN: State.CLOSING, Trigger.END: State.CLOSING, Trigger.QUIET: State.CLOSED},
    State.CLOSED: {},
}


def next_state(state: State, trigger: Trigger) -> State:
    """The state after `trigger`; WrongState if the table has no such edge."""
    try:
        return TRANSITIONS[state][trigger]
    except KeyError:
        allowed = ", ".join(sorted(edge.value for edge in TRANSITIONS[state])) or "nothing"
        message = f"{trigger.value} is not possible while the session is {state.value}; allowed: {allowed}"
        raise WrongState(message) from None
