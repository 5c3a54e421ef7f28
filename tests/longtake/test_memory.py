"""What a client remembers of its stream: of what is repeated only the new counts, and what was asked for is kept."""

from __future__ import annotations

from fractions import Fraction

import pytest

from longtake.client.events import (
    CueAcceptedEvent,
    CueAppliedEvent,
    NoticeEvent,
    OpenedEvent,
    RequestRefusedEvent,
    SegmentEvent,
    StreamEvent,
)
from longtake.client.memory import Gap, Remembered
from longtake.v1 import longtake_pb2 as pb

TOKENS = (b"1" * 32, b"2" * 32)
CUE = pb.Cue(id="c", prompt="blue")
ACCEPTED = CueAcceptedEvent(cue_id="c", block=2, start_s=Fraction(1))
APPLIED = CueAppliedEvent(cue_id="c", block=2, start_s=Fraction(1))
NOTICE = NoticeEvent(text="something")


def opened(token: bytes, segment: int = 0) -> OpenedEvent:
    return OpenedEvent(
        session_id="s", seed=1, recipe_digest="", header=b"", media_type="", width=1, height=1, fps=Fraction(1),
        window=4, timescale=1, pictures=None, decoder="full", segment=segment, resume_token=token,
    )  # fmt: skip


def segment(index: int) -> SegmentEvent:
    return SegmentEvent(
        index=index, first_picture=index, picture_count=1, start_s=Fraction(index), duration_s=Fraction(1),
        prompt_version=0, data=b"", keyframe=True,
    )  # fmt: skip


def begun(*events: StreamEvent) -> Remembered:
    """A stream that asked for a cue, and was told these."""
    memory = Remembered([], None)
    assert memory.is_new(NOTICE)
    memory.opened(opened(TOKENS[0]))
    memory.asked(pb.StreamRequest(cue=CUE))
    for event in events:
        assert memory.is_new(event)
    return memory


def test_what_is_repeated_after_a_broken_call_is_dropped_once_and_what_follows_is_new() -> None:
    told = (segment(0), ACCEPTED, NOTICE, segment(1), APPLIED, segment(2))
    memory = begun(*told)
    memory.asked(pb.StreamRequest(ack=pb.Ack(segment=0)))
    memory.resumed(opened(TOKENS[1], 1))
    assert [event for event in told[1:] if memory.is_new(event)] == []
    assert memory.is_new(NOTICE), "said again, it is said"
    assert memory.is_new(segment(3)) and memory.segments == 4


def test_what_was_acknowledged_is_not_expected_again() -> None:
    memory = begun(segment(0), ACCEPTED, NOTICE, segment(1))
    memory.asked(pb.StreamRequest(ack=pb.Ack(segment=1)))
    memory.resumed(opened(TOKENS[1], 2))
    assert memory.is_new(NOTICE)


def test_a_segment_that_is_left_out_is_noticed() -> None:
    memory = begun(segment(0))
    with pytest.raises(Gap, match="segment 2 came where 1 was due"):
        memory.is_new(segment(2))
    assert Remembered([], None).is_new(segment(7)), "a fork begins later"
    with pytest.raises(Gap):
        Remembered([], 3).is_new(segment(5))


def test_a_cue_is_answered_once_however_often_it_was_asked_for() -> None:
    memory = begun(segment(0))
    memory.resumed(opened(TOKENS[1]))
    assert memory.repetition() == [pb.StreamRequest(cue=CUE)]
    assert memory.is_new(ACCEPTED) and not memory.is_new(ACCEPTED)
    assert memory.repetition() == []
    refused = RequestRefusedEvent(code=3, message="no", field="", allowed="", cue_id="c", earliest_block=None)
    assert not memory.is_new(refused), "the answer to what was asked for twice"
    memory.asked(pb.StreamRequest(cue=CUE))
    assert memory.is_new(refused)


def test_the_next_call_is_told_what_may_not_have_arrived() -> None:
    memory = begun(segment(0), segment(1))
    memory.asked(pb.StreamRequest(pause=pb.Pause()))
    memory.asked(pb.StreamRequest(ack=pb.Ack(segment=0)))
    assert memory.resumption() == pb.StreamRequest(open=pb.Open(resume_token=TOKENS[0], cursor=0))
    memory.asked(pb.StreamRequest(ack=pb.Ack(segment=1)))  # while the call is being made
    memory.asked(pb.StreamRequest(ack=pb.Ack(segment=0)))
    memory.asked(pb.StreamRequest(close=pb.Close()))
    kinds = [request.WhichOneof("frame") for request in memory.repetition()]
    assert kinds == ["cue", "ack", "pause", "close"] and memory.cursor == 1
    memory.asked(pb.StreamRequest(play=pb.Play()))
    memory.resumed(opened(TOKENS[1], 1))
    assert memory.resumption() == pb.StreamRequest(open=pb.Open(resume_token=TOKENS[1], cursor=1))
    assert [request.WhichOneof("frame") for request in memory.repetition()] == ["cue", "play", "close"]


def test_a_stream_of_which_nothing_was_consumed_says_so() -> None:
    memory = Remembered([], None)
    memory.opened(opened(TOKENS[0]))
    assert not memory.resumption().open.HasField("cursor")
