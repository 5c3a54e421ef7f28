"""Durability: nothing is told before the disk has what it promises, and nothing waits for a disk for ever."""

from __future__ import annotations

import errno

import pytest

from cluster.cell.durability import Durability, Released, Told
from cluster.journal.writer import RETRY_S
from cluster.journal.writes import WriteAck, WriteCue, WriteEnd, WriteLatents, WriteRecord
from longtake.core.effects import CueApplied, Inherit, Refused, Trim
from longtake.core.errors import Unavailable
from longtake.core.sessions.prompts import Turn
from longtake.core.work import (
    ConditioningRef,
    CueId,
    LatentRef,
    SessionId,
)
from tests.cluster.cell.promises import World, closed, notice, opened, resumed
from tests.cluster.journal.world import A, B, Stepped, record


def test_a_promise_waits_for_its_number_and_what_follows_waits_behind_it() -> None:
    world = World()
    messages: list[Told] = [opened(), notice("1"), world.accepted("c", 3, 1), notice("2"), resumed(), notice("3")]
    assert world.told(*messages) == []
    assert [type(write) for write in world.pen.written] == [WriteRecord, WriteCue, WriteRecord]
    assert world.reached(0).told == []
    assert world.reached(1).told == messages[:2]
    assert world.reached(2).told == messages[2:4]
    assert world.reached(3).told == messages[4:]
    assert world.durability.held == 0
    assert world.told(notice("4")) == [notice("4")], "nothing to wait for"


def test_what_promises_nothing_is_told_at_once() -> None:
    world = World()
    free: list[Told] = [
        notice("1"),
        CueApplied(session=A, cue=CueId("c"), block=3, first_picture=33, prompt="p"),
        closed(),
    ]
    assert world.told(*free) == free
    assert world.pen.written == []


def test_sessions_do_not_wait_for_each_other() -> None:
    world = World()
    assert world.told(opened(A), opened(B), notice("a", A), notice("b", B)) == []
    assert world.reached(1).told == [opened(A), notice("a", A)]
    assert world.told(notice("c", A), notice("d", B)) == [notice("c", A)]
    assert world.reached(2).told == [opened(B), notice("b", B), notice("d", B)]


def refusal(why: str, name: SessionId = A) -> Refused:
    return Refused(session=name, problem=Unavailable(f"the journal cannot be written: {why}").problem)


def test_an_open_whose_record_fails_is_refused_and_no_other_and_told_why() -> None:
    world = World()
    world.told(opened(A), notice("a", A), opened(B))
    released = world.reached(2, 1)
    assert released.failed == {A: "the journal cannot be written: no space"}
    assert released.told == [refusal("no space"), opened(B)]
    assert world.reached(2) == world.durability.tick(0.0) == Released(), "once"
    assert world.told(notice("b", A), closed(A)) == []
    world.drop(A)
    assert world.durability.tick(0.0).told == [], "nobody listens any more"
    assert world.durability.held == 0


def test_an_open_that_the_disk_does_not_take_at_all_ends_likewise() -> None:
    world = World()
    world.pen.is_healthy = False
    assert world.told(opened()) == []
    assert list(world.durability.tick(0.0).failed) == [A]


def test_a_cue_that_fails_is_appended_again_until_it_is_there() -> None:
    world = World()
    world.told(opened())
    world.reached()
    cue = world.accepted("c", 3, 1)
    world.told(cue, notice("behind"))
    for _ in range(3):
        world.pen.is_healthy = False
        assert world.reached(None, len(world.pen.written)) == Released()
        count = len(world.pen.written)
        assert world.durability.tick(0.0) == Released() and len(world.pen.written) == count
        world.pen.is_healthy = True
        world.durability.tick(0.0)
        assert len(world.pen.written) == count + 1
    assert world.reached().told == [cue, notice("behind")]
    assert len(world.pen.of(WriteCue)) == 4


def test_a_resumption_that_fails_waits_and_ends_nothing() -> None:
    world = World()
    world.told(opened())
    world.reached()
    world.told(resumed())
    assert world.reached(2, 2) == Released()
    world.durability.tick(0.0)
    assert world.reached().told == [resumed()]


