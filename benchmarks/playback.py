"""When a client's screen shows a segment, and how late a segment comes for it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(slots=True)
class Playback:
    """A screen that begins `buffer_s` after the first segment came, and stops while a late one is missing."""

    buffer_s: float
    _since_s: float | None = None
    """When the stream's first picture is shown, or would have been; moved on by every stall."""

    def lateness_s(self, came_s: float, start_s: float) -> float:
        """How late a segment comes that begins at `start_s` of the stream, 0 if it is in time; the screen waits."""
        if self._since_s is None:
            self._since_s = came_s + self.buffer_s - start_s
        lateness_s = max(0.0, came_s - (self._since_s + start_s))
        self._since_s += lateness_s
        return lateness_s

    def shown_s(self, start_s: float) -> float:
        """When the segment that begins at `start_s` is shown; a first one must have come."""
        assert self._since_s is not None
        return self._since_s + start_s
