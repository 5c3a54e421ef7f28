"""Stories, and forks of them, go on in the next server with the shots that they had, and the same bits."""

from __future__ import annotations

import asyncio
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from longtake.core.events import CueRequest
from longtake.core.limits import Limits
from longtake.core.recipe.context import Context, Level
from longtake.core.recipe.cues import Back, CueChange, CueEffect, CuePolicy
from longtake.core.recipe.positions import Positions
from longtake.core.work import CueId, Fork, SessionId
from tests.cluster.kept_cell import OTHER, PROMPT, Client, cell
from tests.samples import first
from tests.workers.model_dir import write_model
from workers.models.weights import save_info

A, F = SessionId("a"), SessionId("f")
STORY: dict[int, CueEffect] = {2: CueChange.CUT, 5: CueChange.CUT, 8: Back(0), 11: CueChange.CUT, 14: Back(2)}
OF_FORK: dict[int, CueEffect] = {13: CueChange.CUT, 15: Back(1)}
"""Behind the cut at 11: shot 1 began at block 2."""


def cues(story: dict[int, CueEffect], name: str) -> tuple[CueRequest, ...]:
    return tuple(
        CueRequest(cue=CueId(f"{name}{block}"), prompt=(OTHER, PROMPT)[block % 2], block=block, change=effect)
        for block, effect in story.items()
    )


def shots_of(client: Client) -> dict[int, int]:
    """The shot that each segment was said to belong to."""
    return {each.emit.block: each.emit.shot for each in client.told if hasattr(each, "emit")}


@pytest.mark.parametrize("shots", first(1, [2, 0]))
async def test_a_story_and_its_fork_go_on_in_the_next_server(tmp_path: Path, shots: int) -> None:
    info = write_model(tmp_path / "model", Level.CLEAN)
    recipe = replace(
        info.recipe,
        context=Context(level=Level.CLEAN, window_frames=6 + shots, shot_frames=shots),
        positions=Positions(shot_offset=3),
        cues=CuePolicy(cut=True),
    )
    save_info(tmp_path / "model", replace(info, recipe=recipe))
    limits = Limits(rewind_blocks=4)
    story = {block: effect for block, effect in STORY.items() if shots or effect is CueChange.CUT}
    of_fork = {block: effect for block, effect in OF_FORK.items() if shots or effect is CueChange.CUT}
    async with cell(tmp_path / "model", tmp_path / "live", limits=limits) as before:
        clients = {A: before.open(A, cues=cues(story, "a"))}
        await clients[A].until(12)
        clients[F] = before.open(F, fork=Fork(session=A, block=None), seed=11, cues=cues(of_fork, "f"))
        await asyncio.gather(clients[A].until(14), clients[F].until(1))
        consumed = {name: max(client.segments) for name, client in clients.items()}
        await before.written()
        shutil.copytree(tmp_path / "live", tmp_path / "left")
        await asyncio.gather(*(client.to_the_end() for client in clients.values()))
    first = min(clients[F].segments)
    cuts = {
        A: [*story],
        F: [*(block for block in story if block < first), *(each for each in of_fork if each >= first)],
    }
    async with cell(tmp_path / "model", tmp_path / "left", limits=limits) as after:
        assert after.adopted == 2
        again = {name: after.resume(client.token, consumed[name]) for name, client in clients.items()}
        await asyncio.gather(*(client.to_the_end() for client in again.values()))
        assert after.engine.keeping.divergences == 0
    for name, client in again.items():
        assert client.segments.items() <= clients[name].segments.items() and client.segments
        right = {block: sum(cut <= block for cut in cuts[name]) for block in client.segments}
        assert shots_of(client) == right, name
        assert shots_of(client).items() <= shots_of(clients[name]).items()
