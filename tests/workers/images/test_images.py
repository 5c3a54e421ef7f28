"""Images: what comes back is what was stowed, nobody else notices, and what cannot be done is said."""

from __future__ import annotations

import gc
import queue
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from longtake.core.effects import Discard, Forget, LoadImage
from longtake.core.recipe.ops import Kind
from longtake.core.work import (
    ConditioningRef,
    FromLane,
    FromNoise,
    ImageId,
    PageId,
    SlotId,
)
from tests.workers.images.boxes import (
    PAGES,
    WAIT_S,
    A,
    B,
    Box,
    W,
    boxes,
    contents,
    denoiser,
    give,
    gone,
    load,
    pages,
    prepare,
    stow,
    take,
    threads,
    until,
)
from tests.workers.works import Flat
from workers.images.host_memory import HostMemory
from workers.images.thread import ImagesBroken, ImageThread, Wanted
from workers.messages import (
    Done,
    Forward,
    ImageGone,
    ImageLoaded,
    ImageStowed,
    Up,
)
from workers.orders import Filled
from workers.peers import MeetingPoint

# --- pages ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("device", ["cpu", "simulated:0ms"])
def test_pages_come_back_in_order_under_other_ids_and_no_other_page_changes(model: Path, device: str) -> None:
    with boxes(denoiser(model, device)) as (box,):
        before = contents(box.worker)
        box.put(stow(4, pages(3, 1, 7)))
        assert box.hear(ImageStowed).image == 4
        assert box.runner.images.held == {ImageId(4): A}
        assert box.runner.images.host_bytes == 3 * before[0].nbytes
        for number in (3, 1, 7):
            box.worker.page(PageId(number)).zero_()
        box.put(load(4, 7, 12, 1))
        assert box.hear(ImageLoaded).image == 4
        after = contents(box.worker)
        assert box.runner.images.held == {} and box.runner.images.host_bytes == 0
    expected = before.copy()
    expected[7], expected[12], expected[1], expected[3] = before[3], before[1], before[7], torch.zeros_like(before[3])
    assert all(torch.equal(a, b) for a, b in zip(after, expected, strict=True))
    assert len({page.numpy().tobytes() for page in before}) == PAGES  # the pattern tells all pages apart


def test_stowing_and_loading_leave_forwards_of_other_sessions_as_they_are(model: Path) -> None:
    """Hundreds of copies on one thread while the other computes."""
    text = np.random.default_rng(0).normal(size=(6, 32)).astype("<f4").tobytes()

    def op(kind: Kind, block: int) -> tuple[Forward, ...]:
        own = pages(2 * (block % 2), 2 * (block % 2) + 1)
        work = Flat(
            session=B, lane=0, kind=kind, step=0, block=block, timestep=1000.0, sigma=1.0, next_sigma=0.9375, seed=5,
            positions=(2 * block, 2 * block + 1), reads=pages(0, 1, 2, 3) if block else own, writes=own,
            conditioning=ConditioningRef(session=B, version=0),
            input=FromNoise() if kind is Kind.DENOISE else FromLane(),
        ).work()  # fmt: skip
        return (Forward(work=work, conditioning=text),)

    def outputs(swaps: int) -> list[bytes]:
        with boxes(denoiser(model)) as (box,):
            before = contents(box.worker)
            for block in range(12):
                box.dispatch(op(Kind.DENOISE, block))
                box.dispatch(op(Kind.COMMIT, block))
            for number in range(swaps):
                there = (4, 5, 6, 7, 8) if number % 2 else (13, 11, 9, 15, 10)
                back = (13, 11, 9, 15, 10) if number % 2 else (4, 5, 6, 7, 8)
                box.put(stow(number, pages(*back)), load(number, *there))
            reports = box.hear_all(24 + 2 * swaps)
            after = contents(box.worker)
        assert [type(report) for report in reports if not isinstance(report, Done)] == [
            ImageStowed,
            ImageLoaded,
        ] * swaps
        if swaps:
            last_done = max(place for place, report in enumerate(reports) if isinstance(report, Done))
            first_image = min(place for place, report in enumerate(reports) if isinstance(report, ImageStowed))
            assert first_image < last_done  # they did run at the same time
        assert all(torch.equal(after[number], before[number]) for number in (12, 14, 16, 17, 18, 19))
        assert all(torch.equal(after[number], before[number]) for number in (4, 5, 6, 7, 8))
        return [report.outputs[0] for report in reports if isinstance(report, Done) and report.outputs]

    quiet = outputs(0)
    assert len(set(quiet)) == 12
    assert outputs(200) == quiet


