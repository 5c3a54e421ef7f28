"""Bad input at the protocol: each case names the field, the value and what is allowed, and reaches no worker."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import replace

import grpc
import pytest
from google.protobuf import duration_pb2

from cluster.frontend.requests import open_event
from longtake.client.errors import ClientError, error_from
from longtake.core.errors import InvalidField
from longtake.core.events import CueRequest, OpenRefused, WorkerJoined
from longtake.core.flow import Pace
from longtake.core.recipe.cues import Back, CueChange
from longtake.core.work import CueId, DecoderKind, Fork, SegmentSettings, SessionId
from longtake.v1 import longtake_pb2 as pb
from longtake.v1 import longtake_pb2_grpc as rpc
from tests.cluster.frontend.toy import offer, toy_cell

LONG = "word " * 1000
NEGATIVE = duration_pb2.Duration(seconds=-1)
TOKEN = bytes(32)
CUE = pb.Cue(id="c", prompt="blue", block=3)

BAD_OPENS: dict[str, tuple[pb.Open, str, str]] = {
    "empty prompt": (pb.Open(), "open.prompt", "1 to 4096 bytes"),
    "white space": (pb.Open(prompt=" \n\t"), "open.prompt", "not only white space"),
    "long prompt": (pb.Open(prompt=LONG), "open.prompt", "5000 bytes"),
    "prompt without a word": (pb.Open(prompt="123"), "open.prompt", "words"),
    "control in prompt": (pb.Open(prompt="a \x1b[2J b"), "open.prompt", "control characters"),
    "control in cue id": (
        pb.Open(prompt="x", cues=[pb.Cue(id="c\nforged line", prompt="y", block=1)]),
        "open.cues[0].id",
        "control characters",
    ),
    "C1 control in cue prompt": (
        pb.Open(prompt="x", cues=[pb.Cue(id="c", prompt="\x9b2J", block=1)]),
        "open.cues[0].prompt",
        "control characters",
    ),
    "window": (pb.Open(prompt="x", window=33), "open.window", "1 to 32 segments"),
    "pace": (pb.Open.FromString(b"\x0a\x01x\x18\x4d"), "open.pace", "PACE_REALTIME"),
    "codec": (pb.Open.FromString(b"\x0a\x01x\x38\x4d"), "open.codec", "CODEC_H264"),
    "quality h264": (pb.Open(prompt="x", quality=52), "open.quality", "1 to 51"),
    "quality h264, lossless": (pb.Open(prompt="x", quality=0), "open.quality", "1 to 51"),
    "quality mjpeg": (pb.Open(prompt="x", codec=pb.CODEC_MJPEG, quality=0), "open.quality", "1 to 100"),
    "quality raw": (pb.Open(prompt="x", codec=pb.CODEC_RAW, quality=1), "open.quality", "unset"),
    "decoder": (pb.Open(prompt="x", decoder=pb.DECODER_TINY), "open.decoder", "allowed: DECODER_FULL"),
    "no decoder": (pb.Open.FromString(b"\x0a\x01x\x68\x4d"), "open.decoder", "77"),
    "decoder of a fork": (
        pb.Open(prompt="x", decoder=pb.DECODER_FULL, fork=pb.Fork(session_id="s")),
        "open.decoder",
        "unset in a fork",
    ),
    "no pictures": (pb.Open(prompt="x", pictures=0), "open.pictures", "1 to 2^40"),
    "too many pictures": (pb.Open(prompt="x", pictures=1 << 41), "open.pictures", "1 to 2^40"),
    "negative duration": (pb.Open(prompt="x", duration=NEGATIVE), "open.duration", "0 or more"),
    "no duration": (pb.Open(prompt="x", duration=duration_pb2.Duration()), "open.duration", "above 0"),
    "endless duration": (
        pb.Open(prompt="x", duration=duration_pb2.Duration(seconds=1 << 40)),
        "open.duration",
        "2^40 pictures",
    ),
    "nanoseconds": (
        pb.Open(prompt="x", duration=duration_pb2.Duration(seconds=1, nanos=-5)),
        "open.duration",
        "0 or more",
    ),
    "resume token and prompt": (pb.Open(prompt="x", resume_token=TOKEN), "open.prompt", "unset beside"),
    "resume token and seed": (pb.Open(seed=0, resume_token=TOKEN), "open.seed", "unset beside"),
    "resume token and length": (pb.Open(pictures=0, resume_token=TOKEN), "open.pictures", "unset beside"),
    "resume token and cue": (pb.Open(cues=[CUE], resume_token=TOKEN), "open.cues", "unset beside"),
    "resume token and fork": (pb.Open(fork=pb.Fork(), resume_token=TOKEN), "open.fork", "unset beside"),
    "short resume token": (pb.Open(resume_token=TOKEN[:31]), "open.resume_token", "the 32 bytes"),
    "long resume token": (pb.Open(resume_token=bytes(1000)), "open.resume_token", "the 32 bytes"),
    "cursor without resume token": (pb.Open(prompt="x", cursor=0), "open.cursor", "unset without"),
    "large cursor": (pb.Open(resume_token=TOKEN, cursor=1 << 41), "open.cursor", "the last segment consumed"),
    "cue without place": (
        pb.Open(prompt="x", cues=[pb.Cue(id="c", prompt="y")]),
        "open.cues[0].at",
        "a block or a time",
    ),
    "cue ids alike": (pb.Open(prompt="x", cues=[CUE, CUE]), "open.cues[1].id", "differ"),
    "cue change": (
        pb.Open(prompt="x", cues=[pb.Cue(id="c", prompt="y", block=1, change=9)]),  # type: ignore[arg-type]
        "open.cues[0].change",
        "CHANGE_SWAP, CHANGE_RECACHE, CHANGE_CUT or nothing",
    ),
    "cue id missing": (pb.Open(prompt="x", cues=[pb.Cue(prompt="y", block=1)]), "open.cues[0].id", "1 to 64 bytes"),
    "cue id long": (
        pb.Open(prompt="x", cues=[pb.Cue(id="i" * 65, prompt="y", block=1)]),
        "open.cues[0].id",
        "1 to 64 bytes",
    ),
    "fork": (pb.Open(prompt="x", fork=pb.Fork()), "open.fork.session_id", "the session id from Opened"),
    "cue prompt": (
        pb.Open(prompt="x", cues=[CUE, pb.Cue(id="d", block=1)]),
        "open.cues[1].prompt",
        "1 to 4096 bytes",
    ),
    "cue time": (
        pb.Open(prompt="x", cues=[pb.Cue(id="c", prompt="y", time=NEGATIVE)]),
        "open.cues[0].time",
        "0 or more",
    ),
    "cue block": (
        pb.Open(prompt="x", cues=[pb.Cue(id="c", prompt="y", block=1 << 50)]),
        "open.cues[0].block",
        "2^40",
    ),
    "many cues": (
        pb.Open(prompt="x", cues=[pb.Cue(id=str(n), prompt="y", block=n) for n in range(65)]),
        "open.cues",
        "at most 64",
    ),
}


async def refusal(target: str, *frames: pb.StreamRequest) -> ClientError:
    async with grpc.aio.insecure_channel(target) as channel:
        call = rpc.LongtakeServiceStub(channel).Stream(iter(frames))
        try:
            async for _ in call:
                pass
        except grpc.aio.AioRpcError as error:
            return error_from(error)
    raise AssertionError("the call did not fail")


async def test_a_bad_open_is_invalid_argument_with_field_and_allowed_values_and_reaches_no_worker() -> None:
    async with toy_cell() as cell:
        for name, (request, field, allowed) in BAD_OPENS.items():
            error = await refusal(cell.target, pb.StreamRequest(open=request))
            assert error.code is grpc.StatusCode.INVALID_ARGUMENT, name
            assert [violation.field for violation in error.violations] == [field], name
            assert allowed in error.violations[0].description, name
        assert [type(event) for event in cell.events] == [WorkerJoined] * 3 + [OpenRefused] * len(BAD_OPENS)


async def test_a_first_frame_that_is_not_open_is_refused() -> None:
    async with toy_cell() as cell:
        for frames in ((pb.StreamRequest(ack=pb.Ack(segment=0)),), (pb.StreamRequest(),), ()):
            error = await refusal(cell.target, *frames)
            assert error.code is grpc.StatusCode.INVALID_ARGUMENT
            assert error.violations[0].field == "frame"
            assert "open" in error.violations[0].description


async def test_bytes_that_are_no_frame_and_frames_that_are_too_large_are_refused() -> None:
    async with toy_cell() as cell, grpc.aio.insecure_channel(cell.target) as channel:
        for frame, status in (
            (b"\xff\xff\xff", grpc.StatusCode.INVALID_ARGUMENT),
            (pb.StreamRequest(open=pb.Open(prompt="x" * (1 << 20))).SerializeToString(),
             grpc.StatusCode.RESOURCE_EXHAUSTED),
        ):  # fmt: skip
            raw: grpc.aio.StreamStreamMultiCallable[bytes, bytes]
            raw = channel.stream_stream("/longtake.v1.LongtakeService/Stream")
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                async for _ in raw(iter([frame])):
                    pass
            assert caught.value.code() is status
        assert [type(event) for event in cell.events] == [WorkerJoined] * 3 + [OpenRefused] * 2


async def test_bad_names_of_sessions_are_refused() -> None:
    async with toy_cell() as cell, grpc.aio.insecure_channel(cell.target) as channel:
        stub = rpc.LongtakeServiceStub(channel)
        for name, status in (("", grpc.StatusCode.INVALID_ARGUMENT), ("no\nbody" * 999, grpc.StatusCode.NOT_FOUND)):
            for call in (
                stub.GetSession(pb.GetSessionRequest(session_id=name)),
                stub.CloseSession(pb.CloseSessionRequest(session_id=name)),
                stub.Watch(pb.WatchRequest(session_id=name)).read(),
            ):
                with pytest.raises(grpc.aio.AioRpcError) as caught:
                    await call
                assert caught.value.code() is status


@pytest.mark.parametrize("prompt", ["赤い\u3000ボール", "👩\u200d🚀 in\ttwo\nlines", "क्\u200dष", "\u00a0é"])
def test_text_of_any_script_is_text(prompt: str) -> None:
    frame = pb.StreamRequest(open=pb.Open(prompt=prompt))
    assert open_event(frame, session=SessionId("s"), offer=offer(), now_s=0.0).prompt == prompt


def test_what_is_not_set_gets_its_default_and_seeds_are_drawn() -> None:
    frame = pb.StreamRequest(open=pb.Open(prompt="a red ball"))
    events = [open_event(frame, session=SessionId("s"), offer=offer(), now_s=1.5) for _ in range(2)]
    assert events[0].seed != events[1].seed
    assert all(0 <= event.seed < 1 << 32 for event in events)
    event = events[0]
    assert (event.now_s, event.prompt, event.pace, event.window) == (1.5, "a red ball", Pace.FAST, 4)
    assert (event.picture_limit, event.settings, event.cues) == (None, SegmentSettings(codec="h264", quality=23), ())


def test_times_become_the_first_picture_at_or_after_them_without_rounding() -> None:
    for nanos, picture in ((0, 16), (1, 17), (62_500_000, 17), (62_500_001, 18)):
        time = duration_pb2.Duration(seconds=1, nanos=nanos)
        request = pb.Open(prompt="x", duration=time, cues=[pb.Cue(id="c", prompt="y", time=time)])
        event = open_event(pb.StreamRequest(open=request), session=SessionId("s"), offer=offer(), now_s=0.0)
        assert event.picture_limit == picture
        assert event.cues == (CueRequest(cue=CueId("c"), prompt="y", picture=picture),)


@pytest.mark.parametrize(
    ("asked", "given"),
    [
        (pb.CHANGE_UNSPECIFIED, None),
        (pb.CHANGE_SWAP, CueChange.SWAP),
        (pb.CHANGE_RECACHE, CueChange.RECACHE),
        (pb.CHANGE_CUT, CueChange.CUT),
    ],
)
def test_a_cue_says_what_becomes_of_what_is_remembered(asked: pb.Change, given: CueChange | None) -> None:
    request = pb.StreamRequest(open=pb.Open(prompt="x", cues=[pb.Cue(id="c", prompt="y", block=1, change=asked)]))
    event = open_event(request, session=SessionId("s"), offer=offer(), now_s=0.0)
    assert event.cues == (CueRequest(cue=CueId("c"), prompt="y", block=1, change=given),)


def test_a_way_back_is_a_cut_and_nothing_else() -> None:
    for change in (pb.CHANGE_UNSPECIFIED, pb.CHANGE_CUT, pb.CHANGE_RECACHE):
        cue = pb.Cue(id="c", prompt="y", block=1, change=change, back_to_shot=0)
        request = pb.StreamRequest(open=pb.Open(prompt="x", cues=[cue]))
        with (
            pytest.raises(InvalidField, match="CHANGE_CUT or nothing") if change == pb.CHANGE_RECACHE else nullcontext()
        ):
            event = open_event(request, session=SessionId("s"), offer=offer(), now_s=0.0)
            assert event.cues == (CueRequest(cue=CueId("c"), prompt="y", block=1, change=Back(0)),)


@pytest.mark.parametrize(
    ("asked", "given"),
    [
        (pb.DECODER_UNSPECIFIED, DecoderKind.FULL),
        (pb.DECODER_FULL, DecoderKind.FULL),
        (pb.DECODER_TINY, DecoderKind.TINY),
    ],
)
def test_a_decoder_that_is_offered_can_be_asked_for(asked: pb.Decoder, given: DecoderKind) -> None:
    both = replace(offer(), decoders=tuple(DecoderKind))
    request = pb.StreamRequest(open=pb.Open(prompt="x", decoder=asked))
    event = open_event(request, session=SessionId("s"), offer=both, now_s=0.0)
    assert event.settings.decoder is given


@pytest.mark.parametrize("block", [None, 0, 12])
def test_a_fork_names_a_session_and_may_name_a_block_of_it(block: int | None) -> None:
    request = pb.StreamRequest(open=pb.Open(prompt="x", fork=pb.Fork(session_id="s", block=block)))
    event = open_event(request, session=SessionId("t"), offer=offer(), now_s=0.0)
    assert event.fork == Fork(session=SessionId("s"), block=block)


def test_zero_is_a_seed_that_can_be_asked_for() -> None:
    request = pb.Open(prompt="x", seed=0)
    assert open_event(pb.StreamRequest(open=request), session=SessionId("s"), offer=offer(), now_s=0.0).seed == 0


def test_the_table_would_notice_a_field_that_is_not_checked() -> None:
    request = pb.Open(prompt="x", window=33)
    with pytest.raises(InvalidField, match=r"open\.window"):
        open_event(pb.StreamRequest(open=request), session=SessionId("s"), offer=offer(), now_s=0.0)
    request.window = 32
    assert open_event(pb.StreamRequest(open=request), session=SessionId("s"), offer=offer(), now_s=0.0).window == 32
