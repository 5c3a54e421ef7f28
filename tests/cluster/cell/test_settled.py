"""What a block took is on disk before its segment is told, and nothing else waits for that."""

from __future__ import annotations

from cluster.cell.outbox import SegmentOut
from cluster.journal.writes import WriteEnd, WriteSteps
from longtake.core.adoption import StepsSettled
from longtake.core.effects import Emit
from longtake.core.work import SessionId
from tests.cluster.cell.promises import World, closed, notice, opened
from tests.cluster.journal.world import A, B


def segment(block: int, name: SessionId = A) -> SegmentOut:
    emit = Emit(session=name, block=block, first_picture=0, picture_count=1, prompt_version=0, steps=2, load=1)
    return SegmentOut(emit=emit, data=b"data")


def settled(block: int, load: int, name: SessionId = A, after: int = 0) -> StepsSettled:
    return StepsSettled(session=name, block=block, load=load, after=after)


def running() -> World:
    """Two sessions whose clients know that they are open."""
    world = World()
    assert not world.told(opened(A), opened(B))
    assert len(world.reached().told) == 2
    return world


def settle(world: World, effect: StepsSettled) -> None:
    world.durability.perform(effect, world.journal, now_s=0.0)


def test_a_segment_waits_for_the_change_that_its_block_was_made_under_and_no_earlier_one_does() -> None:
    world = running()
    settle(world, settled(3, 1))
    assert world.pen.of(WriteSteps) == [WriteSteps(settled=settled(3, 1))], "appended while the block is computed"
    assert world.told(segment(2)) == [segment(2)]
    assert world.told(segment(3), notice("behind it"), segment(3, B)) == [segment(3, B)]
    assert world.reached().told == [segment(3), notice("behind it")]
    assert world.told(segment(4)) == [segment(4)]


def test_a_change_that_is_on_disk_already_holds_up_nobody() -> None:
    world = running()
    settle(world, settled(3, 1))
    assert world.reached().told == []
    assert world.told(segment(3)) == [segment(3)]


def test_a_change_that_the_disk_did_not_take_is_appended_again_and_its_segment_waits() -> None:
    world = running()
    world.pen.is_healthy = False
    settle(world, settled(3, 1))
    settle(world, settled(5, 2, after=4))
    assert world.told(segment(2), segment(3), segment(4)) == [segment(2)]
    assert world.durability.tick(1.0).told == [] and world.pen.of(WriteSteps) == []
    world.pen.is_healthy = True
    assert world.durability.tick(2.0).told == []
    written = [write.settled for write in world.pen.of(WriteSteps) if isinstance(write, WriteSteps)]
    assert list(dict.fromkeys(written)) == [settled(3, 1), settled(5, 2, after=4)], "in their order"
    assert world.reached().told == [segment(3), segment(4)]


def test_a_change_that_failed_on_the_way_is_appended_again() -> None:
    world = running()
    settle(world, settled(3, 1))
    number = len(world.pen.written)
    assert world.told(segment(3)) == []
    assert world.reached(number, number).told == []
    assert world.durability.tick(1.0).told == []
    assert world.reached().told == [segment(3)]


def test_of_a_session_that_has_ended_no_change_is_appended_again() -> None:
    world = running()
    world.pen.is_healthy = False
    settle(world, settled(3, 1))
    assert world.told(closed()) == [closed()]
    world.drop()
    world.pen.is_healthy = True
    world.durability.tick(1.0)
    assert world.pen.of(WriteSteps) == [] and len(world.pen.of(WriteEnd)) == 1
