"""With a journal on disk: what cannot be promised is refused, streams that are open go on, and it heals."""

from __future__ import annotations

import asyncio
import contextlib

import grpc
import pytest

from cluster.cell.durability import Durability
from cluster.journal.writer import RETRY_S
from longtake.client import Client, StreamOptions
from longtake.client.errors import ClientError
from longtake.client.events import CueAcceptedEvent, RequestRefusedEvent, SegmentEvent
from tests.cluster.frontend.toy import ToyCell, toy_cell
from tests.cluster.journal.world import Stepped, record


async def write(cell: ToyCell, stepped: Stepped) -> None:
    """What the writer's thread does; a second passes with each look at the disk."""
    while True:
        cell.engine.written(stepped.later(RETRY_S))
        await asyncio.sleep(0.005)


async def test_a_full_disk_refuses_streams_and_cues_and_ends_none() -> None:
    stepped = Stepped()
    async with toy_cell(delay_s=0.001) as cell:
        sessions = cell.engine.scheduler.cell.sessions
        durability = Durability(stepped.writer, session=sessions.get, record=lambda session: record(session.id))
        cell.engine.keeping.durability = durability
        writing = asyncio.create_task(write(cell, stepped))
        try:
            async with Client(cell.target) as client, client.stream("a red ball", StreamOptions(window=1)) as stream:
                await stream.cue("a blue box")
                seen = 0
                async for event in stream:
                    seen += isinstance(event, SegmentEvent)
                    if seen == 2:
                        break
                stepped.disk.room_bytes = stepped.disk.size_bytes
                while not durability.figures.trouble:  # the next latents find out
                    await anext(stream)
                cue = await stream.cue("a green ring")
                while not isinstance(answer := await anext(stream), RequestRefusedEvent):
                    pass
                assert (answer.code, answer.cue_id) == (grpc.StatusCode.UNAVAILABLE.value[0], cue.id)
                with pytest.raises(ClientError) as refused:
                    async with client.stream("another"):
                        pass
                assert refused.value.code is grpc.StatusCode.UNAVAILABLE
                for _ in range(4):
                    await anext(stream)
                stepped.disk.room_bytes = None
                while durability.figures.trouble:
                    await anext(stream)
                cue = await stream.cue("a green ring")
                while not (isinstance(told := await anext(stream), CueAcceptedEvent) and told.cue_id == cue.id):
                    pass
                async with client.stream("another"):
                    pass
        finally:
            writing.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await writing
