"""Videos as a client gets them: streams of a real server, decoded from their H.264."""

import asyncio
import io
from collections.abc import Sequence
from fractions import Fraction
from typing import Final

import av
import numpy as np

from longtake.client import Client, CueAt, StreamOptions
from longtake.client.events import OpenedEvent, SegmentEvent
from pocket.judge import Pictures
from pocket.sources import Request, Source
from pocket.world import FPS

_AT_ONCE: Final = 4


def served_source(server: str) -> Source:
    """A source that streams from `server` (HOST:PORT), a few videos at a time."""

    def source(requests: Sequence[Request]) -> list[Pictures]:
        return asyncio.run(_all(server, requests))

    return source


async def _all(server: str, requests: Sequence[Request]) -> list[Pictures]:
    places = asyncio.Semaphore(_AT_ONCE)
    async with Client(server) as client:

        async def one(request: Request) -> Pictures:
            async with places:
                return decoded(await _stream(client, request))[: request.pictures]

        return list(await asyncio.gather(*(one(request) for request in requests)))


async def _stream(client: Client, request: Request) -> bytes:
    """The file that the stream of `request` would be."""
    cues = tuple(CueAt(prompt=cue.prompt, time_s=Fraction(cue.picture, FPS)) for cue in request.prompts[1:])
    options = StreamOptions(seed=request.seed, pictures=request.pictures, cues=cues)
    file = bytearray()
    async with client.stream(request.prompts[0].prompt, options) as stream:
        async for event in stream:
            match event:
                case OpenedEvent():
                    file += event.header
                case SegmentEvent():
                    file += event.data
                case _:
                    pass
    return bytes(file)


def decoded(file: bytes) -> Pictures:
    """All pictures of a video file, uint8 [T, H, W, 3]."""
    with av.open(io.BytesIO(file), "r") as box:
        return np.stack([frame.to_ndarray(format="rgb24") for frame in box.decode(video=0)])
