"""Adoption: streams of a server that was killed go on in the next one, byte for byte, whatever of its disk is left."""

from __future__ import annotations

import asyncio
import gc
import shutil
import tracemalloc
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from cluster.access.audit import Audit
from cluster.access.call_counts import CallCounts
from cluster.access.identity import Access
from cluster.access.tenancy import Tenancy
from cluster.adoption import KeptSessions
from cluster.cell.engine import Engine
from cluster.cell.identity import Identity
from cluster.config import AuthSection
from cluster.frontend.offer import offer_for
from cluster.http.figures import CellFacts, CellFigures
from cluster.journal.disk import LocalDisk
from cluster.journal.reading import JournalFolder, StoredLatents
from cluster.journal.records import framed
from cluster.journal.thread import DiskJournal
from cluster.journal.writes import WriteLatents, WriteRecord
from cluster.render import in_process_engine, in_process_workers
from longtake.core.effects import Closed, Recovered, Refused
from longtake.core.endings import Ending
from longtake.core.errors import UnknownToken
from longtake.core.events import CueRequest, Pause, Play
from longtake.core.limits import Limits
from longtake.core.openings import Opened
from longtake.core.sessions.life import State
from longtake.core.work import Continuity, CueId, Fork, LatentRef, SessionId
from monitoring.exposition import Scrape
from tests.cluster.journal.world import record
from tests.cluster.kept_cell import BLOCKS, IDENTITY, OTHER, Cell, Client, cell
from tests.samples import first
from tests.workers.model_dir import model_info, write_model

ROOT = Path(__file__).resolve().parents[2]

A, F, E = SessionId("a"), SessionId("east.0f"), SessionId("e")
"""As servers before this one called their sessions, and as this one does."""
CONSUMED = {A: 9, F: 2}
"""So many segments each client had consumed when the server was killed."""


@dataclass
class Killed:
    """What a server left when it was killed, and what its streams would have been without that."""

    model: Path
    folder: Path
    tokens: dict[SessionId, bytes]
    undisturbed: dict[SessionId, dict[int, bytes]]
    first: int
    """The first block of the fork."""

    def left(self, to: Path) -> Path:
        """A copy of its folder."""
        shutil.copytree(self.folder, to)
        return to


async def killed(model: Path, at: Path) -> Killed:
    """Two streams, one the fork of the other, and one that ends. What is on disk in the middle is kept."""
    async with cell(model, at / "live") as before:
        cues = tuple(CueRequest(cue=CueId(f"c{block}"), prompt=OTHER, block=block) for block in (3, 14))
        clients = {A: before.open(A, cues=cues)}
        ended = before.open(E, seed=9)  # its client acknowledges all of it
        await asyncio.gather(clients[A].until(6), ended.to_the_end())
        clients[F] = before.open(F, fork=Fork(session=A), seed=11)
        await asyncio.gather(*(client.until(CONSUMED[name]) for name, client in clients.items()))
        await before.written()
        shutil.copytree(at / "live", at / "left")
        await asyncio.gather(*(client.to_the_end() for client in clients.values()))
        undisturbed = {name: client.segments for name, client in clients.items()}
        tokens = {name: client.token for name, client in clients.items()} | {E: ended.token}
    return Killed(model, at / "left", tokens, undisturbed, min(undisturbed[F]))


@pytest.fixture(scope="module")
def before(tmp_path_factory: pytest.TempPathFactory) -> Killed:
    model = tmp_path_factory.mktemp("model")
    write_model(model)
    return asyncio.run(killed(model, tmp_path_factory.mktemp("journal")))


def stored(folder: Path, session: SessionId) -> dict[tuple[int, int], StoredLatents]:
    """Where the latents of a session are in a folder."""
    disk = LocalDisk(folder)
    try:
        found = {each.record.session: each for each in JournalFolder(disk).sessions()}
        return dict(found[session].latents)
    finally:
        disk.release()


