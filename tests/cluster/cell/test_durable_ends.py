"""The end of a stream stays on disk until its client has it, or for a while; then nothing of it does."""

from __future__ import annotations

from cluster.cell.durability import UNREAD_S
from cluster.journal.writes import WriteEnd, WriteRecord
from longtake.core.endings import Ending, Remains
from tests.cluster.cell.promises import World, opened, refused
from tests.cluster.journal.world import A, B, record


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
