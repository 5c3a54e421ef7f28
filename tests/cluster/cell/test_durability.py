"""Durability: nothing is told before the disk has what it promises, and nothing waits for a disk for ever."""

from __future__ import annotations

import errno
from collections import defaultdict
from dataclasses import dataclass, field

import pytest

from cluster.cell.durability import UNREAD_S, Durability, Released, Told
from cluster.cell.journal import Journal
from cluster.journal.facts import SessionRecord
from cluster.journal.writer import RETRY_S, Reached, WriterFigures
from cluster.journal.writes import Durable, Write, WriteAck, WriteCue, WriteEnd, WriteLatents, WriteRecord
from longtake.core.effects import Closed, CueAccepted, CueApplied, DropJournal, Inherit, Notice, Remains, Trim
from longtake.core.errors import Unavailable, UnknownSession
from longtake.core.events import Ending, Open
from longtake.core.flow import Flow, Pace
from longtake.core.openings import AttachRefused, Opened, Resumed
from longtake.core.recipe.graph import Graph
from longtake.core.sessions.place import NOWHERE
from longtake.core.sessions.prompts import Turn
from longtake.core.sessions.session import Session
from longtake.core.work import (
    ConditioningRef,
    ConnectionNumber,
    CueId,
    DecoderKind,
    LatentRef,
    SegmentSettings,
    SessionId,
)
from tests.cluster.journal.world import A, B, Stepped, record
from tests.core.support.parts import geometry, recipe

SETTINGS = SegmentSettings(codec="raw", quality=0)


@dataclass
class Pen:
    """Takes writes down; a test says what was reached."""

    written: list[Write] = field(default_factory=list)
    is_healthy: bool = True

    def append(self, write: Write) -> int:
        if isinstance(write, Durable) and not self.is_healthy:
            raise Unavailable("the journal cannot be written: no space")
        self.written.append(write)
        return len(self.written)

    @property
    def figures(self) -> WriterFigures:
        raise NotImplementedError

    def of(self, kind: type[Write]) -> list[Write]:
        return [write for write in self.written if isinstance(write, kind)]


def session(name: SessionId) -> Session:
    request = Open(
        now_s=0.0, session=name, prompt="p", seed=7, pace=Pace.FAST, window=4, picture_limit=None, settings=SETTINGS
    )
    flow = Flow(window=4, pace=Pace.FAST)
    return Session(request=request, graph=Graph(recipe()), geometry=geometry(), place=NOWHERE, flow=flow)


def opened(name: SessionId = A) -> Opened:
    return Opened(
        session=name,
        seed=7,
        header=b"",
        media_type="",
        decoder=DecoderKind.FULL,
        window=4,
        pace=Pace.FAST,
        picture_limit=None,
        segment=0,
    )


def resumed(name: SessionId = A) -> Resumed:
    return Resumed(session=name, connection=ConnectionNumber(2), opened=opened(name), held=True)


def notice(text: str, name: SessionId = A) -> Notice:
    return Notice(session=name, text=text)


def closed(name: SessionId = A) -> Closed:
    return Closed(session=name, ending=Ending.CLIENT, reason="", segments=0)


class World:
    """Two sessions and a pen."""

    def __init__(self) -> None:
        self.pen = Pen()
        self.journal = Journal()
        self.sessions = {name: session(name) for name in (A, B)}
        self.tokens: dict[SessionId, str] = defaultdict(lambda: "0")
        self.durability = Durability(self.pen, session=self.sessions.get, record=self.record)

    def record(self, of: Session) -> SessionRecord:
        return record(of.id, self.tokens[of.id])

    def accepted(self, cue: str, block: int, version: int, name: SessionId = A) -> CueAccepted:
        """The core has given a cue its block."""
        prompts = self.sessions[name].prompts
        prompts.turns = [turn for turn in prompts.turns if turn.block != block]
        prompts.turns.append(Turn(block=block, version=version, cue=CueId(cue), prompt=f"prompt {version}"))
        return CueAccepted(session=name, cue=CueId(cue), block=block)

    def told(self, *messages: Told) -> list[Told]:
        """Those of the messages that go out at once."""
        return [message for message in messages if not self.durability.holds(message)]

    def reached(self, number: int | None = None, *failed: int) -> Released:
        number = len(self.pen.written) if number is None else number
        return self.durability.reached(Reached(number=number, failed=failed, reason="no space" if failed else ""))

    def drop(self, name: SessionId = A, remains: Remains = Remains.NOTHING) -> None:
        self.durability.perform(DropJournal(session=name, remains=remains), self.journal, now_s=0.0)

    def complete(self, name: SessionId = A) -> None:
        """A session whose client was told all of three segments ends; who is to come back may."""
        assert not self.told(opened(name))
        self.reached()
        session = self.sessions.pop(name)
        session.ending, session.progress.done = Ending.COMPLETED, [3] * len(session.graph.chains)
        self.drop(name, Remains.UNREAD)


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
    free: list[Told] = [notice("1"), CueApplied(session=A, cue=CueId("c"), block=3), closed()]
    assert world.told(*free) == free
    assert world.pen.written == []


