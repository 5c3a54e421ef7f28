"""Workers of a chain, one by one: what they load, agree on and pass on, and how they lose their step or each other."""

from __future__ import annotations

import io
import queue
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from benchmarks.tiny_model import write_tiny_model
from longtake.core.errors import Contradiction, InvalidField, Unavailable
from longtake.core.recipe.layers import LayerTimes
from longtake.core.recipe.ops import Kind, Returns
from longtake.core.work import (
    ConditioningRef,
    DispatchNumber,
    ForwardWork,
    FromLatent,
    FromNoise,
    LatentRef,
    PageId,
    Role,
    SessionId,
    WorkerId,
)
from tests.workers.works import Flat, changed
from workers.denoise.attention import SdpaBackend
from workers.denoise.layer_split import ChainMember, ModelPart
from workers.denoise.worker import DenoiseWorker
from workers.messages import Done, Failed, Forward, JoinChain, Seat, Shutdown, StartOver, Task, Up
from workers.models import weights
from workers.models.api import Compute
from workers.models.wan.dit import WanModel
from workers.orders import Answer
from workers.peers import MeetingPoint, Pair
from workers.runner import Runner
from workers.start import loading, probe
from workers.start.layer_times import held_layers, measured_times
from workers.start.loading import LoadedWorker, load_worker
from workers.start.spec import WorkerSpec, read_spec, to_line

REPLICA = WorkerId("denoise-0")
SESSION = SessionId("s")
WORK = Flat(
    session=SESSION, lane=0, kind=Kind.DENOISE, step=0, block=0, timestep=1000.0, sigma=1.0, next_sigma=0.9, seed=5,
    positions=(0, 1, 2), reads=(PageId(0), PageId(1), PageId(2)), writes=(PageId(0), PageId(1), PageId(2)),
    conditioning=ConditioningRef(session=SESSION, version=0), input=FromNoise(),
).work()  # fmt: skip
EVEN = LayerTimes(embed_s=0.0, layer_s=1.0, head_s=0.0)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tiny")
    write_tiny_model(folder)
    torch.set_num_threads(1)
    return folder


@pytest.fixture(autouse=True)
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """No test waits for long."""
    monkeypatch.setattr(ModelPart.__init__, "__kwdefaults__", {"timeout_s": 10.0})


def seat(rank: int, length: int = 2) -> Seat:
    return Seat(replica=REPLICA, rank=rank, length=length)


def member(model: Path, meeting_point: MeetingPoint, rank: int, length: int = 2, **changes: object) -> ChainMember:
    """The worker in a seat of a chain, over equal ranges."""
    info = weights.load_info(model)
    size = info.num_layers // length
    layers = range(rank * size, (rank + 1) * size)
    part = weights.load_denoiser(model, info, Compute(), layers)
    stage = ModelPart(part, seat(rank, length), meeting_point=meeting_point.address, **changes)  # type: ignore[arg-type]
    return ChainMember(DenoiseWorker(part, info.geometry, SdpaBackend(), pages=9, stage=stage), stage)


def task(number: int, work: ForwardWork = WORK, **changes: object) -> Task:
    text = torch.zeros(8, 64).numpy().tobytes()
    forward = Forward(work=work, conditioning=text, **changes)  # type: ignore[arg-type]
    return Task(sequence=DispatchNumber(number), order=(forward,))


def on_thread(call: Callable[[], object]) -> threading.Thread:
    thread = threading.Thread(target=call, daemon=True)
    thread.start()
    return thread


def together(model: Path, meeting_point: MeetingPoint, length: int = 2, **changes: object) -> list[ChainMember]:
    """A chain that has met."""
    members = [member(model, meeting_point, rank, length, **changes) for rank in range(length)]
    with ThreadPoolExecutor(length) as threads:
        list(threads.map(lambda one: list(one.perform(JoinChain(0))), members))
    return members


def report(reports: Iterator[Answer]) -> Done:
    (only,) = reports
    assert isinstance(only, Done)
    return only


# --- what is held ---------------------------------------------------------------------------------------------------