def test_of_two_cues_for_one_block_the_later_one_is_later_on_disk_too() -> None:
    world = World()
    world.told(opened())
    world.reached()
    first = world.accepted("c", 3, 2)
    world.told(first)
    world.reached(2, 2)
    second = world.accepted("d", 3, 1)  # its text was there later, although it was asked for before
    world.told(second)
    world.durability.tick(0.0)
    last = world.pen.of(WriteCue)[-2:]
    assert [write.cue.cue for write in last if isinstance(write, WriteCue)] == ["c", "d"]


def test_a_cue_that_was_superseded_at_once_is_told_and_not_written() -> None:
    world = World()
    first = world.accepted("c", 3, 1)
    second = world.accepted("d", 3, 2)
    assert world.told(first, second) == [first]
    assert len(world.pen.of(WriteCue)) == 1


def test_a_cue_is_found_by_its_block_where_an_id_was_used_twice() -> None:
    world = World()
    world.accepted("c", 3, 1)
    world.told(world.accepted("c", 9, 2))
    (write,) = world.pen.written
    assert isinstance(write, WriteCue) and (write.cue.block, write.cue.version) == (9, 2)


def test_what_was_promised_before_the_end_is_told_before_it() -> None:
    world = World()
    world.told(opened(), notice("1"), closed())
    world.drop()
    assert world.durability.tick(0.0).told == [], "the disk is only slow"
    assert world.reached(1).told == [opened(), notice("1"), closed()]
    assert [type(write) for write in world.pen.written] == [WriteRecord, WriteEnd]


def test_of_a_session_that_has_ended_no_cue_is_appended_again() -> None:
    world = World()
    world.told(opened())
    world.reached()
    cue = world.accepted("c", 3, 1)
    world.told(cue, closed())
    world.reached(2, 2)
    world.drop()
    assert world.durability.tick(0.0).told == [cue, closed()]
    assert len(world.pen.of(WriteCue)) == 1


def test_a_record_that_changes_is_written_when_the_disk_can_be_and_never_after_the_end() -> None:
    world = World()
    world.pen.is_healthy = False
    world.tokens[A] = "1"
    world.durability.changed(A)
    world.durability.tick(0.0)
    assert world.pen.written == []
    world.pen.is_healthy = True
    world.durability.tick(0.0)
    assert world.pen.written == [WriteRecord(record=record(A, "1"))]
    del world.sessions[A]
    world.durability.changed(A)
    world.durability.tick(0.0)
    assert len(world.pen.written) == 1


def test_the_rest_is_passed_on() -> None:
    world = World()
    ref = LatentRef(session=A, block=4, step=2)
    trim = Trim(session=A, floors=(1, 2), sinks=0)
    world.durability.latents(ref, 3, b"data")
    world.durability.acknowledged(A, 4)
    world.durability.perform(trim, world.journal, now_s=0.0)
    written = [WriteLatents(ref=ref, version=3, data=b"data"), WriteAck(session=A, block=4), trim]
    assert world.pen.written == written


# --- forks ------------------------------------------------------------------------------------------------------------


def inherit(world: World) -> None:
    """B has what A had before block 5: a cue at block 3, and latents of blocks 2 and 3."""
    world.journal.begin(A)
    world.journal.begin(B)
    for block in (2, 3):
        world.journal.put_latents(LatentRef(session=A, block=block, step=1), bytes([block]))
    world.journal.put_conditioning(ConditioningRef(session=A, version=4), b"text")
    fork = world.sessions[B]
    fork.prompts.turns = [
        Turn(block=0, version=8, cue=None, prompt="first"),
        Turn(block=3, version=9, cue=None, prompt="second"),
        Turn(block=5, version=0, cue=None),
    ]
    fork.kin.depends = False
    effect = Inherit(session=B, parent=A, before=5, versions=((0, 8), (4, 9)))
    world.journal.inherit(effect)
    world.durability.perform(effect, world.journal, now_s=0.0)