def test_sessions_do_not_wait_for_each_other() -> None:
    world = World()
    assert world.told(opened(A), opened(B), notice("a", A), notice("b", B)) == []
    assert world.reached(1).told == [opened(A), notice("a", A)]
    assert world.told(notice("c", A), notice("d", B)) == [notice("c", A)]
    assert world.reached(2).told == [opened(B), notice("b", B), notice("d", B)]


def test_a_record_that_fails_closes_its_session_and_no_other_and_says_why() -> None:
    world = World()
    world.told(opened(A), notice("a", A), opened(B))
    released = world.reached(2, 1)
    assert released.failed == {A: "no space"} and released.told == [opened(B)]
    assert world.reached(2).failed == {}, "once"
    assert world.durability.tick(0.0) == Released()
    assert world.told(closed(A)) == []
    world.drop(A)
    assert world.durability.tick(0.0).told == [closed(A)], "its client has never heard of it but that it is over"
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
    assert world.reached(5, 3).failed == {B: "no space"}


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


def test_an_open_on_its_way_when_the_disk_gets_full_is_closed_with_the_reason() -> None:
    world = OnDisk()
    world.stepped.disk.room_bytes = 10
    world.told(opened(A), notice("1"))
    released = world.durability.reached(world.stepped.step())
    assert released.told == [] and released.failed == {A: "No space left on device"}
    world.stepped.disk.room_bytes = None
    world.told(closed(A))
    world.drop(A)
    assert world.settle(RETRY_S) == [closed(A)]
    assert world.stepped.found() == {}


def refused(name: SessionId = A) -> AttachRefused:
    return AttachRefused(session=name, connection=ConnectionNumber(2), problem=UnknownSession(name).problem)


def test_the_end_of_a_stream_stays_on_disk_until_its_client_has_it() -> None:
    world = World()
    world.complete()
    world.durability.acknowledged(A, 1)
    world.durability.tick(1.0)
    assert not world.pen.of(WriteEnd)
    world.durability.acknowledged(A, 2)
    assert world.pen.of(WriteEnd) == [WriteEnd(session=A)]
    world.durability.tick(UNREAD_S)
    assert len(world.pen.of(WriteEnd)) == 1


def test_an_acknowledgement_that_comes_before_the_last_op_has_reported_counts() -> None:
    world = World()
    assert not world.told(opened())
    world.sessions[A].ending, world.sessions[A].progress.done = Ending.COMPLETED, [3] * 9
    world.durability.acknowledged(A, 2)
    del world.sessions[A]
    world.drop(A, Remains.UNREAD)
    assert world.pen.of(WriteEnd) == [WriteEnd(session=A)]


def test_the_end_of_a_stream_that_nobody_asks_for_goes_after_a_while() -> None:
    world = World()
    world.complete()
    world.durability.tick(UNREAD_S - 0.1)
    assert not world.pen.of(WriteEnd)
    world.durability.tick(UNREAD_S)
    assert world.pen.of(WriteEnd) == [WriteEnd(session=A)]


def test_who_comes_back_just_after_the_end_is_told_of_it_once_the_new_token_is_on_disk() -> None:
    world = World()
    world.complete()
    world.tokens[A] = "1"
    assert world.told(refused()) == []
    assert world.pen.written[-1] == WriteRecord(record=record(A, "1"))
    assert world.reached().told == [refused()]
    assert world.told(refused(B)) == [refused(B)], "who is refused a stream that goes on shows the old token again"


def test_what_goes_on_with_the_next_server_is_not_dropped_on_disk() -> None:
    world = World()
    assert not world.told(opened())
    world.reached()
    del world.sessions[A]
    world.drop(A, Remains.ALL)
    world.durability.tick(10 * UNREAD_S)
    assert not world.pen.of(WriteEnd)
    world.tokens[A] = "1"
    world.durability.changed(A)
    assert world.pen.written[-1] == WriteRecord(record=record(A, "1")), "what changes now is still written"