def test_what_cannot_be_done_is_said_and_the_worker_goes_on(model: Path) -> None:
    with boxes(denoiser(model)) as (box,):
        before = contents(box.worker)
        box.put(load(1, 0))
        gone(box, 1, "UnknownPeer: image 1 is not here")
        box.put(give(2))
        gone(box, 2, "UnknownPeer: image 2 is not here")
        box.put(stow(3, pages(0, PAGES)))
        gone(box, 3, f"IndexError: page {PAGES} is not in a pool of {PAGES}")
        box.put(stow(4, pages(0, 1)), load(4, 2))
        box.hear(ImageStowed)
        gone(box, 4, "the 1 pages it is for hold")
        box.put(stow(5, pages(0, 1)), load(5, 2, PAGES))
        box.hear(ImageStowed)
        gone(box, 5, f"page {PAGES} is not in a pool")
        box.put(stow(6, pages(0)), stow(6, pages(1)))
        box.hear(ImageStowed)
        gone(box, 6, "image 6 is here already")
        box.put(stow(7, SlotId(0)), load(7, 0))
        gone(box, 7, "a denoise worker cannot do Stow")
        box.put(stow(8, pages(0)), give(8), take(9))
        box.hear(ImageStowed)
        gone(box, 8, "no meeting point")
        gone(box, 9, "no meeting point")
        box.put(stow(10, pages(0)), Discard(worker=W, image=ImageId(10)), load(10, 1))
        box.hear(ImageStowed)
        gone(box, 10, "not here")
        assert box.runner.images.held == {}
        assert all(torch.equal(a, b) for a, b in zip(contents(box.worker), before, strict=True))
        box.put(stow(11, pages(0)), load(11, 1))
        assert box.hear_all(2) == [ImageStowed(image=ImageId(11)), ImageLoaded(image=ImageId(11))]


def test_a_session_that_is_forgotten_takes_its_images_along(model: Path) -> None:
    with boxes(denoiser(model)) as (box,):
        box.put(stow(1, pages(1)), stow(2, pages(2), session=B), stow(3, pages(3)))
        box.hear_all(3)
        box.put(
            Forget(worker=W, session=A, version=0), Forget(worker=W, session=A, version=None), load(2, 5, session=B)
        )
        box.hear(ImageLoaded)
        assert box.runner.images.held == {} and box.runner.images.host_bytes == 0
        box.put(load(1, 6))
        gone(box, 1, "not here")


# --- from worker to worker --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("device", ["cpu", "simulated:0ms"])
@pytest.mark.parametrize("taking_first", [False, True])
def test_two_workers_give_each_other_images_at_the_same_time(
    model: Path, meeting_point: MeetingPoint, device: str, taking_first: bool
) -> None:
    """Even if each wants the other's before it lets go of its own."""
    with boxes(denoiser(model, device), denoiser(model, device), meeting_point=meeting_point.address) as (one, other):
        before = contents(one.worker)
        for box, mine, theirs in ((one, 1, 2), (other, 2, 1)):
            me, you = ("one", "other") if mine == 1 else ("other", "one")
            receiving = (take(theirs, you, me), load(theirs, 10 + theirs, 15 + theirs))
            giving = (stow(mine, pages(mine, 5)), give(mine, me, you))
            if taking_first:
                box.put(*receiving, *giving)
            else:
                box.put(*giving, *receiving)
        for box, mine, theirs in ((one, 1, 2), (other, 2, 1)):
            assert set(box.hear_all(2)) == {ImageStowed(image=ImageId(mine)), ImageLoaded(image=ImageId(theirs))}
            assert torch.equal(box.worker.page(PageId(10 + theirs)), before[theirs])
            assert torch.equal(box.worker.page(PageId(15 + theirs)), before[5])
            assert box.runner.images.held == {}
        until(lambda: one.runner.images.host_bytes + other.runner.images.host_bytes == 0)
    until(lambda: not meeting_point.names)


