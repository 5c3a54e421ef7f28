"""Streams over real gRPC against a real engine: segments, credits, cues, pauses, and how a client ends them."""

from __future__ import annotations

import asyncio
from fractions import Fraction

import grpc
import pytest

from cluster.frontend.offer import WireLimits
from longtake.client import Client, CueAt, StreamOptions
from longtake.client.errors import ClientError
from longtake.client.events import (
    ClosedEvent,
    CueAcceptedEvent,
    CueAppliedEvent,
    CueSupersededEvent,
    NoticeEvent,
    OpenedEvent,
    RequestRefusedEvent,
    SegmentEvent,
    StreamEvent,
)
from longtake.core.events import Pause
from longtake.v1 import longtake_pb2 as pb
from longtake.v1 import longtake_pb2_grpc as rpc
from tests.cluster.frontend.reading import everything, segments, stands_still, upto
from tests.cluster.frontend.toy import BAD_PROMPT, GEOMETRY, HEADER, RECIPE, UNKNOWN_WORD, segment, toy_cell


async def test_a_stream_has_every_picture_asked_for_once_and_in_order() -> None:
    options = StreamOptions(seed=7, pictures=30, window=2)
    async with toy_cell() as cell, Client(cell.target) as client:
        async with client.stream("a red ball", options) as stream:
            events = await everything(stream)
        await cell.settled()
    opened, *_, closed = events
    assert isinstance(opened, OpenedEvent)
    assert (opened.seed, opened.header, opened.window, opened.pictures) == (7, HEADER, 2, 30)
    assert (opened.width, opened.height, opened.fps) == (64, 64, Fraction(16))
    assert opened.recipe_digest == RECIPE.digest
    got = segments(events)
    assert [s.data for s in got] == [segment(n, 7, "a red ball") for n in range(3)]
    assert [(s.index, s.first_picture, s.picture_count) for s in got] == [(0, 0, 9), (1, 9, 12), (2, 21, 9)]
    assert [s.start_s * 16 for s in got] == [0, 9, 21]
    assert sum(s.duration_s for s in got) * 16 == 30
    assert closed == ClosedEvent(ending="completed", reason="", segments=3)


async def test_two_clients_at_once_get_their_own_streams_and_seeds_of_their_own() -> None:
    async with toy_cell() as cell, Client(cell.target) as one, Client(cell.target) as two:

        async def take(client: Client, prompt: str) -> list[StreamEvent]:
            async with client.stream(prompt, StreamOptions(duration_s=10)) as stream:
                return await everything(stream)

        first, second = await asyncio.gather(take(one, "red"), take(two, "blue"))
    seeds = []
    for events, prompt in ((first, "red"), (second, "blue")):
        assert isinstance(events[0], OpenedEvent)
        seeds.append(events[0].seed)
        assert [s.data for s in segments(events)] == [segment(n, seeds[-1], prompt) for n in range(14)]
        assert sum(s.picture_count for s in segments(events)) == 160
    assert seeds[0] != seeds[1]


async def test_a_client_that_stops_reading_stops_its_own_generation_and_nobody_elses() -> None:
    async with (
        toy_cell() as cell,
        Client(cell.target) as idle,
        Client(cell.target) as busy,
        idle.stream("idle", StreamOptions(window=3)) as stalled,
    ):
        for _ in range(3):  # opened, segments 0 and 1; 1 is not acknowledged
            await anext(stalled)
        async with busy.stream("busy", StreamOptions(pictures=GEOMETRY.first_picture(40))) as stream:
            assert len(segments(await everything(stream))) == 40
        assert (await stands_still(cell))[stalled.opened.session_id] == 1 + 3
        await anext(stalled)  # acknowledges 1 and takes 2
        assert (await stands_still(cell))[stalled.opened.session_id] == 2 + 3


