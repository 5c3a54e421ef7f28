"""Batched forwards give the oracle's bits, whoever shares them; the start-up probe says which sizes may."""

from __future__ import annotations

import asyncio
import random
import sys
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

import pytest

from benchmarks.tiny_model import write_tiny_model
from cluster.cell.engine import Engine
from cluster.cell.inbox import Inbox
from cluster.cell.outbox import Outbox, SegmentOut
from cluster.config import ClusterSection
from cluster.launch.launchers import launcher_for
from cluster.launch.plan import LaunchPlan
from cluster.render import in_process_engine, in_process_workers
from longtake.core.effects import Closed, EncodeText, Forget, PrepareStream
from longtake.core.endings import Ending
from longtake.core.events import Ack
from longtake.core.limits import Limits
from longtake.core.recipe.context import Level
from longtake.core.recipe.geometry import Geometry
from longtake.core.scheduler import Scheduler
from longtake.core.work import Ability, Role, SessionId
from tests.cluster.cell.world import Hashes, expected_hashes, open_event, settle, stream
from tests.samples import first
from workers.denoise import attention
from workers.denoise.attention import AttentionKernel, ItemPages, PagedAttention, Rotate
from workers.denoise.kv import PageMemory
from workers.messages import Down, Introduction, Task
from workers.models import weights
from workers.orders import Detached, Later
from workers.runner import Performer
from workers.start import probe
from workers.start.loading import LoadedWorker
from workers.start.spec import WorkerSpec

PROMPTS = ("a red ball resting in the fog", "a blue box swaying at night", "a green ring bobbing at dusk")


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tiny")
    write_tiny_model(folder)
    return folder


@cache
def oracle(model: Path, prompt: str, seed: int, blocks: int) -> list[str]:
    """Hashes of a session that ran alone, one op after the other."""
    return expected_hashes(model, {0: prompt}, seed, blocks)


@dataclass
class Port:
    """A real worker that does its next message when the test says so."""

    spec: WorkerSpec
    worker: Performer
    batch_limit: int
    mixes_kinds: bool = True
    waiting: deque[Down] = field(default_factory=deque)

    @property
    def introduction(self) -> Introduction:
        return Introduction(
            worker=self.spec.worker,
            role=self.spec.role,
            ability=Ability(capacity=self.spec.capacity, batch_limit=self.batch_limit, mixes_kinds=self.mixes_kinds),
            model_digest="",
        )

    def send(self, message: Down) -> None:
        self.waiting.append(message)

    def end(self, reason: str) -> None:
        raise AssertionError(reason)


@dataclass(frozen=True)
class Stream:
    """One session of a mix."""

    name: str
    prompt: str
    seed: int
    blocks: int


class Rig:
    """The real engine with real workers, and a die that says which of them goes on and when a client opens or acks."""

    def __init__(self, model: Path, *, batch_limit: int, denoise: int = 1, seed: int = 0) -> None:
        self.info = weights.load_info(model)
        self.hashes = Hashes(self.info.recipe.step_count)
        self.inbox = Inbox()
        scheduler = Scheduler(self.info.recipe, self.info.geometry, Limits())
        self.engine = Engine(scheduler, self.hashes, inbox=self.inbox)
        self.hashes.listen(self.engine)
        self.die = random.Random(seed)
        specs = in_process_workers(model, self.info.recipe, denoise=denoise, sessions=10, max_batch=1)
        self.ports = [Port(spec, LoadedWorker(spec).fresh(), batch_limit) for spec in specs]
        for port in self.ports:
            self.engine.join(port.introduction, port)

    def run(self, streams: Iterable[Stream]) -> None:
        """Let all streams run to their ends."""
        later = deque(streams)
        outboxes: dict[SessionId, Outbox] = {}
        closed: list[Closed] = []
        while later or len(closed) < len(outboxes):
            if later and self.die.random() < 0.6:
                asked = later.popleft()
                session = SessionId(asked.name)
                self.engine.attach(session, outboxes.setdefault(session, Outbox()))
                pictures = self.info.geometry.first_picture(asked.blocks)
                self.engine.submit(
                    open_event(self.engine, asked.name, asked.prompt, seed=asked.seed, picture_limit=pictures)
                )
            settle(self.engine, self.inbox)
            ready = [port for port in self.ports if port.waiting]
            if ready:
                port = self.die.choice(ready)
                message = port.waiting.popleft()
                assert isinstance(message, Task | PrepareStream | EncodeText | Forget)
                for answer in port.worker.perform(message):
                    report = answer.made() if isinstance(answer, Later) else answer
                    assert not isinstance(report, Detached)
                    self.engine.hear(port.spec.worker, port, report)
                settle(self.engine, self.inbox)
            for session, outbox in outboxes.items():
                if len(outbox) and self.die.random() < 0.5:
                    told = asyncio.run(outbox.get())
                    if isinstance(told, Closed):
                        closed.append(told)
                    if isinstance(told, SegmentOut):
                        now_s = self.engine.now_s()
                        self.engine.submit(Ack(now_s=now_s, session=session, segment=told.emit.block))
        assert {end.ending for end in closed} == {Ending.COMPLETED}
        self.engine.scheduler.check()


def mix(number: int) -> list[Stream]:
    """A random mix of sessions."""
    die = random.Random(number)
    return [
        Stream(name=f"s{n}", prompt=die.choice(PROMPTS), seed=die.choice((0, 7, 2**64 - 1)), blocks=die.choice((3, 4)))
        for n in range(die.randint(8, 10))
    ]


