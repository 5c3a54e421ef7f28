"""Somebody's stream, as an observer sees it."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from types import TracebackType
from typing import Self

import grpc

from longtake.client import source
from longtake.client.call import Abandoned
from longtake.client.decoder import Decoder
from longtake.client.errors import ClientError, error_from
from longtake.client.events import OpenedEvent, StreamEvent
from longtake.client.recording import Summary
from longtake.v1 import longtake_pb2 as pb

WatchCall = grpc.aio.UnaryStreamCall[pb.WatchRequest, pb.WatchResponse]


class Watch:
    """A stream of somebody's: an asynchronous iterator of events, to be entered or just iterated.

    Whoever reads slowly misses segments (SkippedEvent). Leaving it, or closing the client, ends the watching.
    """

    def __init__(self, begin: Callable[[], WatchCall]) -> None:
        """`begin` makes the call; Client makes watches."""
        self._begin = begin
        self._call: WatchCall | None = None
        self._frames: AsyncIterator[pb.WatchResponse]
        self._reading: asyncio.Future[pb.WatchResponse | None] | None = None
        self._is_left = False
        self._decoder = Decoder()
        self._opened: OpenedEvent | None = None
        self._is_told = True
        """Whether who iterates has been told that it is opened."""

    @property
    def opened(self) -> OpenedEvent:
        """What the stream began with; ValueError before it is entered, or iterated."""
        if self._opened is None:
            raise ValueError("enter it first: async with client.watch(…) as watch")
        return self._opened

    async def __aenter__(self) -> Self:
        """ClientError if there is no such stream, or it must not be seen."""
        try:
            while self._opened is None:
                await self._read()
        except StopAsyncIteration:
            raise ClientError(grpc.StatusCode.UNKNOWN, "the call ended before the stream was shown") from None
        self._is_told = False
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Watch no more."""
        self._is_left = True
        if self._call is not None:
            self._call.cancel()

    def __aiter__(self) -> AsyncIterator[StreamEvent]:
        return self

    async def __anext__(self) -> StreamEvent:
        """The next event, the first of which is an OpenedEvent; ClientError if it ended with an error status."""
        if not self._is_told and self._opened is not None:
            self._is_told = True
            return self._opened
        while (event := await self._read()) is None:
            pass
        return event

    async def _read(self) -> StreamEvent | None:
        """The next event, or None for a frame that is none; a wait that is cancelled cancels the waiting only."""
        if self._call is None:
            self._call = self._begin()
            self._frames = aiter(self._call)
        if self._reading is None:
            self._reading = asyncio.ensure_future(anext(self._frames, None))
        await asyncio.wait((self._reading,))
        reading, self._reading = self._reading, None
        if reading.cancelled() and not self._is_left:
            raise Abandoned(grpc.StatusCode.CANCELLED, "the connection was closed")
        try:
            frame = None if reading.cancelled() else reading.result()
        except grpc.aio.AioRpcError as failure:
            raise error_from(failure) from None
        if frame is None:
            raise StopAsyncIteration
        event = self._decoder.feed(frame)
        if isinstance(event, OpenedEvent):
            self._opened = event
        return event

    async def save(
        self,
        path: str | os.PathLike[str],
        *,
        keep_times: bool = False,
        tell: Callable[[StreamEvent], object] | None = None,
    ) -> Summary:
        """As Stream.save."""
        return await source.save(self, path, keep_times=keep_times, tell=tell)

    def chunks(self, *, keep_times: bool = False) -> AsyncGenerator[bytes, None]:
        """As Stream.chunks."""
        return source.chunks(self, keep_times=keep_times)