def overwrite(folder: Path, at: StoredLatents, *, right_crc: bool) -> None:
    """Other latents than were made, or no latents at all."""
    good, path = at.record, folder / at.path
    data = bytearray(path.read_bytes())
    payload = bytes(byte ^ 1 for byte in data[good.offset : good.offset + good.length_bytes])
    if right_crc:
        data[good.begin : good.offset + good.length_bytes] = b"".join(framed(good.head, payload))
    else:
        data[good.offset : good.offset + good.length_bytes] = payload
    path.write_bytes(data)


def scraped(engine: Engine) -> dict[str, float]:
    """What Prometheus is told of the journal on disk."""
    facts = CellFacts(offer=offer_for(model_info(), Limits()), device="cpu", expected={}, started_at_s=0.0)
    scrape = Scrape("here")
    CellFigures(engine, CallCounts(), facts, Audit())(scrape)
    return {sample.name: sample.value for family in scrape.families for sample in family.samples}


async def goes_on(after: Cell, before: Killed, session: SessionId) -> Client:
    """A client comes back to its stream, whose rest is what it would have been."""
    last = CONSUMED[session] - 1 + (before.first if session == F else 0)
    client = after.resume(before.tokens[session], last)
    await client.to_the_end()
    expected = {block: data for block, data in before.undisturbed[session].items() if block > last}
    assert client.segments.keys() == expected.keys()
    assert client.segments == expected
    assert isinstance(client.told[-1], Closed) and client.told[-1].ending is Ending.COMPLETED
    return client


async def test_streams_go_on_byte_for_byte(before: Killed, tmp_path: Path) -> None:
    async with cell(before.model, before.left(tmp_path / "j")) as after:
        assert after.adopted == 2, "the one that has ended is not there"
        assert after.engine.keeping.adopted == 2
        with pytest.raises(UnknownToken):
            after.resume(before.tokens[E], None)
        both = await asyncio.gather(goes_on(after, before, A), goes_on(after, before, F))
        for client in both:
            opened = client.told[0]
            assert isinstance(opened, Opened) and opened.header == b""
            assert opened.segment == min(client.segments) and opened.continuity is Continuity.EXACT
        assert after.engine.keeping.divergences == 0
        await after.written()
    assert not [path for path in (tmp_path / "j").iterdir() if path.is_dir()], "what has ended is removed"


async def test_the_end_that_a_client_has_not_got_outlives_the_server_and_what_it_has_got_does_not(
    before: Killed, tmp_path: Path
) -> None:
    folder, left = tmp_path / "j", tmp_path / "left"
    async with cell(before.model, folder) as live:
        client = live.open(A)
        while client.of(Closed) == []:
            await client.next(acknowledge=len(client.segments) < BLOCKS - 3)
        await live.written()
        shutil.copytree(folder, left)
        last = live.resume(client.token, BLOCKS - 4)
        await last.to_the_end()
        assert last.segments == {block: client.segments[block] for block in range(BLOCKS - 3, BLOCKS)}
        while [path for path in folder.iterdir() if path.is_dir()]:
            await asyncio.sleep(0.01)
    for cursor in (BLOCKS - 4, BLOCKS - 1):  # before what it acknowledged nothing is kept, once the disk knows of that
        there = tmp_path / f"left-{cursor}"
        shutil.copytree(left, there)
        async with cell(before.model, there) as after:
            again = after.resume(client.token, cursor)
            await again.to_the_end()
            ending = again.told[-1]
            assert isinstance(ending, Closed) and ending.ending is Ending.COMPLETED
            assert again.segments == {block: client.segments[block] for block in range(cursor + 1, BLOCKS)}


