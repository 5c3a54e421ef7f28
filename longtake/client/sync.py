"""The client for code without asyncio: the same calls, waiting, on an event loop in a thread of its own."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncGenerator, Coroutine, Iterable, Iterator
from fractions import Fraction
from types import TracebackType
from typing import Any, Self, TypeVar

from longtake.client.client import Client
from longtake.client.credentials import Credentials
from longtake.client.events import OpenedEvent, StreamEvent
from longtake.client.options import CueAt, StreamOptions
from longtake.client.stream import Stream
from longtake.v1 import longtake_pb2 as pb

Answer = TypeVar("Answer")
Item = TypeVar("Item")


class _Loop:
    """An event loop that runs in a thread until it is stopped."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="longtake-client", daemon=True)
        self._thread.start()

    def run(self, work: Coroutine[Any, Any, Answer]) -> Answer:
        """Do the work on the loop, wait for it, and return or raise what came of it."""
        return asyncio.run_coroutine_threadsafe(work, self._loop).result()

    def stop(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()


class SyncStream:
    """One stream of the caller's own: an iterator of events, and the ways to steer it (from any thread)."""

    def __init__(self, loop: _Loop, stream: Stream) -> None:
        self._loop = loop
        self._stream = stream

    @property
    def opened(self) -> OpenedEvent | None:
        """Set as soon as the stream is entered."""
        return self._stream.opened

    def __enter__(self) -> Self:
        self._loop.run(self._stream.__aenter__())
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._loop.run(self._stream.__aexit__(kind, error, trace))

    def __iter__(self) -> Iterator[StreamEvent]:
        return self

    def __next__(self) -> StreamEvent:
        try:
            return self._loop.run(self._stream.__anext__())
        except StopAsyncIteration:
            raise StopIteration from None

    def cue(self, cue: CueAt | str) -> str:
        """As Stream.cue."""
        return self._loop.run(self._stream.cue(cue))

    def ack(self, segment: int) -> None:
        """As Stream.ack."""
        self._loop.run(self._stream.ack(segment))

    def pause(self) -> None:
        """As Stream.pause."""
        self._loop.run(self._stream.pause())

    def play(self) -> None:
        """As Stream.play."""
        self._loop.run(self._stream.play())

    def close(self) -> None:
        """As Stream.close."""
        self._loop.run(self._stream.close())

    def leave(self) -> bytes:
        """As Stream.leave."""
        return self._loop.run(self._stream.leave())


class SyncClient:
    """A connection to a Longtake server; use it as a context manager."""

    def __init__(self, target: str, *, credentials: Credentials | None = None) -> None:
        """As Client."""
        self._loop = _Loop()
        try:
            self._client = self._loop.run(_connect(target, credentials))
        except (ValueError, OSError):
            self._loop.stop()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connection and stop the thread."""
        self._loop.run(self._client.__aexit__(None, None, None))
        self._loop.stop()

    def stream(self, prompt: str, options: StreamOptions | None = None) -> SyncStream:
        """A stream of one's own, generated as long as it is entered."""
        return SyncStream(self._loop, self._client.stream(prompt, options))

    def resume(self, token: bytes, cursor: int | None = None, options: StreamOptions | None = None) -> SyncStream:
        """As Client.resume."""
        return SyncStream(self._loop, self._client.resume(token, cursor, options))

    def watch(self, session_id: str, *, from_segment: int | None = None) -> Iterator[StreamEvent]:
        """Observe somebody's stream."""
        events = self._client.watch(session_id, from_segment=from_segment)
        try:
            while (event := self._loop.run(_next(events))) is not None:
                yield event
        finally:
            self._loop.run(events.aclose())

    def export_session(self, session_id: str, *, hand_over: bool = False) -> Iterator[bytes]:
        """As Client.export_session."""
        parts = self._client.export_session(session_id, hand_over=hand_over)
        try:
            while (part := self._loop.run(_next(parts))) is not None:
                yield part
        finally:
            self._loop.run(parts.aclose())

    def import_session(self, parts: Iterable[bytes]) -> pb.ImportResponse:
        """As Client.import_session."""
        return self._loop.run(self._client.import_session(_each(parts)))

    def hand_over(self, session_id: str, address: str = "", token: bytes = b"") -> None:
        """As Client.hand_over."""
        self._loop.run(self._client.hand_over(session_id, address, token))

    def get_model(self) -> pb.GetModelResponse:
        """What is served and within which limits."""
        return self._loop.run(self._client.get_model())

    def get_session(self, session_id: str) -> pb.Session:
        """One open session."""
        return self._loop.run(self._client.get_session(session_id))

    def list_sessions(self) -> tuple[pb.Session, ...]:
        """All open sessions."""
        return self._loop.run(self._client.list_sessions())

    def close_session(self, session_id: str, reason: str = "") -> None:
        """End a session that may be somebody else's; its client is told the reason, one line of at most 500 bytes."""
        self._loop.run(self._client.close_session(session_id, reason))

    def get_status(self) -> pb.GetStatusResponse:
        """State of the cluster."""
        return self._loop.run(self._client.get_status())

    def drain(self, grace_s: float | Fraction = 0) -> int:
        """Shut the server down, once `grace_s` is over or no stream is left; how many are open now."""
        return self._loop.run(self._client.drain(grace_s))


async def _connect(target: str, credentials: Credentials | None) -> Client:
    return Client(target, credentials=credentials)


async def _next(items: AsyncGenerator[Item, None]) -> Item | None:
    return await anext(items, None)


async def _each(parts: Iterable[bytes]) -> AsyncGenerator[bytes, None]:
    for part in parts:
        yield part
