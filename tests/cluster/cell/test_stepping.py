"""An engine that is stepped by hand: no event loop, a clock of the test's own, and events when the test takes them."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Sequence
from itertools import pairwise

import pytest

from cluster.cell import ticking
from cluster.cell.chains import Chains
from cluster.cell.engine import Engine
from cluster.cell.inbox import Inbox
from cluster.cell.outbox import Outbox
from cluster.cell.signal import Signal
from longtake.core.effects import Effect, EncodeText, PrepareStream
from longtake.core.errors import Unavailable
from longtake.core.events import Drain, Event, Open, Tick, WorkerJoined, WorkerLost
from longtake.core.limits import Limits
from longtake.core.openings import Opened
from longtake.core.scheduler import Scheduler
from longtake.core.work import Ability, ConditioningRef, Role, SessionId, WorkerId
from tests.cluster.cell.world import open_event
from tests.workers.model_dir import model_info
from workers.messages import Down, Encoded, Introduction, Prepared

SESSION = SessionId("s")


class Port:
    """What a worker that never answers was sent."""

    def __init__(self) -> None:
        self.sent: list[Down] = []
        self.may_end = False

    def send(self, message: Down) -> None:
        self.sent.append(message)

    def end(self, reason: str) -> None:
        assert self.may_end, reason


class Bench:
    """An engine whose clock stands still unless the test moves it, and two workers that have dialled in."""

    def __init__(self) -> None:
        info = model_info()
        self.time_s = 100.0
        self.inbox = Inbox()
        self.outbox = Outbox()
        self.seen: list[tuple[Event, int]] = []
        """Each event, and how many messages had been sent to anybody when it was recorded."""
        self.ports = {role: Port() for role in (Role.DENOISE, Role.DECODE)}
        scheduler = Scheduler(info.recipe, info.geometry, Limits())
        self.engine = Engine(scheduler, self, now_s=lambda: self.time_s, inbox=self.inbox)
        for role, port in self.ports.items():
            worker = WorkerId(f"{role.value}-0")
            ability = Ability(capacity=60)
            self.engine.join(Introduction(worker=worker, role=role, ability=ability, model_digest="m"), port)

    def fold(self, event: Event, effects: Sequence[Effect]) -> None:
        self.seen.append((event, len(self.outbox) + sum(len(port.sent) for port in self.ports.values())))

    def step(self) -> Event:
        event = self.inbox.take()
        assert event is not None
        self.engine.step(event)
        return event


def test_a_session_opens_in_as_many_steps_as_there_are_events_and_no_other_time_than_the_given() -> None:
    bench = Bench()
    assert [type(bench.step()) for _ in bench.ports] == [WorkerJoined, WorkerJoined]
    bench.time_s = 101.0
    bench.engine.attach(SESSION, bench.outbox)
    bench.engine.submit(open_event(bench.engine, SESSION, "a red ball"))
    assert not bench.engine.scheduler.sessions(), "nothing is decided before the step"
    bench.step()
    decoder = bench.ports[Role.DECODE]
    assert len(decoder.sent) == 2, "its text and its stream are prepared"
    bench.time_s = 102.0
    text = ConditioningRef(session=SESSION, version=0)
    encoded = Encoded(conditioning=text, tensor=b"text", notice="")
    for answer in (encoded, Prepared(session=SESSION, header=b"h", media_type="m")):
        bench.engine.hear(WorkerId("decode-0"), decoder, answer)
    assert bench.engine.inbox_events == 2 and not bench.ports[Role.DENOISE].sent
    bench.step()
    bench.step()
    assert bench.inbox.take() is None
    assert len(bench.ports[Role.DENOISE].sent) == 2, "one op runs, one waits behind it"
    assert isinstance(asyncio.run(bench.outbox.get()), Opened)
    assert [event.now_s for event, _ in bench.seen] == [100.0, 100.0, 101.0, 102.0, 102.0]
    assert [sent for _, sent in bench.seen] == [0, 0, 2, 2, 5], "an event is recorded when its effects are performed"
    steps = bench.engine.step_s
    assert (steps.count, steps.total) == (5, 0.0), "how long a step takes is of that clock too"


def test_what_is_decided_for_a_worker_does_not_reach_the_one_that_has_dialled_in_in_its_place() -> None:
    """While the loss of the first is in the inbox behind what makes the scheduler give it orders."""
    bench = Bench()
    while bench.inbox:
        bench.step()
    bench.engine.attach(SESSION, bench.outbox)
    bench.engine.submit(open_event(bench.engine, SESSION, "a red ball"))
    older, newer = bench.ports[Role.DECODE], Port()
    older.may_end = True
    ability, name = Ability(capacity=60), WorkerId("decode-0")
    bench.engine.join(Introduction(worker=name, role=Role.DECODE, ability=ability, model_digest="m"), newer)
    assert isinstance(bench.step(), Open) and bench.engine.scheduler.sessions()
    assert not older.sent and not newer.sent, "the one that it was meant for is gone"
    assert [type(bench.step()) for _ in range(2)] == [WorkerLost, WorkerJoined]
    assert {type(message) for message in newer.sent} == {EncodeText, PrepareStream}, "asked for once more, of this one"


def test_a_drain_by_hand_is_asked_for_at_once_and_over_when_it_was_handled() -> None:
    bench = Bench()
    for _ in bench.ports:
        bench.step()
    bench.engine.begin_drain(3.0)
    assert bench.engine.is_draining and not bench.engine.is_drained
    assert bench.step() == Drain(now_s=100.0, grace_s=3.0)
    assert bench.engine.is_drained


async def test_run_steps_what_is_in_the_inbox_and_adds_the_ticks() -> None:
    bench = Bench()
    running = asyncio.create_task(bench.engine.run())
    async with asyncio.timeout(10):
        while not any(isinstance(event, Tick) for event, _ in bench.seen):
            await asyncio.sleep(0.005)
    running.cancel()
    assert [type(event) for event, _ in bench.seen[:2]] == [WorkerJoined, WorkerJoined]
    with pytest.raises(asyncio.CancelledError):
        await running


class Waking(Scheduler):
    """A scheduler that waits for the playback clock of a session."""

    at_s = math.inf

    @property
    def wakes_at_s(self) -> float:
        return self.at_s


async def test_a_tick_comes_when_a_playback_clock_asks_for_it_and_not_in_quick_succession(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(ticking, "LONGEST_TICK_S", 60.0)
    info, seen = model_info(), list[Event]()

    class Log:
        def fold(self, event: Event, effects: Sequence[Effect]) -> None:
            seen.append(event)

    scheduler = Waking(info.recipe, info.geometry, Limits())
    cell = Engine(scheduler, Log())
    running = asyncio.create_task(cell.run())
    async with asyncio.timeout(20):
        while not seen:
            await asyncio.sleep(0.005)
        asked_s = scheduler.at_s = cell.now_s() + 0.1
        cell.submit(WorkerLost(now_s=cell.now_s(), worker=WorkerId("nobody"), reason="gone"))
        while len(seen) < 5:  # its time stays in the past, as if a session never began its block
            await asyncio.sleep(0.005)
    running.cancel()
    first, lost, *later = seen
    assert isinstance(first, Tick) and isinstance(lost, WorkerLost)
    assert all(isinstance(event, Tick) for event in later)
    times_s = [event.now_s for event in later]
    assert asked_s <= times_s[0] + 1e-6
    assert all(after - before >= 0.019 for before, after in pairwise(times_s))


async def test_a_signal_wakes_whoever_waits_and_is_not_kept_for_later() -> None:
    signal = Signal()
    signal.set()
    waiting = asyncio.create_task(signal.wait())
    await asyncio.sleep(0)
    assert not waiting.done()
    waiting.cancel()
    await asyncio.sleep(0)
    signal.set()
    again = asyncio.create_task(signal.wait())
    await asyncio.sleep(0)
    signal.set()
    signal.set()
    await asyncio.wait_for(again, 10)
    assert waiting.cancelled()


async def test_an_inbox_gives_its_events_in_order_to_whoever_waits() -> None:
    inbox = Inbox()
    first, second = Tick(now_s=1.0), WorkerLost(now_s=2.0, worker=WorkerId("w"), reason="gone")
    waiting = asyncio.create_task(inbox.get())
    await asyncio.sleep(0)
    assert not waiting.done()
    inbox.put(first)
    inbox.put(second)
    assert (await waiting, len(inbox), await inbox.get(), len(inbox)) == (first, 1, second, 0)


async def test_workers_that_do_not_come_are_named() -> None:
    bench = Bench()
    chains = Chains(bench.engine)
    both = frozenset(map(WorkerId, ("denoise-0", "decode-0")))
    await chains.attached(both, timeout_s=0.0)
    waiting = asyncio.create_task(chains.attached(both | {WorkerId("x-1"), WorkerId("x-0")}, timeout_s=5.0))
    await asyncio.sleep(0.05)
    assert not waiting.done(), "the time is the engine's"
    bench.time_s += 6.0
    with pytest.raises(Unavailable, match=r"^x-0, x-1 did not attach within 5 s$"):
        await waiting