def test_only_the_layers_that_are_held_are_read(model: Path, tmp_path: Path) -> None:
    info = write_tiny_model(tmp_path)
    held = load_file(tmp_path / weights.DIT_FILE)
    for name, tensor in held.items():
        if name.startswith(("blocks.0.", "blocks.3.")):
            tensor.fill_(torch.nan)
    save_file(held, tmp_path / weights.DIT_FILE)
    part = weights.load_denoiser(tmp_path, info, Compute(), range(1, 3))
    assert isinstance(part, WanModel)
    assert {name.split(".")[1] for name in part.state_dict() if name.startswith("blocks.")} == {"1", "2"}
    with pytest.raises(InvalidField, match=r"blocks\.3\.\S+: .*finite"):
        weights.load_denoiser(tmp_path, info, Compute(), range(2, 4))
    with pytest.raises(InvalidField, match=r"blocks\.0\.\S+: .*finite"):
        weights.load_denoiser(tmp_path, info, Compute())


def test_workers_agree_on_the_layers_that_the_first_one_measured(model: Path, meeting_point: MeetingPoint) -> None:
    info = weights.load_info(model)
    dear_head = LayerTimes(embed_s=0.0, layer_s=1.0, head_s=2.0)
    asked: list[LayerTimes] = []

    def measure(times: LayerTimes) -> Callable[[], LayerTimes]:
        def called() -> LayerTimes:
            asked.append(times)
            return times

        return called

    with ThreadPoolExecutor() as threads:
        last = threads.submit(held_layers, seat(1), info, measure(EVEN), meeting_point.address)
        first = threads.submit(held_layers, seat(0), info, measure(dear_head), meeting_point.address)
        assert (first.result(), last.result()) == (range(3), range(3, 4))
    # One that is started again, and the first worker of another chain, hold what was agreed on.
    assert held_layers(seat(0), info, measure(EVEN), meeting_point.address) == range(3)
    assert asked == [dear_head]
    assert held_layers(seat(0, 4), info, measure(EVEN), meeting_point.address) == range(1), "another length"


def test_of_two_chains_that_measure_at_once_one_has_its_way(model: Path, meeting_point: MeetingPoint) -> None:
    info = weights.load_info(model)
    dear_head = LayerTimes(embed_s=0.0, layer_s=1.0, head_s=2.0)
    faster: list[range] = []

    def measure_slowly() -> LayerTimes:
        other = replace(seat(0), replica=WorkerId("denoise-1"))
        faster.append(held_layers(other, info, lambda: EVEN, meeting_point.address))
        return dear_head

    assert held_layers(seat(0), info, measure_slowly, meeting_point.address) == range(2)
    assert faster == [range(2)]


def test_a_chain_longer_than_the_model_is_refused(model: Path, meeting_point: MeetingPoint) -> None:
    info = weights.load_info(model)
    with pytest.raises(InvalidField, match=r"cluster\.layer_split: 5 is not allowed; allowed: 1 to 4 workers"):
        held_layers(seat(4, 5), info, lambda: EVEN, meeting_point.address)