async def test_cues_with_open_at_time_and_at_block_apply_where_they_were_asked_for() -> None:
    at_time = CueAt(prompt="blue", time_s=1.0, id="t")  # picture 16 lies in block 1, so block 2 is the first after it
    cues = (at_time, CueAt(prompt="green", block=4, id="b"))
    async with (
        toy_cell() as cell,
        Client(cell.target) as client,
        client.stream("red", StreamOptions(seed=1, pictures=GEOMETRY.first_picture(6), cues=cues)) as stream,
    ):
        events = await everything(stream)
    prompts = ["red", "red", "blue", "blue", "green", "green"]
    assert [s.data for s in segments(events)] == [segment(n, 1, prompt) for n, prompt in enumerate(prompts)]
    accepted = [event for event in events if isinstance(event, CueAcceptedEvent)]
    assert [(event.cue_id, event.block, int(event.start_s * 16)) for event in accepted] == [("t", 2, 21), ("b", 4, 45)]
    for number, event in enumerate(events):
        if isinstance(event, CueAppliedEvent):
            shown = events[number + 1]
            assert isinstance(shown, SegmentEvent) and shown.index == event.block
    versions = [s.prompt_version for s in segments(events)]
    assert versions == sorted(versions) and len(set(versions)) == 3


async def test_a_cue_on_the_way_is_accepted_with_its_block_and_applied_there() -> None:
    async with (
        toy_cell() as cell,
        Client(cell.target) as client,
        client.stream("red", StreamOptions(seed=1, window=2)) as stream,
    ):
        await upto(stream, SegmentEvent)
        cue = await stream.cue("blue")
        accepted = await upto(stream, CueAcceptedEvent)
        applied = await upto(stream, CueAppliedEvent)
        shown = await anext(stream)
        assert isinstance(accepted, CueAcceptedEvent) and isinstance(applied, CueAppliedEvent)
        assert (accepted.cue_id, accepted.block) == (applied.cue_id, applied.block) == (cue.id, accepted.block)
        assert isinstance(shown, SegmentEvent)
        assert shown.data == segment(accepted.block, 1, "blue")


async def test_the_later_of_two_cues_for_a_block_wins_and_a_late_one_is_told_the_earliest_block() -> None:
    async with (
        toy_cell() as cell,
        Client(cell.target) as client,
        client.stream("red", StreamOptions(seed=1, window=1)) as stream,
    ):
        await upto(stream, SegmentEvent)
        await stream.cue(CueAt(prompt="blue", block=9, id="first"))
        await stream.cue(CueAt(prompt="green", block=9, id="second"))
        superseded = await upto(stream, CueSupersededEvent)
        assert superseded == CueSupersededEvent(cue_id="first", by_cue_id="second", block=9)
        await stands_still(cell)
        await stream.cue(CueAt(prompt="too late", block=0, id="late"))
        refused = await upto(stream, RequestRefusedEvent)
        assert isinstance(refused, RequestRefusedEvent)
        assert refused.cue_id == "late"
        assert refused.code == grpc.StatusCode.FAILED_PRECONDITION.value[0]
        begun = cell.blocks_begun()
        assert refused.earliest_block is not None and 0 < refused.earliest_block <= next(iter(begun.values()))
        async for event in stream:  # the stream goes on
            if isinstance(event, SegmentEvent) and event.index == 9:
                assert event.data == segment(9, 1, "green")
                break


