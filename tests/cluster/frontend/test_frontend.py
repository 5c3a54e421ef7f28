"""Clients over real gRPC against a real engine: streams, credits, cues, observers, endings."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from fractions import Fraction

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from cluster.frontend.offer import WireLimits
from cluster.frontend.server import SERVICE, FrontendServer
from longtake.client import Client, CueAt, Stream, StreamOptions
from longtake.client.errors import ClientError
from longtake.client.events import (
    ClosedEvent,
    CueAcceptedEvent,
    CueAppliedEvent,
    CueSupersededEvent,
    Event,
    NoticeEvent,
    OpenedEvent,
    RequestRefusedEvent,
    SegmentEvent,
    SkippedEvent,
)
from longtake.core.errors import InvalidField
from longtake.core.events import Pause
from longtake.core.limits import Limits
from longtake.v1 import longtake_pb2 as pb
from longtake.v1 import longtake_pb2_grpc as rpc
from tests.cluster.frontend.toy import BAD_PROMPT, GEOMETRY, HEADER, RECIPE, UNKNOWN_WORD, ToyCell, segment, toy_cell


async def everything(stream: Stream) -> list[Event]:
    return [event async for event in stream]


def segments(events: list[Event]) -> list[SegmentEvent]:
    return [event for event in events if isinstance(event, SegmentEvent)]


async def upto(stream: AsyncIterator[Event], kind: type[Event]) -> Event:
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

        async def take(client: Client, prompt: str) -> list[Event]:
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
        assert stalled.opened is not None
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
        name = await stream.cue("blue")
        accepted = await upto(stream, CueAcceptedEvent)
        applied = await upto(stream, CueAppliedEvent)
        shown = await anext(stream)
        assert isinstance(accepted, CueAcceptedEvent) and isinstance(applied, CueAppliedEvent)
        assert (accepted.cue_id, accepted.block) == (applied.cue_id, applied.block) == (name, accepted.block)
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


async def test_a_broken_connection_closes_the_session_even_while_a_frame_is_being_sent() -> None:
    async with toy_cell(segment_bytes=900_000) as cell:
        async with Client(cell.target) as client:
            stream = await client.stream("red", StreamOptions(window=8)).__aenter__()
            assert stream.opened is not None
            await stands_still(cell)  # eight segments of 0.9 MB wait behind a reader that does not read
        await cell.settled()


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


async def test_close_session_ends_anothers_stream() -> None:
    async with toy_cell() as cell, Client(cell.target) as client, client.stream("red") as stream:
        assert stream.opened is not None
        await client.close_session(stream.opened.session_id)
        closed = await upto(stream, ClosedEvent)
        assert isinstance(closed, ClosedEvent) and closed.ending == "operator"
        with pytest.raises(ClientError) as caught:
            await anext(stream)
        assert caught.value.code is grpc.StatusCode.ABORTED
        with pytest.raises(ClientError) as caught:
            await client.close_session(stream.opened.session_id)
        assert caught.value.code is grpc.StatusCode.NOT_FOUND


async def test_a_lost_worker_ends_its_sessions_with_unavailable_and_the_reason() -> None:
    async with toy_cell() as cell, Client(cell.target) as client, client.stream("red") as stream:
        await upto(stream, SegmentEvent)
        cell.workers[0].die()
        closed = await upto(stream, ClosedEvent)
        assert isinstance(closed, ClosedEvent) and closed.ending == "lost"
        with pytest.raises(ClientError, match="killed by the test") as caught:
            await anext(stream)
        assert caught.value.code is grpc.StatusCode.UNAVAILABLE
        await cell.settled()


async def test_drain_delivers_what_was_begun_refuses_new_streams_and_turns_unhealthy() -> None:
    async with (
        toy_cell(delay_s=0.001) as cell,
        Client(cell.target) as client,
        grpc.aio.insecure_channel(cell.target) as channel,
        client.stream("red", StreamOptions(seed=2, window=4)) as stream,
    ):
        health = health_pb2_grpc.HealthStub(channel)
        request = health_pb2.HealthCheckRequest(service=SERVICE)
        while (await health.Check(request)).status != health_pb2.HealthCheckResponse.SERVING:
            await asyncio.sleep(0.02)
        await upto(stream, SegmentEvent)
        cell.engine.begin_drain()
        while (await health.Check(request)).status != health_pb2.HealthCheckResponse.NOT_SERVING:
            await asyncio.sleep(0.02)
        events: list[Event] = []
        with pytest.raises(ClientError) as caught:
            async for event in stream:
                events.append(event)
        assert caught.value.code is grpc.StatusCode.UNAVAILABLE
        closed = events[-1]
        assert isinstance(closed, ClosedEvent) and closed.ending == "drained"
        indices = [s.index for s in segments(events)]
        assert indices == list(range(1, closed.segments))
        await cell.settled()
        assert cell.engine.is_drained
        with pytest.raises(ClientError) as caught:
            async with client.stream("too late"):
                pass
        assert caught.value.code is grpc.StatusCode.UNAVAILABLE
        assert (await client.get_status()).draining


async def test_no_capacity_says_when_to_try_again_and_takes_nothing() -> None:
    async with toy_cell(limits=Limits(max_sessions=1, max_queued=0)) as cell, Client(cell.target) as client:
        async with client.stream("red"):
            with pytest.raises(ClientError) as caught:
                async with client.stream("blue"):
                    pass
            assert caught.value.code is grpc.StatusCode.RESOURCE_EXHAUSTED
            assert caught.value.retry_after_s is not None and caught.value.retry_after_s > 0
            assert len(await client.list_sessions()) == 1
        await cell.settled()


async def test_a_fast_stream_waits_for_room_is_told_its_place_and_then_begins() -> None:
    async with toy_cell(limits=Limits(max_sessions=1)) as cell, Client(cell.target) as client:
        told: list[Event] = []
        options = StreamOptions(pictures=GEOMETRY.first_picture(2), codec="raw", seed=1)

        async def second() -> list[Event]:
            async with client.stream("blue", options, waiting=told.append) as stream:
                return [event async for event in stream]

        async with client.stream("red"):
            waiting = asyncio.create_task(second())
            while not told:
                await asyncio.sleep(0.005)
            states = {session.prompt: session.state for session in await client.list_sessions()}
            assert states["blue"] == pb.SESSION_STATE_QUEUED
            with pytest.raises(ClientError) as caught:
                async with client.stream("green", StreamOptions(pace="realtime")):
                    pass
            assert caught.value.code is grpc.StatusCode.RESOURCE_EXHAUSTED
        events = await waiting
        assert told == [NoticeEvent(text="queued at place 1: the stream begins when there is room")]
        assert [event.index for event in events if isinstance(event, SegmentEvent)] == [0, 1]
        await cell.settled()


async def test_a_fork_begins_where_its_parent_is_with_its_own_prompt_and_seed() -> None:
    async with toy_cell() as cell, Client(cell.target) as client:
        async with client.stream("red", StreamOptions(seed=3, window=2, codec="raw", auto_ack=False)) as parent:
            shown = [event async for event in _until(parent, 2)]
            assert parent.opened is not None
            length = GEOMETRY.first_picture(5)
            options = StreamOptions(seed=4, codec="raw", pictures=length, fork=parent.opened.session_id)
            async with client.stream("blue", options) as child:
                events = [event async for event in child]
            assert [event.index for event in shown] == [0, 1]
            found = {event.index: event for event in events if isinstance(event, SegmentEvent)}
            assert {n: event.data for n, event in found.items()} == {n: segment(n, 4, "blue") for n in (2, 3, 4)}
            assert [event.first_picture for event in found.values()] == [GEOMETRY.first_picture(n) for n in found]
            assert isinstance(events[-1], ClosedEvent) and events[-1].segments == 3
            with pytest.raises(ClientError) as caught:
                async with client.stream("blue", StreamOptions(fork="nobody")):
                    pass
            assert caught.value.code is grpc.StatusCode.NOT_FOUND
        await cell.settled()


async def _until(stream: Stream, segments: int) -> AsyncIterator[SegmentEvent]:
    """The first segments of a stream."""
    async for event in stream:
        if isinstance(event, SegmentEvent):
            yield event
            segments -= 1
            if not segments:
                return


async def test_a_broken_call_leaves_the_queue() -> None:
    async with toy_cell(limits=Limits(max_sessions=1)) as cell, Client(cell.target) as client, client.stream("red"):
        told: list[Event] = []

        async def second() -> None:
            async with client.stream("blue", waiting=told.append):
                pass

        waiting = asyncio.create_task(second())
        while not told:
            await asyncio.sleep(0.005)
        waiting.cancel()
        while len(cell.engine.scheduler.sessions()) > 1:
            await asyncio.sleep(0.005)
        cell.engine.scheduler.check()


async def test_without_workers_a_stream_is_refused_as_unavailable() -> None:
    async with toy_cell(workers=False) as cell, Client(cell.target) as client:
        with pytest.raises(ClientError, match="no denoise worker") as caught:
            async with client.stream("red"):
                pass
        assert caught.value.code is grpc.StatusCode.UNAVAILABLE


async def test_an_observer_sees_the_stream_and_its_end() -> None:
    async with toy_cell() as cell, Client(cell.target) as client, Client(cell.target) as other:
        options = StreamOptions(seed=5, pictures=GEOMETRY.first_picture(5), window=1)
        async with client.stream("red", options) as stream:
            assert stream.opened is not None
            watching = other.watch(stream.opened.session_id, from_segment=0)
            opened = await anext(watching)
            assert isinstance(opened, OpenedEvent) and opened.header == HEADER and opened.seed == 5
            await everything(stream)
        events = [event async for event in watching]
        assert isinstance(events[-1], ClosedEvent) and events[-1].ending == "completed"
        seen = segments(events)
        assert seen[-1].data == segment(4, 5, "red")
        skipped = [
            n
            for event in events
            if isinstance(event, SkippedEvent)
            for n in range(event.first, event.first + event.count)
        ]
        assert sorted([s.index for s in seen] + skipped) == list(range(5))


async def test_a_slow_observer_skips_to_the_newest_and_does_not_hold_the_client_back() -> None:
    async with toy_cell(segment_bytes=200_000) as cell, Client(cell.target) as client, Client(cell.target) as other:
        blocks = 60
        async with client.stream("red", StreamOptions(pictures=GEOMETRY.first_picture(blocks))) as stream:
            assert stream.opened is not None
            watching = other.watch(stream.opened.session_id, from_segment=0)
            await anext(watching)  # opened; then the observer sleeps while the stream runs to its end
            assert len(segments(await everything(stream))) == blocks
        events = [event async for event in watching]
        indices = [s.index for s in segments(events)]
        assert indices == sorted(indices) and indices[-1] == blocks - 1
        assert len(indices) < blocks / 2
        assert len(indices) + sum(e.count for e in events if isinstance(e, SkippedEvent)) == blocks


async def test_observers_of_a_session_are_limited_and_leave_room_when_they_go() -> None:
    async with (
        toy_cell(wire=WireLimits(max_watchers=1)) as cell,
        Client(cell.target) as client,
        client.stream("red", StreamOptions(window=1)) as stream,
    ):
        assert stream.opened is not None
        name = stream.opened.session_id
        first = client.watch(name)
        await anext(first)
        with pytest.raises(ClientError) as caught:
            await anext(client.watch(name))
        assert caught.value.code is grpc.StatusCode.RESOURCE_EXHAUSTED
        await first.aclose()
        while True:
            try:
                assert isinstance(await anext(client.watch(name)), OpenedEvent)
                break
            except ClientError:
                await asyncio.sleep(0.01)
        with pytest.raises(ClientError) as caught:
            await anext(client.watch("nobody"))
        assert caught.value.code is grpc.StatusCode.NOT_FOUND


async def test_what_is_told_of_model_sessions_and_cluster() -> None:
    async with toy_cell() as cell, Client(cell.target) as client:
        model = await client.get_model()
        words = {group.name: list(group.words) for group in model.vocabulary}
        assert (model.name, words) == ("toy", {"colour": ["red", "blue"], "shape": ["ball"]})
        assert (model.first_block_pictures, model.block_pictures) == (9, 12)
        assert (list(model.recipe.steps), model.recipe.level) == ([1000, 500], pb.LEVEL_OUTPUT)
        assert [option.codec for option in model.codecs] == [pb.CODEC_H264, pb.CODEC_MJPEG, pb.CODEC_RAW]
        assert model.limits.max_message_bytes == 1 << 20
        options = StreamOptions(seed=9, pace="realtime", window=2)
        async with client.stream("red", options) as stream:
            assert stream.opened is not None
            await stands_still(cell)
            session = await client.get_session(stream.opened.session_id)
            (listed,) = await client.list_sessions()
            assert listed.age_s > session.age_s > 0
            listed.age_s = session.age_s
            assert listed == session
            assert (session.prompt, session.seed, session.window) == ("red", 9, 2)
            assert (session.pace, session.state) == (pb.PACE_REALTIME, pb.SESSION_STATE_RUNNING)
            status = await client.get_status()
            assert [worker.worker_id for worker in status.workers] == ["d0", "d1", "v0"]
            assert status.workers[2].free == 15 and status.sessions == 1
        with pytest.raises(ClientError) as caught:
            await client.get_session("nobody")
        assert caught.value.code is grpc.StatusCode.NOT_FOUND


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
        await cell.settled()


async def test_a_client_that_asks_for_what_cannot_be_and_never_reads_loses_its_session() -> None:
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
            flooding = asyncio.create_task(flood())
            await cell.settled()
            flooding.cancel()
            await asyncio.gather(flooding, return_exceptions=True)


async def test_a_call_without_its_first_frame_is_ended() -> None:
    async with toy_cell(wire=WireLimits(open_timeout_s=0.1)) as cell, grpc.aio.insecure_channel(cell.target) as channel:
        call = rpc.LongtakeServiceStub(channel).Stream()
        with pytest.raises(grpc.aio.AioRpcError, match="no open arrived") as caught:
            await call.read()
        assert caught.value.code() is grpc.StatusCode.FAILED_PRECONDITION


async def test_reflection_lists_the_service_and_health_follows_the_workers() -> None:
    async with toy_cell() as cell, grpc.aio.insecure_channel(cell.target) as channel:
        request = reflection_pb2.ServerReflectionRequest(list_services="")
        stub = reflection_pb2_grpc.ServerReflectionStub(channel)
        async for answer in stub.ServerReflectionInfo(iter([request])):
            assert SERVICE in [service.name for service in answer.list_services_response.service]
        health = health_pb2_grpc.HealthStub(channel)
        states = health.Watch(health_pb2.HealthCheckRequest(service=SERVICE))
        while (await states.read()).status != health_pb2.HealthCheckResponse.SERVING:
            pass
        cell.workers[2].die()
        assert (await states.read()).status == health_pb2.HealthCheckResponse.NOT_SERVING
        states.cancel()


async def test_a_port_in_use_is_refused() -> None:
    async with toy_cell() as cell:
        offer = cell.server.offer
        with pytest.raises(InvalidField, match="a port that is free"):
            await FrontendServer.start(cell.engine, offer, host="127.0.0.1", port=cell.server.port)