def check(model: Path, rig: Rig, streams: Iterable[Stream]) -> None:
    """Every block of every stream is the oracle's."""
    for asked in streams:
        assert rig.hashes.of(asked.name) == oracle(model, asked.prompt, asked.seed, 4)[: asked.blocks]


@pytest.mark.parametrize("batch_limit", first(2, [1, 5, 2, 8]))  # tests/identity has every size from 2 to 8
def test_every_block_is_the_oracles_whatever_shares_its_forwards(model: Path, batch_limit: int) -> None:
    rig = Rig(model, batch_limit=batch_limit, seed=batch_limit)
    streams = mix(batch_limit)
    rig.run(streams)
    check(model, rig, streams)
    assert max(rig.hashes.batches) == batch_limit
    assert (rig.hashes.mixed > 0) == (batch_limit > 1)


@pytest.mark.parametrize("level", [Level.CLEAN, Level.INPUT])
def test_every_level_is_the_oracles(tmp_path: Path, level: Level) -> None:
    write_tiny_model(tmp_path, level)
    rig = Rig(tmp_path, batch_limit=8, denoise=2)
    streams = mix(9)
    rig.run(streams)
    check(tmp_path, rig, streams)
    assert max(rig.hashes.batches) >= 3


class Swapped(PagedAttention):
    """Gives the first two items of a batch each other's pages."""

    def __init__(self, pool: PageMemory, items: list[ItemPages], kernel: AttentionKernel, rotate: Rotate) -> None:
        super().__init__(pool, items if len(items) == 1 else [items[1], items[0], *items[2:]], kernel, rotate)


class OnePage(PagedAttention):
    """Lets the first item of a batch read one page of the second in place of its own."""

    def __init__(self, pool: PageMemory, items: list[ItemPages], kernel: AttentionKernel, rotate: Rotate) -> None:
        if len(items) > 1 and len(items[0].reads) > len(items[0].writes):
            first, second, *rest = items
            own = next(page for page in first.reads if page not in first.writes)
            reads = tuple(second.reads[0] if page == own else page for page in first.reads)
            items = [ItemPages(reads=reads, writes=first.writes), second, *rest]
        super().__init__(pool, items, kernel, rotate)


@pytest.mark.parametrize("broken", [Swapped, OnePage])
def test_the_identity_test_fails_when_pages_of_batch_mates_are_swapped(
    model: Path, broken: type[PagedAttention], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(attention, "PagedAttention", broken)
    rig = Rig(model, batch_limit=4)
    streams = mix(4)
    rig.run(streams)
    with pytest.raises(AssertionError, match="=="):
        check(model, rig, streams)


async def open_all(engine: Engine, geometry: Geometry, streams: list[Stream]) -> None:
    pictures = {asked.name: geometry.first_picture(asked.blocks) for asked in streams}
    await asyncio.gather(
        *(
            stream(engine, asked.name, asked.prompt, seed=asked.seed, picture_limit=pictures[asked.name])
            for asked in streams
        )
    )


async def test_in_process_batches_are_the_oracles(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(probe, "MIN_GAIN", -10.0)  # every batch pays; those that are not exact are still refused
    info = weights.load_info(model)
    hashes = Hashes(info.recipe.step_count)
    streams = mix(20)
    workers = in_process_workers(model, info.recipe, sessions=len(streams))
    async with in_process_engine(model, workers, recorder=hashes) as engine:
        hashes.listen(engine)
        limits = [view.ability.batch_limit for view in engine.scheduler.workers() if view.role is Role.DENOISE]
        await open_all(engine, info.geometry, streams)
    for asked in streams:
        assert hashes.of(asked.name) == oracle(model, asked.prompt, asked.seed, 4)[: asked.blocks]
    assert limits == [8]
    assert 1 < max(hashes.batches) <= 8


async def test_batches_over_the_link_are_the_oracles(model: Path) -> None:
    info = weights.load_info(model)
    streams = mix(21)
    workers = in_process_workers(model, info.recipe, sessions=len(streams))
    hashes = Hashes(info.recipe.step_count)
    engine = Engine(Scheduler(info.recipe, info.geometry, Limits()), hashes)
    hashes.listen(engine)
    launcher = launcher_for(LaunchPlan(cluster=ClusterSection(launch="subprocess"), workers=workers), engine)
    running = asyncio.create_task(engine.run())
    await launcher.start()
    try:
        limits = [view.ability.batch_limit for view in engine.scheduler.workers() if view.role is Role.DENOISE]
        await open_all(engine, info.geometry, streams)
    finally:
        await launcher.stop()
        running.cancel()
    for asked in streams:
        assert hashes.of(asked.name) == oracle(model, asked.prompt, asked.seed, 4)[: asked.blocks]
    assert 1 < max(hashes.batches) <= max(limits)


def test_the_probe_of_what_is_served(model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for path in (model, Path("pocket/weights")):
        info = weights.load_info(path)
        spec = next(iter(in_process_workers(path, info.recipe, sessions=8)))
        profiles = LoadedWorker(spec).profile
        assert profiles is not None
        profile = profiles.own
        with capsys.disabled():
            sys.stdout.write(f"\nprobe of {info.name} on {spec.compute.device}: {profile}\n")
        assert profile.inexact is None, "this machine's kernels give other bits in batches: tell the maintainers"
        assert profile.limit >= 2
        assert profile.mixes_kinds
