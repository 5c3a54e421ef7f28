"""One WebSocket of a browser, one call of the service: frames go both ways, credit passes through, nothing piles up.

A browser acknowledges what it has shown. For a stream of its own that goes on to the service, whose window it opens;
an observer's acknowledgements end here: what it has no room for gives way to what is newest.
A browser that goes away leaves its stream, and may come back to it.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections import deque
from collections.abc import AsyncIterator, Callable, Coroutine

from starlette.websockets import WebSocket, WebSocketDisconnect, WebSocketState

from cluster.frontend.connections import Throttle
from cluster.http.page.answers import (
    Json,
    error_message,
    event_message,
    invalid_message,
    ops_message,
    refused_frame,
    waiting_sentence,
)
from cluster.http.page.frames import (
    AckFrame,
    CommandFrame,
    CueFrame,
    FirstFrame,
    LaterFrame,
    OpenFrame,
    ResumeFrame,
    WatchFrame,
    WrongFrame,
    first_frame,
    later_frame,
)
from cluster.http.page.pictures import BrowserPictures, pictures_of
from cluster.http.page.together import first_to_end, in_background
from longtake.client import Client, CueAt, Stream, StreamOptions
from longtake.client.errors import ClientError
from longtake.client.events import ClosedEvent, OpenedEvent, SegmentEvent, StreamEvent
from longtake.client.options import ChangeName
from longtake.core.errors import InvalidField
from longtake.v1 import longtake_pb2 as pb

Connect = Callable[[str], Client]
"""Makes a client of the service that uses a browser's token."""
FIRST_FRAME_TIMEOUT_S = 10.0
FRAMES_PER_S = 50.0
"""So many frames a second are read of one browser; more wait in its own connection."""
WATCH_CREDIT = 4
"""Segments that an observer may be behind with its acknowledgements."""
LOOK_S = 1.0
"""How often it is looked why nothing comes for an observer."""
OPS_PERIOD_S = 0.1
MAX_OPS = 256
"""The most ops that are told in one message; when there are more, the oldest are dropped."""
ALIVE_S = 10.0
"""After so long without an aside the browser is told that it is not forgotten: a dead connection is silent for ever."""
ASIDES = 64
"""So many messages beside the stream may wait for a browser; when there are more, the oldest are dropped."""


class BrowserWriter:
    """Writes to one browser; it waits while the browser does not read, so that its callers wait too."""

    def __init__(self, socket: WebSocket) -> None:
        self._socket = socket
        self._turn = asyncio.Lock()
        self._asides: deque[Json] = deque(maxlen=ASIDES)
        self._aside = asyncio.Event()

    async def tell(self, message: Json, data: bytes | None = None) -> None:
        """Send a message, and the bytes that belong to it."""
        async with self._turn:
            await self._socket.send_text(json.dumps(message, ensure_ascii=False, allow_nan=False))
            if data is not None:
                await self._socket.send_bytes(data)

    async def event(self, event: StreamEvent, *, watching: bool) -> None:
        """Send what happened, to who only watches or to who began the stream."""
        data = event.header if isinstance(event, OpenedEvent) else None
        message = event_message(event, watching=watching)
        await self.tell(message, event.data if isinstance(event, SegmentEvent) else data)

    def aside(self, message: Json) -> None:
        """Send a message when there is time; it may be lost."""
        self._asides.append(message)
        self._aside.set()

    async def send_asides(self) -> None:
        """Send asides as they come, for ever; and a sign of life where none comes."""
        while True:
            try:
                await asyncio.wait_for(self._aside.wait(), ALIVE_S)
            except TimeoutError:
                self._asides.append({"type": "alive"})
            self._aside.clear()
            while self._asides:
                await self.tell(self._asides.popleft())


async def serve_socket(socket: WebSocket, connect: Connect) -> None:
    """All that happens on one WebSocket, until the browser or the stream ends it."""
    await socket.accept()
    writer = BrowserWriter(socket)
    try:
        frame = await _first(socket)
        async with connect(frame.token) as client:
            match frame:
                case OpenFrame():
                    pictures = await pictures_of(socket, client, frame)
                    await _own(socket, writer, client, _stream(frame, pictures, writer, client))
                case ResumeFrame():
                    options = StreamOptions(auto_ack=False)
                    stream = client.resume(bytes.fromhex(frame.resume_token), frame.cursor, options)
                    await _own(socket, writer, client, stream)
                case WatchFrame():
                    await _watch(socket, writer, client, frame.session_id)
    except WebSocketDisconnect:
        return
    except (InvalidField, WrongFrame) as error:
        await _last_word(socket, writer, invalid_message(error))
    except ClientError as error:
        await _last_word(socket, writer, error_message(error))
    else:
        await _last_word(socket, writer, None)


