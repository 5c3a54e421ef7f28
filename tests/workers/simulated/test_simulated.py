"""Simulated workers: times are kept without using the CPU, and results show any op that went astray."""

from __future__ import annotations

import io
import resource
import threading
import time
from dataclasses import replace
from itertools import islice
from pathlib import Path

import numpy as np
import pytest

from benchmarks.simulated_streams import expected_latents
from longtake.core.effects import EncodeText, Forget, PrepareStream
from longtake.core.errors import InternalFault, InvalidField, UnknownPeer
from longtake.core.recipe.context import Level
from longtake.core.recipe.ops import Kind, Returns
from longtake.core.work import (
    ConditioningRef,
    ForwardWork,
    FromLane,
    FromLatent,
    FromNoise,
    LatentRef,
    PageId,
    Role,
    SessionId,
    SlotId,
    WorkerId,
)
from tests.core.support.recipes import APART
from tests.workers.model_dir import model_info, write_model
from tests.workers.simulated.stream import PROMPT, RAW, SEED, A, decode, forwards, task
from tests.workers.works import Flat, changed
from workers.link.shared import load
from workers.messages import Done, Encoded
from workers.models.api import Compute
from workers.models.weights import save_info
from workers.simulated import arithmetic
from workers.simulated.arithmetic import REACH
from workers.simulated.device import DevicePace, SimulatedDevice, parse_device
from workers.simulated.workers import SimulatedModel
from workers.start.loading import LoadedWorker, load_worker, model_digest
from workers.start.spec import WorkerSpec, read_spec, to_line

B = SessionId("b")
INFO = model_info()
INSTANT = SimulatedDevice(forward_s=0.0)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    save_info(tmp_path, INFO)
    return tmp_path


def model(folder: Path, role: Role = Role.DENOISE, capacity: int = 64) -> SimulatedModel:
    return SimulatedModel(worker=WorkerId("w"), role=role, capacity=capacity, model=folder, device=INSTANT)


def test_a_device_is_read_as_it_is_written() -> None:
    for text in ("simulated:60ms", "simulated:60ms,decode=5ms", "simulated:1.5ms,decode=0.5ms,factor=1.3",
                 "simulated:0ms,layers=3,latents=9"):  # fmt: skip
        assert str(parse_device(text)) == text
    assert parse_device("simulated:2s").forward_s == 2.0


@pytest.mark.parametrize(
    "text", ["simulated:", "simulated:60", "simulated:60ms,encode=1ms", "simulated:-1ms", "simulated:60ms,factor=0",
             "simulated:60ms,factor=x", "simulated:600s", "simulated:60ms,layers=0", "simulated:60ms,latents=1.5",
             "simulated:60ms,factor=1,factor=2", "cpu"]
)  # fmt: skip
def test_a_device_that_cannot_be_is_refused(text: str) -> None:
    with pytest.raises(InvalidField, match=r"model\.device"):
        parse_device(text)


def test_the_time_is_kept_without_the_cpu_and_what_is_too_long_is_counted() -> None:
    pace = DevicePace()

    def ops() -> None:
        for _ in range(10):
            pace.wait(time.monotonic(), 0.02)

    began_s, cpu_s = time.monotonic(), resource.getrusage(resource.RUSAGE_SELF)
    thread = threading.Thread(target=ops)
    thread.start()
    thread.join()
    took_s, used = time.monotonic() - began_s, resource.getrusage(resource.RUSAGE_SELF)
    assert took_s >= 0.2 + pace.late_s
    assert pace.ops == 10
    assert 0 < pace.latest_s <= pace.late_s
    assert used.ru_utime + used.ru_stime - cpu_s.ru_utime - cpu_s.ru_stime < 0.5 * took_s


