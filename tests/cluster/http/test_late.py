"""A decoder that is slower than it says: while streams are late no further realtime one is let in, and all are told."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import grpc
import pytest

from longtake.cli.top_figures import warnings
from longtake.client import Client, Stream, StreamOptions
from longtake.client.errors import ClientError
from longtake.core.dispatch import lateness
from longtake.core.work import Role
from tests.cluster.http.desk import PROMPT, Page, scraped, served
from workers.messages import Done
from workers.orders import Answer, Order
from workers.simulated.workers import PacedWorker

LIVE = StreamOptions(pace="realtime", codec="raw")
DECODER = "simulated-decode-0"


@pytest.fixture(autouse=True)
def times(monkeypatch: pytest.MonkeyPatch) -> None:
    """Decoders say that a decode took 20 ms, whatever it took; a hiccup lasts half a second."""

    plain = PacedWorker.perform

    def perform(worker: PacedWorker, message: Order) -> Iterator[Answer]:
        for report in plain(worker, message):
            if isinstance(report, Done) and worker.role is Role.DECODE:
                report = replace(report, seconds=0.02)
            yield report

    monkeypatch.setattr(PacedWorker, "perform", perform)
    monkeypatch.setattr(lateness, "HICCUP_S", 0.5)


async def shown(stream: Stream) -> None:
    async for _ in stream:
        pass


async def test_while_streams_are_late_no_further_one_is_let_in_and_every_surface_says_so(tmp_path: Path) -> None:
    """A block is half a second, a decode 0.7 s: one stream is too many, and by what is measured 23 would fit."""
    async with served(tmp_path, device="simulated:1ms,decode=700ms") as ready, Client(ready.address) as client:
        before = await scraped(ready)
        async with client.stream(PROMPT, LIVE) as first, client.stream(PROMPT, LIVE) as second:
            showing = [asyncio.create_task(shown(stream)) for stream in (first, second)]
            async with asyncio.timeout(20):
                while (page := await scraped(ready)).sum("longtake_late_sessions") < 2:
                    await asyncio.sleep(0.2)
            with pytest.raises(ClientError) as caught:
                async with client.stream(PROMPT, LIVE):
                    pass
            status = await client.get_status()
            async with client.stream(PROMPT, StreamOptions(pace="fast", codec="raw", pictures=5)) as fast:
                await shown(fast)
            refused = await scraped(ready)
            assert [task.done() for task in showing] == [False, False], "they go on"
            for task in showing:
                task.cancel()
        async with asyncio.timeout(20):
            while (await scraped(ready)).sum("longtake_reserved_time_ratio"):  # until the last decode has reported
                await asyncio.sleep(0.05)
        async with client.stream(PROMPT, LIVE) as third:
            await anext(third)
    assert caught.value.code is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert f"2 of 2 are late, limited by {DECODER}. Try again in 10 s, or choose pace fast." in str(caught.value)
    assert status.sessions_late == 2 and status.HasField("reservable") and status.reservable == 0.0
    assert status.limited_by == DECODER
    assert f"2 realtime sessions are late, limited by {DECODER}: no further one is let in" in warnings(status)
    told(before, 0.95, 0)
    told(page, 0.0, 0)
    told(refused, 0.0, 1)


def told(page: Page, reservable: float, refused: int) -> None:
    assert page.sum("longtake_reservable_time_ratio") == reservable
    assert page.sum("longtake_opens_refused_total", pace="realtime", reason="time") == refused
