"""Recordings as files: every event comes back as it was; a file is bounded, private, and never in the way."""

from __future__ import annotations

import json
import logging
import os
import stat
import struct
from pathlib import Path
from random import Random
from typing import get_args

import pytest

from cluster.cell.engine import Engine
from cluster.cell.recording import InboxRecording, RecordedCell, read
from longtake.core.adoption import Diverged, Freeze, HandOver, MadeBy, PlacedCue, Thaw
from longtake.core.endings import Ending
from longtake.core.errors import (
    Contradiction,
    InternalFault,
    InvalidField,
    Lack,
    LongtakeError,
    NoCapacity,
    TooLate,
    UnknownSession,
    WrongState,
)
from longtake.core.events import (
    Ack,
    Adopt,
    Attach,
    CallRefused,
    Close,
    Cue,
    CueRequest,
    Detach,
    Drain,
    Event,
    FrameRefused,
    ImageFailed,
    Loaded,
    OpDone,
    Open,
    OpenRefused,
    OpFailed,
    Pause,
    PicturesEncoded,
    Play,
    Stowed,
    StreamPrepared,
    TextEncoded,
    Tick,
    WorkerJoined,
    WorkerLost,
)
from longtake.core.flow import Pace
from longtake.core.limits import Limits
from longtake.core.work import (
    Ability,
    ConditioningRef,
    ConnectionNumber,
    CueId,
    DispatchNumber,
    Fork,
    ImageId,
    Loss,
    Role,
    SegmentSettings,
    SessionId,
    WorkerId,
)
from tests.cluster.cell.world import recorded
from tests.cluster.frontend.toy import GEOMETRY, RECIPE
from tests.core.support.recipes import altered

CELL = RecordedCell(recipe=RECIPE, geometry=GEOMETRY, limits=Limits(), version="1.2.3")
SESSION, WORKER = SessionId("s"), WorkerId("w")


def problems() -> list[LongtakeError]:
    """Errors with everything that a problem can be about."""
    return [
        InvalidField("open.window", "é\n", "1 to 4"), Contradiction("a", "b", "both"), UnknownSession("x"),
        WrongState("paused"), TooLate(2, 5), NoCapacity("full", 2.5, Lack.TURN),
    ]  # fmt: skip


