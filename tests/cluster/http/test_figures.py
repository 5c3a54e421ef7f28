"""What a scrape is told of workers and certificates, and that the end of a server is told to one."""

from __future__ import annotations

import asyncio
import contextlib
from pathlib import Path

import httpx

from cluster.access.audit import Audit
from cluster.access.call_counts import CallCounts
from cluster.cell.engine import Engine
from cluster.frontend.offer import Offer, WireLimits
from cluster.http.figures import CellFacts, CellFigures
from longtake.core.limits import Limits
from longtake.core.work import Role, WorkerId
from monitoring.exposition import Scrape
from tests.cluster.frontend.toy import GEOMETRY, RECIPE
from tests.cluster.http.desk import Deaf, Desk, Page, introduction, served
from workers.messages import Site


def figures(engine: Engine) -> dict[tuple[str, ...], float]:
    """What a cell of a denoise and a decode worker tells a scrape, by name and values of labels but the first."""
    offer = Offer(name="m", recipe=RECIPE, geometry=GEOMETRY, limits=Limits(), wire=WireLimits())
    facts = CellFacts(offer=offer, device="cpu", expected={Role.DENOISE: 1, Role.DECODE: 1}, started_at_s=0.0)
    scrape = Scrape("a")
    CellFigures(engine, CallCounts(), facts, Audit())(scrape)
    samples = [sample for family in scrape.families for sample in family.samples]
    return {(sample.name, *list(sample.labels.values())[1:]): sample.value for sample in samples}


def test_no_worker_is_expected_before_all_were_there_and_then_for_good() -> None:
    desk = Desk()
    port = desk.join()
    desk.settle()
    told = figures(desk.engine)
    assert told[("longtake_started",)] == 0
    assert told["longtake_workers", "denoise"] == 1
    assert not [key for key in told if key[0] == "longtake_workers_expected"]
    desk.engine.join(introduction("decode-0", Role.DECODE), Deaf())
    desk.settle()
    assert figures(desk.engine)[("longtake_started",)] == 1
    desk.engine.leave(WorkerId("denoise-0"), port, "its link broke")
    desk.settle()
    told = figures(desk.engine)
    assert told[("longtake_started",)] == 1
    assert told["longtake_workers", "denoise"] == 0
    assert told["longtake_workers_expected", "denoise"] == 1


def test_each_joined_worker_says_where_it_runs_and_a_chain_where_its_members_do() -> None:
    desk = Desk()
    gpus = [Site(node=f"node-{n}", pod=f"pod-{n}", device=f"GPU-{n}") for n in range(2)]
    desk.engine.join(introduction("denoise-0", sites=(gpus[0], gpus[1], gpus[1])), Deaf())
    port = Deaf()
    desk.engine.join(introduction("decode-0", Role.DECODE, (Site(node="host", pod="", device="cpu"),)), port)
    desk.settle()
    infos = {key[1:] for key in figures(desk.engine) if key[0] == "longtake_worker_info"}
    assert infos == {
        ("denoise-0", "denoise", "node-0", "pod-0", "GPU-0"),
        ("denoise-0", "denoise", "node-1", "pod-1", "GPU-1"),
        ("decode-0", "decode", "host", "", "cpu"),
    }
    desk.engine.leave(WorkerId("decode-0"), port, "its link broke")
    desk.settle()
    assert "decode-0" not in {key[1] for key in figures(desk.engine) if key[0] == "longtake_worker_info"}


async def test_a_server_ends_when_a_scrape_has_seen_that_it_drains(tmp_path: Path) -> None:
    seen: list[float] = []

    async def scrape_until_gone(url: str) -> None:
        async with httpx.AsyncClient() as client:
            with contextlib.suppress(httpx.HTTPError):
                while True:
                    seen.append(Page((await client.get(url)).text).sum("longtake_draining"))
                    await asyncio.sleep(0.5)

    async with served(tmp_path) as ready:
        scraping = asyncio.create_task(scrape_until_gone(ready.metrics))
        while len(seen) < 3:
            await asyncio.sleep(0.01)
        await asyncio.sleep(0.1)  # an idle server drains in far less than what is left until the next scrape
    await scraping
    assert seen[:3] == [0, 0, 0]
    assert seen[-1] == 1
