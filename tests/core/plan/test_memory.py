"""What fits: every device is filled as far as its free memory goes, and not by one session further."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest

from longtake.core.errors import InvalidField, NoCapacity
from longtake.core.flow import Pace
from longtake.core.plan.autoencoder import TinyDecoderSize
from longtake.core.plan.memory import (
    CONTEXT_BYTES,
    Memory,
    Occupant,
    SharedDevice,
    Sizing,
    fit,
    footprint,
    rows,
)
from longtake.core.plan.model import Model
from longtake.core.plan.plan import Devices, plan
from longtake.core.plan.presets import PRESETS
from longtake.core.recipe.context import Level
from longtake.core.recipe.cues import CuePolicy, CueRule
from longtake.core.work import Role, WorkerId
from tests.core.support.recipes import altered

HIAR, LONGLIVE, LARGE = PRESETS["wan-hiar-480p"], PRESETS["wan-longlive-480p"], PRESETS["wan2.1-14b-480p"]


def worker(name: str, *, chain_length: int = 1, max_batch: int = 2) -> Occupant:
    return Occupant(
        worker=WorkerId(name), role=Role(name.split("-")[0]), chain_length=chain_length, value_bytes=2,
        max_batch=max_batch, process_bytes=CONTEXT_BYTES,
    )  # fmt: skip


def gpu(*occupants: Occupant, name: str = "GPU 0", total: float = 80, free: float = 80) -> SharedDevice:
    memory = Memory(total_bytes=int(total * 1e9), free_bytes=int(free * 1e9))
    return SharedDevice(name=name, memory=memory, occupants=occupants)


def sizing(model: Model = HIAR, replicas: int = 1, decoders: int = 1, *, spare: int = 0, most: int = 64) -> Sizing:
    pages = model.recipe.page_count + spare
    return Sizing(model=model, lane_pages=pages, replicas=replicas, decoders=decoders, max_sessions=most)


ONE = (gpu(worker("denoise-0"), worker("decode-0")),)
EACH = tuple(gpu(worker(f"denoise-{n}"), worker(f"decode-{n}"), name=f"GPU {n}") for n in range(4))
APART = (*(gpu(worker(f"denoise-{n}"), name=f"GPU {n}") for n in range(4)), gpu(worker("decode-0"), name="GPU 4"))


@pytest.mark.parametrize(
    ("wanted", "devices", "sessions", "pages", "slots"),
    [
        (sizing(), ONE, 2, 2 * 4 * 21, 2),
        (sizing(spare=3), ONE, 1, 4 * 24, 1),  # what is kept of a clip takes the room of the other
        (sizing(LONGLIVE), ONE, 10, 10 * 12, 10),  # its recache is a forward over four blocks
        (sizing(LONGLIVE, most=8), ONE, 8, 8 * 12, 8),
        (sizing(replicas=4, decoders=4), EACH, 8, 8 * 21, 2),  # 32 lanes, 8 sessions over four decoders
        (sizing(replicas=4), APART, 11, 11 * 21, 11),  # one decoder has slots for all
        (sizing(replicas=4, most=5), APART, 5, 5 * 21, 5),
    ],
)
def test_by_itself_a_cell_has_room_for_what_fits_and_is_let_in(
    wanted: Sizing, devices: tuple[SharedDevice, ...], sessions: int, pages: int, slots: int
) -> None:
    found = fit(wanted, devices)
    assert found.sessions == sessions
    for name, capacity in found.capacities.items():
        assert capacity == (pages if name.startswith("denoise") else slots), name
    assert all(taken(wanted, device, sessions) <= device.memory.usable_bytes for device in devices)
    full = any(taken(wanted, device, sessions + 1) > device.memory.usable_bytes for device in devices)
    assert full or sessions == wanted.max_sessions
    for device, held in zip(devices, found.table, strict=True):
        assert held.left_bytes == device.memory.free_bytes - taken(wanted, device, sessions)


def taken(wanted: Sizing, device: SharedDevice, sessions: int) -> int:
    """What even shares of so many sessions take of a device."""
    total = 0
    for occupant in device.occupants:
        each = footprint(wanted.model, occupant, lane_pages=wanted.lane_pages)
        lanes = math.ceil(sessions * wanted.model.recipe.lane_count / wanted.replicas)
        slots = math.ceil(sessions / wanted.decoders)
        total += each.weights_bytes + each.workspace_bytes + lanes * each.lane_bytes + slots * each.slot_bytes
    return total


def test_a_number_of_the_operators_is_refused_with_the_one_that_fits() -> None:
    asked = replace(sizing(), sessions_per_worker=16)
    why = r"GPU 0 has 80.0 of 80.0 GB free, 73.6 GB to give out; denoise-0, decode-0 take .* 26.4 GB for the first"
    with pytest.raises(InvalidField, match=rf"cluster.sessions_per_worker: 16 is not allowed; allowed: 1 to 2: {why}"):
        fit(asked, ONE)
    found = fit(replace(asked, sessions_per_worker=2), ONE)
    assert dict(found.capacities) == {"denoise-0": 168, "decode-0": 2}
    # Of each worker, whatever its share of the cell's sessions would be.
    assert (
        fit(replace(asked, replicas=4, decoders=4, sessions_per_worker=2), EACH).capacities[WorkerId("denoise-3")]
        == 168
    )


def test_what_has_no_room_for_one_session_is_refused_with_the_bytes() -> None:
    with pytest.raises(NoCapacity, match=r"no session fits: GPU 0 has 20.0 of 80.0 GB free"):
        fit(sizing(), [gpu(*ONE[0].occupants, free=20)])
    with pytest.raises(NoCapacity, match="no session fits"):
        fit(replace(sizing(), sessions_per_worker=1), [gpu(*ONE[0].occupants, free=1)])


def test_a_text_worker_takes_weights_and_no_room_of_sessions() -> None:
    wanted, text = sizing(), gpu(worker("text-0"), name="GPU 1", total=24, free=24)
    found = fit(wanted, (*ONE, text))
    assert found.capacities[WorkerId("text-0")] == 1 and found.sessions == 2
    assert rows(found.table)[2].split() == [
        *("GPU", "1", "text-0", "24.00", "of", "24.00", "11.36"),
        *("0", "=", "0.00", "0", "=", "0.00", "0.00", "1.00", "11.64", "-"),
    ]
    with pytest.raises(NoCapacity, match=r"text-0 take 12.36 GB"):
        fit(wanted, (*ONE, replace(text, memory=Memory(total_bytes=12 * 10**9, free_bytes=12 * 10**9))))


def test_workers_of_a_chain_hold_a_share_each() -> None:
    whole, part = (footprint(LARGE, worker("denoise-0", chain_length=length), lane_pages=21) for length in (1, 3))
    assert part.page_bytes == whole.page_bytes * 14 // 40  # of 40 layers the largest part has 14
    assert part.weights_bytes < 0.37 * whole.weights_bytes
    chain = [gpu(worker(f"denoise-0.{n}of3", chain_length=3), name=f"GPU {n}") for n in (1, 2, 3)]
    found = fit(sizing(LARGE), [*chain, gpu(worker("decode-0"), name="GPU 0")])
    assert set(found.capacities.values()) == {4 * 21, 1}  # one pool of pages, whatever part holds them
    with pytest.raises(NoCapacity):
        fit(sizing(LARGE), [gpu(worker("denoise-0"))])


def test_a_batch_takes_memory() -> None:
    small, large = (footprint(HIAR, worker("denoise-0", max_batch=size), lane_pages=21) for size in (1, 2))
    # Measured beside weights and pages on an H100: 0.3 GB for one op, 0.8 GB for two; a staged page comes on top.
    of_one, of_two = (each.workspace_bytes - CONTEXT_BYTES - each.page_bytes for each in (small, large))
    assert 0.3e9 < of_one < 0.7e9 and 0.8e9 < of_two < 1.3e9


def test_what_a_recipe_puts_into_one_forward_takes_memory_whatever_the_batch_limit() -> None:
    made = replace(
        altered(HIAR.recipe, level=Level.CLEAN, window_frames=12, sink_frames=3),
        cues=CuePolicy(change=CueRule.JOINT, keep_sinks=True),
    )
    assert made.most_together == 4
    swapping, recaching, batched = (
        footprint(replace(HIAR, recipe=recipe), worker("denoise-0", max_batch=size), lane_pages=12).workspace_bytes
        for recipe, size in ((replace(made, cues=CuePolicy()), 1), (made, 1), (made, 4))
    )
    assert swapping < recaching == batched


def test_a_decode_takes_what_was_measured() -> None:
    print_ = footprint(replace(HIAR, encoder=None), worker("decode-0"), lane_pages=21)
    assert print_.workspace_bytes - CONTEXT_BYTES == pytest.approx(7.27e9, rel=0.01)


@pytest.mark.parametrize("gigabytes", [40, 48, 80, 141])
@pytest.mark.parametrize("count", [1, 3, 4])
def test_the_start_takes_what_the_plan_says(gigabytes: int, count: int) -> None:
    given = Devices(count=count, memory_bytes=gigabytes * 10**9, forward_s=0.08, max_batch=2)
    planned = plan(HIAR, given, Pace.FAST)
    gpus = [gpu(worker(f"denoise-{n}"), name=f"GPU {n}", total=gigabytes, free=gigabytes) for n in range(count)]
    decoder = gpu(worker("decode-0"), name="GPU D", total=1000, free=1000)
    if planned.streams_by_memory == 0:
        with pytest.raises(NoCapacity):
            fit(sizing(replicas=count), [*gpus, decoder])
        return
    found = fit(sizing(replicas=count), [*gpus, decoder])
    assert found.sessions == planned.streams_by_memory
    assert found.capacities[WorkerId("denoise-0")] <= planned.pages_per_worker
    assert found.table[0].weights_bytes == planned.weights_bytes


def test_a_second_decoder_has_its_weights_and_a_state_in_every_slot() -> None:
    one, both = (
        footprint(replace(HIAR, tiny=tiny), worker("decode-0"), lane_pages=21)
        for tiny in (None, TinyDecoderSize(weights=10_000, state_values=70_000))
    )
    assert both.weights_bytes - one.weights_bytes == 2 * 10_000
    assert both.slot_bytes - one.slot_bytes == 2 * 70_000


def test_who_can_be_given_pictures_keeps_room_for_the_encoder_and_for_a_clip_between_two_frames() -> None:
    assert HIAR.encoder is not None
    without, with_it = (
        footprint(replace(HIAR, encoder=encoder), worker("decode-0"), lane_pages=21) for encoder in (None, HIAR.encoder)
    )
    assert with_it.weights_bytes - without.weights_bytes == 2 * HIAR.encoder.weights(16)
    assert with_it.workspace_bytes - without.workspace_bytes == 2 * HIAR.encoder.state_values(HIAR.geometry)
    assert with_it.slot_bytes == without.slot_bytes