async def test_what_cannot_be_met_on_an_open_stream_is_told_and_the_stream_goes_on() -> None:
    async with toy_cell() as cell, grpc.aio.insecure_channel(cell.target) as channel:
        call = rpc.LongtakeServiceStub(channel).Stream()
        await call.write(pb.StreamRequest(open=pb.Open(prompt="red", window=1)))
        for frame, code, field in (
            (pb.StreamRequest(open=pb.Open(prompt="again")), grpc.StatusCode.FAILED_PRECONDITION, ""),
            (pb.StreamRequest(), grpc.StatusCode.INVALID_ARGUMENT, "frame"),
            (pb.StreamRequest(cue=pb.Cue(id="c", prompt="  ")), grpc.StatusCode.INVALID_ARGUMENT, "cue.prompt"),
            (pb.StreamRequest(cue=pb.Cue(prompt="x")), grpc.StatusCode.INVALID_ARGUMENT, "cue.id"),
            (pb.StreamRequest(ack=pb.Ack(segment=1000)), grpc.StatusCode.INVALID_ARGUMENT, "ack.segment"),
        ):
            await call.write(frame)
            while True:
                answer = await call.read()
                assert isinstance(answer, pb.StreamResponse)
                if answer.HasField("request_refused"):
                    break
            assert (answer.request_refused.code, answer.request_refused.field) == (code.value[0], field)
        await call.write(pb.StreamRequest(ack=pb.Ack(segment=0)))
        while True:
            answer = await call.read()
            assert isinstance(answer, pb.StreamResponse)
            if answer.segment.index == 1:
                break
        call.cancel()


async def test_pause_stops_generation_and_play_goes_on() -> None:
    async with (
        toy_cell(delay_s=0.001) as cell,
        Client(cell.target) as client,
        client.stream("red", StreamOptions(pictures=GEOMETRY.first_picture(30), window=8)) as stream,
    ):
        await upto(stream, SegmentEvent)
        await stream.pause()
        while (await client.list_sessions())[0].state != pb.SESSION_STATE_PAUSED:
            await asyncio.sleep(0.005)
        begun = await stands_still(cell)
        seen = 1
        while seen < next(iter(begun.values())):  # what was begun is delivered
            await upto(stream, SegmentEvent)
            seen += 1
        assert cell.blocks_begun() == begun
        await stream.play()
        rest = segments(await everything(stream))
        assert rest[0].index == seen and rest[-1].index == 29


async def test_a_large_segment_travels_in_parts_that_keep_messages_small() -> None:
    size_bytes = 5 * (1 << 20) // 2
    async with toy_cell(segment_bytes=size_bytes) as cell, grpc.aio.insecure_channel(cell.target) as channel:
        call = rpc.LongtakeServiceStub(channel).Stream()
        await call.write(pb.StreamRequest(open=pb.Open(prompt="red", seed=3, pictures=9)))
        frames = [frame async for frame in call]
        parts = [frame.segment for frame in frames if frame.HasField("segment")]
        assert max(frame.ByteSize() for frame in frames) <= 1 << 20
        assert [(part.part, part.part_count) for part in parts] == [(0, 3), (1, 3), (2, 3)]
        assert b"".join(part.data for part in parts) == segment(0, 3, "red", size_bytes)
        async with Client(cell.target) as client, client.stream("red", StreamOptions(seed=3, pictures=9)) as stream:
            assert segments(await everything(stream))[0].data == segment(0, 3, "red", size_bytes)


async def test_a_broken_connection_leaves_the_session_even_while_a_frame_is_being_sent() -> None:
    async with toy_cell(segment_bytes=900_000) as cell:
        async with Client(cell.target) as client:
            await client.stream("red", StreamOptions(window=8)).__aenter__()
            await stands_still(cell)  # eight segments of 0.9 MB wait behind a reader that does not read
            assert cell.attached == [True]
        await cell.left()


async def test_half_closing_means_close() -> None:
    async with toy_cell() as cell, grpc.aio.insecure_channel(cell.target) as channel:
        call = rpc.LongtakeServiceStub(channel).Stream()
        await call.write(pb.StreamRequest(open=pb.Open(prompt="red", window=1)))
        await call.done_writing()
        frames = [frame async for frame in call]
        assert frames[-1].closed.ending == pb.ENDING_CLIENT
        assert await call.code() is grpc.StatusCode.OK
        await cell.settled()


async def test_close_is_answered_by_closed() -> None:
    async with toy_cell() as cell, Client(cell.target) as client, client.stream("red") as stream:
        await upto(stream, SegmentEvent)
        await stream.close()
        events = await everything(stream)
        assert isinstance(events[-1], ClosedEvent) and events[-1].ending == "client"
        await stream.close()  # once more is harmless