@pytest.mark.parametrize("past_first", [False, True])
def test_a_fork_is_opened_once_its_past_is_on_disk(past_first: bool) -> None:
    """Without the prompts of its past it could not be computed again."""
    world = World()
    world.sessions[B].kin.depends = True
    if past_first:
        inherit(world)
    assert world.told(opened(B), notice("1", B)) == []
    if not past_first:
        assert world.durability.tick(0.0) == Released() and world.pen.written == []
        inherit(world)
    kinds = [type(write) for write in world.pen.written]
    assert kinds == [WriteRecord, WriteCue, WriteCue, WriteLatents, WriteLatents], "a cue before the record is lost"
    assert [write.cue.prompt for write in world.pen.of(WriteCue) if isinstance(write, WriteCue)] == ["first", "second"]
    versions = [write.version for write in world.pen.of(WriteLatents) if isinstance(write, WriteLatents)]
    assert versions == [8, 9]
    assert world.reached(2).told == []
    assert world.reached(5).told == [opened(B), notice("1", B)]


def test_a_fork_whose_past_fails_is_closed() -> None:
    world = World()
    inherit(world)
    world.told(opened(B))
    assert world.reached(5, 3) == Released(
        told=[refusal("no space", B)], failed={B: "the journal cannot be written: no space"}
    )


def test_a_fork_that_ends_before_it_was_opened_leaves_nothing() -> None:
    world = World()
    world.sessions[B].kin.depends = True
    world.told(opened(B), closed(B))
    world.drop(B)
    released = world.durability.tick(0.0)
    assert released.told == [closed(B)] and released.failed == {}
    assert world.durability.held == 0 and world.pen.of(WriteRecord) == []


# --- the real writer --------------------------------------------------------------------------------------------------


class OnDisk(World):
    """The same with the writer on a disk that fails."""

    def __init__(self) -> None:
        super().__init__()
        self.stepped = Stepped()
        self.durability = Durability(self.stepped.writer, session=self.sessions.get, record=self.record)

    def settle(self, seconds: float = 0.0) -> list[Told]:
        """The disk does what it has to; what is told then."""
        self.stepped.now_s += seconds
        told: list[Told] = []
        for _ in range(3):
            released = self.durability.reached(self.stepped.step())
            told += released.told + self.durability.tick(0.0).told
            self.failed = released.failed
        return told


@pytest.mark.parametrize("trouble", ["full", "read-only", "failing"])
def test_a_disk_in_trouble_refuses_promises_lets_streams_go_on_and_heals(trouble: str) -> None:
    world = OnDisk()
    disk = world.stepped.disk
    world.told(opened(A))
    assert world.settle() == [opened(A)]
    if trouble == "full":
        disk.room_bytes = disk.size_bytes
    else:
        number = errno.EROFS if trouble == "read-only" else errno.EIO
        disk.fault = lambda call, path: number if call in ("append", "sync", "open") else 0
    cue = world.accepted("c", 3, 1)
    assert world.told(cue, notice("behind")) == [] and world.settle() == []
    with pytest.raises(Unavailable, match="streams that are open go on"):
        world.durability.check()
    assert world.durability.figures.trouble
    world.durability.latents(LatentRef(session=A, block=3, step=1), 1, bytes(64))  # a stream goes on
    world.durability.acknowledged(A, 2)
    assert world.settle() == [] and world.durability.figures.dropped_latents == 1
    disk.room_bytes, disk.fault = None, Stepped().disk.fault
    assert world.settle(RETRY_S) == [cue, notice("behind")]
    world.durability.check()
    assert [found.cue for found in world.stepped.found()[A].cues] == ["c"]
    assert world.durability.figures.trouble == ""


def test_an_open_on_its_way_when_the_disk_gets_full_is_refused_with_the_reason() -> None:
    world = OnDisk()
    world.stepped.disk.room_bytes = 10
    world.told(opened(A), notice("1"))
    released = world.durability.reached(world.stepped.step())
    assert released.told == [refusal("No space left on device")] and list(released.failed) == [A]
    world.stepped.disk.room_bytes = None
    world.told(closed(A))
    world.drop(A)
    assert world.settle(RETRY_S) == []
    assert world.stepped.found() == {}
