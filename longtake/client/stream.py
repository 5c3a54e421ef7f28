"""One stream of the caller's own: it outlives the calls that it is made of."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from types import TracebackType
from typing import Self
from weakref import WeakValueDictionary

import grpc

from longtake.client import source
from longtake.client.call import Abandoned, StreamCall
from longtake.client.cue import StreamCue, cue_of, who
from longtake.client.endings import ENDINGS, error_of
from longtake.client.errors import ClientError
from longtake.client.events import (
    ClosedEvent,
    MovedEvent,
    OpenedEvent,
    ReconnectingEvent,
    ResumedEvent,
    RetryingEvent,
    SegmentEvent,
    StreamEvent,
)
from longtake.client.memory import Gap, Remembered
from longtake.client.options import ChangeName, CueAt, StreamOptions, cue_request
from longtake.client.outage import ATTEMPT_S, OUTAGES, Outage
from longtake.client.recording import Summary
from longtake.client.route import Route
from longtake.v1 import longtake_pb2 as pb

NOT_ENTERED = "enter the stream first: async with client.stream(…) as stream"
DIALS = 3
"""So many calls are made, one after the other, if they end before they take the first frame, nobody knows how."""
STUCK_S = 1.0
"""Whoever waits for what cannot come is told so after this."""
LEAVE_S = 2.0
"""Whoever leaves a stream that has not ended waits so long for its end."""


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
        self._memory = Remembered(list(request.cues), request.cursor if request.HasField("cursor") else None)
        self._events: deque[StreamEvent] = deque()
        """What has come and was not asked for yet."""
        self._early: list[StreamEvent] = []
        """What was told before the stream was opened, and then that it is."""
        self._tell_early: Callable[[StreamEvent], object] = waiting or self._early.append
        self._pulling: asyncio.Task[None] | None = None
        self._hurry = asyncio.Event()  # set when there is no time to wait between attempts
        self._names = {cue.id for cue in request.cues}
        """The ids of all cues so far."""
        self._cues: WeakValueDictionary[str, StreamCue] = WeakValueDictionary()
        """The cues that somebody may still ask about."""
        self._reader: object = None
        """Who asked for the newest event."""
        self._unacknowledged: int | None = None
        self._outage: Outage | None = None
        self._closed: ClosedEvent | None = None
        self._failure: ClientError | None = None
        """Why the stream cannot go on."""
        self._call: StreamCall | None = None
        self._opened: OpenedEvent | None = None

    @property
    def opened(self) -> OpenedEvent:
        """What the stream began with; ValueError before it is entered."""
        if self._opened is None:
            raise ValueError(NOT_ENTERED)
        return self._opened

    @property
    def session_id(self) -> str:
        """Its name now, which is another one than in `opened` after a MovedEvent; ValueError before it is entered."""
        opened = self.opened
        return self._route.session or opened.session_id

    async def __aenter__(self) -> Self:
        until_s = asyncio.get_running_loop().time() + self._options.room_s
        try:
            while self._opened is None:
                try:
                    await self._begin()
                except ClientError as error:
                    await self._wait_for_room(error, until_s)
        finally:
            if self._opened is None:
                self._give_up()
                await self._route.close()
        return self

    async def _begin(self) -> None:
        """Make the first call, and read until the stream is opened."""
        await self._dial(pb.StreamRequest(open=self._request))
        while self._opened is None:
            try:
                event = await self._next()
            except StopAsyncIteration:
                raise ClientError(grpc.StatusCode.UNKNOWN, "the stream ended before it began") from None
            if isinstance(event, OpenedEvent):
                self._opened = event
                self._early.append(event)
            else:
                self._tell_early(event)
        self._events.extendleft(reversed(self._early))

    async def _wait_for_room(self, error: ClientError, until_s: float) -> None:
        """Wait until it may help to ask again; the error, if that would take too long."""
        wait_s = error.retry_after_s
        if wait_s is None or asyncio.get_running_loop().time() + wait_s > until_s:
            raise error
        self._tell_early(RetryingEvent(after_s=wait_s, reason=error.message))
        await asyncio.sleep(wait_s)
        self._failure = None
        self._memory = Remembered(list(self._request.cues), self._memory.cursor)

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
        self._reader = who()
        if self._options.auto_ack and self._unacknowledged is not None and self._is_open:
            segment, self._unacknowledged = self._unacknowledged, None
            await self.ack(segment)
        event = await self._next()
        self._unacknowledged = event.index if isinstance(event, SegmentEvent) else None
        return event

    # --- steering ---------------------------------------------------------------------------------------------------

    async def cue(self, cue: CueAt | str, *, change: ChangeName | None = None) -> StreamCue:
        """Ask for another prompt; the answers come as events, and can be waited for. OptionError if it is none."""
        wire = cue_request(cue, change, self._names)
        self._names.add(wire.id)
        asked = self._cues[wire.id] = StreamCue(wire.id, self)
        await self._ask(pb.StreamRequest(cue=wire))
        return asked

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

        While the connection is broken one more attempt is made to tell the server; if it fails, that is the end here.
        """
        self._hurry.set()
        with contextlib.suppress(ClientError):
            await self._ask(pb.StreamRequest(close=pb.Close()))

    async def leave(self) -> bytes:
        """Leave the stream without ending it; returns the token that another call goes on with, see Client.resume.

        The server keeps the stream for `Limits.detached_s`. A stream that was not opened yet ends.
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
        if self._outage is None and not await call.write(request):
            await self._see_why(call)

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
        assert self._closed is not None
        return error_of(self._closed)

    def _entered(self) -> StreamCall:
        if self._call is None:
            raise ValueError(NOT_ENTERED)
        return self._call

    # --- what can be made of it -------------------------------------------------------------------------------------

    async def save(
        self,
        path: str | os.PathLike[str],
        *,
        keep_times: bool = False,
        tell: Callable[[StreamEvent], object] | None = None,
    ) -> Summary:
        """Read the stream to its end, and write it into a file that plays; an older file there is overwritten.

        The file begins at 0 s, unless `keep_times`. `tell` is called with each event. OSError if the file cannot be
        written; what came before an error is in it, and plays.
        """
        return await source.save(self, path, keep_times=keep_times, tell=tell)

    def chunks(self, *, keep_times: bool = False) -> AsyncGenerator[bytes, None]:
        """Read the stream to its end: the bytes of the file that `save` writes, as they come."""
        return source.chunks(self, keep_times=keep_times)

    async def more(self, *, past_segments: bool) -> None:
        """Take in a little more, which stays for the reader; RuntimeError if nobody reads what is in the way of it."""
        if not self._is_open:
            raise self._status()
        full = self._options.auto_ack and self._memory.outstanding >= self.opened.window
        is_stuck = past_segments and full and self._reader in (None, who())
        try:  # what is told beside segments may still come
            async with asyncio.timeout(STUCK_S if is_stuck else None):
                await self._pull()
        except TimeoutError:
            why = "the window is full, and who should read the stream waits: read it in another task"
            raise RuntimeError(why) from None

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
                self._take(await self._entered().read())
        except Abandoned as error:
            self._failure = error
        except ClientError as error:
            self._broken(error)
        except Gap as error:
            self._failure = ClientError(grpc.StatusCode.DATA_LOSS, str(error))

    def _take(self, event: StreamEvent | None) -> None:
        if isinstance(event, MovedEvent):
            self._move(event)
        if event is None or isinstance(event, MovedEvent) or not self._memory.is_new(event):
            return
        if isinstance(event, OpenedEvent):
            self._memory.opened(event)
        if isinstance(event, ClosedEvent):
            self._closed = event
        if (asked := self._cues.get(cue_of(event))) is not None:
            asked.told(event)
        self._events.append(event)

    def _move(self, event: MovedEvent) -> None:
        """Go on at another server, whatever this one says now."""
        self._events.append(event)
        try:
            self._route.lead_to(event.address, event.session_id)
        except ClientError as error:
            self._failure = error
            return
        self._memory.token = event.resume_token
        self._outage = Outage(asyncio.get_running_loop().time() + self._options.reconnect_s)

    # --- going on ---------------------------------------------------------------------------------------------------

    async def _dial(self, first: pb.StreamRequest) -> None:
        """Make a call and send its first frame.

        A frame that could not be sent has no effect. If grpc.aio has forgotten why, another call is made to learn it.
        """
        for _ in range(DIALS):
            if self._call is not None:
                self._call.cancel()
            self._call = StreamCall(self._route)
            if await self._call.write(first) or not self._call.has_forgotten:
                return

    def _broken(self, error: ClientError) -> None:
        """A call, or an attempt to make one, has ended with this status: try again, or give up."""
        now_s, outage = asyncio.get_running_loop().time(), self._outage
        last = self._memory.closing and outage is not None
        if last or error.code not in OUTAGES or not self._memory.token or not self._options.reconnect_s:
            self._end(error)
        elif outage is None:
            self._outage = Outage(now_s + self._options.reconnect_s)
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

    async def _try_again(self, outage: Outage) -> None:
        """Wait, and go on with the stream on another call; ClientError if that fails."""
        if not self._memory.closing:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._hurry.wait(), outage.delay_s())
        try:
            async with asyncio.timeout(ATTEMPT_S):
                await self._dial(self._memory.resumption())
                while not isinstance(event := await self._entered().read(), OpenedEvent):
                    if isinstance(event, MovedEvent):
                        self._move(event)
                        return
        except TimeoutError:
            raise ClientError(grpc.StatusCode.DEADLINE_EXCEEDED, f"no answer within {ATTEMPT_S:g} s") from None
        self._memory.resumed(event)
        self._outage = None
        resumed = ResumedEvent(continuity=event.continuity, segment=event.segment, resume_token=event.resume_token)
        self._events.append(event if self._opened is None else resumed)
        for request in self._memory.repetition():
            await self._entered().write(request)
