"""Limits on what a connection at a port for HTTP may cost: uvicorn's protocol with a bound on all that can grow."""

from __future__ import annotations

import asyncio
from functools import partial

import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from cluster.net.descriptors import SCRAPES, Connections

REQUEST_TIMEOUT_S = 10.0
"""How long a connection may stay without a complete request."""
BACKLOG = 64
"""Connections that the kernel holds; so many at most are taken in one turn of the loop, before any is looked at."""
http_config = partial(
    uvicorn.Config,
    backlog=BACKLOG,
    lifespan="off",
    log_config=None,
    log_level="error",  # what strangers say that is no HTTP is not worth a line
    access_log=False,
    proxy_headers=False,
    server_header=False,
)
"""How an application is served to strangers; the protocol (BoundedHttp or ScrapedHttp) is to be added."""

BREAK_OFF = "break_off"
"""Key of the state of each request under which the connection can be ended without an end of the answer."""


class BoundedHttp(H11Protocol):
    """HTTP on a connection that is closed if its request takes too long to come.

    If there are too many, the one goes that has asked nothing for the longest time: who has something to ask gets in.
    """

    _overdue: asyncio.TimerHandle | None = None

    @staticmethod
    def most() -> int:
        """How many connections there may be at the port."""
        return Connections.allowed().browsers

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Take the connection, in the place of another one if there are enough; not if all others are in use."""
        assert isinstance(transport, asyncio.Transport)
        super().connection_made(transport)
        # For an answer that cannot be completed: what was written is still sent, and then the connection ends.
        self.app_state = self.app_state | {BREAK_OFF: transport.close}
        self._expect_request()
        if len(self.connections) > self.most():
            idle = [each for each in self.connections if isinstance(each, BoundedHttp) and each.is_idle]
            min(idle, key=lambda each: each.idle_until_s).give_up()

    def connection_lost(self, exc: Exception | None) -> None:
        """Note that the connection is gone: no request is awaited any more."""
        if self._overdue is not None:
            self._overdue.cancel()
        super().connection_lost(exc)

    def on_response_complete(self) -> None:
        """Give the next request as much time as the first."""
        super().on_response_complete()
        self._expect_request()

    @property
    def is_idle(self) -> bool:
        """Whether nothing is being answered here."""
        answering = self.cycle is not None and not self.cycle.response_complete
        return not answering and self.transport.get_protocol() is self  # else it has become a WebSocket

    @property
    def idle_until_s(self) -> float:
        """When it will have been idle for too long, on the loop's clock."""
        return self._overdue.when() if self._overdue is not None else 0.0

    def give_up(self) -> None:
        """Cut the connection, and do not count it any more."""
        self.connections.discard(self)
        self.transport.abort()

    def _expect_request(self) -> None:
        if self._overdue is not None:
            self._overdue.cancel()
        self._overdue = self.loop.call_later(REQUEST_TIMEOUT_S, self._give_up_idle)

    def _give_up_idle(self) -> None:
        if self.is_idle:
            self.give_up()


class ScrapedHttp(BoundedHttp):
    """The same for the port that Prometheus and probes ask."""

    @staticmethod
    def most() -> int:
        """How many connections there may be at the port."""
        return SCRAPES
