"""The scheduler in simulated time: tables of the cost model, deadlines, admission, losses; small and deterministic."""

from __future__ import annotations

from functools import partial

import pytest

from benchmarks.cell_model import Client, Simulation
from benchmarks.hardware import ENOUGH_BYTES, Hardware
from benchmarks.image_model import Copying
from benchmarks.policies import earliest_due_first, first_in_first_out
from longtake.core.carry.balancing import Balance
from longtake.core.cell import UrgencyRule
from longtake.core.dispatch.urgency import slack_first
from longtake.core.endings import Ending
from longtake.core.flow import Pace
from longtake.core.limits import Limits
from longtake.core.plan.presets import HIAR_RECIPE, SIZE_480P
from longtake.core.sessions.holds import Hold
from longtake.core.sessions.retention import Depths
from longtake.core.work import SessionId
from tests.samples import first

H100_S = 0.091
LIVE = Client(pace=Pace.REALTIME, window=2)
BULK = Client(pace=Pace.FAST)
OPEN_TO_ALL = Limits(max_sessions=10_000, load_limit=1.03, journal_bytes=ENOUGH_BYTES)
"""So many live streams that the devices are busy all the time: what admission normally prevents."""


def live_streams(count: int, hardware: Hardware, *, bulk: int = 0, rule: UrgencyRule = slack_first) -> Simulation:
    made = Simulation(hardware, limits=OPEN_TO_ALL, rule=rule, warmup_s=10)
    for number in range(count):
        made.add(Client(pace=Pace.REALTIME, window=2, begins_s=0.37 * number))
    for _ in range(bulk):
        made.add(BULK)
    return made


@pytest.mark.parametrize(("blocks", "forwards"), [(7, 16), (27, 56)])
def test_one_stream_on_four_devices_takes_the_time_that_can_be_computed(blocks: int, forwards: int) -> None:
    """(2 N + 2) t through the pipeline, (8 N - 4) t on one device: the last block needs no commits."""
    spans = {}
    for devices in (1, 4):
        made = Simulation(Hardware(devices=devices, forward_s=H100_S))
        session = made.add(Client(pace=Pace.FAST, blocks=blocks))
        made.run(H100_S * 8 * blocks)
        assert made.streams[session].ending is Ending.COMPLETED
        spans[devices] = made.streams[session].closed_s / H100_S
    assert spans == {1: pytest.approx(8 * blocks - 4), 4: pytest.approx(forwards)}


FURTHER = ((4, 4, 0.0, 1.0), (8, 2, 0.0, 0.99), (4, 1, 0.08, 0.96))


@pytest.mark.parametrize(
    ("devices", "streams", "jitter", "share"),
    [
        (4, 1, 0.0, 0.99),
        (8, 1, 0.0, 0.49),
        (4, 4, 0.08, 0.99),
        *(pytest.param(*row, marks=pytest.mark.slow) for row in FURTHER),
    ],
)
def test_backlogged_streams_get_the_share_of_the_limit_that_the_cost_model_says(
    devices: int, streams: int, jitter: float, share: float
) -> None:
    made = Simulation(
        Hardware(devices=devices, forward_s=H100_S, jitter=jitter, hiccups=jitter / 8), warmup_s=5
    )  # fmt: skip
    for _ in range(streams):
        made.add(BULK)
    made.run(60)
    assert made.share_of_limit == pytest.approx(share, abs=0.03)
    made.scheduler.check()


def test_a_run_is_the_same_to_the_last_digit() -> None:
    figures = []
    for _ in range(2):
        made = live_streams(4, Hardware(devices=3, forward_s=0.06, jitter=0.08, hiccups=0.01), bulk=1)
        made.run(20)
        figures.append((made.blocks, made.utilisation, made.latency_s(50), made.late_share()))
    assert figures[0] == figures[1]


@pytest.mark.parametrize(("devices", "forward_s", "streams"), [(4, 0.091, 4), (4, 0.06, 6), (3, 0.06, 4)])
def test_the_devices_hold_as_many_live_streams_as_the_cost_model_says(
    devices: int, forward_s: float, streams: int
) -> None:
    made = live_streams(streams, Hardware(devices=devices, forward_s=forward_s, jitter=0.08))
    made.run(40)
    assert made.late_share() <= 0.001
    assert min(stream.counted for stream in made.streams.values()) > 35