async def test_all_that_is_wrong_with_a_request_is_said_at_once() -> None:
    options = StreamOptions(window=99, quality=77, cues=(CueAt(prompt=" ", block=1),))
    async with toy_cell() as cell, Client(cell.target) as client:
        with pytest.raises(ClientError) as caught:
            async with client.stream("red", options):
                pass
        assert caught.value.code is grpc.StatusCode.INVALID_ARGUMENT
        assert [one.field for one in caught.value.violations] == ["open.window", "open.quality", "open.cues[0].prompt"]
        assert "99 is not allowed" in caught.value.message and "77 is not allowed" in caught.value.message
        await cell.settled()


async def test_an_unknown_word_is_answered_with_a_notice() -> None:
    async with (
        toy_cell() as cell,
        Client(cell.target) as client,
        client.stream(f"a {UNKNOWN_WORD}", StreamOptions(pictures=1)) as stream,
    ):
        notices = [event for event in await everything(stream) if isinstance(event, NoticeEvent)]
        assert notices == [NoticeEvent(text=f"ignored: {UNKNOWN_WORD}")]


async def test_a_prompt_that_cannot_be_encoded_ends_with_the_reason() -> None:
    async with toy_cell() as cell, Client(cell.target) as client:
        with pytest.raises(ClientError, match="the encoder broke") as caught:
            async with client.stream(BAD_PROMPT):
                pass
        assert caught.value.code is grpc.StatusCode.INTERNAL
        await cell.settled()


async def test_a_flood_of_frames_waits_in_the_clients_connection() -> None:
    wire = WireLimits(max_frames_per_s=20.0)
    async with toy_cell(wire=wire) as cell, grpc.aio.insecure_channel(cell.target) as channel:
        call = rpc.LongtakeServiceStub(channel).Stream()
        await call.write(pb.StreamRequest(open=pb.Open(prompt="red", window=1)))

        async def flood() -> None:
            while True:
                await call.write(pb.StreamRequest(pause=pb.Pause()))

        flooding = asyncio.create_task(flood())
        await asyncio.sleep(1.0)
        flooding.cancel()
        await asyncio.gather(flooding, return_exceptions=True)
        assert 20 <= sum(isinstance(event, Pause) for event in cell.events) <= 60
        call.cancel()
        await cell.left()


async def test_a_client_that_asks_for_what_cannot_be_and_never_reads_loses_its_call() -> None:
    async with toy_cell(wire=WireLimits(max_frames_per_s=1e6)) as cell:
        options = (("grpc.http2.bdp_probe", 0), ("grpc.http2.lookahead_bytes", 65536))
        async with grpc.aio.insecure_channel(cell.target, options=options) as channel:
            call = rpc.LongtakeServiceStub(channel).Stream()
            await call.write(pb.StreamRequest(open=pb.Open(prompt="red", window=1)))

            async def flood() -> None:
                while True:
                    await call.write(pb.StreamRequest(cue=pb.Cue(id="c", prompt="")))

            while not cell.engine.scheduler.sessions():
                await asyncio.sleep(0.005)
            while not cell.attached:
                await asyncio.sleep(0.005)
            flooding = asyncio.create_task(flood())
            await cell.left()
            flooding.cancel()
            await asyncio.gather(flooding, return_exceptions=True)


async def test_a_call_without_its_first_frame_is_ended() -> None:
    async with toy_cell(wire=WireLimits(open_timeout_s=0.1)) as cell, grpc.aio.insecure_channel(cell.target) as channel:
        call = rpc.LongtakeServiceStub(channel).Stream()
        with pytest.raises(grpc.aio.AioRpcError, match="no open arrived") as caught:
            await call.read()
        assert caught.value.code() is grpc.StatusCode.FAILED_PRECONDITION
