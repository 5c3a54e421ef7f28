"""The endpoint that Prometheus scrapes: GET /metrics. Beside it there are two probes: GET /healthz says that the
process answers, and GET /readyz whether it takes streams, as the gRPC health service says to clients of gRPC.

It tells no prompt, session or tenant and asks for no credentials, so it has a port of its own. A scrape reads the
counts on the engine's loop, where nothing changes meanwhile, and writes the page on another thread.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp

from cluster.cell.engine import Engine
from cluster.config import ServerConfig
from cluster.frontend.server import FrontendServer
from cluster.http.connections import ScrapedHttp, http_config
from cluster.http.figures import CellFacts, CellFigures, CertificateFigures
from cluster.http.scrapes import Scrapes
from cluster.net.addresses import address_in, listen
from cluster.net.certificate_dates import CertificateDates
from cluster.net.listener import HttpListener
from longtake.net.addresses import Address
from monitoring.exposition import Exposition

FIELD = "metrics.address"
GRACE_S = 1
"""How long requests may take to end when the listener stops."""


@dataclass(frozen=True, slots=True)
class Endpoint:
    """The endpoint while it is served."""

    url: str
    """Empty: there is none."""
    scrapes: Scrapes


@contextlib.asynccontextmanager
async def scraped(config: ServerConfig, engine: Engine, server: FrontendServer) -> AsyncIterator[Endpoint]:
    """The endpoint that `config` asks for, served meanwhile. InvalidField if its address is wrong."""
    scrapes = Scrapes()
    if not config.metrics.address:
        yield Endpoint("", scrapes)
        return
    certificates = CertificateFigures(await asyncio.to_thread(CertificateDates, config.tls, config.link))
    facts = CellFacts.of(config, server.offer, now_s=engine.now_s())
    figures = CellFigures(engine, server.calls, facts, server.audit)
    exposition = Exposition(config.metrics.cell, engine.tally, (figures, certificates))

    async def begun() -> None:
        await certificates.look()
        scrapes.note(draining=engine.tally.draining)

    app = metrics_app(exposition, lambda: server.serving, begun)
    address = address_in(config.metrics.address, field=FIELD, host=config.listen.host)
    settings = http_config(
        app,
        http=ScrapedHttp,
        timeout_graceful_shutdown=GRACE_S,
        ws="none",
    )
    listener = HttpListener(settings, listen(address, field=FIELD))
    listener.begin()
    try:
        yield Endpoint(f"http://{Address(host=address.host, port=listener.port)}/metrics", scrapes)
    finally:
        await listener.end()


async def _nothing() -> None:
    """Nothing is to be done before a scrape."""


def metrics_app(
    exposition: Exposition, serving: Callable[[], bool], begun: Callable[[], Awaitable[None]] = _nothing
) -> ASGIApp:
    """The application; `begun` is called for each scrape before anything is read."""

    async def metrics(request: Request) -> Response:
        await begun()
        families = exposition.families()
        accept = request.headers.get("accept", "")
        text, media_type = await asyncio.to_thread(exposition.page, families, accept)
        return Response(text, headers={"content-type": media_type})

    async def healthz(_: Request) -> Response:
        return PlainTextResponse("ok\n")

    async def readyz(_: Request) -> Response:
        return PlainTextResponse("ok\n") if serving() else PlainTextResponse("not serving\n", status_code=503)

    return Starlette(routes=[Route("/metrics", metrics), Route("/healthz", healthz), Route("/readyz", readyz)])
