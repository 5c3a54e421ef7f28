"""Streams that shed steps go on in the next server with the steps that their blocks took, or are not said to."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from cluster.cell.outbox import SegmentOut
from cluster.cell.snapshot import taken
from cluster.frontend.exported import Form, pieces, read
from cluster.journal.disk import LocalDisk
from cluster.journal.reading import JournalFolder
from cluster.journal.records import GoodRecord, RecordKind, scan
from longtake.core.cell import Cell as CoreCell
from longtake.core.effects import Closed
from longtake.core.endings import Ending
from longtake.core.errors import UnknownToken
from longtake.core.openings import Opened
from longtake.core.recipe.context import Level
from longtake.core.sessions.session import Session
from longtake.core.work import Continuity, Fork, SessionId
from tests.cluster.kept_cell import IDENTITY, Client, cell
from tests.workers.model_dir import write_model
from workers.models.weights import save_info

A, F = SessionId("a"), SessionId("f")
CONSUMED = {A: 9, F: 2}
WINDOW = 4
LOADS = (0, 0, 1, 2, 1, 1, 0, 1, 2, 2, 1, 0, 0, 1, 0, 1, 1, 2, 1, 0)
STEPS = (3, 2, 1)
"""By load."""


def by_block(_cell: CoreCell, _session: Session, block: int, _now_s: float) -> int:
    return LOADS[block]


@dataclass
class Asked:
    """The same rule, and for which blocks it was asked."""

    blocks: list[int]

    def __call__(self, _cell: CoreCell, _session: Session, block: int, _now_s: float) -> int:
        self.blocks.append(block)
        return LOADS[block]


@dataclass(frozen=True)
class Killed:
    """What a server left when it was killed, and what its streams would have been without that."""

    model: Path
    folder: Path
    tokens: dict[SessionId, bytes]
    undisturbed: dict[SessionId, dict[int, bytes]]

    def left(self, to: Path) -> Path:
        shutil.copytree(self.folder, to)
        return to


def steps_of(client: Client) -> dict[int, int]:
    return {each.emit.block: each.emit.steps for each in client.told if isinstance(each, SegmentOut)}


async def killed(model: Path, at: Path) -> Killed:
    async with cell(model, at / "live") as before:
        before.engine.scheduler.cell.load_rule = by_block
        clients = {A: before.open(A, window=WINDOW)}
        await clients[A].until(5)
        clients[F] = before.open(F, fork=Fork(session=A), seed=11, window=WINDOW)
        await asyncio.gather(*(client.until(CONSUMED[name]) for name, client in clients.items()))
        views = before.engine.scheduler.session
        for name, count in CONSUMED.items():  # all that they may have been sent
            while (view := views(name)) is not None and view.segments_sent < count + WINDOW:
                await asyncio.sleep(0.01)
        await before.written()
        shutil.copytree(at / "live", at / "left")
        await asyncio.gather(*(client.to_the_end() for client in clients.values()))
        for client in clients.values():
            assert steps_of(client) == {block: STEPS[LOADS[block]] for block in client.segments}
        undisturbed = {name: client.segments for name, client in clients.items()}
        tokens = {name: client.token for name, client in clients.items()}
    return Killed(model, at / "left", tokens, undisturbed)


@pytest.fixture(scope="module")
def before(tmp_path_factory: pytest.TempPathFactory) -> Killed:
    at = tmp_path_factory.mktemp("killed")
    info = write_model(at / "model", Level.CLEAN)
    steps = replace(info.recipe.steps, shed=((1000, 500), (1000,)))
    save_info(at / "model", replace(info, recipe=replace(info.recipe, steps=steps)))
    return asyncio.run(killed(at / "model", at))


def damaged(folder: Path, is_hit: Callable[[GoodRecord], bool]) -> int:
    """Spoil records in all files of a journal; how many."""
    count = 0
    for path in (each for each in folder.rglob("*") if each.is_file()):
        data = bytearray(path.read_bytes())
        whole = bytes(data)

        def read(offset: int, size: int, whole: bytes = whole) -> bytes:
            return whole[offset : offset + size]

        found = list(scan(read, len(whole)))
        for each in found:
            if isinstance(each, GoodRecord) and is_hit(each):
                data[each.begin + 4] ^= 0xFF
                count += 1
        path.write_bytes(data)
    return count


@pytest.mark.parametrize("lost", ["nothing", "all latents"])
async def test_what_may_have_been_seen_is_made_again_with_the_same_steps(
    before: Killed, tmp_path: Path, lost: str
) -> None:
    folder = before.left(tmp_path / "j")
    if lost == "all latents":
        assert damaged(folder, lambda each: each.head.kind is RecordKind.LATENT)
    async with cell(before.model, folder) as after:
        asked = after.engine.scheduler.cell.load_rule = Asked([])
        assert after.adopted == 2
        for name in (A, F):
            asked.blocks.clear()
            first = min(before.undisturbed[name])
            last = first + CONSUMED[name] - 1
            client = after.resume(before.tokens[name], last)
            await client.to_the_end()
            assert client.segments == {
                block: data for block, data in before.undisturbed[name].items() if block > last
            }, name
            assert steps_of(client) == {block: STEPS[LOADS[block]] for block in client.segments}
            assert min(asked.blocks) >= last + 1 + WINDOW, "what may have been seen is not decided again"
            opened = client.told[0]
            assert isinstance(opened, Opened) and opened.continuity is Continuity.EXACT
            assert isinstance(client.told[-1], Closed) and client.told[-1].ending is Ending.COMPLETED
        assert after.engine.keeping.divergences == 0


async def test_a_record_that_is_lost_is_noticed_and_what_depends_on_it_is_not_made_up(
    before: Killed, tmp_path: Path
) -> None:
    folder = before.left(tmp_path / "j")
    assert damaged(folder, lambda each: each.head.kind is RecordKind.STEPS and each.head.block == 4) == 2
    disk = LocalDisk(folder)
    for stored in JournalFolder(disk).sessions():
        assert stored.loads_known_from == 6, "the change after the one that is lost"
    disk.release()
    shutil.copytree(folder, tmp_path / "latents too")
    async with cell(before.model, folder) as after:  # latents are there: nothing that is lost is needed
        after.engine.scheduler.cell.load_rule = by_block
        client = after.resume(before.tokens[A], CONSUMED[A] - 1)
        await client.to_the_end()
        assert client.segments == {block: data for block, data in before.undisturbed[A].items() if block >= CONSUMED[A]}
    assert damaged(tmp_path / "latents too", lambda each: each.head.kind is RecordKind.LATENT)
    async with cell(before.model, tmp_path / "latents too") as after:
        with pytest.raises(UnknownToken):  # it cannot be made again, and is not said to be
            after.resume(before.tokens[A], CONSUMED[A] - 1)
        assert after.engine.scheduler.session(A) is None


async def test_a_file_of_a_stream_says_what_its_blocks_took(before: Killed, tmp_path: Path) -> None:
    async with cell(before.model, tmp_path / "j") as here:
        here.engine.scheduler.cell.load_rule = by_block
        client = here.open(A, window=WINDOW)
        await client.until(CONSUMED[A])
        session, owned = here.engine.scheduler.inspect(A), here.tenancy.owners.of(A)
        assert owned is not None
        snapshot = taken(here.engine, session, IDENTITY.record(session, owned))
        form = Form.of(session.graph, session.geometry)
        file = bytearray().join(pieces(snapshot, form))
        found = read(file, lambda _: form)
        changes = [(block, load) for block, load in enumerate(LOADS) if load != ([0, *LOADS])[block]]
        begun = [change for change in changes if change[0] < session.next_block]
        assert found.loads == snapshot.loads and len(found.loads) > 3
        assert list(found.loads) == begun[-len(found.loads) :], "from the oldest block that may be made again"
        oldest = 0 if found.loads == tuple(begun) else found.loads[0][0]
        assert found.loads_known_from == snapshot.loads_known_from == oldest
        await client.to_the_end()