async def test_a_server_that_shuts_down_keeps_its_streams_for_the_next_one(before: Killed, tmp_path: Path) -> None:
    """Twice in a row, the second time a paused one; a fork is still a fork after that.

    Of a paused stream come the blocks that were begun, however many those are.
    """
    folder = before.left(tmp_path / "j")
    cursor, token = CONSUMED[F] - 1 + before.first, before.tokens[F]
    segments: dict[int, bytes] = {}
    for turn in range(3):
        async with cell(before.model, folder) as each:
            client = each.resume(token, cursor)
            if turn == 2:
                kept = each.engine.scheduler.inspect(F)
                assert (kept.state, kept.playing) == (State.PARKED, False), "it is still paused"
                each.engine.submit(Play(now_s=each.engine.now_s(), session=F))
                await client.to_the_end()
            else:
                await client.until(3)
                if turn == 1:
                    each.engine.submit(Pause(now_s=each.engine.now_s(), session=F))
                each.engine.begin_drain()
                await client.to_the_end()
                assert isinstance(client.told[-1], Closed) and client.told[-1].ending is Ending.KEPT
                while not each.engine.is_drained:
                    await asyncio.sleep(0.01)
        segments |= client.segments
        cursor, token = max(segments), client.token
    last = CONSUMED[F] - 1 + before.first
    assert segments == {block: data for block, data in before.undisturbed[F].items() if block > last}


