"""A recording replays to the very effects of the live run, and to no others."""

from __future__ import annotations

import asyncio
import hashlib
import os
import subprocess
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import grpc
import pytest

from benchmarks.loadgen import Load, generate
from cluster.cell.recording import InboxRecording, RecordedCell, read
from longtake.client import Client, CueAt, StreamOptions
from longtake.client.errors import ClientError
from longtake.client.events import ClosedEvent, NoticeEvent, SegmentEvent
from longtake.core.dispatch.shedding import least_load
from longtake.core.effects import (
    Closed,
    CueApplied,
    Effect,
    Parked,
    Recovered,
    Refused,
    RequestRefused,
    Restored,
    Trim,
    Worked,
)
from longtake.core.endings import Ending
from longtake.core.errors import (
    InternalFault,
    Lack,
)
from longtake.core.events import (
    Ack,
    Cue,
    Event,
    FrameRefused,
    OpDone,
    Open,
    OpenRefused,
    Pause,
    Play,
    Stowed,
    StreamPrepared,
    TextEncoded,
    WorkerJoined,
    WorkerLost,
)
from longtake.core.limits import Limits
from longtake.core.scheduler import Scheduler
from longtake.core.work import Role
from longtake.v1 import longtake_pb2 as pb
from longtake.v1 import longtake_pb2_grpc as rpc
from monitoring.folding.recorder import AllRecorders
from tests.cluster.cell.world import recorded
from tests.cluster.frontend.toy import GEOMETRY, RECIPE, ToyCell, toy_cell
from tests.core.support.parts import geometry
from tests.core.support.storm import Storm
from tests.workers.model_dir import model_info

Steps = list[tuple[Event, list[Effect]]]


@dataclass
class Kept:
    """A recorder that keeps everything."""

    steps: Steps = field(default_factory=list)

    def fold(self, event: Event, effects: Sequence[Effect]) -> None:
        self.steps.append((event, list(effects)))


def replay(cell: RecordedCell, events: Iterable[Event]) -> Iterator[tuple[Event, list[Effect]]]:
    """What a fresh scheduler makes of these events, as far as it gets."""
    scheduler = cell.scheduler()
    for event in events:
        try:
            yield event, scheduler.handle(event)
        except InternalFault:
            return


async def run_load(cell: ToyCell) -> None:
    """The load generator's streams, so many at once that some are queued and some are refused."""
    load = Load(streams=36, blocks=4, rate_per_s=400.0, pace="fast", window=2, seed=1)
    logs = await generate(cell.target, load, model_info(), judged=False, limit_s=60.0)
    assert all(log.came_s for log in logs) and any(log.refusals for log in logs)


async def steer(cell: ToyCell) -> None:
    """One stream with cues, one of which comes too late; it pauses for so long that it is parked."""
    async with Client(cell.target) as client, client.stream("a red ball", StreamOptions(window=1)) as stream:
        blocks = 0
        async for event in stream:
            blocks += isinstance(event, SegmentEvent)
            if blocks == 2 and isinstance(event, SegmentEvent):
                await stream.cue("a blue box")
                await stream.cue(CueAt(block=0, prompt="too late", id="late"))
                await stream.pause()
                while not any(view.state.value == "parked" for view in cell.engine.scheduler.sessions()):
                    await asyncio.sleep(0.01)
                await stream.play()
            if blocks == 6:
                break


async def send_nonsense(cell: ToyCell) -> None:
    """Frames and opens that cannot be."""
    frames = [
        pb.StreamRequest(open=pb.Open(prompt="a red ball", window=1, pictures=5)),
        pb.StreamRequest(cue=pb.Cue(prompt="without an id")),
        pb.StreamRequest(),
    ]
    async with grpc.aio.insecure_channel(cell.target) as channel:
        async for _ in rpc.LongtakeServiceStub(channel).Stream(iter(frames)):
            pass
    async with Client(cell.target) as client:
        with pytest.raises(ClientError, match="not open here"):
            async with client.stream("a red ball", StreamOptions(fork="nobody")):
                pass


async def lose_a_worker(cell: ToyCell) -> None:
    """Streams go on when a denoise worker is lost, and wait when all are; those come back."""

    async def watch(number: int) -> str:
        options = StreamOptions(seed=number, pictures=GEOMETRY.first_picture(12))
        async with Client(cell.target) as client, client.stream("a red ball", options) as stream:
            async for event in stream:
                if number == 0 and isinstance(event, SegmentEvent) and event.index in (2, 6):
                    cell.workers[event.index == 6].die()
                if isinstance(event, NoticeEvent) and "d0" not in here(cell):
                    cell.join("d0", Role.DENOISE)
                if isinstance(event, ClosedEvent):
                    return event.ending
        return "none"

    assert await asyncio.gather(*(watch(number) for number in range(3))) == 3 * ["completed"]


def here(cell: ToyCell) -> set[str]:
    """The workers that are joined."""
    return {view.worker for view in cell.engine.scheduler.workers()}


