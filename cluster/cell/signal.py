"""A signal on which one task waits; cheaper than asyncio.Event, which keeps a queue of waiters for each wait."""

from __future__ import annotations

import asyncio


class Signal:
    """Tells one task that something has changed; it looks for itself at what. Both are on one event loop.

    The task looks first and waits only if it finds nothing, so what changes while it does not wait is not lost.
    """

    __slots__ = ("_waiter",)

    def __init__(self) -> None:
        self._waiter: asyncio.Future[None] | None = None

    def set(self) -> None:
        """Wake the task if it waits; never waits."""
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    async def wait(self) -> None:
        """Wait until the next `set`."""
        self._waiter = asyncio.get_running_loop().create_future()
        await self._waiter
