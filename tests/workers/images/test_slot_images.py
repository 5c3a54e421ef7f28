"""Images of decoder slots: a stream goes on in another slot and on another worker as if it had stayed."""

from __future__ import annotations

from pathlib import Path

import pytest

from longtake.core.effects import Forget
from longtake.core.work import (
    ImageId,
    SessionId,
    SlotId,
)
from tests.workers.images.boxes import (
    A,
    B,
    W,
    boxes,
    decode,
    decoder,
    give,
    gone,
    pages,
    prepare,
    stow,
    take,
    threads,
    until,
)
from workers.messages import (
    Done,
    Failed,
    ImageGone,
    ImageStowed,
    Prepared,
)
from workers.orders import Answer, Detached, Filled, Order
from workers.peers import MeetingPoint
from workers.runner import Performer

# --- decoder slots ----------------------------------------------------------------------------------------------------

BLOCKS = 4


def whole(worker: Performer, session: SessionId = A) -> list[bytes]:
    """The segments of a stream that stays in its slot."""
    with boxes(worker) as (box,):
        box.put(prepare(0, session))
        box.hear(Prepared)
        for block in range(BLOCKS):
            box.dispatch(decode(block, 0, session))
        return [box.hear(Done).segment for _ in range(BLOCKS)]


@pytest.mark.parametrize("device", ["cpu", "simulated:0ms"])
def test_a_stream_goes_on_in_another_slot_and_on_another_worker(
    model: Path, meeting_point: MeetingPoint, device: str
) -> None:
    expected, mate = whole(decoder(model, device)), whole(decoder(model, device), B)
    assert len(set(expected)) == BLOCKS and not set(expected) & set(mate)
    workers = decoder(model, device), decoder(model, device)
    with boxes(*workers, meeting_point=meeting_point.address) as (here, there):
        here.put(prepare(0))
        first = here.hear(Prepared)
        here.dispatch(decode(0, 0))
        here.dispatch(decode(1, 0))
        here.put(stow(1, SlotId(0)))  # behind the decodes, which nobody waited for
        assert [here.hear(Done).segment for _ in range(2)] == expected[:2]
        here.hear(ImageStowed)
        here.put(prepare(0, B))  # the slot is free
        here.hear(Prepared)
        here.dispatch(decode(0, 0, B))
        assert here.hear(Done).segment == mate[0]
        here.put(prepare(1, image=1))
        assert here.hear(Prepared) == first
        here.dispatch(decode(2, 1))
        assert here.hear(Done).segment == expected[2]
        here.put(stow(2, SlotId(1)), give(2))
        there.put(take(2), prepare(1, image=2))
        here.hear(ImageStowed)
        assert there.hear(Prepared) == first
        there.dispatch(decode(3, 1))
        assert there.hear(Done).segment == expected[3]
        here.dispatch(decode(1, 0, B))
        assert here.hear(Done).segment == mate[1]
        assert here.runner.images.held == there.runner.images.held == {}


@pytest.mark.parametrize("device", ["cpu", "simulated:0ms"])
def test_orders_for_a_slot_that_cannot_be_done_are_answered(model: Path, device: str) -> None:
    with boxes(decoder(model, device)) as (box,):
        box.put(stow(1, SlotId(0)))
        gone(box, 1, "decoder slot 0 was not prepared for session a")
        box.put(prepare(0, image=2))
        gone(box, 2, "image 2 is not here")
        box.put(stow(3, pages(0)))
        gone(box, 3, "a decode worker has no page 0")
        box.put(prepare(0))
        box.hear(Prepared)
        box.put(stow(4, SlotId(1)))
        gone(box, 4, "decoder slot 1 was not prepared for session a")
        box.put(stow(5, SlotId(0)), prepare(9, image=5))
        box.hear(ImageStowed)
        gone(box, 5, "decoder slot: 9 is not allowed")
        box.put(prepare(0, B))
        box.hear(Prepared)
        box.dispatch(decode(0, 0))
        assert "was not prepared for session a" in box.hear(Failed).reason
        assert box.runner.images.held == {}


@pytest.mark.parametrize("device", ["cpu", "simulated:0ms"])
def test_a_slot_whose_session_is_forgotten_before_its_image_came_is_free(
    model: Path, meeting_point: MeetingPoint, device: str
) -> None:
    mate = whole(decoder(model, device), B)
    workers = decoder(model, device), decoder(model, device, slots=1)
    with boxes(*workers, meeting_point=meeting_point.address) as (here, there):
        here.put(prepare(0))
        here.hear(Prepared)
        there.put(take(1), prepare(0, image=1), Forget(worker=W, session=A, version=None), prepare(0, B))
        assert {type(report) for report in there.hear_all(2)} == {ImageGone, Prepared}
        here.put(stow(1, SlotId(0)), give(1))
        here.hear(ImageStowed)
        until(lambda: here.runner.images.host_bytes == 0 and "take image 1" not in threads())
        for block in range(BLOCKS):
            there.dispatch(decode(block, 0, B))
        assert [there.hear(Done).segment for _ in range(BLOCKS)] == mate
        assert there.runner.images.held == {}


@pytest.mark.parametrize("device", ["cpu", "simulated:0ms"])
def test_a_state_that_comes_behind_the_forgetting_of_its_session_opens_no_slot(model: Path, device: str) -> None:
    worker = decoder(model, device)

    def perform(order: Order) -> list[Answer]:
        return list(worker.perform(order))

    perform(prepare(0))
    (detached,) = perform(stow(1, SlotId(0)))
    assert isinstance(detached, Detached)
    filled = Filled(image=ImageId(1), order=prepare(0, image=1), tensors=detached.tensors)
    assert perform(prepare(0, image=1)) == []
    assert perform(Forget(worker=W, session=A, version=None)) == []
    assert perform(filled) == []
    assert [type(report) for report in perform(prepare(0, B))] == [Prepared]
