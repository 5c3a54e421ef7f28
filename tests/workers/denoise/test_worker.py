"""Workers and their compute thread: orders executed as they stand, reports in order, failures told, nothing kept."""

from __future__ import annotations

import queue
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from longtake.core.effects import EncodeText, Forget, PrepareStream
from longtake.core.errors import InternalFault, UnknownPeer
from longtake.core.recipe.graph import Kind
from longtake.core.work import (
    ConditioningRef,
    DecodeWork,
    DispatchNumber,
    ForwardWork,
    FromLane,
    FromLatent,
    FromNoise,
    LatentRef,
    PageId,
    Role,
    SegmentSettings,
    SessionId,
    SlotId,
    WorkerId,
)
from tests.workers.works import Flat, changed
from workers.decode.worker import DecodeWorker
from workers.denoise.worker import DenoiseWorker, tensor_from_bytes, tensor_to_bytes
from workers.messages import Decode, Done, Encoded, Failed, Forward, Prepared, Shutdown, StartOver, Task, Up
from workers.orders import Detached
from workers.runner import Runner
from workers.start.loading import LoadedWorker
from workers.start.spec import WorkerSpec

SESSION = SessionId("s")
RAW = SegmentSettings(codec="raw", quality=0)
SPEC = WorkerSpec(worker=WorkerId("denoise-0"), role=Role.DENOISE, capacity=15, model=Path("unset"))
TEXT = ConditioningRef(session=SESSION, version=0)
PROMPT = "a red ball resting in the fog"


@pytest.fixture
def denoiser(model: Path) -> DenoiseWorker:
    worker = LoadedWorker(replace(SPEC, model=model)).fresh()
    assert isinstance(worker, DenoiseWorker)
    return worker


@pytest.fixture
def decoder(model: Path) -> DecodeWorker:
    worker = LoadedWorker(replace(SPEC, model=model, role=Role.DECODE, capacity=2)).fresh()
    assert isinstance(worker, DecodeWorker)
    return worker


@pytest.fixture
def text(decoder: DecodeWorker) -> bytes:
    message = EncodeText(worker=WorkerId("decode-0"), conditioning=TEXT, prompt=PROMPT)
    (encoded,) = decoder.perform(message)
    assert isinstance(encoded, Encoded)
    return encoded.tensor


def work(kind: Kind = Kind.DENOISE, **changes: object) -> ForwardWork:
    base = Flat(
        session=SESSION,
        lane=0,
        kind=kind,
        step=0,
        block=0,
        timestep=1000.0,
        sigma=1.0,
        next_sigma=0.9375,
        seed=5,
        positions=(0, 1),
        reads=(PageId(0), PageId(1)),
        writes=(PageId(0), PageId(1)),
        conditioning=TEXT,
        input=FromNoise(),
    ).work()
    return changed(base, **changes)  # type: ignore[arg-type]


def task(order: ForwardWork | DecodeWork, *, number: int = 0, latents: bytes = b"", text: bytes = b"") -> Task:
    if isinstance(order, DecodeWork):
        return Task(sequence=DispatchNumber(number), order=Decode(work=order, latents=latents))
    return batch(Forward(work=order, latents=latents, conditioning=text), number=number)


def batch(*items: Forward, number: int = 0) -> Task:
    return Task(sequence=DispatchNumber(number), order=items)


def done(reports: Iterator[Up | Detached]) -> Done:
    (report,) = reports
    assert isinstance(report, Done)
    return report


def output(reports: Iterator[Up | Detached]) -> bytes:
    (made,) = done(reports).outputs
    return made


def test_a_denoise_op_returns_latents(denoiser: DenoiseWorker, text: bytes) -> None:
    report = output(denoiser.perform(task(work(), text=text)))
    assert len(report) == 2 * 4 * 4 * 4 * 4  # F, C, H, W, bytes of float32
    assert output(denoiser.perform(task(work()))) == report
    assert output(denoiser.perform(task(work(seed=6)))) != report


def test_latents_that_travel_equal_latents_that_stayed(denoiser: DenoiseWorker, text: bytes) -> None:
    first = output(denoiser.perform(task(work(), text=text)))
    second = work(step=1, timestep=937.5, sigma=0.9375, next_sigma=None)
    stayed = output(denoiser.perform(task(changed(second, input=FromLane()))))
    ref = LatentRef(session=SESSION, block=0, step=1)
    travelled = output(denoiser.perform(task(changed(second, input=FromLatent(ref)), latents=first)))
    assert travelled == stayed


def test_a_commit_leaves_no_output_but_changes_what_the_next_block_sees(denoiser: DenoiseWorker, text: bytes) -> None:
    pages = tuple(PageId(page) for page in range(4))
    following = work(block=1, positions=(2, 3), reads=pages, writes=pages[2:])
    denoiser.perform(task(work(), text=text)).__next__()
    uncommitted = output(denoiser.perform(task(changed(following, lane=1))))
    report = done(denoiser.perform(task(work(Kind.COMMIT, timestep=937.5, input=FromLane()))))
    assert report.outputs == ()
    committed = output(denoiser.perform(task(changed(following, lane=1))))
    assert committed != uncommitted


