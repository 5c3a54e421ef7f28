"""Forks outlive the server as other streams do, also twice: where they come from is part of their record."""

from __future__ import annotations

import asyncio
import shutil
from pathlib import Path

import pytest

from cluster.journal.disk import LocalDisk
from cluster.journal.facts import ForkRecord, SessionRecord
from cluster.journal.reading import JournalFolder
from longtake.core.effects import Closed
from longtake.core.endings import Ending
from longtake.core.events import CueRequest
from longtake.core.limits import Limits
from longtake.core.work import CueId, Fork, SessionId
from tests.cluster.kept_cell import BLOCKS, OTHER, Client, cell
from tests.samples import first
from tests.workers.model_dir import write_model

A, F, G = SessionId("a"), SessionId("f"), SessionId("g")
PAST = 5
LIMITS = Limits(rewind_blocks=BLOCKS)


def cue(name: str, block: int, prompt: str = OTHER) -> CueRequest:
    return CueRequest(cue=CueId(name), prompt=prompt, block=block)


def records(folder: Path) -> dict[SessionId, SessionRecord]:
    """What is on disk, of sessions that a server would take over."""
    disk = LocalDisk(folder)
    try:
        return {each.record.session: each.record for each in JournalFolder(disk).sessions()}
    finally:
        disk.release()


def last_of(client: Client) -> int:
    return max(client.segments)


@pytest.mark.parametrize("block", first(1, [PAST, None]))
async def test_a_fork_goes_on_after_a_second_server_too(tmp_path: Path, block: int | None) -> None:
    """It has a cue that is shown already, and one to come; and a fork of its own, of blocks that are not its own."""
    model = tmp_path / "model"
    model.mkdir()
    write_model(model)
    async with cell(model, tmp_path / "live", limits=LIMITS) as before:
        parent = before.open(A, cues=(cue("c", 2), cue("d", 14)))
        await parent.until(8)
        fork = before.open(
            F, fork=Fork(session=A, block=block), seed=11, cues=(cue("e", 17), cue("f", 18, "a green ring"))
        )
        await fork.until(2)
        first = min(fork.segments)
        second = before.open(G, fork=Fork(session=F, block=3), seed=12)
        await second.until(3)
        clients = {A: parent, F: fork, G: second}
        consumed = {name: last_of(client) for name, client in clients.items()}
        await before.written()
        shutil.copytree(tmp_path / "live", tmp_path / "1")
        await asyncio.gather(*(client.to_the_end() for client in clients.values()))
    assert min(second.segments) == 3 and (block is None or first == block)
    on_disk = records(tmp_path / "1")
    assert on_disk[F].fork == ForkRecord(parent=A, block=first) and on_disk[F].seeds == ((first, 7),)
    assert on_disk[G].fork == ForkRecord(parent=F, block=3) and on_disk[G].seeds == ((3, 7),)
    async with cell(model, tmp_path / "1", limits=LIMITS) as once:
        assert once.adopted == 3
        again = {name: once.resume(client.token, consumed[name]) for name, client in clients.items()}
        await asyncio.gather(*(client.until(1) for client in again.values()))
        consumed = {name: last_of(client) for name, client in again.items()}
        await once.written()
        shutil.copytree(tmp_path / "1", tmp_path / "2")
        await again[F].to_the_end()
        assert once.engine.keeping.divergences == 0
    found = records(tmp_path / "2")
    assert found[F].fork == on_disk[F].fork and found[G].fork == on_disk[G].fork
    async with cell(model, tmp_path / "2", limits=LIMITS) as twice:
        last = {name: twice.resume(client.token, consumed[name]) for name, client in again.items()}
        await asyncio.gather(*(client.to_the_end() for client in last.values()))
        assert twice.engine.keeping.divergences == 0
    for name, client in clients.items():
        rest = {number: data for number, data in client.segments.items() if number > consumed[name]}
        assert last[name].segments == rest and max(rest) == BLOCKS - 1
        closed = last[name].told[-1]
        assert isinstance(closed, Closed) and closed.ending is Ending.COMPLETED
    assert {number: data for number, data in fork.segments.items() if number in again[F].segments} == again[F].segments


async def test_an_adopted_stream_can_be_forked_as_far_back_as_the_disk_has_it(tmp_path: Path) -> None:
    model = tmp_path / "model"
    model.mkdir()
    write_model(model)
    async with cell(model, tmp_path / "live", limits=LIMITS) as before:
        parent = before.open(A, cues=(cue("c", 2),))
        await parent.until(9)
        fork = before.open(F, fork=Fork(session=A, block=PAST), seed=11)
        await fork.to_the_end()
        await before.written()
        shutil.copytree(tmp_path / "live", tmp_path / "1")
    async with cell(model, tmp_path / "1", limits=LIMITS) as after:
        while not after.engine.scheduler.session(A):
            await asyncio.sleep(0.01)
        again = after.open(SessionId("g"), fork=Fork(session=A, block=PAST), seed=11)
        await again.to_the_end()
    assert again.segments == fork.segments
