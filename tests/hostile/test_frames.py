"""Frames that are wrong in every way: each gets an answer, and the server goes on."""

from __future__ import annotations

import random

import pytest

from longtake.client import Client, SegmentEvent, StreamOptions
from longtake.core.limits import Limits
from tests.cluster.frontend.toy import segment, toy_cell
from tests.hostile.frames import Fuzz

FRAMES = 1000
ANSWERS = {"OK", "left", "silent", "forgotten", "INVALID_ARGUMENT", "NOT_FOUND", "OUT_OF_RANGE", "ABORTED",
           "RESOURCE_EXHAUSTED", "FAILED_PRECONDITION"}  # fmt: skip


@pytest.mark.parametrize("seed", range(2))
async def test_wrong_frames_are_answered_and_disturb_nobody(seed: int) -> None:
    fuzz = Fuzz(random.Random(seed))
    async with (
        toy_cell(delay_s=0.001, limits=Limits(detached_s=0.5, max_sessions=200)) as cell,
        Client(cell.target) as client,
        client.stream("red", StreamOptions(seed=4)) as stream,
    ):
        await fuzz.run(cell.target, FRAMES)
        while not fuzz.resumed:  # on a busy machine streams may be forgotten before their tokens come back
            await fuzz.run(cell.target, fuzz.frames + FRAMES // 4)
        assert fuzz.frames >= FRAMES and fuzz.hung == 0
        assert fuzz.ends.keys() <= ANSWERS, fuzz.ends
        assert {"NOT_FOUND", "INVALID_ARGUMENT"} <= fuzz.ends.keys()
        cell.engine.scheduler.check()
        expected = 0
        async for event in stream:
            if isinstance(event, SegmentEvent):
                assert event.data == segment(expected, 4, "red")
                expected += 1
            if expected == 20:
                break
        await stream.close()
        await cell.settled()
