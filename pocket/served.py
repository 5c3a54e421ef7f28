"""Videos as a client gets them: streams of a real server, made by one of its recipes."""

import asyncio
import io
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path
from typing import Final

import av
import numpy as np

from longtake.cli.local_server import local_server
from longtake.client import Client, CueAt, StreamOptions
from longtake.client.events import OpenedEvent, SegmentEvent
from longtake.client.options import CodecName
from pocket.judge import Pictures
from pocket.sources import Request, Source
from pocket.world import FPS, SIZE

AT_ONCE: Final = 4
"""Streams that a source has open together."""


@contextmanager
def recipes_server(recipes: Sequence[str], say: Callable[[str], object]) -> Iterator[str]:
    """HOST:PORT of a server of the pocket model with these recipes, each worker a process of its own."""
    names = ", ".join(f'"{name}"' for name in recipes)
    with tempfile.TemporaryDirectory() as folder:
        config = Path(folder) / "server.toml"
        config.write_text(
            f'[model]\nrecipes = [{names}]\n[cluster]\nlaunch = "subprocess"\ndenoise_workers = 1\ndecode_workers = 1\n'
        )
        with local_server(say, config) as server:
            yield server


def served_source(server: str, *, recipe: str = "", codec: CodecName = "raw") -> Source:
    """A source that streams from `server` (HOST:PORT) by a recipe, its own by default, a few videos at a time."""

    def source(requests: Sequence[Request]) -> list[Pictures]:
        return asyncio.run(_all(server, requests, recipe, codec))

    return source


async def _all(server: str, requests: Sequence[Request], recipe: str, codec: CodecName) -> list[Pictures]:
    places = asyncio.Semaphore(AT_ONCE)
    async with Client(server) as client:

        async def one(request: Request) -> Pictures:
            async with places:
                file = await _stream(client, request, recipe, codec)
                return (uncoded(file) if codec == "raw" else decoded(file))[: request.pictures]

        return list(await asyncio.gather(*(one(request) for request in requests)))


async def _stream(client: Client, request: Request, recipe: str, codec: CodecName) -> bytearray:
    """The file that the stream of `request` would be."""
    cues = tuple(CueAt(prompt=cue.prompt, time_s=Fraction(cue.picture, FPS)) for cue in request.prompts[1:])
    options = StreamOptions(seed=request.seed, pictures=request.pictures, cues=cues, recipe=recipe, codec=codec)
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
    return file


def uncoded(file: bytes | bytearray) -> Pictures:
    """All pictures of a file of the codec `raw`, uint8 [T, H, W, 3]."""
    return np.frombuffer(file, np.uint8).reshape(-1, SIZE, SIZE, 3)


def decoded(file: bytes | bytearray) -> Pictures:
    """All pictures of a video file, uint8 [T, H, W, 3]."""
    with av.open(io.BytesIO(file), "r") as box:
        return np.stack([frame.to_ndarray(format="rgb24") for frame in box.decode(video=0)])