def test_a_worker_whose_first_never_comes_says_so(
    model: Path, meeting_point: MeetingPoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("workers.start.layer_times.WAIT_S", 0.3)
    with pytest.raises(Unavailable, match="nobody has said what 'layers of 2 workers' is"):
        held_layers(seat(1), weights.load_info(model), lambda: EVEN, meeting_point.address)


def test_times_are_of_the_parts_of_a_forward(model: Path) -> None:
    """A layer of the tiny model takes longer than its embedding or head; the whole is about the sum of its parts."""
    info = weights.load_info(model)
    times = measured_times(model, info, Compute(), SdpaBackend())
    assert 0 < times.embed_s < times.layer_s
    assert 0 < times.head_s < times.layer_s


def test_a_worker_of_a_chain_introduces_its_part_and_survives_the_way_to_its_process(
    model: Path, meeting_point: MeetingPoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loading, "measured_times", lambda *arguments, **options: EVEN)
    monkeypatch.setattr(loading, "probe", lambda *arguments, **options: probe.BatchProfile(forward_s={1: 0.5}, limit=3))
    asked = WorkerSpec(
        worker=seat(0).member, role=Role.DENOISE, capacity=18, model=model, seat=seat(0),
        meeting_point=meeting_point.address,
    )  # fmt: skip
    assert read_spec(io.StringIO(to_line(asked))) == asked
    assert asked.replica == "denoise-0"
    loaded = LoadedWorker(asked)
    part = loaded.introduction.part
    assert part is not None
    assert (loaded.introduction.worker, part.seat, part.layers) == ("denoise-0.1of2", seat(0), range(2))
    assert loaded.introduction.ability.replay_depth == 4, "the layers of the whole model"
    assert isinstance(loaded.fresh(), ChainMember)
    with pytest.raises(Contradiction, match=r"a chain of 2 contradicts simulated:60ms: .*holds no layers"):
        load_worker(replace(asked, compute=Compute(device="simulated:60ms")))


# --- passing on -----------------------------------------------------------------------------------------------------


def test_four_workers_make_what_one_makes(meeting_point: MeetingPoint, tmp_path: Path) -> None:
    """The output comes from the last and from nobody else; those in the middle never see latents."""
    info = write_tiny_model(tmp_path)
    whole = weights.load_denoiser(tmp_path, info, Compute())
    alone = DenoiseWorker(whole, info.geometry, SdpaBackend(), pages=9)
    members = together(tmp_path, meeting_point, length=4)
    first = report(alone.perform(task(0)))
    latents = first.outputs[0]
    commit = changed(WORK, kind=Kind.COMMIT, input=FromLatent(LatentRef(session=SESSION, block=0, step=1)))
    later = changed(
        WORK, step=1, block=1, timestep=750.0, positions=(3, 4, 5), reads=tuple(map(PageId, range(6))),
        writes=tuple(map(PageId, range(3, 6))), input=FromLatent(LatentRef(session=SESSION, block=1, step=1)),
    )  # fmt: skip
    unwanted = changed(later, returns=Returns.NOTHING)
    orders = (task(1, commit, latents=latents), task(2, later, latents=latents), task(3, unwanted, latents=latents))
    expected = [first, *(report(alone.perform(order)) for order in orders)]

    def work(rank: int) -> list[Done]:
        def given(kind: Kind) -> bytes:
            return latents if seat(rank, 4).takes_latents(kind) else b""

        tasks = (
            task(0),
            task(1, commit, latents=given(Kind.COMMIT)),
            task(2, later, latents=given(Kind.DENOISE)),
            task(3, unwanted, latents=given(Kind.DENOISE)),
        )
        return [report(members[rank].perform(one)) for one in tasks]

    with ThreadPoolExecutor(4) as threads:
        done = list(threads.map(work, range(4)))
    assert [one.outputs for one in done[3]] == [one.outputs for one in expected]
    assert [len(one.outputs) for one in done[3]] == [1, 0, 1, 0]
    assert all(one.outputs == () for rank in (0, 1, 2) for one in done[rank])
    assert [seat(rank, 4).takes_latents(Kind.COMMIT) for rank in range(4)] == [True, False, False, False]
    assert [seat(rank, 4).takes_latents(Kind.DENOISE) for rank in range(4)] == [True, False, False, True]


def test_the_time_that_is_reported_is_without_waiting(
    model: Path, meeting_point: MeetingPoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By a clock that only waiting (5 s) and layers (2 s) move."""
    first, last = together(model, meeting_point)
    report(first.perform(task(0)))
    now_s = [0.0]

    def after(seconds: float, call: Callable[..., object]) -> Callable[..., object]:
        def do(*arguments: object) -> object:
            now_s[0] += seconds
            return call(*arguments)

        return do

    monkeypatch.setattr("workers.denoise.layer_split.time.perf_counter", lambda: now_s[0])
    monkeypatch.setattr(Pair, "receive", after(5.0, Pair.receive))
    monkeypatch.setattr(WanModel, "run", after(2.0, WanModel.run))
    assert report(last.perform(task(0))).seconds == 2.0
    assert now_s == [12.0], "a note and the hidden states were waited for"


def test_a_worker_does_not_wait_until_the_next_one_takes_what_it_sends(
    model: Path, meeting_point: MeetingPoint
) -> None:
    first, last = together(model, meeting_point)
    report(first.perform(task(0)))  # returns, though nobody listens
    second = on_thread(lambda: list(first.perform(task(1))))
    second.join(0.5)
    assert second.is_alive(), "one op is ahead, not more"
    assert [report(last.perform(task(number))).sequence for number in (0, 1)] == [0, 1]
    second.join(10)
    assert not second.is_alive()


# --- out of step ----------------------------------------------------------------------------------------------------


def test_an_op_of_another_number_or_size_is_noticed_before_it_is_taken(
    model: Path, meeting_point: MeetingPoint
) -> None:
    first, last = together(model, meeting_point)
    list(first.perform(task(0)))
    with pytest.raises(StartOver, match=r"sends \[0, 1, 48, 64\], expected \[1, 1, 48, 64\]"):
        list(last.perform(task(1)))


def test_an_order_that_is_wrong_fails_alike_everywhere_and_the_chain_goes_on(
    model: Path, meeting_point: MeetingPoint
) -> None:
    told: list[queue.SimpleQueue[Up | str | StartOver]] = [queue.SimpleQueue(), queue.SimpleQueue()]
    runners = [Runner(member(model, meeting_point, rank), told[rank].put, told[rank].put) for rank in (0, 1)]
    wrong = changed(WORK, reads=(PageId(0), PageId(1), PageId(9)), writes=(PageId(0), PageId(1), PageId(9)))
    for runner in runners:
        for message in (JoinChain(0), task(0, wrong), task(1)):
            runner.put(message)
        runner.start()
    failed = Failed(sessions=(SESSION,), sequence=DispatchNumber(0), reason="IndexError: page 9 is not in a pool of 9")
    for rank in (0, 1):
        assert told[rank].get(timeout=20) == failed
        assert isinstance(told[rank].get(timeout=20), Done)
    for rank in (0, 1):
        runners[rank].put(Shutdown())
        assert told[rank].get(timeout=20) == ""


def test_a_worker_that_has_not_met_its_neighbours_starts_over(model: Path, meeting_point: MeetingPoint) -> None:
    with pytest.raises(StartOver, match="the chain has not met yet"):
        list(member(model, meeting_point, 1).perform(task(0)))
    with pytest.raises(StartOver, match="nobody came to 'denoise-0/7/1'"):
        list(member(model, meeting_point, 1, timeout_s=0.3).perform(JoinChain(7)))


def test_who_waits_for_a_worker_that_ends_starts_over_at_once(model: Path, meeting_point: MeetingPoint) -> None:
    """The second of four ends by a failure: those behind it, which wait for it, and the first, which sends, notice."""
    members = together(model, meeting_point, length=4, timeout_s=300.0)
    ended: dict[int, str | StartOver] = {}
    runners = [
        Runner(one, lambda up: None, lambda why, rank=rank: ended.update({rank: why}))  # type: ignore[misc]
        for rank, one in enumerate(members)
    ]
    members.clear()
    for runner in (runners[0], *runners[2:]):
        for number in range(3):
            runner.put(task(number))
        runner.start()
    runners[1].put(task(0, replace(WORK, positions=(0, 1), key_positions=(0, 1))))  # not what the first one sends
    runners[1].start()
    assert all([runner.join(60) for runner in runners]), "long before their time limit has passed"
    assert all(isinstance(ended[rank], StartOver) for rank in range(4))
    assert "expected [0, 1, 32, 64]" in str(ended[1])
    assert "is gone" in str(ended[0]) and "is gone" in str(ended[2]) and "is gone" in str(ended[3])


def test_the_store_forgets_a_meeting_that_has_come_about(model: Path, meeting_point: MeetingPoint) -> None:
    together(model, meeting_point, length=4)
    assert not [name for name in meeting_point.names if name.startswith("denoise-0/")]
