"""A server waits at its end for a scrape that is to be expected, and for no other."""

from __future__ import annotations

import asyncio

import pytest

from cluster.http import scrapes
from cluster.http.scrapes import Scrapes

EVERY_S = 0.2


async def scraped(times: int) -> Scrapes:
    """Scraped so often at equal intervals, the last time just now."""
    made = Scrapes()
    for number in range(times):
        if number:
            await asyncio.sleep(EVERY_S)
        made.note(draining=False)
    return made


async def waited_s(made: Scrapes) -> float:
    loop = asyncio.get_running_loop()
    began_s = loop.time()
    await made.told()
    return loop.time() - began_s


async def test_it_waits_for_the_next_scrape_and_no_longer() -> None:
    made = await scraped(4)
    asyncio.get_running_loop().call_later(0.5 * EVERY_S, lambda: made.note(draining=True))
    assert 0.4 * EVERY_S < await waited_s(made) < 1.1 * EVERY_S


async def test_it_gives_up_when_the_scrape_is_late() -> None:
    assert EVERY_S < await waited_s(await scraped(4)) < 2 * EVERY_S


async def test_it_does_not_wait_for_who_asked_twice_or_asks_no_more_or_has_seen_it() -> None:
    assert await waited_s(await scraped(2)) < 0.1
    gone = await scraped(3)
    await asyncio.sleep(2 * EVERY_S)
    assert await waited_s(gone) < 0.1
    seen = await scraped(3)
    seen.note(draining=True)
    assert await waited_s(seen) < 0.1


async def test_it_waits_no_longer_than_it_may(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scrapes, "LONGEST_S", 0.05)
    assert await waited_s(await scraped(4)) < 0.15