def one_of_each() -> list[Event]:
    """Events of every kind."""
    request = CueRequest(cue=CueId("c"), prompt="a blue box\n…", picture=7)
    ref = ConditioningRef(session=SESSION, version=3)
    settings = SegmentSettings(codec="h264", quality=23)
    opened = Open(now_s=1.0, session=SESSION, prompt="ein roter Ball", seed=2**64 - 1, pace=Pace.REALTIME, window=3,
                  picture_limit=None, settings=settings, cues=(request,),
                  fork=Fork(session=SessionId("parent"), block=3))  # fmt: skip
    return [
        WorkerJoined(now_s=0.0, worker=WORKER, role=Role.DENOISE, ability=Ability(
            capacity=9, batch_limit=4, mixes_kinds=True, forward_s=0.1 + 0.2, chain_length=3)),
        WorkerLost(now_s=1e-9, worker=WORKER, reason="it was silent", cause=Loss.SILENCE),
        opened,
        Adopt(now_s=1.0, request=opened, made_by=MadeBy(lanes="l", decoder="d"), header=b"\x00\xff", media_type="v",
              cues=(PlacedCue(block=4, version=1, cue=None, prompt="…"),), latents=(((0, 1), (5, 9)), ()),
              acknowledged=-1, first_block=3, seeds=((3, 2**64 - 1),), known_from=2**33, playing=False,
              promised=False),
        Diverged(now_s=1.0, session=SESSION, block=2**33),
        Freeze(now_s=1.0, session=SESSION),
        Thaw(now_s=1.0, session=SESSION),
        HandOver(now_s=1.0, session=SESSION),
        Cue(now_s=1.0, session=SESSION, request=request),
        TextEncoded(now_s=1.0, worker=WORKER, conditioning=ref, notice="ignored: zyzzyva"),
        StreamPrepared(now_s=1.0, worker=WORKER, session=SESSION, header=bytes(range(256)), media_type="video/mp4"),
        PicturesEncoded(now_s=1.0, worker=WORKER, session=SESSION, part=3, unfit="open.given[9]: no picture"),
        Stowed(now_s=1.0, worker=WORKER, image=ImageId(2**40)),
        Loaded(now_s=1.0, worker=WORKER, image=ImageId(1)),
        ImageFailed(now_s=1.0, worker=WORKER, image=ImageId(1), reason="no memory"),
        Ack(now_s=1.0, session=SESSION, segment=2**33),
        Pause(now_s=1.0, session=SESSION),
        Play(now_s=1.0, session=SESSION),
        Detach(now_s=1.0, session=SESSION, connection=ConnectionNumber(3)),
        Attach(now_s=1.0, session=SESSION, connection=ConnectionNumber(4), cursor=2**40, held_from=None),
        Close(now_s=1.0, session=SESSION, ending=Ending.QUOTA, reason="used up"),
        Drain(now_s=1.0, grace_s=float("inf")),
        OpDone(now_s=1.0, worker=WORKER, sequence=DispatchNumber(5), seconds=1 / 3, segment_bytes=4711),
        OpFailed(now_s=1.0, worker=WORKER, sessions=(SESSION, SessionId("t")), sequence=None, reason="nan"),
        CallRefused(now_s=1.0, problem=UnknownSession("x").problem),
        OpenRefused(now_s=1.0, pace=Pace.FAST, problem=UnknownSession("x").problem),
        *(FrameRefused(now_s=1.0, session=SESSION, cue=CueId("c"), problem=error.problem) for error in problems()),
        Tick(now_s=123456.789),
    ]  # fmt: skip


def test_every_event_comes_back_as_it_was(tmp_path: Path) -> None:
    events = one_of_each()
    assert {type(event) for event in events} == set(get_args(Event))
    limits = Limits(packed=frozenset({Pace.FAST}), park_after_s=float("inf"))
    recipes = {"own": RECIPE, "short": altered(RECIPE, ladder=(1000,))}
    cell = RecordedCell(recipe=RECIPE, geometry=GEOMETRY, limits=limits, recipes=recipes, version="1.2.3")
    recorded(tmp_path / "r.jsonl", events, cell)
    found, back = read(tmp_path / "r.jsonl")
    assert found == cell
    graphs = found.scheduler().cell.graphs
    assert graphs["own"] is graphs[""] and graphs["short"].recipe == recipes["short"]
    assert list(back) == events


def test_times_come_back_to_the_last_bit(tmp_path: Path) -> None:
    draw = Random(1)
    endings = [bytes([draw.choice([0x00, 0x3F, 0x40, 0x7E])]) for _ in range(2000)]
    times_s = [struct.unpack("<d", draw.randbytes(7) + ending)[0] for ending in endings]
    recorded(tmp_path / "r", [Tick(now_s=time_s) for time_s in times_s], CELL)
    assert [event.now_s for event in read(tmp_path / "r")[1]] == times_s


def test_each_line_is_an_object_that_names_its_event_and_only_the_owner_reads_it(tmp_path: Path) -> None:
    recorded(tmp_path / "r", one_of_each(), CELL)
    head, *lines = [json.loads(line) for line in (tmp_path / "r").read_text().splitlines()]
    assert head["version"] == "1.2.3" and head["geometry"]["fps"] == "16"
    assert head["recipe"]["context"]["level"] == "output"
    assert [line["event"] for line in lines] == [type(event).__name__ for event in one_of_each()]
    assert stat.S_IMODE((tmp_path / "r").stat().st_mode) == 0o600


