"""Any sequence of writes, removals, troubles, crashes and restarts: what is read back is true, and all that is told."""

from __future__ import annotations

import errno
from collections.abc import Callable
from dataclasses import dataclass, field
from random import Random

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, precondition, rule

from cluster.journal.facts import SessionRecord
from cluster.journal.reading import StoredSession
from cluster.journal.writer import RETRY_S, SYNC_S
from cluster.journal.writes import Write, WriteAck, WriteCue, WriteEnd, WriteLatents, WriteRecord
from longtake.core.adoption import PlacedCue
from longtake.core.errors import Unavailable
from longtake.core.work import SessionId
from tests.cluster.journal.fake_disk import Fault
from tests.cluster.journal.world import Stepped, begin, below, cue, latents

BLOCKS = st.integers(0, 70)
STEPS = st.integers(1, 2)
SEEDS = st.integers(0, 10_000)


def always(number: int, *calls: str) -> Callable[[int], Fault]:
    return lambda _seed: lambda call, _path: number if call in calls else 0


def sometimes(seed: int) -> Fault:
    chance = Random(seed)
    return lambda call, _path: errno.EIO if call != "read" and chance.random() < 0.2 else 0


TROUBLES = {
    "broken at write": always(errno.EIO, "append"),
    "broken at sync": always(errno.EIO, "sync", "sync_folder"),
    "read-only": always(errno.EROFS, "make_folder", "open", "append", "sync", "truncate", "remove", "sync_folder"),
    "now and then": sometimes,
}


@dataclass(slots=True)
class Truth:
    """What is known of one session beside the disk."""

    records: list[SessionRecord] = field(default_factory=list)
    """The first is durable, unless `begun` is false; the others were appended since, and any may be the one on disk."""
    begun: bool = False
    cues: list[PlacedCue] = field(default_factory=list)
    """Those that are durable."""
    doubtful: list[PlacedCue] = field(default_factory=list)
    """Those that may be on disk and need not."""
    written: set[tuple[int, int]] = field(default_factory=set)
    synced: set[tuple[int, int]] = field(default_factory=set)
    floor: int = 0
    """Below this block nothing is wanted."""
    ended: bool = False
    gone: bool = False
    """Whether its end is durable."""

    def check(self, stored: StoredSession | None) -> None:
        if stored is None:
            assert self.ended or not self.begun
            return
        assert not self.gone
        assert stored.record in self.records
        assert stored.damages == ()
        assert [each for each in stored.cues if each in self.cues] == self.cues
        assert all(each in self.cues or each in self.doubtful for each in stored.cues)
        assert self.ended or self.synced <= stored.latents.keys()

    def restart(self, stored: StoredSession | None) -> None:
        if stored is None:
            self.ended = self.gone = True
            return
        self.records, self.begun, self.ended = [stored.record], True, False
        self.cues, self.doubtful = list(stored.cues), []
        self.written = set(stored.latents)
        self.synced &= self.written
        self.floor = 0


