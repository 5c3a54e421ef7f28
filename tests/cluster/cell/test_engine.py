"""The engine with real workers in this process: results, order, flow, endings, and that nothing is left behind."""

from __future__ import annotations

import asyncio
import math
from pathlib import Path

import av
import pytest

from cluster.cell.outbox import ClientMessage, Outbox, Overflow, SegmentOut, WatcherOutbox
from cluster.render import in_process_engine, in_process_workers, render
from longtake.core.effects import Closed, CueAccepted, CueApplied, Notice, Refused
from longtake.core.endings import Ending
from longtake.core.errors import Declined
from longtake.core.events import Ack, Close, CueRequest, Open
from longtake.core.flow import Pace
from longtake.core.openings import Opened
from longtake.core.recipe.context import Level
from longtake.core.recipe.graph import Graph
from longtake.core.work import CueId, SegmentSettings, SessionId
from tests.cluster.cell.world import Hashes, drain, expected_hashes, open_event, segments, stream
from tests.samples import first
from tests.workers.model_dir import model_info, write_model
from workers.models.pocket_text import TEXT_ROWS

PROMPT = "a red ball resting in the fog"
OTHER = "a blue box swaying at night"
BLOCKS = 6  # 5 pictures in the first, 8 in each other: the 40 pictures asked for end inside the last
STEPS = len(model_info().recipe.steps.ladder)
PROMPT_BYTES = TEXT_ROWS * model_info().dit.text_dim * 4
BLOCK_BYTES = 4 * math.prod(model_info().geometry.block_shape)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("model")
    write_model(folder)
    return folder


@pytest.mark.parametrize("denoise", first(2, [1, 4, 2]))
async def test_latents_are_the_oracles_whatever_the_workers_and_the_company(model: Path, denoise: int) -> None:
    hashes = Hashes(STEPS)
    workers = in_process_workers(model, model_info().recipe, denoise=denoise, sessions=3)
    async with in_process_engine(model, workers, recorder=hashes) as engine:
        hashes.listen(engine)
        await asyncio.gather(
            stream(engine, "a", PROMPT),
            stream(engine, "b", OTHER, seed=8, window=2),
            stream(engine, "c", PROMPT, seed=2**64 - 1),
        )
    assert hashes.of("a") == expected_hashes(model, {0: PROMPT}, 7, BLOCKS)
    assert hashes.of("b") == expected_hashes(model, {0: OTHER}, 8, BLOCKS)
    assert hashes.of("c") == expected_hashes(model, {0: PROMPT}, 2**64 - 1, BLOCKS)
    assert hashes.of("a") != hashes.of("c")


@pytest.mark.parametrize("level", [Level.CLEAN, Level.INPUT])
async def test_the_other_levels_are_the_oracles_too(tmp_path: Path, level: Level) -> None:
    info = write_model(tmp_path, level)
    hashes = Hashes(STEPS)
    workers = in_process_workers(tmp_path, info.recipe, denoise=2, sessions=2)
    async with in_process_engine(tmp_path, workers, recorder=hashes) as engine:
        hashes.listen(engine)
        await stream(engine, "a", PROMPT)
        assert engine.journal.size_bytes == 0
    assert hashes.of("a") == expected_hashes(tmp_path, {0: PROMPT}, 7, BLOCKS)


@pytest.mark.parametrize(("level", "latents"), [(Level.OUTPUT, STEPS), (Level.CLEAN, 1), (Level.INPUT, STEPS)])
async def test_an_idle_session_costs_the_journal_its_prompt_and_what_it_may_be_rebuilt_from(
    tmp_path: Path, level: Level, latents: int
) -> None:
    """Of each block what went from step to step and x0; where all steps are in one lane, x0 alone."""
    info = write_model(tmp_path, level)
    async with in_process_engine(tmp_path, in_process_workers(tmp_path, info.recipe, denoise=2)) as engine:
        outbox = Outbox()
        engine.attach(SessionId("a"), outbox)
        engine.submit(open_event(engine, "a", PROMPT, picture_limit=None, window=3))
        async with asyncio.timeout(20):
            while len(outbox) < 4 or any(worker.in_flight for worker in engine.scheduler.workers()):
                await asyncio.sleep(0.01)
        assert engine.journal.size_bytes == PROMPT_BYTES + 3 * latents * BLOCK_BYTES