def test_ops_of_a_batch_are_what_they_are_alone(denoiser: DenoiseWorker, text: bytes) -> None:
    other = ConditioningRef(session=SessionId("t"), version=2)
    items = [
        work(),
        work(
            session=SessionId("t"),
            lane=2,
            step=2,
            block=7,
            timestep=833.25,
            sigma=0.83325,
            next_sigma=None,
            seed=9,
            positions=(14, 15),
            reads=(PageId(9), PageId(4)),
            writes=(PageId(9), PageId(4)),
            conditioning=other,
        ),
    ]
    alone = [output(denoiser.perform(task(item, text=text))) for item in items]
    together = done(denoiser.perform(batch(*(Forward(work=item) for item in items)))).outputs
    assert list(together) == alone
    assert alone[0] != alone[1]


def test_a_batch_of_commits_has_no_outputs_and_writes_what_each_writes_alone(
    denoiser: DenoiseWorker, text: bytes
) -> None:
    pages = [tuple(PageId(page) for page in range(start, start + 4)) for start in (0, 4)]
    lanes = [work(lane=lane, seed=lane, reads=pages[lane][:2], writes=pages[lane][:2]) for lane in (0, 1)]
    commits = [changed(item, kind=Kind.COMMIT, timestep=937.5, input=FromLane()) for item in lanes]
    following = [
        changed(item, block=1, positions=(2, 3), reads=pages[lane], writes=pages[lane][2:])
        for lane, item in enumerate(lanes)
    ]

    def seen(*orders: Task) -> list[bytes]:
        for item in lanes:
            output(denoiser.perform(task(item, text=text)))
        assert all(done(denoiser.perform(order)).outputs == () for order in orders)
        return [output(denoiser.perform(task(item))) for item in following]

    together = seen(batch(*(Forward(work=commit) for commit in commits)))
    assert together == seen(*(task(commit) for commit in commits))
    assert together != seen()


def test_in_a_batch_that_fails_only_what_cannot_be_done_fails(denoiser: DenoiseWorker, text: bytes) -> None:
    good = output(denoiser.perform(task(work(), text=text)))
    never = ConditioningRef(session=SessionId("lost"), version=5)
    lost = work(
        session=SessionId("lost"), conditioning=never, reads=(PageId(7), PageId(8)), writes=(PageId(7), PageId(8))
    )
    (report,) = denoiser.perform(batch(Forward(work=lost), Forward(work=work()), number=3))
    assert report == Failed(
        sessions=(SessionId("lost"),),
        sequence=DispatchNumber(3),
        reason="UnknownPeer: version 5 of session lost was never sent",
        outputs=(b"", good),
    )


def test_a_commit_and_the_next_denoise_op_share_a_forward_and_change_nothing(
    denoiser: DenoiseWorker, text: bytes
) -> None:
    """C(0,0) and D(1,0), which start from the same latents and read different lanes; then D(0,1) sees the commit."""
    pages = tuple(PageId(page) for page in range(8))
    commit = work(Kind.COMMIT, timestep=937.5, input=FromLane())
    second = work(lane=1, step=1, timestep=937.5, sigma=0.9375, next_sigma=0.8, reads=pages[4:6], writes=pages[4:6])
    second = changed(second, input=FromLatent(LatentRef(session=SESSION, block=0, step=1)))
    following = work(block=1, positions=(2, 3), reads=pages[:4], writes=pages[2:4])

    def seen(*, paired: bool) -> list[bytes]:
        first = output(denoiser.perform(task(work(), text=text)))
        items = [Forward(work=commit), Forward(work=second, latents=first)]
        orders = [batch(*items)] if paired else [batch(item) for item in items]
        made = [made for order in orders for made in done(denoiser.perform(order)).outputs]
        return [first, *made, output(denoiser.perform(task(following)))]

    assert seen(paired=True) == seen(paired=False)
    assert len(seen(paired=True)) == 3


def test_what_was_forgotten_is_gone(denoiser: DenoiseWorker, text: bytes) -> None:
    done(denoiser.perform(task(work(), text=text)))
    assert denoiser.held_sessions == {SESSION}
    list(denoiser.perform(Forget(worker=SPEC.worker, session=SESSION, version=0)))
    with pytest.raises(UnknownPeer, match="version 0 of session s was never sent"):
        done(denoiser.perform(task(work())))
    list(denoiser.perform(Forget(worker=SPEC.worker, session=SESSION, version=None)))
    assert denoiser.held_sessions == set()
    with pytest.raises(UnknownPeer, match="lane 0 of session s has no output"):
        done(denoiser.perform(task(work(Kind.COMMIT, input=FromLane()))))


