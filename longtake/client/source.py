"""What can be made of the events of a stream, whoever's it is: a file, or its bytes."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from pathlib import Path
from typing import Protocol

from longtake.client.events import OpenedEvent, SegmentEvent, StreamEvent
from longtake.client.mp4 import FromZero
from longtake.client.recording import Recording, Summary


class Events(Protocol):
    """An asynchronous iterator of events, and what the stream began with."""

    @property
    def opened(self) -> OpenedEvent:
        """ValueError before it is entered."""
        ...

    def __aiter__(self) -> AsyncIterator[StreamEvent]: ...


async def save(
    events: Events, path: str | os.PathLike[str], *, keep_times: bool, tell: Callable[[StreamEvent], object] | None
) -> Summary:
    """Write what is still to come into a file, to the end of the stream; an older file there is overwritten.

    The file begins at 0 s, unless `keep_times`: then a fork, a resumed or a watched stream has the times of the stream.
    `tell` is called with each event. OSError if the file cannot be written; what came before an error is in it, and
    plays.
    """
    opened = events.opened
    with await asyncio.to_thread(Path(path).open, "wb") as file:
        recording = Recording(lambda: file, os.fspath(path), keep_times=keep_times)
        recording.take(opened)
        async for event in events:
            if isinstance(event, SegmentEvent):
                await asyncio.to_thread(recording.take, event)
            elif not isinstance(event, OpenedEvent):
                recording.take(event)
            if tell is not None:
                tell(event)
    return recording.summary()


async def chunks(events: Events, *, keep_times: bool) -> AsyncGenerator[bytes, None]:
    """The bytes of such a file, as they come: the header, if there is one, then segment by segment."""
    opened, times = events.opened, FromZero()
    if opened.header:
        yield opened.header
    async for event in events:
        if isinstance(event, SegmentEvent):
            yield event.data if keep_times else times.moved(event.data, opened.media_type)