async def _last_word(socket: WebSocket, writer: BrowserWriter, message: Json | None) -> None:
    with contextlib.suppress(WebSocketDisconnect):
        if message is not None:
            await writer.tell(message)
        if socket.application_state is WebSocketState.CONNECTED:
            await socket.close()


async def _first(socket: WebSocket) -> FirstFrame:
    try:
        async with asyncio.timeout(FIRST_FRAME_TIMEOUT_S):
            return first_frame(await _text(socket))
    except TimeoutError:
        raise InvalidField("frame", None, f"open, resume or watch, within {FIRST_FRAME_TIMEOUT_S:g} s") from None


async def _text(socket: WebSocket) -> str:
    """The next text of the browser. WebSocketDisconnect when it is gone."""
    message = await socket.receive()
    if message["type"] == "websocket.disconnect":
        raise WebSocketDisconnect(message.get("code", 1005))
    text: str | None = message.get("text")
    if text is None:
        raise InvalidField("frame", "(bytes)", "a text of JSON")
    return text


async def _later(socket: WebSocket) -> AsyncIterator[LaterFrame | WrongFrame]:
    """What the browser says next, for ever; NoFrame for what ends the connection."""
    throttle = Throttle(FRAMES_PER_S)
    while True:
        text = await _text(socket)
        try:
            frame: LaterFrame | WrongFrame = later_frame(text)
        except WrongFrame as error:
            frame = error
        yield frame
        await throttle.take()


# --- a stream of the browser's own ------------------------------------------------------------------------------------


def _stream(frame: OpenFrame, pictures: BrowserPictures, writer: BrowserWriter, client: Client) -> Stream:
    """The stream that a browser asks for, not entered yet."""
    options = StreamOptions(
        seed=frame.seed_number,
        pace=frame.pace,
        duration_s=frame.duration_s,
        window=frame.window,
        fork=frame.fork,
        recipe=frame.recipe,
        given=pictures.given,
        references=pictures.references,
        auto_ack=False,
    )
    return client.stream(frame.prompt, options, waiting=lambda event: writer.aside(event_message(event)))


async def _own(socket: WebSocket, writer: BrowserWriter, client: Client, stream: Stream) -> None:
    beside = (_steer(socket, writer, stream), writer.send_asides())
    await first_to_end(_show(stream, writer, client), *(_or_leave(stream, work) for work in beside))


async def _or_leave(stream: Stream, work: Coroutine[None, None, None]) -> None:
    """Work until the browser is gone: then the stream is left as it is, for it to come back to."""
    try:
        await work
    except WebSocketDisconnect:
        await stream.leave()
        raise


async def _show(stream: Stream, writer: BrowserWriter, client: Client) -> None:
    """Forward what the service tells, until the stream has ended."""
    async with stream:
        await _or_leave(stream, _forward(stream, writer, client, watching=False))


async def _steer(socket: WebSocket, writer: BrowserWriter, stream: Stream) -> None:
    """Forward what the browser asks for, for ever; WebSocketDisconnect when it is gone.

    What crosses the end of the stream is no error: whoever shows the stream tells how it ended.
    """
    async for frame in _later(socket):
        if isinstance(frame, WrongFrame):
            await writer.tell(refused_frame(frame))
            continue
        with contextlib.suppress(ClientError):
            match frame:
                case CueFrame():
                    change: ChangeName | None = "cut" if frame.cut else None
                    back = frame.back_to_shot
                    at = CueAt(prompt=frame.prompt, time_s=frame.time_s, id=frame.id, change=change, back_to_shot=back)
                    await stream.cue(at)
                case AckFrame():
                    await stream.ack(frame.segment)
                case CommandFrame(type="pause"):
                    await stream.pause()
                case CommandFrame(type="play"):
                    await stream.play()
                case CommandFrame():
                    await stream.close()


# --- somebody's stream ------------------------------------------------------------------------------------------------