def test_a_flood_of_bulk_streams_makes_live_ones_late_first_in_first_out_and_by_deadline_does_not() -> None:
    hardware = Hardware(devices=4, forward_s=0.02, jitter=0.1)
    late = {}
    for rule in (first_in_first_out, slack_first):
        made = live_streams(14, hardware, bulk=14, rule=rule)
        made.run(20)
        late[rule] = made.late_share()
        assert made.utilisation > 0.97
    assert late[first_in_first_out] > 0.9
    assert late[slack_first] == 0


@pytest.mark.slow
def test_only_slack_keeps_the_stream_with_the_longest_way_to_the_screen_in_time() -> None:
    """One stream's decoder takes 0.3 s; pairs of short streams with quick decoders come and go beside it."""
    late = dict.fromkeys((first_in_first_out, earliest_due_first, slack_first), 0)
    slow = Hardware(devices=1, decoders=2, forward_s=0.026, decode_s=0.01, stragglers={"decode-0": 30.0})
    for rule in late:
        for offset in range(0, 15, 3):
            made = Simulation(slow, limits=OPEN_TO_ALL, rule=rule)
            made.add(Client(pace=Pace.REALTIME, window=1, buffer=0))
            for wave in range(8):
                begins_s = 5 * wave + 3 + 0.05 * offset
                made.add(Client(pace=Pace.REALTIME, window=1, buffer=0, begins_s=begins_s, blocks=5))
                made.add(Client(pace=Pace.REALTIME, window=1, buffer=0, begins_s=begins_s + 0.05, blocks=5))
            made.run(45)
            late[rule] += sum(stream.late for stream in made.streams.values())
    assert late[first_in_first_out] > late[earliest_due_first] > 0
    assert late[slack_first] == 0


def test_at_twice_the_load_the_admitted_are_in_time_and_the_others_are_told_why() -> None:
    made = Simulation(Hardware(devices=4, forward_s=H100_S, jitter=0.08, hiccups=0.01), warmup_s=5)
    for number in range(8):
        made.add(Client(pace=Pace.REALTIME, window=2, begins_s=0.2 * number, blocks=30, patience=10))
    made.run(60)
    assert made.late_share() <= 0.001
    assert sum(stream.ending is Ending.COMPLETED for stream in made.streams.values()) > 3
    refusals = [text for stream in made.streams.values() for text in stream.refusals]
    assert refusals
    assert refusals[0].startswith("No room for another live stream: ")
    assert "each of its 4 lanes takes 24 %. Try again in " in refusals[0]


def test_bulk_streams_are_admitted_by_pages_alone_and_use_what_is_left() -> None:
    made = Simulation(Hardware(devices=4, forward_s=H100_S), warmup_s=5)
    for _ in range(3):
        made.add(LIVE)
    for _ in range(9):
        made.add(BULK)
    made.run(40)
    assert not any(stream.refusals for stream in made.streams.values())
    assert made.late_share() == 0
    assert made.utilisation > 0.99


def test_before_anything_is_measured_pages_alone_decide_and_then_the_rate() -> None:
    made = Simulation(Hardware(devices=1, forward_s=H100_S, calibrated=False))
    early, late = made.add(LIVE), made.add(Client(pace=Pace.REALTIME, begins_s=2.0))
    made.run(3)
    assert not made.streams[early].refusals
    assert "No room for another live stream" in made.streams[late].refusals[0]


def test_a_lost_worker_ends_no_stream_and_the_devices_are_busy_with_new_blocks_again() -> None:
    made = Simulation(Hardware(devices=4, forward_s=H100_S), warmup_s=30)
    for _ in range(8):
        made.add(BULK)
    made.lose(2, at_s=10, back_after_s=5)
    made.run(60)
    assert [stream.ending for stream in made.streams.values()] == 8 * [None]
    assert len(made.recovered_s) == 8, "each had a lane there"
    assert max(made.recovered_s) < 5
    assert made.share_of_limit > 0.95
    made.scheduler.check()


