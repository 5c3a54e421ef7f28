"""Every refusal has a status, and its details say what a program can use."""

from __future__ import annotations

import pytest
from google.protobuf.message import Message
from google.rpc import error_details_pb2

from cluster.net.statuses import STATUSES, details_of
from longtake.core.errors import (
    Contradiction,
    Fault,
    InvalidField,
    Lack,
    LongtakeError,
    NoCapacity,
    PastGone,
    SegmentGone,
    TooLate,
    UnknownSession,
    WrongState,
)
from longtake.core.scarcity import Scarcity, Shortage

TIME = Shortage(of="decode-0", unit="share of time", needed=0.43, free=0.09, limit=0.95)


def violations(*rows: tuple[str, str]) -> Message:
    fields = [{"field": field, "description": description} for field, description in rows]
    message: Message = error_details_pb2.BadRequest(field_violations=fields)
    return message


def test_every_refusal_has_a_status() -> None:
    assert set(STATUSES) == {*Lack, *Fault}
    assert {STATUSES[lack].name for lack in Lack} == {"RESOURCE_EXHAUSTED"}


@pytest.mark.parametrize(
    ("error", "details"),
    [
        (InvalidField("open.window", 0, "1 to 4"), [violations(("open.window", "0 is not allowed; allowed: 1 to 4"))]),
        (InvalidField("frame", None, "open"), [violations(("frame", "None is not allowed; allowed: open"))]),
        (
            Contradiction("a", "b", "both"),
            [violations(("a", "a contradicts b: both"), ("b", "a contradicts b: both"))],
        ),
        (
            TooLate(2, 5),
            [violations(("cue.at", "cue: block 2 has already started; the earliest possible block is 5"))],
        ),
        (
            UnknownSession("x"),
            [error_details_pb2.ResourceInfo(resource_type="session", resource_name="x")],
        ),
        (
            NoCapacity("full", 2.5, Lack.OBSERVERS),
            [
                error_details_pb2.RetryInfo(retry_delay={"seconds": 2, "nanos": 500_000_000}),
                error_details_pb2.ErrorInfo(reason="OBSERVERS", domain="longtake"),
            ],
        ),
        (
            NoCapacity("full", Scarcity(shortage=TIME, fast_instead=True), Lack.TIME),
            [
                error_details_pb2.ErrorInfo(
                    reason="TIME",
                    domain="longtake",
                    metadata={
                        "of": "decode-0",
                        "unit": "share of time",
                        "needed": "0.43",
                        "free": "0.09",
                        "limit": "0.95",
                        "fast_instead": "true",
                    },
                )
            ],
        ),
        (
            SegmentGone(3, 15),
            [
                violations(("open.cursor", "3 is not allowed; allowed: 14 or more")),
                error_details_pb2.ErrorInfo(reason="OUT_OF_RANGE", domain="longtake", metadata={"least": "14"}),
            ],
        ),
        (
            PastGone(3, 15),
            [
                violations(("open.fork.block", "3 is not allowed; allowed: 15 or more")),
                error_details_pb2.ErrorInfo(reason="OUT_OF_RANGE", domain="longtake", metadata={"least": "15"}),
            ],
        ),
        (WrongState("paused"), []),
    ],
)
def test_details_say_what_a_program_can_use(error: LongtakeError, details: list[Message]) -> None:
    assert list(details_of(error.problem)) == details
