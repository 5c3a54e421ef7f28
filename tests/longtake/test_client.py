"""The client against a real front end: its synchronous face, acknowledgements by hand, errors as exceptions."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import AsyncIterator, Iterator
from fractions import Fraction
from typing import Any, cast, get_args

import grpc
import pytest

from cluster.frontend.responses import WIRE_ENDINGS
from cluster.net.statuses import ENDINGS as STATUS_OF_ENDING
from longtake.client import ENDINGS, Client, CueAt, Stream, StreamOptions, open_request
from longtake.client.decoder import Decoder
from longtake.client.endings import REPEATED, SENTENCES
from longtake.client.errors import ClientError
from longtake.client.events import (
    ClosedEvent,
    CueAppliedEvent,
    EndingName,
    OpenedEvent,
    Reading,
    SegmentEvent,
    StreamEvent,
)
from longtake.client.options import OptionError, cue_request
from longtake.client.sync import LoopThread, SyncClient
from longtake.core.dispatch import handing
from longtake.core.limits import Limits
from longtake.core.sessions import draining
from longtake.v1 import longtake_pb2 as pb
from tests.cluster.frontend.toy import GEOMETRY, HEADER, ToyCell, segment, toy_cell, toy_cell_in_thread


@pytest.fixture
def cell() -> Iterator[ToyCell]:
    with toy_cell_in_thread(limits=Limits(max_sessions=1)) as running:
        yield running


def segments(events: list[StreamEvent]) -> list[bytes]:
    return [event.data for event in events if isinstance(event, SegmentEvent)]


def test_the_synchronous_face_streams_steers_watches_and_asks(cell: ToyCell) -> None:
    with SyncClient(cell.target) as client:
        assert client.get_model().name == "toy"
        options = StreamOptions(seed=4, window=1, pictures=GEOMETRY.first_picture(12))
        with client.stream("red", options) as stream:
            assert stream.opened.header == HEADER
            name = stream.opened.session_id
            assert client.get_session(name).prompt == "red"
            assert [session.session_id for session in client.list_sessions()] == [name]
            watching = client.watch(name)
            assert isinstance(next(watching), OpenedEvent)
            stream.pause()
            stream.play()
            stream.cue(CueAt(prompt="blue", block=10))
            events = list(stream)
        assert segments(events) == [segment(n, 4, "blue" if n >= 10 else "red") for n in range(12)]
        assert isinstance(events[-1], ClosedEvent)
        assert isinstance(list(watching)[-1], ClosedEvent)
        assert client.get_status().sessions == 0


def test_a_synchronous_stream_that_is_left_early_is_closed(cell: ToyCell) -> None:
    with SyncClient(cell.target) as client:
        with client.stream("red") as stream:
            next(iter(stream))
        while client.list_sessions():
            pass
        with client.stream("blue", StreamOptions(pictures=1)) as stream:  # there is room for one session only
            assert isinstance(list(stream)[-1], ClosedEvent)


def test_errors_carry_status_field_and_retry_delay(cell: ToyCell) -> None:
    with SyncClient(cell.target) as client:
        with pytest.raises(ClientError) as caught, client.stream("  "):
            pass
        assert caught.value.code is grpc.StatusCode.INVALID_ARGUMENT
        assert [violation.field for violation in caught.value.violations] == ["open.prompt"]
        live = StreamOptions(pace="realtime")  # such a stream never waits for room
        with client.stream("red"), pytest.raises(ClientError) as caught, client.stream("blue", live):
            pass
        assert caught.value.code is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert caught.value.retry_after_s == 5.0
        assert caught.value.message.endswith("Try again in 5 s, or choose pace fast.")
        assert caught.value.reason == "SESSIONS"
        told = {"of": "cell", "unit": "sessions", "needed": "1", "free": "0", "limit": "1", "fast_instead": "true"}
        assert caught.value.facts == told


def test_a_server_that_is_not_there_is_unavailable() -> None:
    with SyncClient("127.0.0.1:1") as client:
        with pytest.raises(ClientError) as caught:
            client.get_status()
        assert caught.value.code is grpc.StatusCode.UNAVAILABLE
        with pytest.raises(ClientError) as caught, client.stream("red"):
            pass
        assert caught.value.code is grpc.StatusCode.UNAVAILABLE


async def test_acknowledgements_by_hand_give_the_credit() -> None:
    options = StreamOptions(seed=1, window=2, auto_ack=False)
    async with toy_cell() as toy, Client(toy.target) as client, client.stream("red", options) as stream:
        seen = 0
        async for event in stream:
            if isinstance(event, SegmentEvent):
                assert event.index == seen
                seen += 1
                if seen == 2:
                    assert toy.blocks_begun() == {event_session(stream.opened): 2}
                    await stream.ack(1)
                if seen == 4:
                    break


def event_session(opened: OpenedEvent) -> str:
    return opened.session_id


async def test_a_cue_at_a_time_given_as_a_fraction_keeps_its_block() -> None:
    start_s = GEOMETRY.time_s(GEOMETRY.first_picture(5))
    options = StreamOptions(pictures=GEOMETRY.first_picture(8), cues=(CueAt(prompt="blue", time_s=start_s),))
    async with toy_cell() as toy, Client(toy.target) as client, client.stream("red", options) as stream:
        applied = [event async for event in stream if isinstance(event, CueAppliedEvent)]
    rest = ("shape: ball", "motion: resting", "background: fog")
    reading = Reading(understood=("colour: blue",), ignored=(), defaulted=rest)
    assert applied == [CueAppliedEvent(cue_id="cue-1", block=5, start_s=start_s, prompt="blue", reading=reading)]


def test_times_are_rounded_down_so_that_a_repeating_fraction_names_the_picture_it_means() -> None:
    duration = open_request("x", StreamOptions(duration_s=Fraction(2, 3))).duration
    assert (duration.seconds, duration.nanos) == (0, 666_666_666)
    duration = open_request("x", StreamOptions(duration_s=0.7)).duration
    assert 0.7 - 1e-9 <= duration.nanos / 1e9 <= 0.7


@pytest.mark.parametrize(
    ("options", "what"),
    [
        ({"pictures": 1, "duration_s": 1}, "not both"),
        ({"codec": "gif"}, "h264, mjpeg, raw"),
        ({"pace": "slow"}, "realtime, fast"),
        ({"pace": ["fast"]}, "realtime, fast"),
        ({"duration_s": -1}, "0 s or more"),
        ({"fork_block": 3}, "give fork as well"),
        ({"fork": "x", "fork_clock": "mine"}, "parent, own"),
        ({"room_s": float("nan")}, "room_s: nan"),
        ({"reconnect_s": None}, "reconnect_s: None"),
    ],
)
def test_options_no_server_could_understand_are_value_errors(options: dict[str, Any], what: str) -> None:
    with pytest.raises(ValueError, match=what):
        open_request("x", StreamOptions(**options))


def test_frames_of_a_newer_server_are_ignored_and_parts_of_a_segment_joined() -> None:
    decoder = Decoder()
    opened = pb.Opened(timescale=16, video=pb.Video(fps_numerator=16, fps_denominator=1))
    decoder.feed(pb.StreamResponse(opened=opened))
    assert decoder.feed(pb.StreamResponse()) is None
    parts = [pb.Segment(index=3, part=n, part_count=3, data=bytes([n]), pts_ticks=33) for n in range(3)]
    *nothing, event = [decoder.feed(pb.StreamResponse(segment=part)) for part in parts]
    assert nothing == [None, None]
    assert isinstance(event, SegmentEvent)
    assert (event.data, event.start_s) == (b"\x00\x01\x02", Fraction(33, 16))


async def test_a_write_that_crosses_the_end_of_the_call_loses_nothing() -> None:
    for _ in range(5):
        options = StreamOptions(seed=1, window=8, pictures=GEOMETRY.first_picture(4), auto_ack=False)
        async with toy_cell() as toy, Client(toy.target) as client, client.stream("red", options) as stream:
            await toy.settled()
            with contextlib.suppress(ClientError):
                await asyncio.gather(*(stream.ack(0) for _ in range(8)))
            events = [event async for event in stream]
        assert segments(events) == [segment(n, 1, "red") for n in range(4)]
        assert events[-1] == ClosedEvent(ending="completed", reason="", segments=4)


async def test_what_crosses_the_end_of_a_stream_is_no_error_and_what_is_asked_for_after_it_is() -> None:
    options = StreamOptions(seed=1, window=8, pictures=GEOMETRY.first_picture(4), auto_ack=False)
    for _ in range(5):
        async with toy_cell() as toy, Client(toy.target) as client, client.stream("red", options) as stream:
            await toy.settled()
            for _ in range(3):  # the call takes no frames any more, or its status is forgotten by the next one
                await asyncio.gather(
                    stream.cue("blue"), stream.pause(), stream.play(), stream.ack(3), stream.cue("red"), stream.close()
                )
            events = [event async for event in stream]
            with pytest.raises(ClientError, match="FAILED_PRECONDITION: the stream is complete"):
                await stream.cue("blue")
            await stream.close()
        assert segments(events) == [segment(n, 1, "red") for n in range(4)]
        assert events[-1] == ClosedEvent(ending="completed", reason="", segments=4)


async def test_who_is_cancelled_while_asking_for_something_still_ends_the_stream_when_leaving() -> None:
    options = StreamOptions(seed=1, window=8, auto_ack=False)
    async with toy_cell(segment_bytes=50_000) as toy, Client(toy.target) as client:
        for _ in range(20):
            with contextlib.suppress(asyncio.CancelledError):
                async with client.stream("red", options) as stream:
                    asking = asyncio.create_task(stream.ack(0))
                    await asyncio.sleep(0)
                    asking.cancel()
                    await asking
            await asyncio.wait_for(toy.settled(), 2)


def test_client_and_server_agree_on_what_an_ending_means() -> None:
    ended = {ending: status for ending, status in STATUS_OF_ENDING.items() if ending in WIRE_ENDINGS}
    assert {ending.value: status for ending, status in ended.items() if status is not grpc.StatusCode.OK} == ENDINGS


class ForgetfulCall:
    """A call whose status was overwritten by a failed write (grpc issue 36066): all frames, then INTERNAL."""

    def __init__(self, ending: pb.Ending) -> None:
        opened = pb.Opened(timescale=16, video=pb.Video(fps_numerator=16, fps_denominator=1))
        self._frames = [
            pb.StreamResponse(opened=opened),
            pb.StreamResponse(segment=pb.Segment(part_count=1)),
            pb.StreamResponse(closed=pb.Closed(ending=ending, reason="because")),
        ]

    def cancel(self) -> None:
        pass

    async def write(self, frame: pb.StreamRequest) -> None:
        if not self._frames:
            raise self._status()

    async def __aiter__(self) -> AsyncIterator[pb.StreamResponse]:
        while self._frames:
            yield self._frames.pop(0)
        raise self._status()

    def _status(self) -> grpc.aio.AioRpcError:
        empty = grpc.aio.Metadata()
        return grpc.aio.AioRpcError(grpc.StatusCode.INTERNAL, empty, empty, "Internal error from Core")


class ForgetfulRoute:
    """Makes such calls."""

    def __init__(self, ending: pb.Ending) -> None:
        self._ending = ending

    def begin(self) -> ForgetfulCall:
        return ForgetfulCall(self._ending)

    async def close(self) -> None:
        pass


@pytest.mark.parametrize(
    ("ending", "code"),
    [
        (pb.ENDING_COMPLETED, None),
        (pb.ENDING_CLIENT, None),
        (pb.ENDING_OPERATOR, grpc.StatusCode.ABORTED),
        (pb.ENDING_DRAINED, grpc.StatusCode.UNAVAILABLE),
        (pb.ENDING_LOST, grpc.StatusCode.UNAVAILABLE),
        (pb.ENDING_FAILED, grpc.StatusCode.INTERNAL),
        (pb.ENDING_ACCESS, grpc.StatusCode.UNAUTHENTICATED),
        (pb.ENDING_QUOTA, grpc.StatusCode.RESOURCE_EXHAUSTED),
    ],
)
async def test_how_a_stream_ended_is_known_even_if_grpc_forgets_the_status(
    ending: pb.Ending, code: grpc.StatusCode | None
) -> None:
    events: list[StreamEvent] = []
    expected = pytest.raises(ClientError, match="because") if code else contextlib.nullcontext()
    route = cast(Any, ForgetfulRoute(ending))
    async with Stream(route, pb.Open(prompt="red"), StreamOptions()) as stream:
        with expected as caught:
            async for event in stream:
                events.append(event)
        await stream.close()
    assert [type(event) for event in events] == [OpenedEvent, SegmentEvent, ClosedEvent]
    assert code is None or (caught is not None and caught.value.code is code)


def test_all_options_that_no_server_could_understand_are_named_at_once() -> None:
    wrong = StreamOptions(
        seed=-1, window=1 << 40, duration_s=float("nan"), quality=-3, reconnect_s=-1.0,
        cues=(CueAt(prompt="x", block=1, time_s=1), CueAt(prompt="\udcff", time_s=float("inf"))),
    )  # fmt: skip
    with pytest.raises(OptionError) as caught:
        open_request("a \ud83c", wrong)
    options = ["seed", "window", "quality", "duration_s", "reconnect_s"]
    cues = ["cues[0]", "cues[1].prompt", "cues[1].time_s"]
    assert [one.field for one in caught.value.violations] == ["prompt", *options, *cues]
    said = r"prompt: 'a \ud83c' is not allowed; allowed: text, all of it characters (UTF-8); seed"
    assert str(caught.value).startswith(said)
    assert isinstance(caught.value, ValueError)


@pytest.mark.parametrize("time_s", [float("inf"), float("nan"), -1, 1e300, Fraction(10**30)])
def test_a_time_is_one_that_the_wire_can_say(time_s: float | Fraction) -> None:
    with pytest.raises(OptionError, match=r"duration_s: .* is not allowed; allowed: a time of 0 s or more"):
        open_request("x", StreamOptions(duration_s=time_s))


def test_a_cue_without_a_name_takes_none_that_somebody_else_has() -> None:
    given = (CueAt(prompt="a", id="cue-2", block=1), CueAt(prompt="b", block=2), CueAt(prompt="c", block=3))
    ids = [cue.id for cue in open_request("x", StreamOptions(cues=given)).cues]
    assert ids == ["cue-2", "cue-3", "cue-4"]
    assert cue_request(CueAt(prompt="d"), None, frozenset(ids)).id == "cue-5"
    assert [cue.id for cue in open_request("x", StreamOptions(cues=given[1:])).cues] == ["cue-1", "cue-2"]


def test_every_ending_has_its_sentence() -> None:
    assert set(SENTENCES) == set(get_args(EndingName)) > set(ENDINGS)


def test_reasons_that_are_left_out_are_those_of_the_server() -> None:
    assert {draining.REASON, handing.REASON} == REPEATED


def test_what_is_under_way_when_a_synchronous_client_ends_is_ended_with_it() -> None:
    loop, ended = LoopThread(), threading.Event()

    async def never() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    async def begin() -> asyncio.Task[None]:
        task = asyncio.create_task(never())
        await asyncio.sleep(0)
        return task

    task = loop.run(begin())
    loop.stop()
    assert ended.is_set() and task.cancelled()
