"""One stream of the caller's own: it outlives the calls that it is made of."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections import deque
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from types import TracebackType
from typing import Self

import grpc

from longtake.client.errors import ClientError, error_from
from longtake.client.events import (
    ClosedEvent,
    Decoder,
    MovedEvent,
    OpenedEvent,
    ReconnectingEvent,
    ResumedEvent,
    SegmentEvent,
    StreamEvent,
)
from longtake.client.memory import Gap, Remembered
from longtake.client.options import CueAt, StreamOptions, cue_request
from longtake.client.route import Route, StreamCall
from longtake.v1 import longtake_pb2 as pb

ENDINGS = {
    "operator": grpc.StatusCode.ABORTED,
    "drained": grpc.StatusCode.UNAVAILABLE,
    "lost": grpc.StatusCode.UNAVAILABLE,
    "failed": grpc.StatusCode.INTERNAL,
    "access": grpc.StatusCode.UNAUTHENTICATED,
    "quota": grpc.StatusCode.RESOURCE_EXHAUSTED,
    "moved": grpc.StatusCode.ABORTED,
    "abandoned": grpc.StatusCode.ABORTED,
}
"""Endings that nobody asked for, and the status of a call that ends so."""
SENTENCES = {
    "operator": "an operator has ended the stream",
    "drained": "the server has shut down",
    "lost": "a worker was lost, and the server could not wait for another one",
    "failed": "the server could not go on with the stream",
    "access": "the server no longer knows the token that was shown",
    "quota": "the quota of the day is used up",
    "moved": "another call goes on with the stream",
    "abandoned": "nobody was there for the stream for too long",
}
"""What each of them means, for whoever is told no reason."""
OUTAGES = frozenset({grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED, grpc.StatusCode.DEADLINE_EXCEEDED})
"""Statuses of a call that broke; any other one says no."""
FIRST_DELAY_S = 0.1
LONGEST_DELAY_S = 5.0
ATTEMPT_S = 10.0
"""An attempt to go on that is not answered for so long has failed."""
DIALS = 3
"""So many calls are made, one after the other, if they end before they take the first frame, nobody knows how."""
LEAVE_S = 2.0
"""Whoever leaves a stream that has not ended waits so long for its end."""


@dataclass(slots=True)
class _Outage:
    """The time between two calls of a stream."""

    until_s: float
    attempt: int = 1

    def delay_s(self) -> float:
        """How long to wait before this attempt; a little less or more, so that clients of one server spread out."""
        delay_s = min(FIRST_DELAY_S * 2.0 ** min(self.attempt - 1, 16), LONGEST_DELAY_S)
        return delay_s * random.uniform(0.75, 1.25)


class Stream:
    """One stream of the caller's own: an asynchronous iterator of events, and the ways to steer it.

    When its call breaks, it goes on with another one: ReconnectingEvent tells of each attempt, ResumedEvent of the one
    that succeeded, and what is asked for meanwhile waits. Segments and answers come once, and in order. When its server
    hands it over to another one (MovedEvent) it goes on there in the same way.
    """

    def __init__(
        self,
        route: Route,
        request: pb.Open,
        options: StreamOptions,
        waiting: Callable[[StreamEvent], object] | None = None,
    ) -> None:
        """`route` makes calls, of which `request` is the first frame; Client makes streams."""
        self._route = route
        self._request = request
        self._options = options
        self._waiting = waiting
        self._memory = Remembered(list(request.cues), request.cursor if request.HasField("cursor") else None)
        self._decoder = Decoder()
        self._events: deque[StreamEvent] = deque()
        """What has come and was not asked for yet."""
        self._pulling: asyncio.Task[None] | None = None
        self._writing = asyncio.Lock()
        self._hurry = asyncio.Event()
        """Set when there is no time to wait between attempts."""
        self._cues = {cue.id for cue in request.cues}
        """The ids of all cues so far."""
        self._unacknowledged: int | None = None
        self._outage: _Outage | None = None
        self._closed: ClosedEvent | None = None
        self._failure: ClientError | None = None
        """Why the stream cannot go on."""
        self._frames: AsyncIterator[pb.StreamResponse]
        self._call: StreamCall | None = None
        self._forgotten = False
        """Whether a frame was sent just when the call ended: then grpc.aio has forgotten how (grpc issue 36066)."""
        self.opened: OpenedEvent | None = None
        """Set as soon as the stream is entered."""

    async def __aenter__(self) -> Self:
        early: list[StreamEvent] = []
        try:
            await self._dial(pb.StreamRequest(open=self._request))
            while self.opened is None:
                event = await self._next()
                if isinstance(event, OpenedEvent):
                    self.opened = event
                elif self._waiting is not None:
                    self._waiting(event)
                    continue
                early.append(event)
        except StopAsyncIteration:
            raise ClientError(grpc.StatusCode.UNKNOWN, "the stream ended before it began") from None
        finally:
            if self.opened is None:
                self._give_up()
                await self._route.close()
        self._events.extendleft(reversed(early))
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End the stream, if it has not ended: a call that is just cancelled would leave it to wait for its client."""
        try:
            if self._is_open and not self._memory.closing:
                with contextlib.suppress(ClientError, TimeoutError):
                    async with asyncio.timeout(LEAVE_S):
                        await self.close()
                        while self._is_open:
                            await self._pull()
        finally:
            self._give_up()
            await self._route.close()

    def _give_up(self) -> None:
        if self._pulling is not None:
            self._pulling.cancel()
        if self._call is not None:
            self._call.cancel()

    def __aiter__(self) -> AsyncIterator[StreamEvent]:
        return self

    async def __anext__(self) -> StreamEvent:
        """The next event; ClientError if the stream ended with an error status. A cancelled wait loses nothing."""
        if self._options.auto_ack and self._unacknowledged is not None and self._is_open:
            segment, self._unacknowledged = self._unacknowledged, None
            await self.ack(segment)
        event = await self._next()
        self._unacknowledged = event.index if isinstance(event, SegmentEvent) else None
        return event

    # --- steering ---------------------------------------------------------------------------------------------------

    async def cue(self, cue: CueAt | str) -> str:
        """Ask for another prompt; returns the id under which the answers come as events. OptionError if it is none."""
        wire = cue_request(CueAt(prompt=cue) if isinstance(cue, str) else cue, self._cues)
        self._cues.add(wire.id)
        await self._ask(pb.StreamRequest(cue=wire))
        return wire.id

    async def ack(self, segment: int) -> None:
        """Tell the server that this segment and all before it were consumed; nothing, if the stream has ended."""
        with contextlib.suppress(ClientError):
            await self._ask(pb.StreamRequest(ack=pb.Ack(segment=segment)))

    async def pause(self) -> None:
        """Start no further block."""
        await self._ask(pb.StreamRequest(pause=pb.Pause()))

    async def play(self) -> None:
        """Go on after a pause."""
        await self._ask(pb.StreamRequest(play=pb.Play()))

    async def close(self) -> None:
        """Ask for the end; the iteration goes on until the ClosedEvent. Does nothing on a stream that has ended.

        While the connection is broken one more attempt is made to tell the server; if it fails, that is the end here,
        and the server ends the stream when its client has been away for too long.
        """
        self._hurry.set()
        with contextlib.suppress(ClientError):
            await self._ask(pb.StreamRequest(close=pb.Close()))

    async def leave(self) -> bytes:
        """Leave the stream without ending it; returns the token that another call goes on with, see Client.resume.

        Its call is cancelled, and leaving the `async with` sends no `close` any more: the server keeps the stream for
        `Limits.detached_s`. A stream that was not opened yet ends.
        """
        self._failure = ClientError(grpc.StatusCode.CANCELLED, "the stream was left")
        self._give_up()
        return self._memory.token

    async def _ask(self, request: pb.StreamRequest) -> None:
        """Send a frame, now or with the next call; the stream's status as ClientError if it is known to have ended."""
        call = self._entered()
        if not self._is_open:
            return self._check_unheard()
        self._memory.asked(request)
        if self._outage is None and not await asyncio.shield(self._write(call, request)):
            await self._see_why(call)

    async def _write(self, call: StreamCall, request: pb.StreamRequest) -> bool:
        """Send a frame; False if the call takes none any more: then it has ended, and reading tells how."""
        try:
            async with self._writing:
                await call.write(request)
        except asyncio.InvalidStateError:
            return False
        except grpc.aio.AioRpcError as failure:
            if call is self._call and failure.code() is grpc.StatusCode.INTERNAL:
                self._forgotten = True
            return False
        return True

    async def _see_why(self, call: StreamCall) -> None:
        """The call takes no frames any more: read what is left of it, for whoever iterates, until it says why."""
        while self._is_open and self._outage is None and call is self._call:
            await self._pull()
        self._check_unheard()

    def _check_unheard(self) -> None:
        """Raise how the stream ended, if whoever iterates was told that it has: what is asked for before crosses it."""
        if not self._is_open and (self._failure is not None or not self._events):
            raise self._status()

    @property
    def _is_open(self) -> bool:
        return self._closed is None and self._failure is None

    def _status(self) -> ClientError:
        """How the stream ended, for whoever asks for something afterwards."""
        if self._failure is not None:
            return self._failure
        closed = self._closed
        assert closed is not None
        if closed.ending in ENDINGS:
            return ClientError(ENDINGS[closed.ending], closed.reason or SENTENCES[closed.ending])
        return ClientError(grpc.StatusCode.FAILED_PRECONDITION, f"the stream has ended: {closed.ending}")

    def _entered(self) -> StreamCall:
        if self._call is None:
            raise ValueError("enter the stream first: async with client.stream(…) as stream")
        return self._call

    # --- events -----------------------------------------------------------------------------------------------------

    async def _next(self) -> StreamEvent:
        while not self._events:
            if self._failure is not None:
                raise self._failure
            if self._closed is not None:
                # The frame says what the status of the call would say, which grpc.aio may have forgotten.
                if self._closed.ending in ENDINGS:
                    raise self._status()
                raise StopAsyncIteration
            await self._pull()
        return self._events.popleft()

    async def _pull(self) -> None:
        """Take in one more frame, or make one attempt to go on; a wait that is cancelled cancels the waiting only."""
        if self._pulling is None or self._pulling.done():
            self._pulling = asyncio.ensure_future(self._advance())
        await asyncio.shield(self._pulling)

    async def _advance(self) -> None:
        try:
            if self._outage is not None:
                await self._try_again(self._outage)
            else:
                self._take(await self._read())
        except ClientError as error:
            self._broken(error)
        except Gap as error:
            self._failure = ClientError(grpc.StatusCode.DATA_LOSS, str(error))

    async def _read(self) -> StreamEvent | None:
        """The next event of the call; ClientError if it has ended."""
        try:
            return self._decoder.feed(await anext(self._frames))
        except grpc.aio.AioRpcError as failure:
            error = error_from(failure)
            if self._forgotten and error.code is grpc.StatusCode.INTERNAL:
                raise ClientError(grpc.StatusCode.UNAVAILABLE, "the connection was lost") from None
            raise error from None
        except StopAsyncIteration:
            raise ClientError(grpc.StatusCode.UNAVAILABLE, "the call ended without a last word") from None
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if task is not None and task.cancelling():
                raise
            self._failure = ClientError(grpc.StatusCode.CANCELLED, "the connection was closed")
            return None

    def _take(self, event: StreamEvent | None) -> None:
        if isinstance(event, MovedEvent):
            self._move(event)
        if event is None or isinstance(event, MovedEvent) or not self._memory.is_new(event):
            return
        if isinstance(event, OpenedEvent):
            self._memory.opened(event)
        if isinstance(event, ClosedEvent):
            self._closed = event
        self._events.append(event)

    def _move(self, event: MovedEvent) -> None:
        """Go on at another server, whatever this one says now."""
        self._events.append(event)
        try:
            self._route.lead_to(event.address)
        except ClientError as error:
            self._failure = error
            return
        self._memory.token = event.resume_token
        self._outage = _Outage(asyncio.get_running_loop().time() + self._options.reconnect_s)

    # --- going on ---------------------------------------------------------------------------------------------------

    async def _dial(self, first: pb.StreamRequest) -> None:
        """Make a call and send its first frame.

        A frame that could not be sent has no effect. If grpc.aio has forgotten why, another call is made to learn it.
        """
        for _ in range(DIALS):
            if self._call is not None:
                self._call.cancel()
            self._decoder, self._forgotten = Decoder(), False
            self._call = self._route.begin()
            self._frames = aiter(self._call)
            if await self._write(self._call, first) or not self._forgotten:
                return

    def _broken(self, error: ClientError) -> None:
        """A call, or an attempt to make one, has ended with this status: try again, or give up."""
        now_s, outage = asyncio.get_running_loop().time(), self._outage
        last = self._memory.closing and outage is not None
        if last or error.code not in OUTAGES or not self._memory.token or not self._options.reconnect_s:
            self._end(error)
        elif outage is None:
            self._outage = _Outage(now_s + self._options.reconnect_s)
            self._events.append(ReconnectingEvent(attempt=1, reason=error.message))
        elif now_s < outage.until_s:
            outage.attempt += 1
            self._events.append(ReconnectingEvent(attempt=outage.attempt, reason=error.message))
        else:
            self._end(error)

    def _end(self, error: ClientError) -> None:
        if not self._memory.closing or error.code not in OUTAGES | {grpc.StatusCode.NOT_FOUND}:
            self._failure = error
            return
        reason = f"the server could not be told: {error.message}"
        self._closed = ClosedEvent(ending="client", reason=reason, segments=self._memory.segments)
        self._events.append(self._closed)

    async def _try_again(self, outage: _Outage) -> None:
        """Wait, and go on with the stream on another call; ClientError if that fails."""
        if not self._memory.closing:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._hurry.wait(), outage.delay_s())
        try:
            async with asyncio.timeout(ATTEMPT_S):
                await self._dial(self._memory.resumption())
                while not isinstance(event := await self._read(), OpenedEvent):
                    if isinstance(event, MovedEvent):
                        self._move(event)
                    if isinstance(event, MovedEvent) or (event is None and self._failure is not None):
                        return
        except TimeoutError:
            raise ClientError(grpc.StatusCode.DEADLINE_EXCEEDED, f"no answer within {ATTEMPT_S:g} s") from None
        self._memory.resumed(event)
        self._outage = None
        token = event.resume_token
        resumed = ResumedEvent(continuity=event.continuity, segment=event.segment, resume_token=token)
        self._events.append(event if self.opened is None else resumed)
        for request in self._memory.repetition():
            await self._write(self._entered(), request)
