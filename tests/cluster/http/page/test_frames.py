"""What a browser may say: every field of every frame holds what is allowed, or is refused by its name."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import cast, get_args

import pytest

from cluster.http.page.answers import event_message
from cluster.http.page.frames import NoFrame, WrongFrame, first_frame, later_frame
from longtake.client.decoder import Decoder
from longtake.client.events import ClosedEvent, EndingName
from longtake.v1 import longtake_pb2 as pb
from tests.cluster.http.page.cell import PROMPT, Browser, page_cell

NUMBERS = ("-1", "NaN", "Infinity", "-Infinity", "1e400", "1e99", '"5"', '""', "true", "false", "[]", "{}", "[1]")
"""What stands for a number in JSON, and is none that any field takes."""
FIELDS: tuple[tuple[str, str, tuple[str, ...]], ...] = (
    ("open", "duration_s", (*NUMBERS, "0", "-0.0", "0.0", "1e-300", "1e10")),
    ("open", "window", (*NUMBERS, "1.5", "1025", "null", "9" * 30)),
    ("open", "seed", ("5", "1.5", '"-1"', '""', '"1e3"', '" 1"', '"1\\n"', '"٣"', f'"{"9" * 21}"', "true", "[]")),
    ("open", "pace", ('"slow"', '""', "1", "null", "true", '"Fast"')),
    ("open", "prompt", ("5", "null", "true", "[]", "{}")),
    ("open", "fork", ('""', "5", "true", f'"{"x" * 257}"')),
    ("open", "token", ("5", "null", "[]")),
    ("open", "colour", ("1", '"red"')),
    ("open", "given_bytes", ("5", "null", "[0]", "[1.5]", '["5"]', "[524289]", "[1, 1]")),
    ("open", "references_bytes", ("5", "null", "[0]", "[524289]", f"[{', '.join('1' * 9)}]")),
    ("watch", "session_id", ('""', "5", "null", "true", f'"{"x" * 257}"')),
    ("resume", "resume_token", ('""', "5", "null", '"xyz"', '"abc"', '"AB"')),
    ("resume", "cursor", (*NUMBERS, "1.5", "9" * 30)),
    ("cue", "time_s", (*NUMBERS, "1e10")),
    ("cue", "id", ('""', "5", "null", f'"{"x" * 65}"')),
    ("cue", "prompt", ("5", "null", "[]")),
    ("cue", "cut", ("5", "null", '"yes"', "[]")),
    ("cue", "back_to_shot", ("-1", "1.5", '"0"', "4294967296", "[]")),
    ("ack", "segment", (*NUMBERS, "1.5", "null", "9" * 30)),
    ("pause", "segment", ("1",)),
    ("play", "prompt", ('"a"',)),
    ("close", "reason", ('"a"',)),
)
RIGHT: dict[str, dict[str, object]] = {
    "open": {
        "prompt": PROMPT,
        "seed": "1",
        "duration_s": 5,
        "window": 0,
        "pace": "fast",
        "fork": "a",
        "token": "t",
        "given_bytes": [1],
        "references_bytes": [1, 524288],
    },
    "watch": {"session_id": "a"},
    "resume": {"resume_token": "ab", "cursor": 0},
    "cue": {"id": "c", "prompt": PROMPT, "time_s": 0, "cut": True, "back_to_shot": 0},
    "ack": {"segment": 0},
    "pause": {},
    "play": {},
    "close": {},
}


def cases() -> Iterator[tuple[str, str, str]]:
    for kind, field, values in FIELDS:
        for value in values:
            yield kind, field, value


def said(kind: str, field: str, value: str) -> str:
    """A frame of this kind, right but for one field."""
    rest = {name: kept for name, kept in RIGHT[kind].items() if name != field}
    return f'{{"{field}": {value}, {json.dumps({"type": kind} | rest)[1:]}'


def test_what_is_right_is_taken_and_every_field_is_tried() -> None:
    for kind, fields in RIGHT.items():
        (first_frame if kind in ("open", "watch", "resume") else later_frame)(json.dumps({"type": kind} | fields))
        assert fields.keys() <= {field for tried, field, _ in FIELDS if tried == kind}, kind


@pytest.mark.parametrize(("kind", "field", "value"), tuple(cases()))
def test_a_field_that_holds_something_else_is_named_with_what_is_allowed(kind: str, field: str, value: str) -> None:
    with pytest.raises(WrongFrame) as refused:
        (first_frame if kind in ("open", "watch", "resume") else later_frame)(said(kind, field, value))
    sentence = str(refused.value)
    assert (
        sentence.startswith((f"{field}: ", f"{field}.0: "))
        and " is not allowed; allowed: " in sentence
        and len(sentence) < 250
    )
    assert kind != "cue" or field == "id" or refused.value.id == "c"
    if "token" in field:
        assert "(not shown)" in sentence


def test_all_that_is_wrong_is_said_at_once() -> None:
    with pytest.raises(
        WrongFrame, match=r"^pace: .*; window: .*; duration_s: 0 is not|^pace: .*duration_s: 0.*window: "
    ):
        first_frame(json.dumps({"type": "open", "prompt": "a", "pace": "x", "window": -1, "duration_s": 0}))


@pytest.mark.parametrize(
    "text", ["", "{", "[]", "5", '"open"', "null", "[" * 3000, "1" * 9000, '{"type": "ope"}', "{}"]
)
def test_what_is_no_frame_is_another_thing(text: str) -> None:
    for read in (first_frame, later_frame):
        with pytest.raises(NoFrame, match=r"^(frame|type): "):
            read(text)


async def test_no_length_is_refused_before_anything_is_opened_and_a_wrong_cue_ends_no_stream() -> None:
    async with page_cell() as cell:
        for value in (0, -1, float("nan"), "5", True, 1e12):
            async with cell.browser() as socket:
                browser = Browser(socket)
                await browser.say(type="open", prompt=PROMPT, duration_s=value)
                told = await browser.hear()
                assert told["type"] == "error" and str(told["sentence"]).startswith("duration_s: "), value
        async with cell.browser() as socket:
            browser = Browser(socket)
            await browser.say(type="open", prompt=PROMPT, duration_s=4)
            await browser.upto("opened")
            await browser.say(type="cue", id="early", prompt=PROMPT, time_s=-1)
            refused = await browser.upto("refused")
            assert (refused["id"], refused["field"], refused["code"]) == ("early", "time_s", "INVALID_ARGUMENT")
            assert "time_s: -1 is not allowed; allowed: a number of seconds, 0 to" in str(refused["sentence"])
            await browser.say(type="ack", segment="none")
            assert (await browser.upto("refused"))["field"] == "segment"
            assert (await browser.upto("closed"))["ending"] == "completed"


def sentence_of(ending: EndingName, reason: str = "", *, watching: bool = False) -> str:
    return str(event_message(ClosedEvent(ending=ending, reason=reason, segments=1), watching=watching)["sentence"])


@pytest.mark.parametrize("watching", [False, True])
def test_there_is_a_sentence_for_every_ending(watching: bool) -> None:
    names = get_args(EndingName)
    assert [f"ENDING_{name.upper()}" for name in names] == list(pb.Ending.keys())
    sentences = [sentence_of(name, watching=watching) for name in names]
    assert [sentence for sentence in sentences if not re.fullmatch(r"[A-Z][^.]+\.", sentence)] == []
    assert len(set(sentences)) == len(names) and min(len(sentence.split()) for sentence in sentences) >= 4
    newer = Decoder().feed(pb.StreamResponse(closed=pb.Closed(ending=cast(pb.Ending, 99))))
    assert isinstance(newer, ClosedEvent) and newer.ending == "unspecified"


def test_the_reason_of_an_ending_is_told_unless_it_says_the_same_again() -> None:
    why = "An operator has ended the stream (maintenance at noon)."
    assert sentence_of("operator", "maintenance at noon") == why == sentence_of("operator", "maintenance at noon.")
    assert sentence_of("drained", "the server is shutting down") == sentence_of("drained")
    assert "its client has left" in sentence_of("orphaned", "its parent ended: its client has left")
    assert "whoever began it" in sentence_of("client", watching=True) != sentence_of("client")
