"""An engine's side of the journal for tests: sessions to write, and a writer that is stepped by hand on a fake disk."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from random import Random

from cluster.journal.disk import Disk
from cluster.journal.facts import SessionRecord
from cluster.journal.reading import JournalFolder, StoredSession
from cluster.journal.writer import SYNC_S, JournalWriter, Reached
from cluster.journal.writes import TakeOver, Write, WriteCue, WriteLatents, WriteRecord
from longtake.core.adoption import PlacedCue
from longtake.core.effects import Trim
from longtake.core.flow import Pace
from longtake.core.work import CueId, LatentRef, SegmentSettings, SessionId
from tests.cluster.journal.fake_disk import FakeDisk

A, B = SessionId("a"), SessionId("b")
FIRST_FILE, SECOND_FILE = "session-a/latents-000000000000", "session-a/latents-000000000032"


def record(session: SessionId = A, token: str = "0", sink_blocks: int = 0) -> SessionRecord:
    return SessionRecord(
        session=session, tenant="default", tokens_sha256=(token * 64,), model_digest="m", recipe="hiar",
        recipe_digest="r", denoise_numerics="d", decode_numerics="v", seed=7, prompt="a red ball — rot",
        settings=SegmentSettings(codec="raw", quality=0), pace=Pace.FAST, window=4, picture_limit=None,
        sink_blocks=sink_blocks,
    )  # fmt: skip


def begin(session: SessionId = A, token: str = "0", sink_blocks: int = 0) -> WriteRecord:
    return WriteRecord(record=record(session, token, sink_blocks))


def cue(version: int, block: int = 3, session: SessionId = A) -> WriteCue:
    fact = PlacedCue(block=block, version=version, cue=CueId(f"c{version}"), prompt=f"prompt {version}")
    return WriteCue(session=session, cue=fact)


def latents(block: int, step: int = 4, session: SessionId = A, version: int = 0, size: int = 96) -> WriteLatents:
    data = Random(f"{session} {block} {step} {version}").randbytes(size)
    return WriteLatents(ref=LatentRef(session=session, block=block, step=step), version=version, data=data)


def below(floors: dict[int, int], session: SessionId = A) -> Trim:
    """Latents are not wanted that enter a step before the block that is named for it."""
    return Trim(session=session, floors=tuple(floors.get(step, 0) for step in range(1, 5)), sinks=0)


def found(disk: Disk) -> dict[SessionId, StoredSession]:
    """What a server that starts reads."""
    return {each.record.session: each for each in JournalFolder(disk).sessions()}


class Told:
    """Who waits for numbers."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self.reached: list[Reached] = []

    def __call__(self, reached: Reached) -> None:
        with self._changed:
            self.reached.append(reached)
            self._changed.notify_all()

    def wait_for(self, number: int) -> None:
        with self._changed:
            self._changed.wait_for(lambda: self.reached and self.reached[-1].number >= number)


class Stepped:
    """A writer on a fake disk in a time of its own."""

    def __init__(self, disk: FakeDisk | None = None, limit_bytes: int = 1 << 20) -> None:
        self.disk = disk or FakeDisk()
        self.now_s = 100.0
        self.writer = JournalWriter(self.disk, now_s=lambda: self.now_s, limit_bytes=limit_bytes)
        self.failed: dict[int, str] = {}

    def write(self, *writes: Write) -> list[int]:
        """Have these written; returns their numbers, all of which are reached."""
        numbers = [self.writer.append(write) for write in writes]
        while self.step().number < max(numbers, default=0):
            pass
        return numbers

    def step(self) -> Reached:
        reached = self.writer.step()
        self.failed |= dict.fromkeys(reached.failed, reached.reason)
        return reached

    def later(self, seconds: float = SYNC_S) -> Reached:
        """Time passes, and what is due is done."""
        self.now_s += seconds
        return self.step()

    def restarted(self, chance: Random | None = None) -> Stepped:
        """The writer of the next server, which takes over everything; after a loss of power if there is a chance."""
        if chance is not None:
            self.disk.crash(chance)
        self.disk.fault, self.disk.lies, self.disk.room_bytes = FakeDisk().fault, False, None
        following = Stepped(self.disk)
        following.write(*(TakeOver(stored=stored) for stored in found(self.disk).values()))
        return following

    def found(self) -> dict[SessionId, StoredSession]:
        return found(self.disk)

    def payloads(self, session: SessionId = A) -> dict[tuple[int, int], bytes | None]:
        stored = self.found()[session]
        return {key: stored.payload(self.disk, *key) for key in stored.latents}


def payloads_of(writes: Sequence[WriteLatents]) -> dict[tuple[int, int], bytes | None]:
    """What `Stepped.payloads` should find."""
    return {(write.ref.block, write.ref.step): write.data for write in writes}