async def end_amid_a_loss(cell: ToyCell) -> None:
    """The server drains, and all workers are lost while a stream is to finish a block."""
    with pytest.raises(ClientError, match="was lost"):
        async with Client(cell.target) as client, client.stream("a red ball") as stream:
            async for _ in stream:
                if not cell.engine.is_draining and any(view.in_flight for view in cell.engine.scheduler.workers()):
                    cell.engine.begin_drain()
                    while [view.state.value for view in cell.engine.scheduler.sessions()] == ["running"]:
                        await asyncio.sleep(0)
                    for worker in cell.workers:
                        worker.die()


async def incident(path: Path) -> Steps:
    """A real engine behind real gRPC, and everything that happens to it: what it was told, and what it did."""
    limits = Limits(max_sessions=8, max_queued=4, park_after_s=0.05)
    recording = InboxRecording(path, RecordedCell(recipe=RECIPE, geometry=GEOMETRY, limits=limits))
    kept = Kept()
    async with toy_cell(delay_s=0.001, limits=limits, recorder=AllRecorders(kept, recording)) as cell:
        await run_load(cell)
        await steer(cell)
        await send_nonsense(cell)
        await lose_a_worker(cell)
        await end_amid_a_loss(cell)
        await cell.settled()
    recording.close()
    return kept.steps


@dataclass(frozen=True)
class Incident:
    """A live run and the file of its recording."""

    path: Path
    steps: Steps


@pytest.fixture(scope="module")
def live(tmp_path_factory: pytest.TempPathFactory) -> Incident:
    path = tmp_path_factory.mktemp("incident") / "r.jsonl"
    return Incident(path, asyncio.run(incident(path)))


def test_a_replay_of_a_run_of_the_load_generator_has_the_effects_of_the_live_run(live: Incident) -> None:
    cell, events = read(live.path)
    replayed = list(replay(cell, events))
    assert replayed == live.steps
    effects = [effect for _, effects in live.steps for effect in effects]
    assert sum(isinstance(event, Open) for event, _ in live.steps) > 36
    assert {type(event) for event, _ in live.steps} >= {WorkerLost, Cue, OpenRefused, FrameRefused, Pause, Play, Stowed}
    told = {CueApplied, RequestRefused, Parked, Restored, Worked, Trim, Recovered}
    assert {type(effect) for effect in effects} >= told
    assert any(isinstance(effect, Refused) and effect.problem.kind is Lack.QUEUE for effect in effects)
    assert any(isinstance(effect, Closed) and effect.ending is Ending.LOST for effect in effects)


@pytest.mark.parametrize(
    "kind", [WorkerJoined, Open, TextEncoded, StreamPrepared, OpDone, Ack, Cue, Play, Stowed, WorkerLost]
)
def test_a_replay_that_lacks_one_event_is_told_from_the_live_run(live: Incident, kind: type[Event]) -> None:
    cell, _ = read(live.path)
    numbers = [number for number, (event, _) in enumerate(live.steps) if isinstance(event, kind)]
    lost = next((number for number in numbers if live.steps[number][1]), numbers[0])
    left = live.steps[:lost] + live.steps[lost + 1 :]
    assert list(replay(cell, (event for event, _ in left))) != left


REPLAY = """
import hashlib, sys
from pathlib import Path
from cluster.cell.recording import read
cell, events = read(Path(sys.argv[1]))
scheduler, total = cell.scheduler(), hashlib.sha256()
for event in events:
    total.update(repr(scheduler.handle(event)).encode())
print(total.hexdigest())
"""


@pytest.mark.parametrize("seed", ["1", "2"])
def test_another_process_has_the_same_effects_whatever_its_hashes_are(live: Incident, seed: str) -> None:
    total = hashlib.sha256()
    for _, effects in live.steps:
        total.update(repr(effects).encode())
    found = subprocess.run(
        [sys.executable, "-c", REPLAY, str(live.path)],
        env=os.environ | {"PYTHONHASHSEED": seed}, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert found.stdout.strip() == total.hexdigest()


@pytest.mark.parametrize("seed", range(6))
def test_a_storm_replays_to_its_effects(seed: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    steps: Steps = []
    handle = Scheduler.handle

    def kept(scheduler: Scheduler, event: Event) -> list[Effect]:
        steps.append((event, handle(scheduler, event)))
        return steps[-1][1]

    with monkeypatch.context() as patch:
        patch.setattr(Scheduler, "handle", kept)
        storm = Storm(seed)
        storm.cell.scheduler.cell.load_rule = least_load  # the one that a recording is replayed by
        for _ in range(400):
            storm.step()
        storm.finish()
    cell = RecordedCell(recipe=storm.cell.recipe, geometry=geometry(), limits=storm.cell.limits)
    recorded(tmp_path / "r", [event for event, _ in steps], cell)
    found, events = read(tmp_path / "r")
    assert list(replay(found, events)) == steps
