"""Facts as JSON: they come back as they were, and nothing else is taken for one."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from cluster.journal.facts import ForkRecord, cue_from_json, cue_to_json, record_from_json, record_to_json
from longtake.core.adoption import PlacedCue
from longtake.core.errors import InvalidField
from longtake.core.flow import Pace
from longtake.core.work import CueId, DecoderKind, SegmentSettings, SessionId
from tests.cluster.journal.world import record

TURN = PlacedCue(block=2, version=0, cue=None, prompt="")
CUE = PlacedCue(block=9, version=3, cue=CueId("é\n\x00"), prompt="ein „Prompt“ \U0001f600 \ud7ff")


def test_records_come_back() -> None:
    plain = record()
    rich = replace(
        plain,
        pace=Pace.REALTIME,
        picture_limit=100,
        seed=2**64 - 1,
        settings=SegmentSettings(codec="h264", quality=20, decoder=DecoderKind.TINY),
        fork=ForkRecord(parent=SessionId("p"), block=5),
    )
    for each in (plain, rich):
        assert record_from_json(record_to_json(each)) == each


def test_cues_come_back() -> None:
    for each in (TURN, CUE):
        assert cue_from_json(cue_to_json(each)) == each


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"seed": "7"}, "record.seed"), ({"seed": 7.0}, "record.seed"), ({"pace": "slow"}, "record.pace"),
        ({"more": 1}, "record.more"), ({"settings": {"codec": "raw", "quality": 0, "x": 1}}, "record.settings.x"),
        ({"fork": {"parent": "p"}}, "record.fork.block"),
    ],
)  # fmt: skip
def test_what_is_not_as_it_is_written_is_named(change: dict[str, object], field: str) -> None:
    text = json.dumps(json.loads(record_to_json(record())) | change).encode()
    with pytest.raises(InvalidField) as caught:
        record_from_json(text)
    assert caught.value.field == field


@pytest.mark.parametrize("text", [b"", b"{", b"[]", b"null", b"{}],[{}", b"\xff", b'{"block":1}'])
def test_what_is_no_cue_is_none(text: bytes) -> None:
    with pytest.raises(InvalidField):
        cue_from_json(text)


def test_text_that_is_no_unicode_is_refused() -> None:
    with pytest.raises(InvalidField) as caught:
        cue_to_json(replace(CUE, prompt="\ud800"))
    assert caught.value.field == "cue"
