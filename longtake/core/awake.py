"""Time that passes only while whoever measures it is awake: for judging the silence of others.

Whoever stood still (its process was stopped, its machine swapped or was moved, something blocked its event loop) has
heard nothing meanwhile, though others may have spoken: that lies in its buffers. Its own pause is not their silence.
"""

from __future__ import annotations

TURN_S = 0.25
"""So often whoever measures looks at the clock."""
LATE_S = 2 * TURN_S
"""A look that comes so long after the one before it says that its owner stood still."""


class Awake:
    """A clock that is looked at every TURN_S, and counts no pause of whoever looks."""

    __slots__ = ("_is_late", "_looked_s", "lasted_s")

    def __init__(self, now_s: float) -> None:
        """It begins at `now_s`, on a clock that never goes back."""
        self._looked_s = now_s
        self._is_late = False
        self.lasted_s = 0.0
        """The seconds awake until the last look."""

    def look(self, now_s: float) -> float:
        """Look at the clock; returns the seconds awake until now.

        The first look after a pause adds nothing: what came meanwhile is to be heard before silence is judged. An owner
        that is as late at the next look too is merely slow, and that look adds TURN_S, or it would wait for ever.
        """
        passed_s = now_s - self._looked_s
        was_late, self._is_late = self._is_late, passed_s > LATE_S
        if not self._is_late:
            self.lasted_s += passed_s
        elif was_late:
            self.lasted_s += TURN_S
        self._looked_s = now_s
        return self.lasted_s
