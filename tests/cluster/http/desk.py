"""A server with metrics, what it tells a scrape, and a desk of an engine with workers that do nothing."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
from prometheus_client.parser import text_string_to_metric_families

from benchmarks.simulated_streams import small_pictures
from cluster.cell.engine import Engine
from cluster.cell.inbox import Inbox
from cluster.config import parse_config
from cluster.serve import Ready, Stop, serve_until
from longtake.core.events import WorkerLost
from longtake.core.limits import Limits
from longtake.core.scheduler import Scheduler
from longtake.core.work import Ability, Loss, Role, WorkerId
from tests.cluster.cell.world import settle
from tests.cluster.frontend.toy import GEOMETRY, RECIPE
from tests.workers.model_dir import model_info
from workers.messages import Down, Introduction, Site
from workers.models.weights import save_info

PROMPT = "a red ball swaying at night"
BLOCKS = 6
SERVICE = "longtake.v1.LongtakeService"


class Page:
    """One scrape."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.samples = {
            (sample.name, frozenset(sample.labels.items())): sample.value
            for family in text_string_to_metric_families(text)
            for sample in family.samples
        }

    def has(self, name: str) -> bool:
        """Whether there is any sample of this name."""
        return any(found == name for found, _ in self.samples)

    def sum(self, name: str, **labels: str) -> float:
        """All samples of a name that bear these labels, which must not be none."""
        values = [value for (found, has), value in self.samples.items() if found == name and labels.items() <= has]
        assert values, f"no sample of {name} with {labels}"
        return sum(values)


async def scraped(ready: Ready) -> Page:
    async with httpx.AsyncClient() as client:
        answer = await client.get(ready.metrics)
    assert answer.status_code == 200
    return Page(answer.text)


@asynccontextmanager
async def served(folder: Path, device: str = "simulated:1ms", **cluster: object) -> AsyncIterator[Ready]:
    """A server of simulated workers in this process."""
    save_info(folder, small_pictures(model_info()))
    config = parse_config(
        {
            "model": {"path": str(folder), "device": device},
            "cluster": {"launch": "in-process", "denoise_workers": 2, "sessions_per_worker": 4} | cluster,
            "limits": {"max_queued": 0},
            "listen": {"port": 0},
            "metrics": {"address": "127.0.0.1:0", "cell": "under-test"},
        }
    )
    stop, said = Stop(), asyncio.Queue[Ready]()
    serving = asyncio.create_task(serve_until(config, stop, say=said.put_nowait))
    try:
        getting = asyncio.create_task(said.get())
        await asyncio.wait((serving, getting), return_when=asyncio.FIRST_COMPLETED)
        if serving.done():
            serving.result()
        yield await getting
    finally:
        stop()
        await serving


class Deaf:
    """A port nobody listens at."""

    def send(self, message: Down) -> None:
        """Nothing."""

    def end(self, reason: str) -> None:
        """Nothing."""


class Losses:
    """A recorder of how workers were lost."""

    def __init__(self) -> None:
        self.causes: list[Loss] = []

    def fold(self, event: object, effects: object) -> None:
        """See monitoring.recorder.Recorder."""
        if isinstance(event, WorkerLost):
            self.causes.append(event.cause)


def introduction(name: str, role: Role = Role.DENOISE, sites: tuple[Site, ...] = ()) -> Introduction:
    return Introduction(worker=WorkerId(name), role=role, ability=Ability(capacity=36), model_digest="toy", sites=sites)


class Desk:
    """An engine whose inbox is emptied by hand."""

    def __init__(self) -> None:
        self.losses = Losses()
        self.inbox = Inbox()
        self.engine = Engine(Scheduler(RECIPE, GEOMETRY, Limits()), self.losses, inbox=self.inbox)

    def join(self) -> Deaf:
        """denoise-0 dials in."""
        port = Deaf()
        self.engine.join(introduction("denoise-0"), port)
        return port

    def settle(self) -> list[Loss]:
        settle(self.engine, self.inbox)
        return self.losses.causes
