"""Backlogs: what clients were told and have not acknowledged, so that it can be told again after a broken call.

Theory of operation. Everything that a client is told of its session, from Opened on, is kept in the order in which it
was told until a segment after it is acknowledged. Segments are a cache of what can be made again from latents; keeping
them costs a window of them, and saves a decoder its whole memory for each call that breaks. It is bounded in bytes and
in messages: then the oldest go.
"""

from __future__ import annotations

from collections import deque
from dataclasses import replace

from cluster.cell.outbox import ClientMessage, SegmentOut
from longtake.core.effects import CueApplied
from longtake.core.openings import Opened

MOST_BYTES = 16 << 20
"""Of one session. That is more than a window of H.264, and less than one of raw pictures may be."""
MOST_MESSAGES = 128
"""Of one session: all of them, with what follows, must fit into an outbox."""


class Backlog:
    """What the client of one session was told after the last segment that it has acknowledged."""

    def __init__(self, opened: Opened) -> None:
        self._messages: deque[ClientMessage] = deque()
        self._first = opened.segment
        self.size_bytes = 0
        self.opened = opened
        self._prompt = opened.prompt
        """What was shown before the oldest message."""
        self.next_segment = opened.segment
        self.held_from = opened.segment
        """All from this segment on is here."""

    @property
    def segments(self) -> int:
        """How many segments the session has sent."""
        return self.next_segment - self._first

    def add(self, message: ClientMessage) -> None:
        """Keep a message."""
        self._messages.append(message)
        if isinstance(message, SegmentOut):
            self.next_segment = message.emit.block + 1
            self.size_bytes += len(message.data)
        while self.size_bytes > MOST_BYTES or len(self._messages) > MOST_MESSAGES:
            self._drop()

    def acknowledge(self, segment: int) -> None:
        """Drop everything up to and with this segment, if it was sent at all."""
        while self.held_from <= segment < self.next_segment:
            self._drop()

    def since(self, segment: int) -> list[ClientMessage]:
        """What is here of this segment and of all that was told after the one before."""
        messages = list(self._messages)
        for number, message in enumerate(messages):
            if isinstance(message, SegmentOut) and message.emit.block == segment - 1:
                return messages[number + 1 :]
        return messages

    def restart(self, segment: int) -> None:
        """Everything from this segment on is told anew."""
        self._prompt = self._prompt_before(segment)
        self._messages.clear()
        self.size_bytes = 0
        self.next_segment = self.held_from = segment

    def opened_at(self, segment: int) -> Opened:
        """What tells a client how the stream stands, with `segment` the next one."""
        return replace(self.opened, segment=segment, prompt=self._prompt_before(segment))

    def opened_now(self) -> Opened:
        """What tells an observer how the stream stands: it is told nothing of what has been told already."""
        return replace(self.opened, prompt=self._prompt_before(self.next_segment + 1))

    def _prompt_before(self, segment: int) -> str:
        """The prompt that holds where the receipt of a cue at this segment has not been told yet."""
        applied = [each for each in self._messages if isinstance(each, CueApplied) and each.block < segment]
        return applied[-1].prompt if applied else self._prompt

    def _drop(self) -> None:
        """Drop the oldest segment, with what was told before it: without that it would not be whole.

        Where there is no segment it is the oldest message.
        """
        message = self._take()
        while not isinstance(message, SegmentOut) and any(isinstance(each, SegmentOut) for each in self._messages):
            message = self._take()
        if isinstance(message, SegmentOut):
            self.held_from = message.emit.block + 1
            self.size_bytes -= len(message.data)

    def _take(self) -> ClientMessage:
        message = self._messages.popleft()
        if isinstance(message, CueApplied):
            self._prompt = message.prompt
        return message