def test_an_image_goes_on_to_a_third_worker(model: Path, meeting_point: MeetingPoint) -> None:
    workers = [denoiser(model) for _ in range(3)]
    with boxes(*workers, meeting_point=meeting_point.address) as (first, second, third):
        page = first.worker.page(PageId(3)).clone()
        third.put(take(1, "second", "third"), load(1, 8))
        second.put(take(1, "first", "second"), give(1, "second", "third"))
        first.put(stow(1, pages(3)), give(1, "first", "second"))
        first.hear(ImageStowed)
        third.hear(ImageLoaded)
        assert torch.equal(third.worker.page(PageId(8)), page)


class Bare:
    """Pages of three numbers each."""

    device = torch.device("cpu")

    def __init__(self) -> None:
        self.pages = torch.arange(12.0).view(4, 3)

    def page(self, page: PageId) -> Tensor:
        return self.pages[page]


Told = queue.SimpleQueue[Up | Filled | ImagesBroken]


@contextmanager
def thread(meeting_point: str, timeout_s: float) -> Iterator[tuple[ImageThread, Told]]:
    told = Told()
    images = ImageThread(Bare(), meeting_point=meeting_point, report=told.put, hand_over=told.put, timeout_s=timeout_s)
    images.start()
    yield images, told
    assert images.stop(WAIT_S)
    assert told.empty()


def test_a_peer_that_never_comes_costs_its_image_only(meeting_point: MeetingPoint) -> None:
    with thread(meeting_point.address, timeout_s=0.5) as (images, told):
        images.put(take(1))
        images.put(load(1, 0))
        images.put(stow(2, pages(3)))
        images.put(load(2, 1))
        assert told.get(timeout=WAIT_S) == ImageStowed(image=ImageId(2))
        assert told.get(timeout=WAIT_S) == ImageLoaded(image=ImageId(2))
        assert images.held == {ImageId(1): A}  # still coming, and nobody waited for it
        report = told.get(timeout=WAIT_S)
        assert isinstance(report, ImageGone)
        assert report.image == 1 and "nobody came to 'image/1/one/other'" in report.reason
        assert images.held == {}
        images.put(stow(3, pages(3)))
        images.put(give(3))  # to nobody, which is not answered
        assert told.get(timeout=WAIT_S) == ImageStowed(image=ImageId(3))
        until(lambda: images.host_bytes == 0)
    until(lambda: not meeting_point.names)


