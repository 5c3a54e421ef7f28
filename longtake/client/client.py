"""The client: opens, steers and watches streams. Needs grpcio and protobuf, neither torch nor a server.

    async with Client("localhost:50051") as client:
        async with client.stream("a red ball bounces", StreamOptions(duration_s=20)) as stream:
            async for event in stream:
                ...                                # SegmentEvent, CueAppliedEvent, …, last a ClosedEvent

A segment is acknowledged when the next event is asked for: a consumer that stops asking stops the generation of its
stream, a window of segments later. `longtake.client.sync.SyncClient` is the same for code without asyncio.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from fractions import Fraction
from functools import partial
from types import TracebackType
from typing import Self, TypeVar

import grpc
from google.protobuf import duration_pb2

from longtake.client.credentials import Credentials, open_channel
from longtake.client.errors import ClientError, error_from
from longtake.client.events import ClosedEvent, Decoder, OpenedEvent, SegmentEvent, StreamEvent
from longtake.v1 import longtake_pb2 as pb
from longtake.v1 import longtake_pb2_grpc as rpc

CODECS = {"h264": pb.CODEC_H264, "mjpeg": pb.CODEC_MJPEG, "raw": pb.CODEC_RAW}
DECODERS = {"full": pb.DECODER_FULL, "tiny": pb.DECODER_TINY}
PACES = {"realtime": pb.PACE_REALTIME, "fast": pb.PACE_FAST}
CHANNEL_OPTIONS: tuple[tuple[str, int], ...] = (
    # Each client has a connection of its own: a server lets only so many calls share one.
    ("grpc.use_local_subchannel_pool", 1),
    # Without these two a client that does not read still takes some 6 MB, a minute of video, into its buffers.
    ("grpc.http2.bdp_probe", 0),
    ("grpc.http2.lookahead_bytes", 65536),
    ("grpc.keepalive_time_ms", 20_000),
    ("grpc.keepalive_timeout_ms", 10_000),
)
ENDINGS = {
    "operator": grpc.StatusCode.ABORTED,
    "drained": grpc.StatusCode.UNAVAILABLE,
    "lost": grpc.StatusCode.UNAVAILABLE,
    "failed": grpc.StatusCode.INTERNAL,
    "access": grpc.StatusCode.UNAUTHENTICATED,
    "quota": grpc.StatusCode.RESOURCE_EXHAUSTED,
}
"""Endings that nobody asked for, and the status of a call that ends so."""
_NANOS = 1_000_000_000

Answer = TypeVar("Answer")


@dataclass(frozen=True, slots=True, kw_only=True)
class CueAt:
    """A prompt and where it takes effect: at a block, at the first block from a time on, or (neither) at once."""

    prompt: str
    block: int | None = None
    time_s: float | Fraction | None = None
    id: str = ""
    """The cue's name, 1 to 64 bytes; if it is empty, the client numbers its cues: `cue-1`, `cue-2` and so on."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamOptions:
    """What a stream may be asked for; None and 0 leave the choice to the server."""

    seed: int | None = None
    pace: str = "fast"
    """`realtime` or `fast`."""
    window: int = 0
    """Segments that may be sent without being acknowledged."""
    duration_s: float | Fraction | None = None
    pictures: int | None = None
    codec: str = "h264"
    """`h264`, `mjpeg` or `raw`."""
    quality: int | None = None
    decoder: str | None = None
    """`full` or `tiny`; a fork has that of the stream it goes on from, and may not name one."""
    cues: tuple[CueAt, ...] = ()
    fork: str | None = None
    """Session to go on from, at the first block that it has not begun; lengths and times count from its start."""
    auto_ack: bool = True
    """Acknowledge a segment when the next event is asked for; otherwise call `ack`."""


