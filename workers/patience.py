"""Limits of time on an event loop that count only while the loop turns; see longtake.core.awake."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

from longtake.core.awake import TURN_S, Awake


async def awake_for(seconds: float) -> None:
    """Sleep until the loop has turned for so long."""
    loop = asyncio.get_running_loop()
    awake = Awake(loop.time())
    while awake.look(loop.time()) < seconds:
        await asyncio.sleep(TURN_S)


@contextlib.asynccontextmanager
async def within(limit_s: float) -> AsyncIterator[None]:
    """Bound what is done within as asyncio.timeout does; TimeoutError once the loop has turned for `limit_s`."""
    async with asyncio.timeout(None) as timeout:
        patience = asyncio.create_task(_end(timeout, limit_s))
        try:
            yield
        finally:
            patience.cancel()


async def _end(timeout: asyncio.Timeout, limit_s: float) -> None:
    await awake_for(limit_s)
    timeout.reschedule(0.0)
