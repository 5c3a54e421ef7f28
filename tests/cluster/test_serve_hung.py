"""Workers of a real server whose device never ends an op are given up, ended and started anew; streams go on."""

from __future__ import annotations

import asyncio
import logging
import os
import re
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path

import pytest

from benchmarks.chaos_processes import names
from longtake.client import Client, StreamOptions
from longtake.client.events import ClosedEvent, SegmentEvent
from tests.cluster.served import ROOT, Server
from tests.monitoring.promtool import firing
from tests.programs import required
from tests.workers.model_dir import write_model

HANGING = ROOT / "benchmarks" / "hanging"
STREAMS = 2
LEAST_S = 5.0
"""After which a worker is given up at the earliest."""
BACK_S = 60.0
"""By then a new process has taken its place."""
SLOW_S = 10.0

_log = logging.getLogger(__name__)


@pytest.fixture
def trouble(tmp_path: Path) -> Path:
    """The folder where a test says which worker hangs."""
    folder = tmp_path / "trouble"
    folder.mkdir()
    return folder


@pytest.fixture
def server(tmp_path: Path, trouble: Path) -> Iterator[Server]:
    model = tmp_path / "model"
    model.mkdir()
    write_model(model)
    environment = {"PYTHONPATH": f"{ROOT}{os.pathsep}{HANGING}", "HANG_FOLDER": str(trouble)}
    metrics = '[metrics]\naddress = "127.0.0.1:0"\n'
    running = Server(tmp_path, model, "subprocess", denoise=2, more=metrics, environment=environment)
    try:
        yield running
    finally:
        running.end()


@dataclass
class Told:
    """What one stream was told."""

    arrived_s: list[float] = field(default_factory=list)
    indices: list[int] = field(default_factory=list)
    data: list[bytes] = field(default_factory=list)
    ending: str = ""


async def watched(client: Client, told: Told, *, blocks: int) -> Told:
    options = StreamOptions(pace="realtime", seed=3, pictures=5 + 8 * (blocks - 1))
    async with client.stream("a red ball swaying at night", options) as stream:
        async for event in stream:
            if isinstance(event, SegmentEvent):
                told.arrived_s.append(time.monotonic())
                told.indices.append(event.index)
                told.data.append(event.data)
            elif isinstance(event, ClosedEvent):
                told.ending = event.ending
    return told


class Figures:
    """What the server tells Prometheus."""

    def __init__(self, server: Server) -> None:
        found = re.search(r"metrics at ([^,\s]+)", server.ready)
        assert found is not None, server.ready
        self._url = found[1]
        self.pages: list[str] = []
        """What was scraped, a second apart, while `scrape` ran."""

    async def page(self) -> str:
        return await asyncio.to_thread(lambda: urllib.request.urlopen(self._url, timeout=10).read().decode())

    async def scrape(self) -> None:
        """Scrape every second, as Prometheus does, until cancelled."""
        while True:
            self.pages.append(await self.page())
            await asyncio.sleep(1.0)

    async def now(self, name: str, **labels: str) -> float:
        """The sum of what has these labels."""
        page = await self.page()
        lines = [line for line in page.splitlines() if line.startswith(f"{name}{{")]
        wanted = [f'{label}="{value}"' for label, value in labels.items()]
        return sum(float(line.split()[-1]) for line in lines if all(each in line for each in wanted))


def pid_of(server: Server, worker: str) -> int | None:
    """The process of a worker."""
    return next((pid for pid in server.group() if worker in names(pid)), None)