def test_a_straggler_takes_its_factor_longer(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spec = WorkerSpec(
        worker=WorkerId("w"),
        role=Role.DENOISE,
        capacity=64,
        model=folder,
        compute=Compute(device="simulated:10ms,factor=3"),
    )
    worker, text = load_worker(spec).fresh(), features(folder)
    lasting_s: list[float] = []
    monkeypatch.setattr(DevicePace, "wait", lambda self, began_s, seconds: lasting_s.append(seconds))
    list(worker.perform(task(forward_work(), conditioning=text)))
    assert lasting_s == [pytest.approx(0.03)]


def test_a_specification_makes_a_simulated_worker_that_cannot_pass_for_a_real_one(folder: Path) -> None:
    spec = WorkerSpec(
        worker=WorkerId("w"), role=Role.DECODE, capacity=2, model=folder, compute=Compute(device="simulated:60ms")
    )
    assert read_spec(io.StringIO(to_line(spec))) == spec
    loaded = load_worker(spec)
    assert isinstance(loaded, SimulatedModel)
    assert loaded.introduction.model_digest == model_digest(spec)
    for name in ("dit.safetensors", "vae.safetensors"):
        (folder / name).write_bytes(b"")
    devices = ("cpu", "simulated:60ms,layers=9", "simulated:60ms,latents=9")
    others = [replace(spec, compute=Compute(device=device)) for device in devices]
    assert model_digest(replace(spec, compute=Compute(device="simulated:1ms,factor=2"))) == model_digest(spec)
    assert len({model_digest(other) for other in (spec, *others)}) == 4


def test_a_shared_process_refuses_a_worker_that_computes(tmp_path: Path) -> None:
    write_model(tmp_path)
    spec = WorkerSpec(worker=WorkerId("w"), role=Role.DENOISE, capacity=64, model=tmp_path)
    assert isinstance(load_worker(spec), LoadedWorker)
    with pytest.raises(InvalidField, match="simulated"):
        list(load(io.StringIO("secret\n" + to_line(spec)), "x:1"))


# --- results ----------------------------------------------------------------------------------------------------------


def features(folder: Path, prompt: str = PROMPT) -> bytes:
    """A prompt as a decode worker encodes it."""
    worker = model(folder, Role.DECODE).fresh()
    order = EncodeText(worker=WorkerId("w"), conditioning=ConditioningRef(session=A, version=0), prompt=prompt)
    (encoded,) = worker.perform(order)
    assert isinstance(encoded, Encoded)
    return encoded.tensor


def forward_work(**changes: object) -> ForwardWork:
    values: dict[str, object] = {
        "session": A, "lane": 0, "kind": Kind.DENOISE, "step": 0, "block": 0,
        "timestep": INFO.recipe.timesteps[0], "sigma": INFO.recipe.sigmas[0], "next_sigma": INFO.recipe.sigmas[1],
        "seed": 7, "positions": (0, 1), "reads": (PageId(0), PageId(1)), "writes": (PageId(0), PageId(1)),
        "conditioning": ConditioningRef(session=A, version=0), "input": FromNoise(),
    }  # fmt: skip
    return Flat(**(values | changes)).work()  # type: ignore[arg-type]


def latents(folder: Path, level: Level = Level.OUTPUT, *, swaps: bool = False) -> list[bytes]:
    """Finished latents of four blocks on one simulated worker; `swaps` two pages of block 2's first forward."""
    save_info(folder, model_info(level))
    worker, text = model(folder).fresh(), features(folder)
    finished: list[bytes] = []
    last: bytes = b""
    for work in forwards(level, 4):
        if swaps and (work.kind, work.step, work.block) == (Kind.DENOISE, 0, 2):
            reads = work.pages.reads
            work = changed(work, reads=(reads[1], reads[0], *reads[2:]))
        (done,) = worker.perform(task(work, latents=last, conditioning=text))
        assert isinstance(done, Done)
        last = next(iter(done.outputs), last)
        if work.kind is Kind.DENOISE and work.times.next_sigma is None:
            finished.append(last)
    return finished


@pytest.mark.parametrize("level", APART)
def test_latents_are_those_computed_by_hand(folder: Path, level: Level) -> None:
    assert latents(folder, level) == list(islice(expected_latents(model_info(level), PROMPT, SEED), 4))


@pytest.mark.parametrize(("missing", "equal"), [(0, True), (1, False)])
def test_a_slot_that_starts_in_the_middle_goes_on_exactly_after_as_many_latents_as_it_depends_on(
    folder: Path, missing: int, equal: bool
) -> None:
    worker, end = model(folder, Role.DECODE, capacity=2).fresh(), 6
    replayed = range(end - -(-REACH.latents // INFO.recipe.blocks.frames) + missing, end)
    prepare = PrepareStream(worker=WorkerId("w"), session=A, slot=SlotId(0), settings=RAW)
    list(worker.perform(prepare))
    list(worker.perform(replace(prepare, session=B, slot=SlotId(1), started=True)))
    pairs = []
    for block in range(end + 1):
        latents, work = arithmetic.latents_of(b"%d" % block, INFO.geometry), decode(block)
        (done,) = worker.perform(task(work, latents=latents))
        assert isinstance(done, Done)
        there = replace(work, session=B, slot=SlotId(1))
        if block in replayed:
            (state_only,) = worker.perform(task(replace(there, picture_count=0), latents=latents))
            assert isinstance(state_only, Done) and state_only.segment == b""
        if block == end:
            (again,) = worker.perform(task(there, latents=latents))
            assert isinstance(again, Done)
            pairs.append((done.segment, again.segment))
    assert [one == other for one, other in pairs] == [equal]


@pytest.mark.parametrize(("missing", "equal"), [(0, True), (1, False)])
def test_a_worker_that_replays_as_many_blocks_as_its_pages_depend_on_goes_on_exactly(
    folder: Path, missing: int, equal: bool
) -> None:
    """The commits of H x layers blocks (and of the sink's) from their latents, in a worker that has seen nothing."""
    needed, end = INFO.recipe.history_blocks * REACH.layers, 6
    replayed = {0, *range(end - needed + missing, end)}
    text, first, second = features(folder), model(folder).fresh(), model(folder).fresh()
    written: set[tuple[int, int]] = set()
    last: bytes = b""
    pairs = []
    for work in forwards(Level.OUTPUT, end + 1):
        order = task(work, latents=last, conditioning=text)
        (done,) = first.perform(order)
        assert isinstance(done, Done)
        if work.block in replayed and work.kind is Kind.COMMIT:
            written |= {(work.lane, page) for page in work.pages.writes}
            there = tuple(page for page in work.pages.reads if (work.lane, page) in written)
            again = changed(work, reads=there, input=FromLatent(LatentRef(session=A, block=work.block, step=0)))
            list(second.perform(task(again, latents=last, conditioning=text)))
        if work.block == end and work.kind is Kind.DENOISE:
            pairs.append((done, next(iter(second.perform(order)))))
        last = next(iter(done.outputs), last)
    assert [one == other for one, other in pairs] == [equal] * INFO.recipe.step_count


def test_a_denoise_op_whose_output_nobody_wants_leaves_its_pages_and_nothing_else(folder: Path) -> None:
    first, second, text = model(folder).fresh(), model(folder).fresh(), features(folder)
    list(first.perform(task(forward_work(), conditioning=text)))
    (done,) = second.perform(task(forward_work(returns=Returns.NOTHING), conditioning=text))
    assert isinstance(done, Done) and done.outputs == ()
    assert all(np.array_equal(first.page(PageId(page)), second.page(PageId(page))) for page in (0, 1))
    with pytest.raises(UnknownPeer, match="no output"):
        list(second.perform(task(forward_work(kind=Kind.COMMIT, input=FromLane()))))


def test_a_page_read_in_another_place_changes_everything_after_it(folder: Path) -> None:
    right, wrong = latents(folder), latents(folder, swaps=True)
    assert right[:2] == wrong[:2]
    assert all(a != b for a, b in zip(right[2:], wrong[2:], strict=True))


def test_seed_and_prompt_tell_streams_apart() -> None:
    prompts = (PROMPT, "a blue box swaying at night")
    first = {next(expected_latents(INFO, prompt, seed)) for prompt in prompts for seed in (1, 2)}
    assert len(first) == 4


def test_what_cannot_be_meant_is_refused(folder: Path) -> None:
    worker, text = model(folder, capacity=4).fresh(), features(folder)
    with pytest.raises(UnknownPeer, match="never sent"):
        list(worker.perform(task(forward_work())))
    with pytest.raises(InternalFault, match="page 3 is read before"):
        list(worker.perform(task(forward_work(reads=(3, 0, 1)), conditioning=text)))
    with pytest.raises(IndexError, match="pool of 4"):
        list(worker.perform(task(forward_work(reads=(3, 4), writes=(3, 4)), conditioning=text)))
    with pytest.raises(UnknownPeer, match="no output"):
        list(worker.perform(task(forward_work(input=FromLane()), conditioning=text)))
    with pytest.raises(InternalFault, match="bytes"):
        wrong = forward_work(input=FromLatent(LatentRef(session=A, block=0, step=0)))
        list(worker.perform(task(wrong, latents=b"1234", conditioning=text)))


def test_forget_leaves_nothing_to_start_from(folder: Path) -> None:
    worker, text = model(folder).fresh(), features(folder)
    list(worker.perform(task(forward_work(), conditioning=text)))
    list(worker.perform(Forget(worker=WorkerId("w"), session=A, version=None)))
    with pytest.raises(UnknownPeer, match="never sent"):
        list(worker.perform(task(forward_work(kind=Kind.COMMIT, input=FromLane()))))


def test_pictures_depend_on_the_blocks_before(folder: Path) -> None:
    worker = model(folder, Role.DECODE, capacity=1).fresh()
    prepare = PrepareStream(worker=WorkerId("w"), session=A, slot=SlotId(0), settings=RAW)
    list(worker.perform(prepare))
    with pytest.raises(InternalFault, match="already open"):
        list(worker.perform(prepare))

    def segment(block: int) -> bytes:
        (done,) = worker.perform(task(decode(block), latents=arithmetic.latents_of(b"x", INFO.geometry)))
        assert isinstance(done, Done)
        return done.segment

    first, second = segment(0), segment(1)
    size = INFO.geometry.width * INFO.geometry.height * 3
    assert [len(first), len(second)] == [5 * size, 8 * size]
    frames = [part.tobytes() for part in np.frombuffer(first + second, np.uint8).reshape(-1, size)]
    assert len(set(frames)) == 13
    list(worker.perform(Forget(worker=WorkerId("w"), session=A, version=None)))
    list(worker.perform(prepare))
    assert segment(0) == first
    assert segment(0) != first
