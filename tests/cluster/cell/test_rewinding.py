"""Forks of the past with real workers: from their first block on what their parent is, bit for bit."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path

import pytest

from cluster.cell.engine import Engine
from cluster.cell.outbox import SegmentOut
from cluster.launch.plan import POCKET, model_path
from cluster.render import in_process_engine, in_process_workers
from longtake.core.effects import Dispatch, Refused
from longtake.core.endings import Ending
from longtake.core.errors import Fault
from longtake.core.events import Close
from longtake.core.limits import Limits
from longtake.core.recipe.context import Level
from longtake.core.sessions.retention import Retention
from longtake.core.work import Fork, ForwardWork, SegmentSettings, SessionId
from tests.cluster.cell.world import RAW, STILL, Hashes, expected_hashes, stream, until_sent
from tests.core.support.recipes import APART
from tests.samples import covering
from tests.workers.model_dir import model_info, write_model
from workers.models.weights import ModelInfo, load_info

PROMPT = "a red ball resting in the fog"
OTHER = "a blue box swaying at night"
P = SessionId("parent")
MADE = 7
"""Blocks of the parent."""
BLOCKS = 9
"""Blocks of its forks."""


async def made(engine: Engine, settings: SegmentSettings, blocks: int) -> asyncio.Task[object]:
    """A stream that has made so many blocks, as many as its client lets it; it waits."""
    parent = asyncio.create_task(
        stream(engine, P, acknowledge=False, window=blocks, picture_limit=None, settings=settings)
    )
    await until_sent(engine, blocks)
    return parent


async def known(engine: Engine) -> Retention:
    """What is kept of streams, once the workers have said how far back theirs remember."""
    while len(engine.scheduler.workers()) < 2:
        await asyncio.sleep(0.01)
    return engine.scheduler.cell.fleet.retention(engine.scheduler.cell.graphs[""])


async def close(engine: Engine, parent: asyncio.Task[object]) -> None:
    engine.submit(Close(now_s=engine.now_s(), session=P, ending=Ending.CLIENT))
    await parent


async def forked(
    engine: Engine,
    info: ModelInfo,
    block: int,
    *,
    prompt: str = PROMPT,
    until: int = BLOCKS,
    settings: SegmentSettings = RAW,
    window: int = 4,
) -> dict[int, bytes]:
    """The segments of a fork at this block."""
    pictures = info.geometry.first_picture(until)
    fork = Fork(session=P, block=block)
    told = await stream(
        engine, f"f{block}", prompt, fork=fork, picture_limit=pictures, settings=settings, window=window
    )
    assert not isinstance(told[-1], Refused), told[-1]
    return {message.emit.block: message.data for message in told if isinstance(message, SegmentOut)}


async def whole(engine: Engine, info: ModelInfo, blocks: int, settings: SegmentSettings = RAW) -> dict[int, bytes]:
    """The segments of a stream that nothing happens to."""
    told = await stream(engine, "whole", PROMPT, picture_limit=info.geometry.first_picture(blocks), settings=settings)
    return {message.emit.block: message.data for message in told if isinstance(message, SegmentOut)}


def replayed(hashes: Hashes, session: str, before: int) -> list[int]:
    """The blocks before this one whose forwards were done for a session."""
    works = [effect.work for effect in hashes.effects if isinstance(effect, Dispatch)]
    forwards = [work for batch in works if isinstance(batch, tuple) for work in batch]
    return sorted({each.block for each in forwards if _is_of(each, session) and each.block < before})


def _is_of(work: ForwardWork, session: str) -> bool:
    return work.session == session


@pytest.mark.parametrize(("level", "denoise"), covering(APART, [1, 3], together=1))
async def test_a_fork_at_any_block_is_its_parent_from_there_on(tmp_path: Path, level: Level, denoise: int) -> None:
    write_model(tmp_path, level)
    info, hashes = model_info(level), Hashes(len(model_info(level).recipe.steps.ladder))
    workers = in_process_workers(tmp_path, info.recipe, denoise=denoise, sessions=3)
    limits = replace(STILL, rewind_blocks=MADE)
    async with in_process_engine(tmp_path, workers, recorder=hashes, limits=limits) as engine:
        hashes.listen(engine)
        parent = await made(engine, RAW, MADE)
        expected = await whole(engine, info, BLOCKS)
        for block in range(MADE + 1):
            segments = await forked(engine, info, block)
            assert segments == {number: expected[number] for number in range(block, BLOCKS)}
            past = list(range(block)) if block < MADE else []  # where it is, the parent shares its pages
            assert replayed(hashes, f"f{block}", block)[-1:] == past[-1:]
        await forked(engine, info, MADE - 3, prompt=OTHER, until=BLOCKS + 1)
        await close(engine, parent)
        engine.scheduler.check()
        assert all(worker.free == worker.ability.capacity for worker in engine.scheduler.workers())
    made_of = expected_hashes(tmp_path, {0: PROMPT}, 7, BLOCKS)
    assert hashes.of("whole") == made_of
    for block in range(MADE + 1):
        if block != MADE - 3:
            assert hashes.of(f"f{block}") == made_of[block:]
    turned = expected_hashes(tmp_path, {0: PROMPT, MADE - 3: OTHER}, 7, BLOCKS + 1)
    assert hashes.of(f"f{MADE - 3}") == turned[MADE - 3 :]


async def test_what_both_remember_is_in_memory_once(tmp_path: Path) -> None:
    write_model(tmp_path)
    info = model_info()
    workers = in_process_workers(tmp_path, info.recipe, sessions=2)
    async with in_process_engine(tmp_path, workers, limits=Limits(rewind_blocks=4)) as engine:
        parent = await made(engine, RAW, 4)
        child = asyncio.create_task(forked(engine, info, 3, window=1))
        while SessionId("f3") not in engine.journal.sessions and not child.done():
            await asyncio.sleep(0)
        theirs, own = engine.journal.latents_of(P), engine.journal.latents_of(SessionId("f3"))
        past = {key: data for key, data in own.items() if key[0] < 3}
        assert len(past) == 3 * len(info.recipe.steps.ladder)
        assert all(theirs[key] is data for key, data in past.items())
        await child
        await close(engine, parent)


@pytest.mark.slow
async def test_with_the_real_weights_a_fork_of_the_past_is_a_file_like_any_other() -> None:
    """So far back that it is rebuilt from the middle of the stream; in H.264, as `longtake render` makes it."""
    model = model_path(POCKET)
    info = load_info(model)
    h264 = SegmentSettings(codec="h264", quality=23)
    hashes = Hashes(len(info.recipe.steps.ladder))
    workers = in_process_workers(model, info.recipe, sessions=2)
    limits = Limits(rewind_blocks=6, max_window=64)
    async with in_process_engine(model, workers, recorder=hashes, limits=limits) as engine:
        retention = await known(engine)
        block = max(retention.lane_blocks, retention.slot_blocks) + 3
        parent = await made(engine, h264, block + 3)
        expected = await whole(engine, info, block + 2, settings=h264)
        segments = await forked(engine, info, block, until=block + 2, settings=h264)
        assert segments == {number: expected[number] for number in (block, block + 1)}
        assert replayed(hashes, f"f{block}", block) == list(range(block - retention.lane_blocks, block))
        await close(engine, parent)


@pytest.mark.parametrize(("what", "less"), [("slot_blocks", 8), pytest.param("lane_blocks", 1, marks=pytest.mark.slow)])
async def test_a_fork_from_less_of_the_past_is_another_stream(
    what: str, less: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A block less of a lane is seen in its latents, a decoder that has seen one block of nine in its pictures."""
    model = model_path(POCKET)
    info = load_info(model)
    hashes = Hashes(len(info.recipe.steps.ladder))
    workers = in_process_workers(model, info.recipe, sessions=2)
    async with in_process_engine(model, workers, recorder=hashes, limits=Limits(rewind_blocks=6)) as engine:
        hashes.listen(engine)
        retention = await known(engine)
        block = max(retention.lane_blocks, retention.slot_blocks) + 1
        parent = await made(engine, RAW, block + 1)
        expected = await whole(engine, info, block + 1, settings=RAW)
        right = getattr(Retention, what).func
        monkeypatch.setattr(Retention, what, property(lambda retention: right(retention) - less))
        segments = await forked(engine, info, block, until=block + 1, settings=RAW)
        if what == "lane_blocks":
            assert hashes.of(f"f{block}") != hashes.of("whole")[-1:]
        else:
            assert hashes.of(f"f{block}") == hashes.of("whole")[-1:] and segments[block] != expected[block]
        await close(engine, parent)


async def test_what_is_not_kept_is_refused_and_the_oldest_named(tmp_path: Path) -> None:
    write_model(tmp_path)
    info = model_info()
    async with in_process_engine(tmp_path, in_process_workers(tmp_path, info.recipe, sessions=2)) as engine:
        parent = asyncio.create_task(stream(engine, P, picture_limit=None))
        await until_sent(engine, 30)
        told = await stream(engine, "child", fork=Fork(session=P, block=3))
        assert isinstance(told[-1], Refused) and told[-1].problem.kind is Fault.OUT_OF_RANGE
        assert "is the oldest at which the stream can still be forked, not 3" in told[-1].problem.message
        await close(engine, parent)
