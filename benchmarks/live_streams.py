"""Live streams with a buffer at their clients, and what those clients see: what comes late, what they wait for, how a
stream ends."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self

from benchmarks.playback import Playback
from longtake.client import Client, StreamOptions
from longtake.client.credentials import Credentials
from longtake.client.errors import ClientError
from longtake.client.events import (
    ClosedEvent,
    ReconnectingEvent,
    RecoveredEvent,
    ResumedEvent,
    SegmentEvent,
    StreamEvent,
)
from longtake.core.errors import Unavailable

PROMPTS = (
    "a red ball circling in the fog",
    "a blue box swaying at night",
    "a green ring bobbing at dusk",
    "a yellow triangle pulsing in the snow",
)
BUFFER_S = 1.5
"""How long a player waits after its first segment, if nobody says otherwise."""
WARM = 6
"""After so many segments a stream plays: its screen has begun."""
WARM_S = 120.0
AGAIN_S = 0.5
"""Before a client whose stream was lost asks for another one."""
_LOOK_S = 0.05


@dataclass(slots=True)
class Seen:
    """What the clients of all live streams saw for a while."""

    blocks: int = 0
    late_blocks: int = 0
    """Segments that came after their time on the screen; it then waits, and the next ones count from there."""
    worst_late_s: float = 0.0
    lost: list[str] = field(default_factory=list)
    """How streams ended, though nobody had asked for it."""
    told: Counter[str] = field(default_factory=Counter)
    """What clients were told of recoveries and of calls that broke, by the names of the events."""

    def hear(self, event: StreamEvent, late_s: float = 0.0) -> None:
        """Note an event; of a segment also how late it came, 0 if in time."""
        match event:
            case SegmentEvent():
                self.blocks += 1
                self.late_blocks += late_s > 0
                self.worst_late_s = max(self.worst_late_s, late_s)
            case RecoveredEvent() | ReconnectingEvent() | ResumedEvent():
                self.told[type(event).__name__] += 1
            case _:
                pass


@dataclass(frozen=True, slots=True, kw_only=True)
class LiveRow:
    """What live streams saw of something that went on for a while, and what their server says of them."""

    seconds: float
    live_streams: int
    blocks: int
    late_blocks: int
    """By the clients' screens."""
    worst_late_s: float
    server_late_blocks: float
    """By the server's own count."""
    lost: list[str]

    def wrong_live(self) -> list[str]:
        """What should not be."""
        found = [f"{self.late_blocks} blocks came late"] if self.late_blocks else []
        found += [f"the server counts {self.server_late_blocks:g} late blocks"] if self.server_late_blocks else []
        found += [f"a stream was lost: {ending}" for ending in self.lost]
        return found + ([] if self.blocks else ["no block came"])


@dataclass(slots=True)
class LiveStream:
    """A stream of pace realtime, and another one when it is lost."""

    number: int
    session: str = ""
    """The session that it is now."""
    came_s: list[float] = field(default_factory=list)
    """When each segment came."""


class Audience:
    """Clients of live streams, from entering to leaving; `seen` is what they have seen since it was last taken."""

    def __init__(
        self, address: str, count: int, *, buffer_s: float = BUFFER_S, credentials: Credentials | None = None
    ) -> None:
        self._address = address
        self._credentials = credentials or Credentials()
        self._buffer_s = buffer_s
        self._tasks: list[asyncio.Task[None]] = []
        self.streams = [LiveStream(number) for number in range(count)]
        self.seen = Seen()

    async def __aenter__(self) -> Self:
        """Begin, and wait until all play. Unavailable if that takes long."""
        self._tasks = [asyncio.create_task(self._watch(stream)) for stream in self.streams]
        try:
            async with asyncio.timeout(WARM_S):
                while not all(len(stream.came_s) >= WARM for stream in self.streams):
                    await asyncio.sleep(_LOOK_S)
        except TimeoutError:
            await self._end()
            why = self.seen.lost[-1] if self.seen.lost else "too few segments came"
            raise Unavailable(f"not all live streams play after {WARM_S:g} s: {why}") from None
        except BaseException:
            await self._end()
            raise
        self.take()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._end()

    def take(self) -> Seen:
        """What was seen; from now on anew."""
        seen, self.seen = self.seen, Seen()
        return seen

    async def until_all_since(self, moment_s: float, within_s: float) -> bool:
        """Wait until every stream has got a segment after that moment; returns whether all have in time."""
        until_s = time.monotonic() + within_s
        while not all(stream.came_s and stream.came_s[-1] > moment_s for stream in self.streams):
            if time.monotonic() > until_s:
                return False
            await asyncio.sleep(_LOOK_S)
        return True

    def waits_s(self, from_s: float, until_s: float) -> list[float]:
        """For each stream the longest wait for a segment that lies within these moments in part."""
        return [longest_wait_s(stream.came_s, from_s, until_s) for stream in self.streams]

    async def _end(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _watch(self, live: LiveStream) -> None:
        while True:
            try:
                ending = await self._play(live)
            except ClientError as error:
                ending = f"{error.code.name}: {error.message}"
            self.seen.lost.append(ending)
            await asyncio.sleep(AGAIN_S)

    async def _play(self, live: LiveStream) -> str:
        """Watch one session to its end; how it ended."""
        options = StreamOptions(seed=live.number, pace="realtime")
        playback = Playback(self._buffer_s)
        async with (
            Client(self._address, credentials=self._credentials) as client,
            client.stream(PROMPTS[live.number % len(PROMPTS)], options) as stream,
        ):
            live.session = stream.session_id
            async for event in stream:
                now_s = time.monotonic()
                if isinstance(event, SegmentEvent):
                    live.came_s.append(now_s)
                    self.seen.hear(event, playback.lateness_s(now_s, float(event.start_s)))
                elif isinstance(event, ClosedEvent):
                    return f"{event.ending}: {event.reason}"
                else:
                    self.seen.hear(event)
        return "it just ended"


def longest_wait_s(came_s: list[float], from_s: float, until_s: float) -> float:
    """The longest time between two segments that lies within these moments in part; the last wait goes on to the end.

    `came_s` are the moments at which segments came, in order; before the first one nobody waits.
    """
    ends_s = [*came_s[1:], max(until_s, came_s[-1])] if came_s else []
    waits = zip(came_s, ends_s, strict=True)
    return max((end_s - begin_s for begin_s, end_s in waits if end_s > from_s and begin_s < until_s), default=0.0)
