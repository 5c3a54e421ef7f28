"""The client: opens, steers and watches streams. Needs grpcio and protobuf, neither torch nor a server.

    async with Client("localhost:50051") as client:
        async with client.stream("a red ball bounces", StreamOptions(duration_s=20)) as stream:
            await stream.save("out.mp4")           # or: async for event in stream

Going back is a stream of its own, with the past of the other one up to a block, and the end of that one:

    options = StreamOptions(fork=stream.session_id, fork_block=12)
    async with client.stream("a blue box swaying", options) as again:
        await stream.close()

A segment is acknowledged when the next event is asked for: a consumer that stops asking stops the generation of its
stream, a window of segments later. Who waits for a cue, `await (await stream.cue("…")).shown()`, waits beside who
reads. A stream whose connection breaks goes on with another one by itself, and one that is handed over to another
server goes on there.
`longtake.client.sync.SyncClient` is the same for code without asyncio.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterable, Awaitable, Callable
from fractions import Fraction
from types import TracebackType
from typing import Self, TypeVar

import grpc

from longtake.client.credentials import Credentials, Metadata, way_to
from longtake.client.errors import ClientError, error_from
from longtake.client.events import StreamEvent
from longtake.client.options import StreamOptions, duration, open_request
from longtake.client.route import CHANNEL_OPTIONS, Route
from longtake.client.stream import Stream
from longtake.client.upload import sent_in_parts
from longtake.client.watch import Watch
from longtake.net.cells import cell_metadata
from longtake.v1 import longtake_pb2 as pb
from longtake.v1 import longtake_pb2_grpc as rpc

PART_BYTES = (1 << 20) - 1024
"""So much of a file goes into one message."""
Answer = TypeVar("Answer")


class Client:
    """A connection to a Longtake server. Use it as an asynchronous context manager, on one event loop."""

    def __init__(self, target: str, *, credentials: Credentials | None = None, timeout_s: float | None = None) -> None:
        """`target` is `host:port` or `unix:/path`; each question is given up after `timeout_s`, streams are not.

        ValueError or OSError if `credentials` are of no use.
        """
        if timeout_s is not None and not timeout_s > 0:
            raise ValueError(f"timeout_s: {timeout_s!r} is not allowed; allowed: seconds above 0, or None")
        credentials = credentials or Credentials()
        self._way = way_to(target, credentials, CHANNEL_OPTIONS)
        self._channel = self._way.open()
        self._stub = rpc.LongtakeServiceStub(self._channel)
        self._credentials = credentials
        self._metadata = credentials.metadata()
        self._timeout_s = timeout_s

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """End the connection, and every call on it."""
        await self._channel.close()

    def stream(
        self,
        prompt: str,
        options: StreamOptions | None = None,
        *,
        waiting: Callable[[StreamEvent], object] | None = None,
    ) -> Stream:
        """A stream of one's own, generated as long as it is entered.

        Entering it may take long where it has to wait for room; what is told before it begins goes to `waiting`, or is
        the first that the iteration brings.
        """
        options = options or StreamOptions()
        request = open_request(prompt, options)
        return Stream(self._route(request.fork.session_id), request, options, waiting)

    def resume(
        self,
        token: bytes,
        cursor: int | None = None,
        options: StreamOptions | None = None,
        *,
        session_id: str = "",
    ) -> Stream:
        """The stream whose `OpenedEvent.resume_token` this is, from the segment after `cursor` on.

        It must be the newest that was told, also by a ResumedEvent; `cursor` is the last segment consumed, None if none
        was. Of `options` only `auto_ack` and `reconnect_s` count. A token does not say which cell has the stream:
        behind a router give its `session_id` as well.
        """
        request = pb.Open(resume_token=token, cursor=cursor)
        return Stream(self._route(session_id), request, options or StreamOptions())

    def _route(self, session_id: str) -> Route:
        return Route(self._stub, self._credentials, session_id)

    def _about(self, session_id: str) -> Metadata:
        """What goes along with a call about a session."""
        return (*self._metadata, *cell_metadata(session_id))

    def watch(self, session_id: str, *, from_segment: int | None = None) -> Watch:
        """Observe somebody's stream, from now on or from a segment that is still kept."""
        request = pb.WatchRequest(session_id=session_id, from_segment=from_segment)
        return Watch(lambda: self._stub.Watch(request, metadata=self._about(session_id)))

    async def watch_ops(self, session_id: str) -> AsyncGenerator[pb.OpSpan, None]:
        """What workers do for a stream from now on, each op when it is done; ends when the stream does."""
        request = pb.WatchOpsRequest(session_id=session_id)
        call = self._stub.WatchOps(request, metadata=self._about(session_id))
        try:
            async for answer in call:
                for span in answer.ops:
                    yield span
        except grpc.aio.AioRpcError as failure:
            raise error_from(failure) from None
        finally:
            call.cancel()

    async def export_session(self, session_id: str, *, hand_over: bool = False) -> AsyncGenerator[bytes, None]:
        """A snapshot of a session, in parts; with `hand_over` its cues wait until `hand_over` is called, or 60 s."""
        request = pb.ExportRequest(session_id=session_id, hand_over=hand_over)
        call = self._stub.Export(request, metadata=self._about(session_id))
        try:
            async for answer in call:
                yield answer.data
        except grpc.aio.AioRpcError as failure:
            raise error_from(failure) from None
        finally:
            call.cancel()

    async def import_session(self, parts: AsyncIterable[bytes]) -> pb.ImportResponse:
        """A new session made of a snapshot; it waits for its client, who goes on with `resume`."""

        failures: list[ClientError | OSError] = []

        async def requests() -> AsyncGenerator[pb.ImportRequest, None]:
            try:
                async for part in parts:
                    for start in range(0, len(part), PART_BYTES):
                        yield pb.ImportRequest(data=part[start : start + PART_BYTES])
            except (ClientError, OSError) as failure:  # what was sent is refused then, because it was cut
                failures.append(failure)

        try:
            return await self._answer(sent_in_parts(self._way, requests(), self._metadata))
        except ClientError:
            if failures:
                raise failures[0] from None
            raise

    async def hand_over(
        self, session_id: str, address: str = "", token: bytes = b"", *, new_session_id: str = ""
    ) -> None:
        """Have a session that was exported for it go on at `address`, by the token there; without one it stays.

        Where `address` is that of a router its client needs the name there as well, `ImportResponse.session_id`.
        """
        request = pb.HandOverRequest(
            session_id=session_id, address=address, resume_token=token, new_session_id=new_session_id
        )
        await self._answer(self._stub.HandOver(request, metadata=self._about(session_id)))

    async def get_model(self) -> pb.GetModelResponse:
        """Ask what is served and within which limits."""
        return await self._answer(self._stub.GetModel(pb.GetModelRequest(), metadata=self._metadata))

    async def get_session(self, session_id: str) -> pb.Session:
        """One open session."""
        call = self._stub.GetSession(pb.GetSessionRequest(session_id=session_id), metadata=self._about(session_id))
        return (await self._answer(call)).session

    async def list_sessions(self) -> tuple[pb.Session, ...]:
        """All open sessions."""
        return tuple(
            (await self._answer(self._stub.ListSessions(pb.ListSessionsRequest(), metadata=self._metadata))).sessions
        )

    async def close_session(self, session_id: str, reason: str = "") -> None:
        """End a session that may be somebody else's; its client is told the reason, one line of at most 500 bytes."""
        request = pb.CloseSessionRequest(session_id=session_id, reason=reason)
        await self._answer(self._stub.CloseSession(request, metadata=self._about(session_id)))

    async def get_status(self) -> pb.GetStatusResponse:
        """State of the cluster."""
        return await self._answer(self._stub.GetStatus(pb.GetStatusRequest(), metadata=self._metadata))

    async def drain(self, grace_s: float | Fraction = 0, *, end_streams: bool = False) -> int:
        """Shut the server down, once `grace_s` is over or no stream is left; how many are open now.

        A server with a journal on disk keeps the streams for the next one, unless `end_streams`.
        """
        request = pb.DrainRequest(grace=duration(grace_s), end_streams=end_streams)
        call = self._stub.Drain(request, metadata=self._metadata)
        return (await self._answer(call)).sessions

    async def _answer(self, call: Awaitable[Answer]) -> Answer:
        try:
            async with asyncio.timeout(self._timeout_s):
                return await call
        except grpc.aio.AioRpcError as failure:
            raise error_from(failure) from None
        except TimeoutError:
            why = f"no answer within {self._timeout_s:g} s"
            raise ClientError(grpc.StatusCode.DEADLINE_EXCEEDED, why) from None