@pytest.mark.parametrize("damage", first(2, ["middle", "tail", "all"]))
async def test_latents_that_are_lost_cost_time_and_no_bit(before: Killed, tmp_path: Path, damage: str) -> None:
    folder = before.left(tmp_path / "j")
    for session in (A, F):
        latents = stored(folder, session)
        blocks = sorted({block for block, _ in latents})
        if damage == "tail":
            last = max(latents.values(), key=lambda each: (each.path, each.record.offset))
            with (folder / last.path).open("r+b") as file:
                file.truncate(last.record.offset + 5)
            continue
        for key, each in latents.items():
            if damage == "all" or key[0] == blocks[len(blocks) // 2]:
                overwrite(folder, each, right_crc=False)
    async with cell(before.model, folder) as after:
        assert after.adopted == 2
        await asyncio.gather(goes_on(after, before, A), goes_on(after, before, F))
        assert after.engine.keeping.divergences == 0


async def test_what_is_made_otherwise_is_noticed_and_told(before: Killed, tmp_path: Path) -> None:
    """Of one block the latents are lost, so that those of a later one, which someone has altered, are made again."""
    folder = before.left(tmp_path / "j")
    latents = stored(folder, A)
    blocks = sorted({block for block, _ in latents})
    lost, altered = blocks[len(blocks) // 2], blocks[len(blocks) // 2 + 1]
    for key, each in latents.items():
        if key[0] == lost:
            overwrite(folder, each, right_crc=False)
        elif key == (altered, 3):
            overwrite(folder, each, right_crc=True)
    async with cell(before.model, folder) as after:
        client = await goes_on(after, before, A)
        told = [message for message in client.of(Recovered) if isinstance(message, Recovered)]
        assert [(message.continuity, message.from_block) for message in told] == [(Continuity.RESTARTED, altered)]
        assert after.engine.keeping.divergences == 1
        figures = scraped(after.engine)
        assert figures["longtake_divergences_total"] == 1 and figures["longtake_adopted_sessions_total"] == 2
        assert figures["longtake_disk_journal_bytes"] > 0 and figures["longtake_disk_journal_trouble"] == 0


async def test_sessions_of_another_model_stay_on_disk(before: Killed, tmp_path: Path) -> None:
    folder = before.left(tmp_path / "j")
    files = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    for identity in (
        Identity(model_digest="other", recipe_digest="r"),
        Identity(model_digest="m", recipe_digest="other"),
    ):
        async with cell(before.model, folder, identity) as after:
            assert after.adopted == 0
            with pytest.raises(UnknownToken):
                after.resume(before.tokens[A], None)
    there = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    for name in ("session-a", "session-east.0f"):
        assert {path: data for path, data in files.items() if name in path.parts} == {
            path: data for path, data in there.items() if name in path.parts
        }


async def test_of_two_tokens_both_hold_until_the_last_one_is_known_to_have_arrived(
    before: Killed, tmp_path: Path
) -> None:
    first = before.tokens[A]
    async with cell(before.model, before.left(tmp_path / "1")) as once:
        client = once.resume(first, CONSUMED[A] - 1)
        await client.next(acknowledge=False)  # Opened
        shutil.copytree(tmp_path / "1", tmp_path / "2")
        await client.until(1)
        await asyncio.sleep(0.2)  # until the engine has heard of it
        await once.written()
        shutil.copytree(tmp_path / "1", tmp_path / "3")
    for token in (first, client.token):
        folder = tmp_path / f"2-{token.hex()[:4]}"
        shutil.copytree(tmp_path / "2", folder)
        async with cell(before.model, folder) as twice:
            assert isinstance(await twice.resume(token, None).next(), Opened | Refused)
    async with cell(before.model, tmp_path / "3") as thrice:
        with pytest.raises(UnknownToken):
            thrice.resume(first, None)
        again = thrice.resume(client.token, CONSUMED[A])
        assert isinstance(await again.next(), Opened)
        text = b"".join(path.read_bytes() for path in (tmp_path / "3").rglob("*") if path.is_file())
        for token in (first, client.token, again.token):
            assert token not in text and token.hex().encode() not in text


async def test_nothing_can_be_resumed_before_all_is_taken_over(before: Killed, tmp_path: Path) -> None:
    tenancy = Tenancy(Access.of(AuthSection()), Audit(None))
    async with in_process_engine(before.model, in_process_workers(before.model, model_info().recipe)) as engine:
        folder = before.left(tmp_path / "j")
        kept = KeptSessions(folder, engine, tenancy.owners, IDENTITY, asyncio.get_running_loop())
        try:
            with pytest.raises(Exception, match="takes over the streams"):
                engine.keeping.check_adopted()
            await kept.take_over()
            engine.keeping.check_adopted()
        finally:
            await kept.close()


def allocated_bytes() -> int:
    """What our own code has allocated since it is traced: in one process with many tests others allocate, too."""
    gc.collect()  # what nobody holds is no cost of theirs, however seldom a long-lived process looks
    ours = [tracemalloc.Filter(True, f"{ROOT}/{folder}/*") for folder in ("cluster", "longtake")]
    traced = tracemalloc.take_snapshot().filter_traces([*ours, tracemalloc.Filter(True, "<string>")])
    return sum(statistic.size for statistic in traced.statistics("filename"))


async def test_a_session_nobody_looks_at_costs_little_beside_its_latents(before: Killed, tmp_path: Path) -> None:
    count, latents_bytes = 200, 0
    journal = DiskJournal(tmp_path / "j", lambda _: None)
    for number in range(count):
        name = SessionId(f"s{number}")
        journal.writer.append(WriteRecord(record=replace(record(name), recipe="", recipe_digest="r")))
        for block in range(8):
            for step in (1, 2, 3):
                ref = LatentRef(session=name, block=block, step=step)
                journal.writer.append(WriteLatents(ref=ref, version=0, data=bytes(1024)))
                latents_bytes += 1024
    journal.close()
    async with in_process_engine(before.model, in_process_workers(before.model, model_info().recipe)) as engine:
        tenancy = Tenancy(Access.of(AuthSection()), Audit(None))
        tracemalloc.start()
        try:
            loop = asyncio.get_running_loop()
            kept = KeptSessions(tmp_path / "j", engine, tenancy.owners, IDENTITY, loop)
            assert await kept.take_over() == count
            async with asyncio.timeout(60):
                while engine.keeping.adopted < count:
                    await asyncio.sleep(0.01)
            held_bytes = limit_bytes = 40_000 * count
            async with asyncio.timeout(60):
                while held_bytes >= limit_bytes:  # what is read waits in memory until the disk has it, be it slow
                    await asyncio.sleep(0.1)
                    held_bytes = allocated_bytes() - engine.journal.size_bytes
        finally:
            tracemalloc.stop()
            await kept.close()
    assert engine.journal.size_bytes >= 0.2 * latents_bytes
