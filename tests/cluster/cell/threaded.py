"""An engine that runs in this process, over workers that are threads of it."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterable

from cluster.cell.chains import Chains
from cluster.cell.engine import Engine
from cluster.launch.in_process import ThreadPort
from workers.link.dial import Weights
from workers.messages import Shutdown

JOIN_S = 10.0


@contextlib.asynccontextmanager
async def over_threads(engine: Engine, loaded: Iterable[Weights]) -> AsyncIterator[Engine]:
    """The engine at work with these workers; when all that was done with it went well, its invariants hold."""
    loop, chains = asyncio.create_task(engine.run()), Chains(engine)
    ports = [ThreadPort(each, chains) for each in loaded]
    for port in ports:
        port.start()
    try:
        yield engine
        engine.scheduler.check()
    finally:
        for port in ports:
            port.send(Shutdown())
            await asyncio.to_thread(port.runner.join, JOIN_S)
        loop.cancel()
