"""What a browser gives a stream that it opens: pictures, in pieces behind the first frame, which names their sizes."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from starlette.websockets import WebSocket, WebSocketDisconnect

from cluster.http.page.frames import OpenFrame
from longtake.client import Client
from longtake.client.pictures import MAX_ALL_BYTES
from longtake.core.errors import InvalidField

TIMEOUT_S = 60.0
"""So long the pictures may take to come."""


@dataclass(frozen=True, slots=True)
class BrowserPictures:
    """What came."""

    given: tuple[bytes, ...] = ()
    references: tuple[bytes, ...] = ()


async def pictures_of(socket: WebSocket, client: Client, frame: OpenFrame) -> BrowserPictures:
    """The pictures that `frame` names. Whoever gives some is asked who they are before any is taken.

    InvalidField for pieces that are not those; ClientError if the browser may not ask for anything.
    """
    sizes = (*frame.given_bytes, *frame.references_bytes)
    if not sizes:
        return BrowserPictures()
    if sum(sizes) > MAX_ALL_BYTES:
        raise InvalidField("pictures", f"{sum(sizes)} bytes", f"up to {MAX_ALL_BYTES} bytes together")
    await client.get_model()
    try:
        async with asyncio.timeout(TIMEOUT_S):
            found = [await _picture(socket, size) for size in sizes]
    except TimeoutError:
        raise InvalidField("pictures", None, f"all of their bytes, within {TIMEOUT_S:g} s") from None
    count = len(frame.given_bytes)
    return BrowserPictures(given=tuple(found[:count]), references=tuple(found[count:]))


async def _picture(socket: WebSocket, size: int) -> bytes:
    """The next picture, of so many bytes, from pieces that it alone is in."""
    found = b""
    while len(found) < size:
        message = await socket.receive()
        if message["type"] == "websocket.disconnect":
            raise WebSocketDisconnect(message.get("code", 1005))
        piece: bytes | None = message.get("bytes")
        if not piece or len(found) + len(piece) > size:
            said = "(text)" if piece is None else f"{len(found) + len(piece)} bytes"
            raise InvalidField(
                "pictures", said, f"pieces of a picture that together are the {size} bytes it was to have"
            )
        found += piece
    return found
