"""Streams that lack a part of their state, as a scrape is told of them."""

from __future__ import annotations

import asyncio

import pytest

from cluster.access.audit import Audit
from cluster.access.call_counts import CallCounts
from cluster.http.figures import CellFacts, CellFigures
from longtake.client import Client
from longtake.client.errors import ClientError
from longtake.client.events import SegmentEvent
from longtake.core.endings import Ending
from longtake.core.events import Close
from longtake.core.sessions.life import State
from longtake.core.work import Role
from monitoring.exposition import Scrape
from tests.cluster.frontend.reading import everything, upto
from tests.cluster.frontend.toy import ToyCell, offer, toy_cell


class Recovering:
    """A recorder of how many streams lack a part and are rebuilt, and of how many wait, whenever that changes."""

    def __init__(self) -> None:
        self.figures: CellFigures | None = None
        self.seen: list[tuple[float, float]] = []

    def fold(self, event: object, effects: object) -> None:
        """See monitoring.recorder.Recorder."""
        if self.figures is None:
            return
        scrape = Scrape("here")
        self.figures(scrape)
        (family,) = [family for family in scrape.families if family.name == "longtake_recovering_sessions"]
        ways = {sample.labels["way"]: sample.value for sample in family.samples}
        now = ways["rebuilt"], ways["waited"]
        if self.seen[-1:] != [now]:
            self.seen.append(now)

    async def until(self, *seen: tuple[float, float]) -> None:
        """Wait until these came after what was awaited last, and nothing else."""
        async with asyncio.timeout(20):
            while len(self.seen) < len(seen):
                await asyncio.sleep(0.002)
        assert self.seen == list(seen)
        self.seen = self.seen[-1:]


async def until_it_is(cell: ToyCell, state: State) -> None:
    """Wait until the one session is in a state."""
    while [view.state for view in cell.engine.scheduler.sessions()] != [state]:
        await asyncio.sleep(0.002)


async def test_who_waits_for_room_is_told_from_who_is_rebuilt_and_from_whom_nobody_waits_for() -> None:
    recovering = Recovering()
    async with toy_cell(delay_s=0.002, recorder=recovering) as cell, Client(cell.target) as client:
        facts = CellFacts(offer=offer(), device="toy", expected={}, started_at_s=0.0)
        recovering.figures = CellFigures(cell.engine, CallCounts(), facts, Audit())
        async with client.stream("red") as stream:
            await upto(stream, SegmentEvent)
            reading = asyncio.create_task(everything(stream))
            cell.workers[0].die()
            await recovering.until((0, 0), (1, 0), (0, 0))
            (view,) = cell.engine.scheduler.sessions()
            await stream.pause()
            await until_it_is(cell, State.PAUSED)
            while not cell.engine.scheduler.inspect(view.session).progress.is_even:
                await asyncio.sleep(0.002)
            cell.workers[2].die()
            await until_it_is(cell, State.PARKED)
            await recovering.until((0, 0))
            await stream.play()
            await recovering.until((0, 0), (0, 1))
            cell.join("v0", Role.DECODE)
            await recovering.until((0, 1), (1, 0), (0, 0))
            cell.engine.submit(Close(now_s=0.0, session=view.session, ending=Ending.OPERATOR))
            with pytest.raises(ClientError):
                await reading
