"""Streams that are parked, come back and are forked, with real workers: bit for bit what the oracle makes of them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from torch import Tensor

from cluster.cell.engine import Engine
from cluster.cell.outbox import ClientMessage, Outbox, SegmentOut
from cluster.render import in_process_engine, in_process_workers
from longtake.core.effects import Closed, Give, LoadImage, Refused, Stow
from longtake.core.endings import Ending
from longtake.core.events import Ack, Close, CueRequest, Pause, Play
from longtake.core.limits import Limits
from longtake.core.recipe.context import Level
from longtake.core.sessions.life import State
from longtake.core.work import CueId, Fork, Role, SegmentSettings, SessionId
from tests.cluster.cell.world import STILL, Hashes, expected_hashes, open_event
from tests.core.support.recipes import APART
from tests.samples import covering
from tests.workers.model_dir import model_info, write_model
from workers.decode.slots import DecoderPool
from workers.start.spec import WorkerSpec

PROMPT = "a red ball resting in the fog"
OTHER = "a blue box swaying at night"
BLOCKS = 6
STEPS = len(model_info().recipe.steps.ladder)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("model")
    write_model(folder)
    return folder


class Viewer:
    """A client that reads and acknowledges when the test says."""

    def __init__(self, engine: Engine, session: str, prompt: str = PROMPT, **changes: object) -> None:
        self.engine = engine
        self.session = SessionId(session)
        self.segments: dict[int, bytes] = {}
        self.last: ClientMessage | None = None
        self._outbox = Outbox()
        engine.attach(self.session, self._outbox)
        engine.submit(open_event(engine, session, prompt, **changes))

    async def see(self, count: int, *, acknowledge: bool = True) -> None:
        """Read until it has so many segments in all."""
        async with asyncio.timeout(60):
            while len(self.segments) < count:
                message = await self._read()
                if isinstance(message, SegmentOut) and acknowledge:
                    self.acknowledge(message.emit.block)

    async def see_all(self) -> Closed | Refused:
        """Read and acknowledge to the end."""
        async with asyncio.timeout(60):
            while not isinstance(self.last, Closed | Refused):
                message = await self._read()
                if isinstance(message, SegmentOut):
                    self.acknowledge(message.emit.block)
        return self.last

    def acknowledge(self, segment: int) -> None:
        self.engine.submit(Ack(now_s=self.engine.now_s(), session=self.session, segment=segment))

    def pause(self) -> None:
        self.engine.submit(Pause(now_s=self.engine.now_s(), session=self.session))

    def play(self) -> None:
        self.engine.submit(Play(now_s=self.engine.now_s(), session=self.session))

    def close(self) -> None:
        self.engine.submit(Close(now_s=self.engine.now_s(), session=self.session, ending=Ending.CLIENT))

    @property
    def state(self) -> State | None:
        """Of its session; None if that is gone."""
        views = {view.session: view.state for view in self.engine.scheduler.sessions()}
        return views.get(self.session)

    async def reach(self, condition: Callable[[], bool]) -> None:
        """Wait until something is so."""
        async with asyncio.timeout(60):
            while not condition():
                await asyncio.sleep(0.005)

    async def _read(self) -> ClientMessage:
        self.last = await self._outbox.get()
        if isinstance(self.last, SegmentOut):
            assert self.last.emit.block not in self.segments
            self.segments[self.last.emit.block] = self.last.data
        return self.last


async def uninterrupted(model: Path, prompt: str = PROMPT, **changes: object) -> dict[int, bytes]:
    """The segments of a stream that nothing happens to."""
    async with in_process_engine(model, in_process_workers(model, model_info().recipe)) as engine:
        viewer = Viewer(engine, "plain", prompt, **changes)
        await viewer.see_all()
    return viewer.segments


@pytest.mark.parametrize("level", APART)
async def test_a_stream_parked_at_every_window_is_the_oracles(tmp_path: Path, level: Level) -> None:
    info = write_model(tmp_path, level)
    hashes = Hashes(STEPS)
    workers = in_process_workers(tmp_path, info.recipe, denoise=2)
    async with in_process_engine(tmp_path, workers, Limits(park_after_s=0.0), hashes) as engine:
        hashes.listen(engine)
        viewer = Viewer(engine, "a", window=1)
        for count in range(1, BLOCKS):
            await viewer.see(count, acknowledge=False)
            await viewer.reach(lambda: viewer.state is State.PARKED)
            assert all(worker.free == worker.ability.capacity for worker in engine.scheduler.workers())
            viewer.acknowledge(count - 1)
        closed = await viewer.see_all()
        engine.scheduler.check()
    assert isinstance(closed, Closed) and closed.ending is Ending.COMPLETED
    assert hashes.of("a") == expected_hashes(tmp_path, {0: PROMPT}, 7, BLOCKS)
    lanes = info.recipe.lane_count
    assert sum(isinstance(effect, Stow) for effect in hashes.effects) == (BLOCKS - 1) * (lanes + 1)
    assert sum(isinstance(effect, LoadImage) for effect in hashes.effects) == (BLOCKS - 1) * lanes


async def test_the_pictures_go_on_from_the_decoder_that_was_parked(
    model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = await uninterrupted(model)

    async def parked() -> dict[int, bytes]:
        workers = in_process_workers(model, model_info().recipe)
        async with in_process_engine(model, workers, Limits(park_after_s=0.0)) as engine:
            viewer = Viewer(engine, "a", window=2)
            await viewer.see(2, acknowledge=False)
            await viewer.reach(lambda: viewer.state is State.PARKED)
            viewer.acknowledge(1)
            await viewer.see_all()
        return viewer.segments

    assert await parked() == expected

    def forgetful(pool: DecoderPool, slot: int, state: tuple[Tensor, ...]) -> None:
        pool.open(slot)

    monkeypatch.setattr(DecoderPool, "import_state", forgetful)
    assert await parked() != expected, "a decoder that begins anew is noticed"


def two_places(model: Path, level: Level) -> tuple[WorkerSpec, ...]:
    """Two denoise workers with room for one session each, and three decoder slots."""
    workers = in_process_workers(model, model_info(level).recipe, denoise=2)
    return tuple(replace(spec, capacity=3) if spec.role is Role.DECODE else spec for spec in workers)


async def test_a_stream_comes_back_to_another_worker_with_another_prompt_in_between(tmp_path: Path) -> None:
    write_model(tmp_path, Level.CLEAN)
    hashes = Hashes(STEPS)
    limits = Limits(park_after_s=0.02)
    cue = CueRequest(cue=CueId("c"), prompt=OTHER, block=1)
    async with in_process_engine(tmp_path, two_places(tmp_path, Level.CLEAN), limits, hashes) as engine:
        hashes.listen(engine)
        first = Viewer(engine, "a", window=2, cues=(cue,))
        await first.see(2, acknowledge=False)
        first.pause()
        first.acknowledge(1)
        await first.reach(lambda: first.state is State.PARKED)
        home = next(effect.worker for effect in hashes.effects if isinstance(effect, Stow))
        others = [Viewer(engine, name, OTHER, picture_limit=None, window=32) for name in ("b", "c")]
        for other in others:
            await other.see(1)
        for other in others:  # only the one at home stays
            if home not in hashes.workers_of(other.session):
                other.close()
        first.play()
        await first.see_all()
    assert any(isinstance(effect, Give) for effect in hashes.effects)
    assert hashes.of("a") == expected_hashes(tmp_path, {0: PROMPT, 1: OTHER}, 7, BLOCKS)


async def test_a_queued_stream_begins_when_the_one_before_is_parked_and_both_are_complete(model: Path) -> None:
    hashes = Hashes(STEPS)
    workers = in_process_workers(model, model_info().recipe)
    async with in_process_engine(model, workers, Limits(park_after_s=0.02), hashes) as engine:
        hashes.listen(engine)
        first = Viewer(engine, "a", window=2)
        await first.see(2, acknowledge=False)
        second = Viewer(engine, "b", OTHER)
        await first.reach(lambda: second.state is State.QUEUED)
        await first.reach(lambda: first.state is State.PARKED)
        await second.see_all()
        first.acknowledge(1)
        await first.see_all()
    assert hashes.of("a") == expected_hashes(model, {0: PROMPT}, 7, BLOCKS)
    assert hashes.of("b") == expected_hashes(model, {0: OTHER}, 7, BLOCKS)


async def forked(
    model: Path, level: Level, *, denoise: int, prompt: str, after: int, blocks: int = BLOCKS
) -> tuple[Hashes, Viewer, Viewer]:
    """A stream, and a fork of it that is asked for when it has shown `after` segments."""
    hashes = Hashes(STEPS)
    info = model_info(level)
    workers = in_process_workers(model, info.recipe, denoise=denoise, sessions=2)
    pictures = info.geometry.first_picture(blocks)
    async with in_process_engine(model, workers, STILL, hashes) as engine:
        hashes.listen(engine)
        parent = Viewer(engine, "parent", picture_limit=pictures, window=2)
        await parent.see(after)
        child = Viewer(engine, "child", prompt, picture_limit=pictures, fork=Fork(session=SessionId("parent")))
        await asyncio.gather(parent.see_all(), child.see_all())
        engine.scheduler.check()
        assert all(worker.free == worker.ability.capacity for worker in engine.scheduler.workers())
    return hashes, parent, child


@pytest.mark.parametrize(("level", "denoise"), covering(APART, [1, 3], together=1))
async def test_a_fork_with_the_same_prompt_and_seed_is_its_parent_from_there_on(
    tmp_path: Path, level: Level, denoise: int
) -> None:
    write_model(tmp_path, level)
    hashes, parent, child = await forked(tmp_path, level, denoise=denoise, prompt=PROMPT, after=2)
    block = min(child.segments)
    assert 2 <= block <= 4
    assert sorted(child.segments) == list(range(block, BLOCKS))
    expected = expected_hashes(tmp_path, {0: PROMPT}, 7, BLOCKS)
    assert hashes.of("parent") == expected
    assert hashes.of("child") == expected[block:]
    assert child.segments == {number: parent.segments[number] for number in range(block, BLOCKS)}, "pictures too"


async def test_a_fork_with_another_prompt_is_the_oracle_that_changes_its_prompt_there(model: Path) -> None:
    hashes, _, child = await forked(model, Level.OUTPUT, denoise=2, prompt=OTHER, after=1)
    block = min(child.segments)
    assert hashes.of("parent") == expected_hashes(model, {0: PROMPT}, 7, BLOCKS)
    assert hashes.of("child") == expected_hashes(model, {0: PROMPT, block: OTHER}, 7, BLOCKS)[block:]


async def test_a_fork_whose_slot_is_not_copied_shows_other_pictures(
    model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(DecoderPool, "open_copy", lambda pool, slot, origin: pool.open(slot))
    _, parent, child = await forked(model, Level.OUTPUT, denoise=2, prompt=PROMPT, after=2)
    assert child.segments != {number: parent.segments[number] for number in child.segments}


async def test_a_fork_may_be_encoded_otherwise_and_a_fork_of_nobody_is_refused(model: Path) -> None:
    workers = in_process_workers(model, model_info().recipe, sessions=2)
    async with in_process_engine(model, workers) as engine:
        parent = Viewer(engine, "parent", window=2)
        await parent.see(1)
        mjpeg = SegmentSettings(codec="mjpeg", quality=85)
        child = Viewer(engine, "child", fork=Fork(session=SessionId("parent")), settings=mjpeg)
        nobody = Viewer(engine, "x", fork=Fork(session=SessionId("nobody")))
        refused = await nobody.see_all()
        await asyncio.gather(parent.see_all(), child.see_all())
    assert isinstance(refused, Refused) and "'nobody' is not open here" in refused.problem.message
    assert child.segments and all(data.count(b"\xff\xd8\xff") for data in child.segments.values())