async def hang(server: Server, trouble: Path, figures: Figures, worker: str) -> tuple[float, float]:
    """Have a worker hang until a new process has taken its place; how old its dispatch was seen to be, and how long it
    took."""
    hung, began_s, oldest_s = pid_of(server, worker), time.monotonic(), 0.0
    (trouble / worker).write_text(f"hang {hung}")
    while time.monotonic() - began_s < BACK_S:
        oldest_s = max(oldest_s, await figures.now("longtake_oldest_dispatch_seconds", worker=worker))
        new = pid_of(server, worker)
        here = await figures.now("longtake_workers", role=worker.partition("-")[0])
        expected = await figures.now("longtake_workers_expected", role=worker.partition("-")[0])
        if new not in (None, hung) and here == expected:
            return oldest_s, time.monotonic() - began_s
        await asyncio.sleep(0.2)
    raise AssertionError(f"{worker} was not replaced: {server.text()}")


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize("worker", ["denoise-1", "decode-0"])
async def test_a_hung_worker_is_replaced_and_serves_and_no_stream_is_lost(
    server: Server, trouble: Path, worker: str, tmp_path: Path
) -> None:
    figures = Figures(server)
    async with Client(server.address) as client:
        streams = [Told() for _ in range(STREAMS)]
        tasks = [asyncio.create_task(watched(client, told, blocks=72)) for told in streams]
        while not all(len(told.indices) >= 12 for told in streams):
            await asyncio.sleep(0.1)
        late = await figures.now("longtake_late_blocks_total", pace="realtime")
        scraping = asyncio.create_task(figures.scrape())
        oldest_s, took_s = await hang(server, trouble, figures, worker)
        scraping.cancel()
        assert oldest_s > 0.8 * LEAST_S
        assert await figures.now("longtake_workers_lost_total", cause="hang") == 1, "what the alert asks for"
        assert await figures.now("longtake_late_blocks_total", pace="realtime") > late
        for told in await asyncio.gather(*tasks):
            assert told.ending == "completed" and told.indices == [*range(72)]
        assert streams[0].data == streams[1].data, "equal seeds, struck alike"
        alone = await watched(client, Told(), blocks=20)
        assert alone.data == streams[0].data[:20], "the new worker serves, and nothing of what came was other"
    gaps_s = [after_s - before_s for told in streams for before_s, after_s in pairwise(told.arrived_s)]
    _log.info(
        "%s: replaced after %.1f s, its oldest dispatch was %.1f s old, the longest gap of a stream is %.1f s",
        *(worker, took_s, oldest_s, max(gaps_s)),
    )
    assert "its process is ended and started anew" in server.text()
    alerts = firing(required("promtool"), tmp_path, "LongtakeWorkersHung", figures.pages)
    assert LEAST_S - 1 < min(alerts) < took_s - 3, "while the process hung, of what it was scraped"


@pytest.mark.slow
@pytest.mark.timeout(300)
async def test_a_decoder_that_hangs_while_it_prepares_a_stream_is_replaced_and_the_stream_begins(
    server: Server, trouble: Path
) -> None:
    """No dispatch is in flight, and no stream runs that could be late."""
    figures = Figures(server)
    async with Client(server.address) as client:
        for _ in range(3):
            assert (await watched(client, Told(), blocks=1)).ending == "completed"
        hanging = asyncio.create_task(hang(server, trouble, figures, "decode-0"))
        await asyncio.sleep(0.5)
        task = asyncio.create_task(watched(client, Told(), blocks=2))
        oldest_s, took_s = await hanging
        told = await task
        assert (told.ending, told.indices) == ("completed", [0, 1])
        assert oldest_s > 0.8 * LEAST_S
        assert await figures.now("longtake_workers_lost_total", cause="hang") == 1
    _log.info("replaced after %.1f s, its oldest order was %.1f s old", took_s, oldest_s)
    assert "it hangs: the preparation of a stream has taken more than 5 s" in server.text()


@pytest.mark.slow
@pytest.mark.timeout(300)
async def test_a_worker_that_is_merely_slow_is_not_given_up(server: Server, trouble: Path) -> None:
    figures = Figures(server)
    async with Client(server.address) as client:
        told = Told()
        task = asyncio.create_task(watched(client, told, blocks=40))
        while len(told.indices) < 8:
            await asyncio.sleep(0.1)
        (trouble / "denoise-1").write_text("slow 5")
        await asyncio.sleep(SLOW_S)
        (trouble / "denoise-1").unlink()
        await task
        assert told.ending == "completed" and told.indices == [*range(40)]
        assert await figures.now("longtake_workers_lost_total") == 0