class AnySequence(RuleBasedStateMachine):
    """The journal of one folder, over several servers."""

    def __init__(self) -> None:
        super().__init__()
        self.stepped = Stepped()
        self.truths: dict[SessionId, Truth] = {}
        self.waiting: dict[int, Write] = {}
        self.versions = 0

    def chosen(self, index: int) -> SessionId:
        return sorted(self.truths)[index % len(self.truths)]

    def append(self, write: Write) -> bool:
        try:
            self.waiting[self.stepped.writer.append(write)] = write
        except Unavailable:
            assert not self.stepped.writer.is_healthy
            return False
        return True

    @rule(seed=SEEDS)
    def open(self, seed: int) -> None:
        session = SessionId(f"s{len(self.truths)}-{seed}")
        write = begin(session)
        self.truths[session] = Truth(records=[write.record] if self.append(write) else [])

    @precondition(lambda self: self.truths)
    @rule(index=st.integers(0, 9), token=st.sampled_from("123456789"))
    def new_token(self, index: int, token: str) -> None:
        session = self.chosen(index)
        truth, write = self.truths[session], begin(session, token)
        if truth.begun and not truth.ended and self.append(write):
            truth.records.append(write.record)

    @precondition(lambda self: self.truths)
    @rule(index=st.integers(0, 9), block=BLOCKS)
    def cue(self, index: int, block: int) -> None:
        session = self.chosen(index)
        self.versions += 1
        write = cue(self.versions, block, session)
        if self.append(write):
            self.truths[session].doubtful.append(write.cue)

    @precondition(lambda self: self.truths)
    @rule(index=st.integers(0, 9), block=BLOCKS, step=STEPS)
    def latents(self, index: int, block: int, step: int) -> None:
        self.append(latents(block, step, self.chosen(index)))

    @precondition(lambda self: self.truths)
    @rule(index=st.integers(0, 9), block=BLOCKS)
    def acknowledge(self, index: int, block: int) -> None:
        self.append(WriteAck(session=self.chosen(index), block=block))

    @precondition(lambda self: self.truths)
    @rule(index=st.integers(0, 9), floor=BLOCKS)
    def trim(self, index: int, floor: int) -> None:
        session = self.chosen(index)
        self.append(below({1: floor, 2: floor}, session))
        truth = self.truths[session]
        truth.floor = max(floor, truth.floor)
        truth.synced = {key for key in truth.synced if key[0] >= truth.floor}
        truth.written = {key for key in truth.written if key[0] >= truth.floor}

    @precondition(lambda self: self.truths)
    @rule(index=st.integers(0, 9))
    def end(self, index: int) -> None:
        session = self.chosen(index)
        self.append(WriteEnd(session=session))
        self.truths[session].ended = True

    @rule(seconds=st.sampled_from([0.0, RETRY_S, SYNC_S]))
    def step(self, seconds: float) -> None:
        self.stepped.now_s += seconds
        before = self.stepped.writer.figures
        reached = self.stepped.step()
        after = self.stepped.writer.figures
        worked = (before.trouble, before.failures) == ("", after.failures)
        healed = before.trouble and not after.trouble and before.failures == after.failures
        assert reached.failed == () or not worked or reached.reason == "the session has no record on disk"
        for number in [number for number in self.waiting if number <= reached.number]:
            self._reached(self.waiting.pop(number), failed=number in reached.failed, worked=worked)
        if seconds == SYNC_S and worked:
            for truth in self.truths.values():
                truth.synced |= truth.written
        if healed:  # what was refused does not come back
            for truth in self.truths.values():
                truth.doubtful = []
                truth.records = truth.records[: truth.begun]
                truth.gone = truth.ended

    def _reached(self, write: Write, *, failed: bool, worked: bool) -> None:
        truth = self.truths[write.session]
        if failed or (truth.ended and not isinstance(write, WriteEnd)):
            return
        match write:
            case WriteRecord(record=record):
                truth.records, truth.begun = truth.records[truth.records.index(record) :], True
            case WriteCue(cue=fact):
                truth.cues.append(fact)
                truth.doubtful.remove(fact)
            case WriteEnd():
                truth.gone = worked
            case WriteLatents(ref=ref) if worked and truth.begun and ref.block >= truth.floor:
                truth.written.add((ref.block, ref.step))

    @rule(trouble=st.sampled_from(sorted(TROUBLES)), seed=SEEDS)
    def fail(self, trouble: str, seed: int) -> None:
        self.stepped.disk.fault = TROUBLES[trouble](seed)

    @rule(room=st.integers(0, 2000))
    def fill(self, room: int) -> None:
        self.stepped.disk.room_bytes = self.stepped.disk.size_bytes + room

    @rule()
    def mend(self) -> None:
        self.stepped.disk.fault, self.stepped.disk.room_bytes = Stepped().disk.fault, None

    @rule(power=st.booleans(), seed=SEEDS)
    def restart(self, power: bool, seed: int) -> None:
        """The process is killed; with it the machine loses power, or does not.

        It does if a failed sync has left what only reads see: a server that starts cannot know of that.
        """
        self.waiting.clear()
        power = power or self.stepped.disk.is_false
        self.stepped = self.stepped.restarted(Random(seed) if power else None)
        stored = self.stepped.found()
        for session, truth in self.truths.items():
            truth.check(stored.get(session))
            truth.restart(stored.get(session))
        for session, each in stored.items():
            for block, step in each.latents:
                assert each.payload(self.stepped.disk, block, step) == latents(block, step, session).data


AnySequence.TestCase.settings = settings(max_examples=150, stateful_step_count=40, deadline=None)
TestAnySequence = AnySequence.TestCase