def test_a_recording_ends_when_it_is_as_long_as_it_may_be_and_says_so_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    ticks = [Tick(now_s=float(number)) for number in range(1000)]
    with caplog.at_level(logging.INFO, "longtake.recording"):
        recording = recorded(tmp_path / "r", ticks, CELL, limit_bytes=4000)
        recording.fold(ticks[0], ())
    assert 3900 < (tmp_path / "r").stat().st_size <= 4000
    whole = list(read(tmp_path / "r")[1])
    assert 0 < len(whole) < 1000 and whole == ticks[: len(whole)]
    assert [record.levelname for record in caplog.records] == ["INFO", "WARNING"]
    assert "as long as it may be" in caplog.text


def test_a_disk_that_fails_ends_the_recording_and_nothing_else(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    make = os.open

    def full(path: Path, *flags: int) -> int:
        return make("/dev/full", os.O_WRONLY)

    monkeypatch.setattr(os, "open", full)
    recording = recorded(tmp_path / "r", [Tick(now_s=1.0)] * 3, CELL)
    recording.fold(Tick(now_s=2.0), ())
    recording.close()
    assert [record.levelname for record in caplog.records if record.levelno > logging.INFO] == ["WARNING"]
    assert "No space left on device" in caplog.text


def test_nothing_is_overwritten(tmp_path: Path) -> None:
    path = tmp_path / "r"
    for number in range(3):
        recorded(path, [Tick(now_s=float(number))], CELL)
    for number, name in enumerate(("r", "r.2", "r.3")):
        assert list(read(tmp_path / name)[1]) == [Tick(now_s=float(number))]


def test_a_file_that_cannot_be_is_named(tmp_path: Path) -> None:
    with pytest.raises(InvalidField, match=r"recording\.file: .*a file that can be written \(No such file"):
        InboxRecording(tmp_path / "none" / "r", CELL, field="recording.file")


@pytest.mark.parametrize(
    ("spoil", "what"),
    [
        (lambda lines: [b"{}", *lines[1:]], "line 1.*recipe: Field required"),
        (lambda lines: [lines[0].replace(b'"format":1', b'"format":2'), *lines[1:]], "line 1: format: 2"),
        (lambda lines: [*lines[:2], b"garbage", *lines[2:]], "line 3: b'garbage"),
        (lambda lines: [*lines[:2], b'{"event":"Nap","now_s":1.0}', *lines[2:]], "line 3.*'Nap'"),
        (lambda lines: [*lines[:2], b'{"event":"Tick"}', *lines[2:]], "line 3.*now_s: Field required"),
    ],
)
def test_a_line_that_is_wrong_is_named(tmp_path: Path, spoil: object, what: str) -> None:
    assert callable(spoil)
    path = tmp_path / "r"
    recorded(path, [Tick(now_s=1.0), Tick(now_s=2.0)], CELL)
    path.write_bytes(b"\n".join([*spoil(path.read_bytes().splitlines()), b""]))
    with pytest.raises(InvalidField, match=what):
        list(read(path)[1])


def test_a_last_line_that_was_not_wholly_written_is_left_out(tmp_path: Path) -> None:
    path = tmp_path / "r"
    recorded(path, [Tick(now_s=1.0), Tick(now_s=2.0)], CELL)
    path.write_bytes(path.read_bytes()[:-2])
    assert list(read(path)[1]) == [Tick(now_s=1.0)]


def test_the_event_that_breaks_the_engine_is_recorded(tmp_path: Path) -> None:
    recording = InboxRecording(tmp_path / "r", CELL)
    engine = Engine(CELL.scheduler(), recording)
    engine.step(WorkerJoined(now_s=0.0, worker=WORKER, role=Role.DENOISE, ability=Ability(capacity=9)))
    broken = OpDone(now_s=1.0, worker=WORKER, sequence=DispatchNumber(5))
    with pytest.raises(InternalFault, match="reports dispatch 5"):
        engine.step(broken)
    recording.close()
    assert list(read(tmp_path / "r")[1])[-1] == broken
