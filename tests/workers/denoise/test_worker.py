"""Workers: orders executed as they stand, failures told, nothing kept."""

from __future__ import annotations

import os
import threading
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from longtake.core.effects import Forget, PrepareStream
from longtake.core.errors import InternalFault, UnknownPeer
from longtake.core.recipe.ops import Kind, Returns
from longtake.core.work import (
    ConditioningRef,
    DecodeWork,
    DispatchNumber,
    ForwardWork,
    FromLane,
    FromLatent,
    LatentRef,
    PageId,
    Role,
    SessionId,
    SlotId,
    WorkerId,
)
from tests.workers.orders import RAW, SESSION, SPEC, batch, done, output, task, work
from tests.workers.works import changed
from workers.decode.encode import RawEncoder
from workers.decode.worker import DecodeWorker
from workers.denoise.solver import KeyedRenoising
from workers.denoise.worker import DenoiseWorker, tensor_from_bytes, tensor_to_bytes
from workers.messages import Done, Failed, Forward, Prepared, Task
from workers.orders import Later
from workers.start.loading import LoadedWorker


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


def test_a_denoise_op_whose_output_nobody_wants_leaves_its_pages_and_nothing_else(
    denoiser: DenoiseWorker, text: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Alone and beside others, of which one wants its output and one is a commit; what its lane kept stays."""
    stepped: list[int] = []
    advance = KeyedRenoising.advance

    def counted(self: KeyedRenoising, x_BFCHW: Tensor, flow_BFCHW: Tensor, works: Sequence[ForwardWork]) -> Tensor:
        stepped.append(len(works))
        return advance(self, x_BFCHW, flow_BFCHW, works)

    monkeypatch.setattr(KeyedRenoising, "advance", counted)
    pages = tuple(PageId(page) for page in range(8))
    kept = output(denoiser.perform(task(work(), text=text)))
    wanted = work(lane=1, seed=6, reads=pages[2:4], writes=pages[2:4])
    alone = output(denoiser.perform(task(wanted)))
    written = denoiser.page(pages[2]).clone()
    commit = work(Kind.COMMIT, lane=2, timestep=937.5, input=FromLatent(LatentRef(session=SESSION, block=0, step=1)))
    commit = changed(commit, reads=pages[6:], writes=pages[6:])
    unwanted = changed(wanted, lane=0, reads=pages[4:6], writes=pages[4:6], returns=Returns.NOTHING)
    assert done(denoiser.perform(task(unwanted))).outputs == ()
    assert torch.equal(denoiser.page(pages[4]), written)
    denoiser.page(pages[4]).zero_()
    mates = (Forward(work=unwanted), Forward(work=wanted), Forward(work=commit, latents=kept))
    assert done(denoiser.perform(batch(*mates))).outputs == (alone,)
    assert torch.equal(denoiser.page(pages[4]), written)
    assert stepped == [1, 1, 1], "no step is taken, and no noise drawn, for what nobody wants"
    stayed = work(step=1, timestep=937.5, sigma=0.9375, next_sigma=None, input=FromLane())
    travelled = changed(stayed, input=FromLatent(LatentRef(session=SESSION, block=0, step=1)))
    assert output(denoiser.perform(task(stayed))) == output(denoiser.perform(task(travelled, latents=kept)))


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


def test_ops_that_read_one_another_fail_together(denoiser: DenoiseWorker, text: bytes) -> None:
    pages = tuple(PageId(page) for page in range(4))
    output(denoiser.perform(task(work(), text=text)))
    never = ConditioningRef(session=SESSION, version=5)
    items = [
        work(Kind.COMMIT, timestep=0.0, reads=pages, writes=pages[:2]),
        work(Kind.COMMIT, timestep=0.0, block=1, positions=(2, 3), reads=pages, writes=pages[2:]),
    ]
    output(denoiser.perform(task(work(block=1, positions=(2, 3), reads=pages, writes=pages[2:]))))
    together = [changed(items[0], input=FromLane()), changed(items[1], input=FromLane(), conditioning=never)]
    before = [denoiser.page(page).clone() for page in pages]
    with pytest.raises(UnknownPeer, match="version 5"):
        list(denoiser.perform(batch(*(Forward(work=item) for item in together))))
    assert all(torch.equal(denoiser.page(page), kept) for page, kept in zip(pages, before, strict=True))
    apart = [changed(together[0], reads=pages[:2]), changed(together[1], reads=pages[2:])]
    (report,) = denoiser.perform(batch(*(Forward(work=item) for item in apart)))
    assert isinstance(report, Failed), "who reads nothing of the others can be done alone"


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


def test_the_next_block_is_decoded_while_one_is_encoded_and_segments_are_as_without(
    model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1, 2})  # one to spare
    decoder = LoadedWorker(replace(SPEC, model=model, role=Role.DECODE, capacity=2)).fresh()
    latents = [np.random.default_rng(n).normal(size=128).astype("<f4").tobytes() for n in range(2)]
    prepare = PrepareStream(worker=WorkerId("decode-0"), session=SESSION, slot=SlotId(1), settings=RAW)
    orders = [task(decode_work(n, 5 * n, (5, 8)[n]), latents=latents[n], number=n) for n in range(2)]
    list(decoder.perform(prepare))
    expected = [done(decoder.perform(order)).segment for order in orders]
    list(decoder.perform(Forget(worker=WorkerId("decode-0"), session=SESSION, version=None)))

    both_decoded = threading.Event()
    encode = RawEncoder.encode

    def once_both_are_decoded(self: RawEncoder, pictures: NDArray[np.uint8], first: int) -> bytes:
        assert both_decoded.wait(30)
        return encode(self, pictures, first)

    monkeypatch.setattr(RawEncoder, "encode", once_both_are_decoded)
    list(decoder.perform(prepare))
    reports = [report for order in orders for report in decoder.perform(order)]
    both_decoded.set()
    made = [report.made() for report in reports if isinstance(report, Later)]
    assert [report.segment for report in made if isinstance(report, Done)] == expected
