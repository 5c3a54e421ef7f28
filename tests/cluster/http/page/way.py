"""The way between a browser and its server, for a test that is not asynchronous to cut and to mend."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Iterator
from urllib.parse import urlsplit

from tests.cluster.http.page.chromium import Server
from tests.longtake.cutting import Cutter


class Way:
    """The network between the browser and the server, on a thread of its own."""

    def __init__(self, server: Server) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever)
        self._thread.start()
        self._cutter = Cutter(urlsplit(server.url).netloc)
        listening = asyncio.start_server(self._cutter.take, "127.0.0.1", 0)
        self._listening = asyncio.run_coroutine_threadsafe(listening, self._loop).result()
        self.url = f"http://127.0.0.1:{self._listening.sockets[0].getsockname()[1]}/"

    def cut(self, *, for_good: bool = False) -> None:
        """Cut all connections; new ones get through, or not."""
        self._cutter.open = not for_good
        asyncio.run_coroutine_threadsafe(self._cut(), self._loop).result()

    async def _cut(self) -> None:
        self._cutter.cut()

    def mend(self, server: Server) -> None:
        """Let connections through, to this server from now on."""
        self._cutter.target = urlsplit(server.url).netloc
        self._cutter.open = True

    def end(self) -> None:
        async def stop() -> None:
            self._listening.close()
            self._cutter.cut()
            await asyncio.sleep(0.1)

        asyncio.run_coroutine_threadsafe(stop(), self._loop).result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()


@contextlib.contextmanager
def way_to(server: Server) -> Iterator[Way]:
    way = Way(server)
    try:
        yield way
    finally:
        way.end()