class Stream:
    """One stream of the caller's own: an asynchronous iterator of events, and the ways to steer it."""

    def __init__(
        self,
        begin: Callable[[], grpc.aio.StreamStreamCall[pb.StreamRequest, pb.StreamResponse]],
        prompt: str,
        options: StreamOptions,
        waiting: Callable[[StreamEvent], object] | None = None,
    ) -> None:
        self._begin = begin
        self._prompt = prompt
        self._options = options
        self._waiting = waiting
        self._decoder = Decoder()
        self._early: deque[StreamEvent] = deque()
        self._writing = asyncio.Lock()
        self._cue_count = len(options.cues)
        self._unacknowledged: int | None = None
        self._closed: ClosedEvent | None = None
        self._frames: AsyncIterator[pb.StreamResponse]
        self._call: grpc.aio.StreamStreamCall[pb.StreamRequest, pb.StreamResponse] | None = None
        self.opened: OpenedEvent | None = None
        """Set as soon as the stream is entered."""

    async def __aenter__(self) -> Self:
        request = open_request(self._prompt, self._options)
        self._call = self._begin()
        self._frames = aiter(self._call)
        try:
            await self._write(pb.StreamRequest(open=request))
            while self.opened is None:
                event = await self._next()
                if isinstance(event, OpenedEvent):
                    self.opened = event
                elif self._waiting is not None:
                    self._waiting(event)
                    continue
                self._early.append(event)
        except (StopAsyncIteration, ClientError) as failure:
            self._call.cancel()
            if isinstance(failure, ClientError):
                raise
            raise ClientError(grpc.StatusCode.UNKNOWN, "the stream ended before it began") from None
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._call is not None:
            self._call.cancel()

    def __aiter__(self) -> AsyncIterator[StreamEvent]:
        return self

    async def __anext__(self) -> StreamEvent:
        """The next event; ClientError if the call ended with an error status.

        Do not cancel it: gRPC then cancels the whole stream.
        """
        if self._options.auto_ack and self._unacknowledged is not None and self._closed is None:
            await self._acknowledge(self._unacknowledged)
        event = self._early.popleft() if self._early else await self._next()
        self._unacknowledged = event.index if isinstance(event, SegmentEvent) else None
        return event

    async def cue(self, cue: CueAt | str) -> str:
        """Ask for another prompt; returns the id under which the answers come as events."""
        self._cue_count += 1
        wire = _cue(CueAt(prompt=cue) if isinstance(cue, str) else cue, self._cue_count)
        await self._write(pb.StreamRequest(cue=wire))
        return wire.id

    async def ack(self, segment: int) -> None:
        """Tell the server that this segment and all before it were consumed."""
        await self._write(pb.StreamRequest(ack=pb.Ack(segment=segment)))

    async def pause(self) -> None:
        """Start no further block."""
        await self._write(pb.StreamRequest(pause=pb.Pause()))

    async def play(self) -> None:
        """Go on after a pause."""
        await self._write(pb.StreamRequest(play=pb.Play()))

    async def close(self) -> None:
        """Ask for the end; the iteration goes on until the ClosedEvent. Does nothing on a stream that has ended."""
        try:
            await self._write(pb.StreamRequest(close=pb.Close()))
        except ClientError:
            if self._closed is None:
                raise

    async def _acknowledge(self, segment: int) -> None:
        self._unacknowledged = None
        try:
            await self.ack(segment)
        except ClientError:
            # The call has ended; what is still to be read says why.
            return

    async def _next(self) -> StreamEvent:
        if self._closed is not None:
            # A write that crosses the end of a call makes grpc.aio forget the status (grpc issue 36066), but all frames
            # arrive, and the last one says the same.
            if self._closed.ending in ENDINGS:
                raise ClientError(ENDINGS[self._closed.ending], self._closed.reason)
            raise StopAsyncIteration
        while True:
            try:
                frame = await anext(self._frames)
            except grpc.aio.AioRpcError as failure:
                raise error_from(failure) from None
            event = self._decoder.feed(frame)
            if isinstance(event, ClosedEvent):
                self._closed = event
            if event is not None:
                return event

    async def _write(self, frame: pb.StreamRequest) -> None:
        call = self._entered()
        try:
            async with self._writing:
                await call.write(frame)
        except grpc.aio.AioRpcError as failure:
            raise error_from(failure) from None
        except asyncio.InvalidStateError:
            raise ClientError(grpc.StatusCode.FAILED_PRECONDITION, "the stream has ended") from None

    def _entered(self) -> grpc.aio.StreamStreamCall[pb.StreamRequest, pb.StreamResponse]:
        if self._call is None:
            raise ValueError("enter the stream first: async with client.stream(…) as stream")
        return self._call


