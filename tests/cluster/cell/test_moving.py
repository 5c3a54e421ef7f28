"""Lanes that the balance moves between real workers, over and over: every stream is the oracle's, bit for bit."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from cluster.render import in_process_engine, in_process_workers
from longtake.core.effects import LoadImage
from longtake.core.limits import Limits, MoveRules
from longtake.core.pages import PageTable
from longtake.core.recipe.context import Level
from longtake.core.work import PageId
from tests.cluster.cell.world import Hashes, expected_hashes, stream
from tests.workers.model_dir import write_model
from workers.models import weights

PROMPTS = ("a red ball resting in the fog", "a blue box swaying at night")
BLOCKS = 28
"""So many that lanes have time to move, however fast the machine is."""


RESTLESS = MoveRules(worth=-1e9, rest_s=0.0, blocks_left=1)
"""Every tick moves whatever may move, worth while or not."""


async def moved(model: Path, limits: Limits, blocks: int = BLOCKS) -> tuple[int, list[list[str]]]:
    """How many lanes were copied, and the hashes of two streams that ran at the same time."""
    info = weights.load_info(model)
    hashes = Hashes(info.recipe.step_count)
    pictures = info.geometry.first_picture(blocks)
    workers = in_process_workers(model, info.recipe, denoise=3, sessions=4)
    async with in_process_engine(model, workers, limits, hashes) as engine:
        hashes.listen(engine)
        told = [stream(engine, f"s{n}", prompt, seed=n, picture_limit=pictures) for n, prompt in enumerate(PROMPTS)]
        await asyncio.gather(*told)
        engine.scheduler.check()
    loads = [effect for effect in hashes.effects if isinstance(effect, LoadImage)]
    return len(loads), [hashes.of(f"s{n}") for n in range(len(PROMPTS))]


@pytest.mark.parametrize(
    ("level", "fused"), [(Level.OUTPUT, True), (Level.CLEAN, True), (Level.INPUT, False)]
)  # INPUT has no commits that could be fused
async def test_streams_whose_lanes_never_rest_are_the_oracles(tmp_path: Path, level: Level, fused: bool) -> None:
    write_model(tmp_path, level)
    expected = [expected_hashes(tmp_path, {0: prompt}, n, BLOCKS) for n, prompt in enumerate(PROMPTS)]
    loads = 0
    while not loads:  # on a busy machine a run may pass without a move
        loads, found = await moved(tmp_path, Limits(fused_passes=fused, moves=RESTLESS))
        assert found == expected


async def test_pages_that_go_to_each_others_places_show(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_model(tmp_path, Level.OUTPUT)
    straight = PageTable.kept
    tables: dict[int, PageTable] = {}

    def exchanged(table: PageTable, block: int) -> tuple[PageId, ...]:
        """The first time a table is asked (as a target) its first two pages change places."""
        pages = straight(table, block)
        if table.claimed or id(table) in tables or len(pages) < 2:
            return pages
        tables[id(table)] = table
        return (pages[1], pages[0], *pages[2:])

    monkeypatch.setattr(PageTable, "kept", exchanged)
    expected = [expected_hashes(tmp_path, {0: prompt}, n, BLOCKS) for n, prompt in enumerate(PROMPTS)]
    found = expected
    while found == expected:  # a move near the end of a stream may come too late to be seen
        _, found = await moved(tmp_path, Limits(moves=RESTLESS))