async def test_a_cue_applies_at_its_block_and_not_before(model: Path) -> None:
    hashes = Hashes(STEPS)
    workers = in_process_workers(model, model_info().recipe, denoise=2)
    cue = CueRequest(cue=CueId("turn"), prompt=OTHER, block=2)
    async with in_process_engine(model, workers, recorder=hashes) as engine:
        hashes.listen(engine)
        told = await stream(engine, "a", PROMPT, cues=(cue,))
    expected = expected_hashes(model, {0: PROMPT, 2: OTHER}, 7, BLOCKS)
    assert hashes.of("a") == expected
    assert expected[:2] == expected_hashes(model, {0: PROMPT}, 7, 2)
    assert expected[2] != expected_hashes(model, {0: PROMPT}, 7, 3)[2]
    accepted = next(message for message in told if isinstance(message, CueAccepted))
    applied = told.index(CueApplied(session=SessionId("a"), cue=CueId("turn"), block=2, first_picture=13, prompt=OTHER))
    following = told[applied + 1]
    assert accepted.block == 2
    assert isinstance(following, SegmentOut)
    assert (following.emit.block, following.emit.prompt_version) == (2, 1)


async def test_segments_come_in_order_and_hold_the_pictures_asked_for(model: Path) -> None:
    workers = in_process_workers(model, model_info().recipe)
    async with in_process_engine(model, workers) as engine:
        told = await stream(engine, "a", "a red zorb", picture_limit=20)
        assert all(worker.op_s > 0 for worker in engine.scheduler.workers()), "workers say how long their ops take"
    assert [type(message) for message in told[:2]] in ([Notice, Opened], [Opened, Notice])
    emitted = [message.emit for message in told if isinstance(message, SegmentOut)]
    assert [emit.block for emit in emitted] == [0, 1, 2]
    assert [emit.first_picture for emit in emitted] == [0, 5, 13]
    assert [len(data) for data in segments(told)] == [count * 32 * 32 * 3 for count in (5, 8, 7)]
    assert told[-1] == Closed(session=SessionId("a"), ending=Ending.COMPLETED, reason="", segments=3)


async def test_a_client_that_does_not_acknowledge_stops_itself_and_nobody_else(model: Path) -> None:
    workers = in_process_workers(model, model_info().recipe, sessions=2)
    async with in_process_engine(model, workers) as engine:
        outbox = Outbox()
        engine.attach(SessionId("lazy"), outbox)
        engine.submit(open_event(engine, "lazy", PROMPT, picture_limit=None, window=3))
        told = await stream(engine, "busy", OTHER, picture_limit=100)
        assert told[-1] == Closed(session=SessionId("busy"), ending=Ending.COMPLETED, reason="", segments=13)
        await asyncio.sleep(0.2)
        assert len(outbox) == 1 + 3  # Opened and a window of segments
        view = next(view for view in engine.scheduler.sessions() if view.session == "lazy")
        assert view.segments_sent == 3
        engine.submit(Ack(now_s=engine.now_s(), session=SessionId("lazy"), segment=1))
        await asyncio.sleep(0.5)
        assert len(outbox) == 1 + 5


async def test_endless_stream_holds_constant_memory_and_leaves_nothing_behind(model: Path) -> None:
    """From the block on that lanes no longer remember the first of, the journal keeps what a rebuild needs: no more."""
    workers = in_process_workers(model, model_info().recipe, denoise=2)
    async with in_process_engine(model, workers) as engine:
        outbox = Outbox()
        engine.attach(SessionId("a"), outbox)
        engine.submit(open_event(engine, "a", PROMPT, picture_limit=None))
        held: list[int] = []
        while len(held) < 60:
            message = await outbox.get()
            if isinstance(message, SegmentOut):
                engine.submit(Ack(now_s=engine.now_s(), session=SessionId("a"), segment=message.emit.block))
                held.append(engine.journal.size_bytes)
        retention = engine.scheduler.cell.fleet.retention(Graph(model_info().recipe))
        needed, most = retention.lane_blocks * STEPS, retention.most_latents(window=4)
        settled = held[retention.lane_blocks + 4 :]
        assert 0 < needed < most and len(settled) > 30
        assert min(settled) >= PROMPT_BYTES + needed * BLOCK_BYTES
        assert max(held) <= PROMPT_BYTES + most * BLOCK_BYTES
        engine.submit(Close(now_s=engine.now_s(), session=SessionId("a"), ending=Ending.OPERATOR))
        while not isinstance(message, Closed):
            message = await outbox.get()
        assert message.ending is Ending.OPERATOR
        while engine.scheduler.sessions():
            await asyncio.sleep(0.01)
        engine.scheduler.check()
        assert engine.journal.sessions == ()
        assert all(worker.free == worker.ability.capacity for worker in engine.scheduler.workers())


