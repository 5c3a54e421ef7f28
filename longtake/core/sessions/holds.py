"""Holds: every reason why a lane begins no block."""

from __future__ import annotations

from enum import Enum


class Hold(Enum):
    """Why a lane begins no block, whatever it has done so far; whoever put it there lifts it.

    The first two are of one lane, which goes on when they are lifted. The others follow from what the session is and
    has, and hold the lane in which its blocks begin.
    """

    MOVING = "moving"
    """The pages of the lane go to another worker (carry/moving.py)."""
    SHARING = "sharing"
    """The lane is a fork's, and its parent has not come to the block where the fork begins (carry/forking.py)."""
    PLACE = "place"
    """The session holds no place: it is queued or parked (dispatch/waiting.py)."""
    CONDITION = "condition"
    """A prompt is being encoded, or the decoder slot prepared, before the stream can begin (sessions/cues.py)."""
    RESTORING = "restoring"
    """The state of the session is on its way, to host memory or back (carry/parking.py)."""
    PAUSE = "pause"
    """The client has paused the stream."""
    DRAIN = "drain"
    """The server drains, or the stream has ended (sessions/draining.py)."""
    CREDIT = "credit"
    """The client has not acknowledged enough (flow.py)."""
    PLAYBACK = "playback"
    """The stream is as far ahead of its playback clock as it may be (flow.py)."""
    DETACHED = "detached"
    """Its client is away (dispatch/attendance.py)."""
