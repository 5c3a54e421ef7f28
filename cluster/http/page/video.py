"""Video at an address, for whatever plays or saves one: the bytes of a stream as the answer to a GET.

The next segment is asked of the service when the connection has taken the one before, and that is what gives the
service credit: a player that does not read stops its stream's generation. A connection that breaks ends the stream.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import math
import re
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, aclosing, asynccontextmanager
from dataclasses import dataclass

from grpc import StatusCode
from starlette.datastructures import Headers
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.types import Receive, Scope, Send

from cluster.http.connections import BREAK_OFF
from cluster.http.page.answers import HTTP_STATUSES, Json, error_message
from cluster.http.page.query import WrongQuery, sentence_of, wanted_video
from cluster.http.page.sockets import Connect
from cluster.http.page.together import first_to_end
from longtake.client import Client
from longtake.client.errors import ClientError
from longtake.client.events import OpenedEvent, SegmentEvent, StreamEvent
from longtake.client.mp4 import FromZero
from longtake.core.errors import InvalidField

PIECE_BYTES = 64 * 1024
RETRY_S = 5
"""When to try again, where the service does not say it."""
MEDIA_TYPE = "video/mp4"
HEADERS = {
    "accept-ranges": "none",
    "cache-control": "no-store",
    "content-security-policy": "default-src 'none'; media-src 'self'; style-src 'unsafe-inline'",
    "x-accel-buffering": "no",
}
"""For whoever shows the address itself: a browser makes a page around the video, with a style of its own."""
CHALLENGE = 'Bearer, Basic realm="Longtake", charset="UTF-8"'
_FAULT = 500
_BUSY = (StatusCode.RESOURCE_EXHAUSTED, StatusCode.UNAVAILABLE)
_FROM_THE_START = re.compile(r"\s*bytes\s*=\s*0\s*-\s*\d*\s*")
VideoEvents = AsyncIterator[StreamEvent]


@dataclass(frozen=True, slots=True)
class VideoSource:
    """Where a video comes from."""

    begin: Callable[[Client], AbstractAsyncContextManager[VideoEvents]]
    """Begins a stream, or the observation of one."""
    check: Callable[[Client], Awaitable[object]]
    """Asks what can be known without that: ClientError if there would be none."""


class Videos:
    """Answers for `/stream.mp4`, and for a session's address."""

    def __init__(self, connect: Connect) -> None:
        self._connect = connect

    async def stream(self, request: Request) -> Response:
        """A stream of whoever asks, made for this one answer."""
        try:
            wanted = wanted_video(request.query_params.multi_items())
        except WrongQuery as error:
            return problem(400, str(error), code=StatusCode.INVALID_ARGUMENT.name)

        @asynccontextmanager
        async def begin(client: Client) -> AsyncGenerator[VideoEvents, None]:
            async with client.stream(wanted.prompt, wanted.options) as events:
                yield events

        return self._answer(request, VideoSource(begin, Client.get_model))

    async def session(self, request: Request) -> Response:
        """Somebody's stream, from its newest segment on."""
        if request.query_params:
            return problem(400, f"{next(iter(request.query_params))[:40]}: watching takes no parameters", code="")
        session = request.path_params["session_id"]
        source = VideoSource(lambda client: aclosing(client.watch(session)), lambda client: client.get_session(session))
        return self._answer(request, source)

    def _answer(self, request: Request, source: VideoSource) -> Response:
        if refusal := _foreign(request.headers):
            return problem(403, refusal, code=StatusCode.PERMISSION_DENIED.name)
        wanted = request.headers.get("range", "")
        if wanted.strip().startswith("bytes") and not _FROM_THE_START.fullmatch(wanted):
            said = f"range: {wanted[:40]!r} is not allowed; allowed: none, for the video is made while it is sent"
            return problem(416, said, code=StatusCode.OUT_OF_RANGE.name)
        return VideoResponse(self._connect, _token(request.headers), source)


