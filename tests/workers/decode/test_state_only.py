"""Decodes of which no picture is wanted: the state goes on, and nothing is made, encoded or sent."""

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
from longtake.core.work import DispatchNumber, Role, SlotId, WorkerId
from tests.workers.model_dir import model_info
from tests.workers.orders import SPEC, done
from tests.workers.simulated.stream import RAW, A, decode, task
from workers.decode.encode import RawEncoder
from workers.decode.slots import DecoderPool, Decoding
from workers.decode.worker import DecodeWorker
from workers.denoise.worker import tensor_to_bytes
from workers.device_work import DeviceWork
from workers.messages import Done, Shutdown, StartOver, Task, Up
from workers.orders import Later
from workers.runner import Runner
from workers.start.loading import LoadedWorker

PREPARE = PrepareStream(worker=WorkerId("w"), session=A, slot=SlotId(0), settings=RAW)
FORGET = Forget(worker=WorkerId("w"), session=A, version=None)
GEOMETRY = model_info().geometry


@pytest.fixture(params=[2, 3], ids=["encodes itself", "encodes beside"])
def loaded(model: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> LoadedWorker:
    """On a machine with so many cores."""
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(request.param)))
    return LoadedWorker(replace(SPEC, model=model, role=Role.DECODE, capacity=2))


@pytest.fixture
def worker(loaded: LoadedWorker) -> DecodeWorker:
    made = loaded.fresh()
    assert isinstance(made, DecodeWorker)
    return made


def order(block: int, *, wanted: bool) -> Task:
    random = torch.Generator().manual_seed(block)
    latents = tensor_to_bytes(torch.randn(GEOMETRY.block_shape, generator=random))
    work = decode(block) if wanted else replace(decode(block), picture_count=0)
    return replace(task(work, latents=latents), sequence=DispatchNumber(block))


def segments(worker: DecodeWorker, wanted: Sequence[bool], *, first: int = 0) -> list[bytes]:
    """Of blocks from `first` on, in a slot that is made ready for that."""
    list(worker.perform(replace(PREPARE, started=first > 0)))
    orders = [order(first + number, wanted=each) for number, each in enumerate(wanted)]
    made = [done(worker.perform(each)).segment for each in orders]
    list(worker.perform(FORGET))
    return made


def test_the_state_goes_on_and_nothing_is_encoded(worker: DecodeWorker, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = segments(worker, [True] * 3)
    encode, firsts = RawEncoder.encode, []

    def counted(self: RawEncoder, pictures: NDArray[np.uint8], first: int) -> bytes:
        firsts.append(first)
        return encode(self, pictures, first)

    monkeypatch.setattr(RawEncoder, "encode", counted)
    assert segments(worker, [False, False, True]) == [b"", b"", expected[2]]
    assert firsts == [GEOMETRY.first_picture(2)]


def test_a_lost_slot_is_built_again_and_its_segments_are_the_same_bytes(
    loaded: LoadedWorker, worker: DecodeWorker
) -> None:
    """As a whole: a slot that starts in the middle, as many blocks as the worker says of itself, then the next ones."""
    needed = -(-loaded.introduction.ability.replay_depth // GEOMETRY.blocks.frames)
    lost = needed + 3
    whole = segments(worker, [True] * (lost + 2))
    again = segments(worker, [False] * needed + [True] * 2, first=3)
    assert again == [b""] * needed + whole[lost:]
    blank = segments(worker, [True] * 2, first=lost)
    assert all(one != other for one, other in zip(blank, whole[lost:], strict=True)), "a blank past is seen"
    assert list(map(len, blank)) == list(map(len, whole[lost:])), "no frame of it is a lone picture"


def test_nothing_is_landed_and_nobody_waits_for_the_device(
    worker: DecodeWorker, monkeypatch: pytest.MonkeyPatch
) -> None:
    landed: list[Tensor] = []
    monkeypatch.setattr(DeviceWork, "is_over", False)
    monkeypatch.setattr(DeviceWork, "land", lambda _, tensor: landed.append(tensor))
    list(worker.perform(PREPARE))
    (report,) = worker.perform(order(0, wanted=False))
    assert isinstance(report, Later)
    made = report.made()
    assert isinstance(made, Done)
    assert (made.sequence, made.segment, landed) == (0, b"", [])
    assert made.seconds > 0


def test_reports_stay_in_order_whether_pictures_are_wanted_or_not(
    worker: DecodeWorker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where pictures are encoded beside, the first segment is not there when all other blocks are decoded."""
    wanted = (True, False, False, True)
    encodes_beside = os.sched_getaffinity(0) == {0, 1, 2}
    all_decoded, encode = threading.Event(), RawEncoder.encode
    decode_block, advance_block = DecoderPool.decode, DecoderPool.advance
    blocks: list[int] = []

    def count(slot: int) -> None:
        blocks.append(slot)
        if len(blocks) == len(wanted):
            all_decoded.set()

    def counted(self: DecoderPool, slot: int, latents_FCHW: Tensor, pictures: range) -> Decoding:
        made = decode_block(self, slot, latents_FCHW, pictures)
        count(slot)
        return made

    def counted_without_pictures(self: DecoderPool, slot: int, latents_FCHW: Tensor, later_frames: int) -> DeviceWork:
        made = advance_block(self, slot, latents_FCHW, later_frames)
        count(slot)
        return made

    def once_all_are_decoded(self: RawEncoder, pictures: NDArray[np.uint8], first: int) -> bytes:
        assert all_decoded.wait(30)
        return encode(self, pictures, first)

    monkeypatch.setattr(DecoderPool, "decode", counted)
    monkeypatch.setattr(DecoderPool, "advance", counted_without_pictures)
    if encodes_beside:
        monkeypatch.setattr(RawEncoder, "encode", once_all_are_decoded)
    reports: list[Up] = []
    ended = threading.Event()

    def end(why: str | StartOver) -> None:
        assert why == ""
        ended.set()

    runner = Runner(worker, report=reports.append, ended=end)
    runner.start()
    runner.put(PREPARE)
    for block, each in enumerate(wanted):
        runner.put(order(block, wanted=each))
    runner.put(Shutdown())
    assert ended.wait(30)
    told = [report for report in reports if isinstance(report, Done)]
    assert [report.sequence for report in told] == [0, 1, 2, 3]
    assert tuple(bool(report.segment) for report in told) == wanted