class Client:
    """A connection to a Longtake server. Use it as an asynchronous context manager, on one event loop."""

    def __init__(self, target: str, *, credentials: Credentials | None = None) -> None:
        """`target` is `host:port` or `unix:/path`. ValueError or OSError if `credentials` are of no use."""
        credentials = credentials or Credentials()
        self._channel = open_channel(target, credentials, CHANNEL_OPTIONS)
        self._stub = rpc.LongtakeServiceStub(self._channel)
        self._metadata = credentials.metadata()

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
        begin = partial(self._stub.Stream, metadata=self._metadata)
        return Stream(begin, prompt, options or StreamOptions(), waiting)

    async def watch(self, session_id: str, *, from_segment: int | None = None) -> AsyncGenerator[StreamEvent, None]:
        """Observe somebody's stream; a slow observer misses segments (SkippedEvent)."""
        decoder = Decoder()
        call = self._stub.Watch(
            pb.WatchRequest(session_id=session_id, from_segment=from_segment), metadata=self._metadata
        )
        try:
            async for frame in call:
                event = decoder.feed(frame)
                if event is not None:
                    yield event
        except grpc.aio.AioRpcError as failure:
            raise error_from(failure) from None
        finally:
            call.cancel()

    async def watch_ops(self, session_id: str) -> AsyncGenerator[pb.OpSpan, None]:
        """What workers do for a stream from now on, each op when it is done; ends when the stream does."""
        call = self._stub.WatchOps(pb.WatchOpsRequest(session_id=session_id), metadata=self._metadata)
        try:
            async for answer in call:
                for span in answer.ops:
                    yield span
        except grpc.aio.AioRpcError as failure:
            raise error_from(failure) from None
        finally:
            call.cancel()

    async def get_model(self) -> pb.GetModelResponse:
        """Ask what is served and within which limits."""
        return await _answer(self._stub.GetModel(pb.GetModelRequest(), metadata=self._metadata))

    async def get_session(self, session_id: str) -> pb.Session:
        """One open session."""
        return (
            await _answer(self._stub.GetSession(pb.GetSessionRequest(session_id=session_id), metadata=self._metadata))
        ).session

    async def list_sessions(self) -> tuple[pb.Session, ...]:
        """All open sessions."""
        return tuple(
            (await _answer(self._stub.ListSessions(pb.ListSessionsRequest(), metadata=self._metadata))).sessions
        )

    async def close_session(self, session_id: str) -> None:
        """End a session that may be somebody else's."""
        await _answer(self._stub.CloseSession(pb.CloseSessionRequest(session_id=session_id), metadata=self._metadata))

    async def get_status(self) -> pb.GetStatusResponse:
        """State of the cluster."""
        return await _answer(self._stub.GetStatus(pb.GetStatusRequest(), metadata=self._metadata))

    async def drain(self, grace_s: float | Fraction = 0) -> int:
        """Shut the server down, once `grace_s` is over or no stream is left; how many are open now."""
        call = self._stub.Drain(pb.DrainRequest(grace=_duration(grace_s)), metadata=self._metadata)
        return (await _answer(call)).sessions


def open_request(prompt: str, options: StreamOptions) -> pb.Open:
    """What a stream is asked for with; ValueError for an option that no server could understand."""
    if options.pictures is not None and options.duration_s is not None:
        raise ValueError("StreamOptions: give pictures or duration_s, not both")
    return pb.Open(
        prompt=prompt,
        seed=options.seed,
        pace=_number_of("pace", options.pace, PACES),
        window=options.window,
        pictures=options.pictures,
        duration=None if options.duration_s is None else _duration(options.duration_s),
        codec=_number_of("codec", options.codec, CODECS),
        quality=options.quality,
        decoder=None if options.decoder is None else _number_of("decoder", options.decoder, DECODERS),
        cues=[_cue(cue, number) for number, cue in enumerate(options.cues, start=1)],
        fork=None if options.fork is None else pb.Fork(session_id=options.fork),
    )


def _cue(cue: CueAt, number: int) -> pb.Cue:
    time = None if cue.time_s is None else _duration(cue.time_s)
    return pb.Cue(id=cue.id or f"cue-{number}", prompt=cue.prompt, block=cue.block, time=time)


async def _answer(call: Awaitable[Answer]) -> Answer:
    try:
        return await call
    except grpc.aio.AioRpcError as failure:
        raise error_from(failure) from None


def _number_of(name: str, value: str, numbers: dict[str, Answer]) -> Answer:
    if value not in numbers:
        raise ValueError(f"StreamOptions.{name}: {value!r} is not allowed; allowed: {', '.join(numbers)}")
    return numbers[value]


def _duration(time_s: float | Fraction) -> duration_pb2.Duration:
    """The time, rounded down to a nanosecond: the server looks for the first picture at or after it."""
    if time_s < 0:
        raise ValueError(f"a time of 0 s or more is needed, not {float(time_s)} s")
    nanos = int(Fraction(time_s) * _NANOS)
    return duration_pb2.Duration(seconds=nanos // _NANOS, nanos=nanos % _NANOS)