class _Newest:
    """The messages that an observer has yet to be told. Of the segments that wait, only the newest stay."""

    def __init__(self) -> None:
        self._waiting: deque[StreamEvent | ClientError | None] = deque(maxlen=ASIDES)
        self._unacknowledged: deque[int] = deque()
        self._changed = asyncio.Event()

    def put(self, event: StreamEvent | ClientError | None) -> None:
        """Append a message; None or an error is the end."""
        segments = [waiting for waiting in self._waiting if isinstance(waiting, SegmentEvent)]
        if isinstance(event, SegmentEvent) and len(segments) >= WATCH_CREDIT:
            self._waiting.remove(segments[0])
        self._waiting.append(event)
        self._changed.set()

    def acknowledge(self, segment: int) -> None:
        """Note that this segment and all before it were shown."""
        while self._unacknowledged and self._unacknowledged[0] <= segment:
            self._unacknowledged.popleft()
        self._changed.set()

    async def get(self) -> StreamEvent | None:
        """The next message, as soon as it may be told; raises the error that is the end."""
        while not self._ready():
            self._changed.clear()
            await self._changed.wait()
        event = self._waiting.popleft()
        if isinstance(event, ClientError):
            raise event
        if isinstance(event, SegmentEvent):
            self._unacknowledged.append(event.index)
        return event

    def _ready(self) -> bool:
        if not self._waiting:
            return False
        return not isinstance(self._waiting[0], SegmentEvent) or len(self._unacknowledged) < WATCH_CREDIT


async def _watch(socket: WebSocket, writer: BrowserWriter, client: Client, session_id: str) -> None:
    newest, begun = _Newest(), asyncio.Event()

    async def read() -> None:
        try:
            async for event in client.watch(session_id):
                newest.put(event)
        except ClientError as error:
            newest.put(error)
        else:
            newest.put(None)

    async def events() -> AsyncIterator[StreamEvent]:
        async with in_background(read()):
            while (event := await newest.get()) is not None:
                yield event
                begun.set()

    async def acknowledgements() -> None:
        async for frame in _later(socket):
            if isinstance(frame, WrongFrame):
                raise frame
            if not isinstance(frame, AckFrame):
                raise InvalidField("type", frame.type, "ack: an observer does not steer")
            newest.acknowledge(frame.segment)

    beside = (acknowledgements(), writer.send_asides(), _tell_why(writer, client, session_id, begun))
    await first_to_end(_forward(events(), writer, client, watching=True), *beside)


async def _tell_why(writer: BrowserWriter, client: Client, session_id: str, begun: asyncio.Event) -> None:
    """Tell an observer, for ever, why nothing comes of the stream and when it goes on: its client knows it anyhow."""
    told = seen = ""
    await begun.wait()
    with contextlib.suppress(ClientError):  # whoever forwards the stream tells that it has ended
        while True:
            why = waiting_sentence(await client.get_session(session_id))
            if why != told and why == seen:  # a client whose connection broke is back at once
                writer.aside({"type": "notice", "text": why or "The stream goes on.", "waiting": bool(why)})
                told = why
            seen = why
            await asyncio.sleep(LOOK_S)
    await asyncio.Event().wait()


# --- both -------------------------------------------------------------------------------------------------------------


async def _forward(
    events: AsyncIterator[StreamEvent], writer: BrowserWriter, client: Client, *, watching: bool
) -> None:
    """Tell the browser what happens, from the beginning of a stream to its end, and which ops are done for it."""
    closed = False
    try:
        async with contextlib.AsyncExitStack() as stack:
            async for event in events:
                if isinstance(event, OpenedEvent):
                    await stack.enter_async_context(in_background(_ops(writer, client, event.session_id)))
                await writer.event(event, watching=watching)
                closed = isinstance(event, ClosedEvent)
    except ClientError:
        if not closed:  # else the status says once more how the stream ended
            raise


async def _ops(writer: BrowserWriter, client: Client, session_id: str) -> None:
    """Show the ops of a session as an aside; a service that does not show them, or no longer, is no failure."""
    spans: deque[pb.OpSpan] = deque(maxlen=MAX_OPS)
    try:
        async with in_background(_tell_ops(writer, spans)):
            async for span in client.watch_ops(session_id):
                spans.append(span)
    except ClientError as error:
        writer.aside({"type": "no_ops", "text": error.message})


async def _tell_ops(writer: BrowserWriter, spans: deque[pb.OpSpan]) -> None:
    while True:
        await asyncio.sleep(OPS_PERIOD_S)
        if spans:
            writer.aside(ops_message(tuple(spans)))
            spans.clear()
