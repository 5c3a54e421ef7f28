"""What a client of the toy cell reads."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

from longtake.client import Stream
from longtake.client.events import SegmentEvent, StreamEvent
from tests.cluster.frontend.toy import ToyCell


async def everything(stream: Stream) -> list[StreamEvent]:
    return [event async for event in stream]


def segments(events: list[StreamEvent]) -> list[SegmentEvent]:
    return [event for event in events if isinstance(event, SegmentEvent)]


async def upto(stream: AsyncIterator[StreamEvent], kind: type[StreamEvent]) -> StreamEvent:
    """The next event of a kind."""
    async for event in stream:
        if isinstance(event, kind):
            return event
    raise AssertionError(f"the stream ended without {kind}")


async def stands_still(cell: ToyCell) -> dict[str, int]:
    """Blocks begun by each session, once that no longer changes."""
    before: dict[str, int] = {}
    while (now := cell.blocks_begun()) != before or not now:
        before = now
        await asyncio.sleep(0.1)
    return now
