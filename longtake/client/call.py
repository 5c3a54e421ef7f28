"""One of the calls that a stream is made of: its frames, and how it ended."""

from __future__ import annotations

import asyncio

import grpc

from longtake.client.decoder import Decoder
from longtake.client.errors import ClientError, error_from
from longtake.client.events import OpenedEvent, StreamEvent
from longtake.client.route import Route
from longtake.v1 import longtake_pb2 as pb


class Abandoned(ClientError):
    """The call was cancelled here, or its connection closed: there is nothing to go on with."""


class StreamCall:
    """A call as it goes: events from the server, frames to it."""

    def __init__(self, route: Route) -> None:
        """Make the call; what becomes of it tells who reads. What its session is called there the route learns."""
        self._route = route
        self._call = route.begin()
        self._frames = aiter(self._call)
        self._decoder = Decoder()
        self._writing = asyncio.Lock()
        self._sending: set[asyncio.Task[bool]] = set()
        self.has_forgotten = False
        """Whether a frame was sent just when the call ended: then grpc.aio has forgotten how (grpc issue 36066)."""

    def cancel(self) -> None:
        """End it, without a word to the server."""
        self._call.cancel()

    async def write(self, request: pb.StreamRequest) -> bool:
        """Send a frame; False if the call takes none any more: then it has ended, and reading tells how.

        A wait that is cancelled cancels the waiting only: grpc.aio would cancel the call.
        """
        sending = asyncio.ensure_future(self._send(request))
        self._sending.add(sending)
        sending.add_done_callback(self._sending.discard)
        return await asyncio.shield(sending)

    async def _send(self, request: pb.StreamRequest) -> bool:
        try:
            async with self._writing:
                await self._call.write(request)
        except asyncio.InvalidStateError:
            return False
        except grpc.aio.AioRpcError as failure:
            self.has_forgotten |= failure.code() is grpc.StatusCode.INTERNAL
            return False
        return True

    async def read(self) -> StreamEvent | None:
        """The next event, or None for a frame that is none; ClientError if the call has ended, Abandoned if here."""
        try:
            event = self._decoder.feed(await anext(self._frames))
        except grpc.aio.AioRpcError as failure:
            error = error_from(failure)
            if self.has_forgotten and error.code is grpc.StatusCode.INTERNAL:
                raise ClientError(grpc.StatusCode.UNAVAILABLE, "the connection was lost") from None
            raise error from None
        except StopAsyncIteration:
            raise ClientError(grpc.StatusCode.UNAVAILABLE, "the call ended without a last word") from None
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if task is not None and task.cancelling():
                raise
            raise Abandoned(grpc.StatusCode.CANCELLED, "the connection was closed") from None
        if isinstance(event, OpenedEvent):
            self._route.session = event.session_id
        return event
