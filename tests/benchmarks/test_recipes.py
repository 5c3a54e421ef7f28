"""The benchmark of recipes takes the times that it says it takes, and compares with the first recipe."""

from __future__ import annotations

import time
from fractions import Fraction
from typing import cast

import pytest

from benchmarks.playback import Playback
from benchmarks.recipes import Times, Viewer, rows_of
from longtake.client.events import CueAcceptedEvent, CueAppliedEvent, SegmentEvent, StreamEvent
from longtake.client.stream import Stream
from longtake.core.errors import Unavailable


def segment(index: int) -> SegmentEvent:
    start_s = Fraction(3 * index, 4)
    return SegmentEvent(index=index, first_picture=12 * index, picture_count=12, start_s=start_s,
                        duration_s=Fraction(3, 4), prompt_version=0, data=b"", keyframe=True)  # fmt: skip


ACCEPTED = CueAcceptedEvent(cue_id="c", block=2, start_s=Fraction(3, 2))
APPLIED = CueAppliedEvent(cue_id="c", block=2, start_s=Fraction(3, 2))


class Scripted:
    """A stream whose second segment is accompanied by a receipt, and whose third shows the cue."""

    def __init__(self) -> None:
        self.acknowledged: list[int] = []
        self._events: list[StreamEvent] = [segment(0), ACCEPTED, segment(1), APPLIED, segment(2)]

    def __aiter__(self) -> Scripted:
        return self

    async def __anext__(self) -> StreamEvent:
        if not self._events:
            raise StopAsyncIteration
        return self._events.pop(0)

    async def ack(self, segment: int) -> None:
        self.acknowledged.append(segment)


async def test_without_a_screen_a_cue_is_there_when_its_segment_is() -> None:
    stream = Scripted()
    reads = Viewer(cast(Stream, stream), clock=iter((10.0, 10.1, 10.3)).__next__)
    seen = [await reads.segment() for _ in range(3)]
    assert [(event.index, shows, there_s) for event, shows, there_s in seen] == [
        (0, False, 10.0), (1, False, 10.1), (2, True, 10.3),
    ]  # fmt: skip
    assert stream.acknowledged == [0, 1, 2]
    with pytest.raises(Unavailable):
        await reads.segment()


async def test_with_a_screen_when_that_comes_to_it_and_then_it_is_acknowledged() -> None:
    """The second segment comes 10 ms before it is shown; the third a second late, and is shown as it comes."""
    stream, began_s = Scripted(), time.monotonic()
    reads = Viewer(cast(Stream, stream), Playback(0.0), clock=iter((10.0, 10.74, 12.5)).__next__)
    assert [there_s for _, _, there_s in [await reads.segment() for _ in range(2)]] == [10.0, 10.75]
    assert time.monotonic() - began_s >= 0.009 and stream.acknowledged == [0, 1]
    assert (await reads.segment())[2] == 12.5


def test_medians_are_over_all_rounds_and_ratios_to_the_first_recipe() -> None:
    found = {
        "slow": [Times(first_s=first_s, cues_s=(0.4, 0.6), screens_s=(1.0,)) for first_s in (0.2, 0.3, 9.0)],
        "quick": [Times(first_s=0.15, cues_s=(0.1, 0.2), screens_s=(0.25, 0.75, 9.0))],
    }
    slow, quick = rows_of(("slow", "quick"), found, {"slow": 12, "quick": 4})
    assert (slow.first_s, slow.cue_s, slow.screen_s) == (0.3, 0.5, 1.0)
    assert (slow.first_ratio, slow.cue_ratio, slow.screen_ratio) == (1, 1, 1)
    assert (quick.first_ratio, quick.cue_ratio, quick.screen_ratio) == (0.5, 0.3, 0.75)
    assert (quick.recipe, quick.block_pictures) == ("quick", 4)
