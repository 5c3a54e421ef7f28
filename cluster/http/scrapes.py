"""Who scrapes, and whether they have seen that the server drains: else its end would look like a crash to them."""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from itertools import pairwise

LONGEST_S = 30.0
"""How long the end of a server waits for a scrape."""
REGULAR = 3
"""Whoever has asked this often asks again."""
_LATE = 1.2


class Scrapes:
    """When the endpoint was scraped last."""

    def __init__(self) -> None:
        self._at_s: deque[float] = deque(maxlen=REGULAR + 1)
        self._seen = asyncio.Event()

    def note(self, *, draining: bool) -> None:
        """There is a scrape, which is told whether the server drains."""
        self._at_s.append(asyncio.get_running_loop().time())
        if draining:
            self._seen.set()

    async def told(self) -> None:
        """Wait for the scrape that sees the drain, if one is to be expected within LONGEST_S."""
        patience_s = min(LONGEST_S, self._expected_s - asyncio.get_running_loop().time())
        if patience_s <= 0 or self._seen.is_set():
            return
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(patience_s):
                await self._seen.wait()

    @property
    def _expected_s(self) -> float:
        """By when the next scrape should have come; minus infinity if they do not come regularly."""
        if len(self._at_s) < REGULAR:
            return float("-inf")
        return self._at_s[-1] + _LATE * max(after - before for before, after in pairwise(self._at_s))