class VideoResponse(Response):
    """The bytes of a stream, as they come; or why there are none, as a status and a sentence."""

    def __init__(self, connect: Connect, token: str, source: VideoSource) -> None:
        super().__init__()
        self._connect = connect
        self._token = token
        self._source = source

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer, until everything is sent or the connection is gone."""
        await first_to_end(self._answer(scope, receive, send), _gone(receive))

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        sending = Sending(send)
        try:
            async with self._connect(self._token) as client:
                if scope["method"] == "HEAD":
                    await self._source.check(client)
                    await sending.begin(MEDIA_TYPE, {})
                else:
                    async with self._source.begin(client) as events:
                        await sending.all(events)
        except InvalidField as error:
            await problem(400, str(error), code=StatusCode.INVALID_ARGUMENT.name)(scope, receive, send)
        except ClientError as error:
            if not sending.begun:
                await _refused(error)(scope, receive, send)
            else:
                scope["state"][BREAK_OFF]()
                await asyncio.Event().wait()  # until the connection is gone: who reads must not take it for the end
        else:
            await send({"type": "http.response.body", "body": b"", "more_body": False})


class Sending:
    """An answer on its way; it goes on as fast as its connection takes it."""

    def __init__(self, send: Send) -> None:
        self._send = send
        self.begun = False

    async def all(self, events: VideoEvents) -> None:
        """Send a stream from 0 s on; what it is asked for next it is asked when all before has been taken."""
        times, media_type = FromZero(), ""
        async for event in events:
            match event:
                case OpenedEvent():
                    media_type = event.media_type
                    named = f'inline; filename="longtake-{event.session_id}.mp4"'
                    facts = {"longtake-session": event.session_id, "longtake-seed": str(event.seed)}
                    await self.begin(event.media_type, facts | {"content-disposition": named})
                    await self._body(event.header)
                case SegmentEvent():
                    await self._body(times.moved(event.data, media_type))

    async def begin(self, media_type: str, facts: dict[str, str]) -> None:
        """Send the head of the answer."""
        self.begun = True
        headers = Headers(HEADERS | facts | {"content-type": media_type})
        await self._send({"type": "http.response.start", "status": 200, "headers": headers.raw})

    async def _body(self, data: bytes) -> None:
        for start in range(0, len(data), PIECE_BYTES):
            piece = data[start : start + PIECE_BYTES]
            await self._send({"type": "http.response.body", "body": piece, "more_body": True})
        # The server waits before it writes, and not afterwards; so an empty piece waits for those before.
        await self._send({"type": "http.response.body", "body": b"", "more_body": True})


async def _gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


def problem(status: int, sentence: str, *, code: str, headers: dict[str, str] | None = None) -> Response:
    """Why there is no video."""
    message: Json = {"type": "error", "code": code, "sentence": sentence}
    return JSONResponse(message, status_code=status, headers=headers)


def _refused(error: ClientError) -> Response:
    headers: dict[str, str] = {}
    if error.code is StatusCode.UNAUTHENTICATED:
        headers["www-authenticate"] = CHALLENGE
    if error.code in _BUSY:
        headers["retry-after"] = str(max(1, math.ceil(error.retry_after_s or RETRY_S)))
    sentence = sentence_of(error) if error.violations else str(error_message(error)["sentence"])
    return problem(HTTP_STATUSES.get(error.code, _FAULT), sentence, code=error.code.name, headers=headers)


def _foreign(headers: Headers) -> str:
    """Why what asks may be another site's page, which must not spend what this server has; empty if it is not.

    A browser says from where a page asks, but over plain HTTP it does so only on the machine where it runs. Whoever
    tells an origin is of the page's own: all others are refused before this.
    """
    site, agent = headers.get("sec-fetch-site"), headers.get("user-agent", "")
    if site in ("same-origin", "none") or (site is None and "origin" in headers):
        return ""
    if site is not None:
        return f"sec-fetch-site: {site!r} is not allowed; allowed: an address that is typed, or one on the page itself"
    if "mozilla/" not in agent.lower():
        return ""
    return "sec-fetch-site: a browser must tell it, and does so over HTTPS and on this machine; players need not"


def _token(headers: Headers) -> str:
    """What whoever asks shows of a token: as every client does, or as a password, which players can be told."""
    scheme, _, shown = headers.get("authorization", "").partition(" ")
    if scheme.lower() == "bearer":
        return shown.strip()
    if scheme.lower() != "basic":
        return ""
    try:
        return base64.b64decode(shown.strip(), validate=True).decode().partition(":")[2]
    except (binascii.Error, UnicodeDecodeError):
        return ""