def test_a_peer_that_goes_away_in_the_middle_is_noticed(
    meeting_point: MeetingPoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    with (
        thread(meeting_point.address, timeout_s=5) as (giver, said),
        thread(meeting_point.address, timeout_s=5) as (taker, told),
    ):

        def breaks(*args: object) -> None:
            raise RuntimeError("out of breath")

        monkeypatch.setattr("workers.peers.Pair.send_all", breaks)
        giver.put(stow(1, pages(0)))
        giver.put(give(1))
        taker.put(take(1))
        assert said.get(timeout=WAIT_S) == ImageStowed(image=ImageId(1))
        report = told.get(timeout=WAIT_S)
        assert isinstance(report, ImageGone) and "the other end of 'image/1/one/other' is gone" in report.reason
        until(lambda: giver.host_bytes == 0)


def test_a_slot_that_waits_for_a_lost_image_is_told_of_it_as_a_lane_is(meeting_point: MeetingPoint) -> None:
    with thread(meeting_point.address, timeout_s=0.3) as (images, told):
        images.put(take(1))
        images.put(Wanted(order=prepare(0, image=1), image=ImageId(1)))
        gone = told.get(timeout=WAIT_S)
        assert isinstance(gone, ImageGone) and gone.image == 1 and "nobody came" in gone.reason


@pytest.mark.parametrize("order", [load(1, 0), Wanted(order=prepare(0, image=1), image=ImageId(1))])
def test_what_is_discarded_on_its_way_is_gone_before_a_peer_that_hangs_lets_go_of_it(
    order: LoadImage | Wanted, meeting_point: MeetingPoint
) -> None:
    with (
        thread(meeting_point.address, timeout_s=1.0) as (giver, said),
        thread(meeting_point.address, timeout_s=60) as (taker, told),
    ):
        taker.put(take(1))
        taker.put(order)
        taker.put(Discard(worker=W, image=ImageId(1)))
        assert told.get(timeout=WAIT_S) == ImageGone(image=ImageId(1), reason="it was discarded on its way")
        assert taker.held == {}
        giver.put(stow(1, pages(0)))  # it goes on after all: what comes now is nobody's
        giver.put(give(1))
        assert said.get(timeout=WAIT_S) == ImageStowed(image=ImageId(1))
        until(lambda: giver.host_bytes == 0 and "take image 1" not in threads())
        taker.put(stow(2, pages(1)))
        assert told.get(timeout=WAIT_S) == ImageStowed(image=ImageId(2))
        assert taker.held == {ImageId(2): A}


def test_what_is_received_for_a_session_that_was_forgotten_is_dropped(meeting_point: MeetingPoint) -> None:
    with (
        thread(meeting_point.address, timeout_s=5) as (giver, said),
        thread(meeting_point.address, timeout_s=5) as (taker, told),
    ):
        taker.put(take(1))
        taker.put(load(1, 0))
        taker.put(Forget(worker=W, session=A, version=None))
        assert told.get(timeout=WAIT_S) == ImageGone(image=ImageId(1), reason="session a was forgotten")
        giver.put(stow(1, pages(0)))
        giver.put(give(1))
        assert said.get(timeout=WAIT_S) == ImageStowed(image=ImageId(1))
        until(lambda: giver.host_bytes == 0 and "take image 1" not in threads())  # the other has it all
        taker.put(stow(2, pages(1)))
        assert told.get(timeout=WAIT_S) == ImageStowed(image=ImageId(2))
        assert taker.held == {ImageId(2): A}


# --- the end ----------------------------------------------------------------------------------------------------------


def memory_of(tensor: Tensor) -> int:
    """Where the memory begins that a tensor is a view of."""
    return tensor.untyped_storage().data_ptr()


def memory_held() -> set[int]:
    """All memory that some tensor holds."""
    gc.collect()
    return {memory_of(found) for found in gc.get_objects() if type(found) is Tensor}


def test_a_worker_that_ends_leaves_no_thread_and_frees_its_pages_though_it_waits_for_a_peer(
    model: Path, meeting_point: MeetingPoint
) -> None:
    before = set(threading.enumerate())
    worker = denoiser(model)
    pool = memory_of(worker.page(PageId(0)))
    assert pool in memory_held()
    box = Box(worker, meeting_point.address)
    box.put(stow(1, pages(0, 1)), take(2), load(2, 3))
    box.hear(ImageStowed)
    until(lambda: "take image 2" in threads())
    box.close()
    assert box.ended.get_nowait() == ""
    left = {thread.name for thread in set(threading.enumerate()) - before}
    assert left == {"take image 2"}  # it gives up by itself, and holds nothing of the worker
    del worker, box
    assert pool not in memory_held()


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_defect_on_the_thread_for_images_ends_the_worker(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    box = Box(denoiser(model))

    def defect(*args: object) -> None:
        raise KeyError("a defect")

    monkeypatch.setattr(HostMemory, "down", defect)
    box.put(stow(1, pages(0)))
    assert box.ended.get(timeout=WAIT_S) == "its thread for images ended by an unforeseen error"
    assert box.runner.join(WAIT_S)