async def test_drain_delivers_what_was_begun_and_closes_everything(model: Path) -> None:
    workers = in_process_workers(model, model_info().recipe, sessions=2)
    async with in_process_engine(model, workers) as engine:
        streams = [asyncio.create_task(stream(engine, name, PROMPT, picture_limit=None)) for name in "ab"]
        while sum(view.segments_sent for view in engine.scheduler.sessions()) < 4:
            await asyncio.sleep(0.01)
        await drain(engine)
        for told in await asyncio.gather(*streams):
            closed = told[-1]
            assert isinstance(closed, Closed)
            assert closed.ending is Ending.DRAINED
            assert closed.segments == len(segments(told)) >= 1
        refused = (await stream(engine, "late", PROMPT))[-1]
        assert not isinstance(refused, Closed)


async def test_an_op_that_fails_ends_its_session_alone(model: Path) -> None:
    workers = in_process_workers(model, model_info().recipe, sessions=2)
    async with in_process_engine(model, workers) as engine:
        broken = SegmentSettings(codec="vhs", quality=1)
        failed, fine = await asyncio.gather(
            stream(engine, "broken", PROMPT, settings=broken), stream(engine, "fine", PROMPT)
        )
        closed = failed[-1]
        assert isinstance(closed, Closed)
        assert closed.ending is Ending.FAILED
        assert "'vhs' is not allowed; allowed: h264, mjpeg, raw" in closed.reason
        assert isinstance(fine[-1], Closed)
        assert fine[-1].ending is Ending.COMPLETED
        assert engine.journal.sessions == ()


async def test_a_watcher_sees_the_newest_segments_and_gives_no_credit(model: Path) -> None:
    workers = in_process_workers(model, model_info().recipe)
    async with in_process_engine(model, workers) as engine:
        watcher = WatcherOutbox(segments=2)
        engine.clients.watch(SessionId("a"), watcher)
        told = await stream(engine, "a", PROMPT)
        seen = [await watcher.get() for _ in range(len(watcher))]
    assert [message.emit.block for message in seen if isinstance(message, SegmentOut)] == [4, 5]
    assert seen[0] == next(message for message in told if isinstance(message, Opened))
    assert seen[-1] == told[-1]


async def test_a_client_whose_outbox_overflows_loses_its_call_and_may_come_back(model: Path) -> None:
    workers = in_process_workers(model, model_info().recipe)
    async with in_process_engine(model, workers) as engine:
        outbox = Outbox(limit=3)
        engine.attach(SessionId("a"), outbox)
        engine.submit(open_event(engine, "a", PROMPT, window=20, picture_limit=None))
        while not engine.scheduler.sessions() or engine.scheduler.sessions()[0].attached:
            await asyncio.sleep(0.01)
        with pytest.raises(Overflow):
            await outbox.get()
        again = Outbox()
        engine.resume(SessionId("a"), None, again)
        opened, *sent = [await again.get() for _ in range(4)]
        assert isinstance(opened, Opened) and opened.segment == 0
        assert [message.emit.block for message in sent if isinstance(message, SegmentOut)] == [0, 1, 2]


def asked(recipe: str = "") -> Open:
    """30 pictures in a file that plays."""
    return Open(
        now_s=0.0, session=SessionId("r"), prompt=PROMPT, seed=1, pace=Pace.FAST, window=4, picture_limit=30,
        settings=SegmentSettings(codec="h264", quality=23), recipe=recipe,
    )  # fmt: skip


async def test_what_is_rendered_makes_a_file_that_plays(model: Path, tmp_path: Path) -> None:
    target = tmp_path / "out.mp4"
    with target.open("wb") as file:

        def tell(message: ClientMessage) -> None:
            match message:
                case Opened(header=data) | SegmentOut(data=data):
                    file.write(data)

        closed = await render(model, asked(), tell)
    assert closed.ending is Ending.COMPLETED
    with av.open(str(target)) as container:
        assert sum(1 for _ in container.decode(video=0)) == 30


async def test_render_refuses_what_cannot_be(model: Path) -> None:
    told: list[ClientMessage] = []
    with pytest.raises(Declined, match=r"open\.recipe"):
        await render(model, asked(recipe="unknown"), told.append)
    assert [type(message) for message in told] == [Refused]
