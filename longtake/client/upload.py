"""The call that sends many messages and gets one answer: an import.

Theory of operation. A server that refuses ends the call while messages are still under way to it. grpc.aio then often
forgets what the server said, and tells of an "Internal error from Core" (grpc issue 36066). The calls of threads do not
forget. So this one is made by gRPC's threads, which ask the event loop for each message.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import CancelledError, Future

import grpc

from longtake.client.credentials import Metadata, Way
from longtake.client.errors import error_from
from longtake.v1 import longtake_pb2 as pb
from longtake.v1 import longtake_pb2_grpc as rpc


async def sent_in_parts(way: Way, parts: AsyncIterator[pb.ImportRequest], metadata: Metadata) -> pb.ImportResponse:
    """Send all parts; the answer. ClientError says how the call ended; a wait that is cancelled cancels it."""
    loop, ended = asyncio.get_running_loop(), asyncio.Event()
    asked = _Asked(parts, loop)
    with way.open_for_threads() as channel:
        call = rpc.LongtakeServiceStub(channel).Import.future(asked, metadata=metadata)

        def note(_: object) -> None:
            loop.call_soon_threadsafe(ended.set)

        call.add_done_callback(note)
        try:
            await ended.wait()
            return call.result()
        except grpc.RpcError:
            raise error_from(call) from None
        finally:
            call.cancel()
            asked.end()


class _Asked(Iterator[pb.ImportRequest]):
    """The parts, for a thread of gRPC: the event loop is asked for each."""

    def __init__(self, parts: AsyncIterator[pb.ImportRequest], loop: asyncio.AbstractEventLoop) -> None:
        self._parts = parts
        self._loop = loop
        self._next: Future[pb.ImportRequest | None] | None = None
        self._has_ended = False

    def __next__(self) -> pb.ImportRequest:
        if self._has_ended:
            raise StopIteration
        self._next = asyncio.run_coroutine_threadsafe(self._following(), self._loop)
        try:
            part = self._next.result()
        except CancelledError:
            part = None
        if part is None:
            raise StopIteration
        return part

    async def _following(self) -> pb.ImportRequest | None:
        return None if self._has_ended else await anext(self._parts, None)

    def end(self) -> None:
        """Ask for no more, and wait for none."""
        self._has_ended = True
        if self._next is not None:
            self._next.cancel()