def test_latents_of_another_size_are_refused(denoiser: DenoiseWorker, text: bytes) -> None:
    order = work(step=1, input=FromLatent(LatentRef(session=SESSION, block=0, step=1)))
    with pytest.raises(InternalFault, match=r"12 bytes do not hold a float32 tensor of shape \[2, 4, 4, 4\]"):
        done(denoiser.perform(task(order, latents=b"x" * 12, text=text)))


def test_bytes_and_tensors_are_each_others_inverse() -> None:
    tensor = torch.randn(3, 5).t()
    assert torch.equal(tensor_from_bytes(tensor_to_bytes(tensor), (5, 3)), tensor)


def decode_work(block: int, first: int, count: int) -> DecodeWork:
    return DecodeWork(
        session=SESSION,
        block=block,
        slot=SlotId(1),
        latents=LatentRef(session=SESSION, block=block, step=3),
        first_picture=first,
        picture_count=count,
        settings=RAW,
    )


def test_a_decode_op_carries_the_stream_on_and_cuts_the_last_block(decoder: DecodeWorker) -> None:
    latents = [np.random.default_rng(n).normal(size=128).astype("<f4").tobytes() for n in range(2)]

    def run(counts: tuple[int, int]) -> list[bytes]:
        prepare = PrepareStream(worker=WorkerId("decode-0"), session=SESSION, slot=SlotId(1), settings=RAW)
        (prepared,) = decoder.perform(prepare)
        assert prepared == Prepared(session=SESSION, header=b"", media_type="application/octet-stream")
        orders = [decode_work(0, 0, counts[0]), decode_work(1, 5, counts[1])]
        made = [done(decoder.perform(task(order, latents=latents[order.block]))).segment for order in orders]
        list(decoder.perform(Forget(worker=WorkerId("decode-0"), session=SESSION, version=None)))
        return made

    whole, cut = run((5, 8)), run((5, 3))
    picture_bytes = 32 * 32 * 3
    assert [len(segment) for segment in whole] == [5 * picture_bytes, 8 * picture_bytes]
    assert cut == [whole[0], whole[1][: 3 * picture_bytes]]
    assert decoder.held_sessions == set()


def test_decoding_without_a_slot_is_refused(decoder: DecodeWorker) -> None:
    with pytest.raises(UnknownPeer, match="decoder slot 1 was not prepared for session s"):
        done(decoder.perform(task(decode_work(0, 0, 5), latents=bytes(512))))


class Scripted:
    """A worker whose sessions' names say what happens: ok, bad (an op fails), lost (starts over), worse (a defect)."""

    role = Role.DENOISE
    device = torch.device("cpu")

    def page(self, page: PageId) -> torch.Tensor:
        raise IndexError("no pages")

    def perform(self, message: object) -> Iterator[Up]:
        assert isinstance(message, Task)
        (session,) = message.sessions
        match session:
            case "bad":
                raise RuntimeError("no memory")
            case "lost":
                raise StartOver("its neighbour is gone")
            case "worse":
                raise KeyError("a defect")
            case _:
                yield Done(sequence=message.sequence)


def run(*sessions: str, numbers: tuple[int, ...] = ()) -> list[Up | str | StartOver]:
    told: queue.Queue[Up | str | StartOver] = queue.Queue()
    runner = Runner(Scripted(), report=told.put, ended=told.put)
    for number, session in zip(numbers or range(len(sessions)), sessions, strict=True):
        runner.put(task(work(session=SessionId(session)), number=number))
    runner.put(Shutdown())
    runner.start()
    assert runner.join(10)
    return [told.get_nowait() for _ in range(told.qsize())]


def untimed(told: list[Up | str | StartOver]) -> list[Up | str | StartOver]:
    """The messages without the durations that the runner measured."""
    timed = [message for message in told if isinstance(message, Done)]
    assert all(0 < message.seconds < 1 for message in timed)
    return [replace(message, seconds=0.0) if isinstance(message, Done) else message for message in told]


def test_reports_come_in_the_order_of_dispatch_and_failures_do_not_stop_a_worker() -> None:
    assert untimed(run("ok", "bad", "ok")) == [
        Done(sequence=DispatchNumber(0)),
        Failed(sessions=(SessionId("bad"),), sequence=DispatchNumber(1), reason="RuntimeError: no memory"),
        Done(sequence=DispatchNumber(2)),
        "",
    ]


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_defect_ends_the_worker() -> None:
    assert untimed(run("ok", "worse", "ok")) == [
        Done(sequence=DispatchNumber(0)),
        "its compute thread ended by an unforeseen error",
    ]


def test_a_worker_that_cannot_go_on_with_others_asks_to_be_made_anew() -> None:
    done, ended = untimed(run("ok", "lost", "ok"))
    assert done == Done(sequence=DispatchNumber(0))
    assert isinstance(ended, StartOver)
    assert (str(ended), ended.__traceback__) == ("its neighbour is gone", None), "no frame holds on to the worker"


def test_a_gap_in_the_sequence_ends_the_worker() -> None:
    told = untimed(run("ok", "ok", numbers=(0, 2)))
    assert told == [Done(sequence=DispatchNumber(0)), "dispatch 2 arrived, expected 1"]
