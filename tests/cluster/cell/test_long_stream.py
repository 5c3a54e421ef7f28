"""A stream has no longest length and costs the same memory at block 1,000 as at block 100."""

from __future__ import annotations

import gc
import os
from pathlib import Path

import numpy as np
import pytest

from cluster.cell.outbox import Outbox, SegmentOut
from cluster.render import in_process_engine, in_process_workers
from longtake.core.endings import Ending
from longtake.core.events import Ack, Close, Open
from longtake.core.flow import Pace
from longtake.core.openings import Opened
from longtake.core.work import SegmentSettings, SessionId
from tests.workers.model_dir import write_model

LAST = 1010
"""Past the 341 blocks (1,024 latent frames) at which the reference's table of positions ends."""
GROWTH_BYTES = 12 * 2**20
"""What an allocator may keep for itself; keeping the pictures of every block would take about twice that."""


def resident_bytes() -> int:
    gc.collect()
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


@pytest.mark.slow
@pytest.mark.timeout(300)
async def test_a_thousand_blocks_pass_without_growth_of_memory(tmp_path: Path) -> None:
    info = write_model(tmp_path)
    session, outbox = SessionId("long"), Outbox()
    resident, journal, levels = {}, {}, {}
    async with in_process_engine(tmp_path, in_process_workers(tmp_path, info.recipe)) as engine:
        engine.attach(session, outbox)
        engine.submit(
            Open(
                now_s=engine.now_s(), session=session, prompt="a red ball", seed=7, pace=Pace.FAST, window=4,
                picture_limit=None, settings=SegmentSettings(codec="raw", quality=1),
            )
        )  # fmt: skip
        assert isinstance(await outbox.get(), Opened)
        for block in range(LAST + 1):
            message = await outbox.get()
            while not isinstance(message, SegmentOut):
                message = await outbox.get()
            assert message.emit.block == block
            assert message.emit.first_picture == info.geometry.first_picture(block)
            engine.submit(Ack(now_s=engine.now_s(), session=session, segment=block))
            if block in (100, LAST):
                resident[block], journal[block] = resident_bytes(), engine.journal.size_bytes
                levels[block] = float(np.frombuffer(message.data, np.uint8).std())
        engine.submit(Close(now_s=engine.now_s(), session=session, ending=Ending.CLIENT))
    assert resident[LAST] - resident[100] < GROWTH_BYTES
    assert journal[LAST] < 2 * journal[100] + 100_000
    assert levels[LAST] > 1, "the pictures are not flat"