@pytest.mark.parametrize(("layers", "blocks"), [(2, 12), (6, 36), (30, 82)])
def test_what_a_device_held_of_a_stream_is_made_again_by_as_many_forwards_as_it_remembers(
    layers: int, blocks: int
) -> None:
    """Two lanes, for each of them six blocks times layers, or all that there were: 30 s of them at 4 forwards each."""
    made = Simulation(Hardware(devices=2, forward_s=H100_S, depths=Depths(layers=layers, frames=38)))
    session = made.add(BULK)
    made.lose(1, at_s=30, back_after_s=100)
    made.run(60)
    (taken_s,) = made.recovered_s
    assert taken_s / H100_S == pytest.approx(2 * blocks, abs=6)
    assert made.streams[session].ending is None


def straggling(factor: float) -> Simulation:
    """Eight devices of which one is slow, which nobody knows beforehand, with two bulk streams for each."""
    hardware = Hardware(
        devices=8, forward_s=0.06, jitter=0.02, stragglers={"denoise-7": factor}, calibrated=False
    )  # fmt: skip
    made = Simulation(hardware, warmup_s=20)
    for _ in range(16):
        made.add(Client(pace=Pace.FAST, window=8))
    made.run(60)
    return made


@pytest.mark.parametrize("factor", first(1, [1.3, 1.2, 1.5]))
def test_a_straggler_sheds_lanes_and_the_others_make_up_for_it(factor: float) -> None:
    made = straggling(factor)
    assert made.share_of_limit >= 0.95
    assert 1 <= made.images.lanes_moved <= 4


def test_without_moves_everybody_waits_for_the_straggler(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Balance, "moves", lambda *_, **__: ())
    assert straggling(1.3).share_of_limit < 0.93


def test_moves_that_cross_the_loss_of_a_device_leave_nothing_behind_and_repeat_to_the_last_digit() -> None:
    """Lanes go to a device that has come back; while they are under way it is lost again."""
    figures = []
    hardware = Hardware(devices=6, forward_s=0.06, jitter=0.08, copying=Copying(network_bytes_per_s=2e9))
    for _ in range(2):
        made = Simulation(hardware, warmup_s=5)
        crossed: list[int] = []
        moving = partial(_moving, made, crossed)
        for number in range(12):
            made.add(Client(pace=Pace.FAST, blocks=10 + 5 * number, reopens=True))
        for number in range(5):
            for at_s in (6 + 8 * number, 6 + 8 * number + 3.5):
                made.at(at_s, moving)
                made.lose(number, at_s=at_s, back_after_s=1)
        made.run(60)
        made.scheduler.check()
        figures.append((made.blocks, made.utilisation, made.images.lanes_moved, made.images.bytes_moved))
        assert made.images.lanes_moved > 10
        assert sum(map(bool, crossed)) >= 5, "lanes are on their way at every other loss"
        assert {stream.ending for stream in made.streams.values()} == {Ending.COMPLETED, None}
        done = [stream for stream in made.streams.values() if stream.ending is Ending.COMPLETED]
        assert [stream.emitted for stream in done] == [stream.client.blocks for stream in done]
    assert figures[0] == figures[1]


def _moving(made: Simulation, crossed: list[int]) -> None:
    """Note how many lanes are on their way."""
    held = [hold for session in made.scheduler.cell.sessions.values() for _, hold in session.lane_holds]
    crossed.append(held.count(Hold.MOVING))


def test_the_model_fails_when_the_scheduler_forgets_deadlines() -> None:
    made = live_streams(14, Hardware(devices=4, forward_s=0.02), bulk=14)
    urgency = made.scheduler.cell.urgency
    made.scheduler.cell.urgency = lambda cell, ticket: urgency(cell, ticket)._replace(deadline_s=0.0)
    made.run(20)
    assert made.late_share() > 0.5


def test_constants_of_the_model_are_those_of_the_note() -> None:
    assert SIZE_480P.block_s == 0.75
    assert SIZE_480P.tokens_per_frame == 1560
    assert HIAR_RECIPE.history_blocks == 6
    assert SessionId("s000000") in live_streams(1, Hardware(devices=1, forward_s=0.1)).streams
