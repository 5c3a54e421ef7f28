"""The client for code without asyncio: the same calls, waiting, on an event loop in a thread of its own."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Coroutine, Iterable, Iterator
from fractions import Fraction
from types import TracebackType
from typing import Any, Self, TypeVar

from longtake.client.client import Client
from longtake.client.credentials import Credentials
from longtake.client.cue import WHO, StreamCue
from longtake.client.events import CueAcceptedEvent, CueAppliedEvent, OpenedEvent, StreamEvent
from longtake.client.options import ChangeName, CueAt, StreamOptions
from longtake.client.recording import Summary
from longtake.client.stream import Stream
from longtake.client.watch import Watch
from longtake.v1 import longtake_pb2 as pb

Answer = TypeVar("Answer")
Item = TypeVar("Item")


class LoopThread:
    """An event loop that runs in a thread until it is stopped."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="longtake-client", daemon=True)
        self._thread.start()

    def run(self, work: Coroutine[Any, Any, Answer], timeout_s: float | None = None) -> Answer:
        """Do the work on the loop, wait for it, and return or raise what came of it; TimeoutError after `timeout_s`.

        Work whose wait is broken off (Ctrl-C) is cancelled.
        """
        if threading.current_thread() is self._thread:
            work.close()
            raise RuntimeError("what is called by the client must not wait for the client: do it in another thread")
        asked = asyncio.run_coroutine_threadsafe(_as(threading.get_ident(), work, timeout_s), self._loop)
        try:
            return asked.result()
        finally:
            asked.cancel()

    def each(self, items: AsyncGenerator[Item, None]) -> Iterator[Item]:
        """The items, one by one; what makes them is closed with the iterator."""
        try:
            while (item := self.run(_next(items))) is not None:
                yield item
        finally:
            self.run(items.aclose())

    def stop(self) -> None:
        """Cancel what is still under way on it, as asyncio.run does, and end the thread."""
        self.run(_end_others())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()


async def _end_others() -> None:
    """Cancel all tasks but this one, gRPC's own among them, and wait for their end."""
    others = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
    for task in others:
        task.cancel()
    await asyncio.gather(*others, return_exceptions=True)


async def _as(thread: int, work: Coroutine[Any, Any, Answer], timeout_s: float | None) -> Answer:
    """Do the work for a thread."""
    WHO.set(thread)
    async with asyncio.timeout(timeout_s):
        return await work


class SyncCue:
    """A cue on its way, see StreamCue."""

    def __init__(self, loop: LoopThread, cue: StreamCue) -> None:
        self._loop = loop
        self._cue = cue
        self.id = cue.id
        """Its name, by which events tell of it."""

    def __repr__(self) -> str:
        return repr(self._cue)

    @property
    def is_shown(self) -> bool:
        """As StreamCue.is_shown."""
        return self._cue.is_shown

    def accepted(self, timeout_s: float | None = None) -> CueAcceptedEvent:
        """As StreamCue.accepted; TimeoutError after `timeout_s`, which loses nothing."""
        return self._loop.run(self._cue.accepted(), timeout_s)

    def shown(self, timeout_s: float | None = None) -> CueAppliedEvent:
        """As StreamCue.shown, beside another thread that reads the stream; TimeoutError after `timeout_s`."""
        return self._loop.run(self._cue.shown(), timeout_s)


class SyncWatch:
    """Somebody's stream, see Watch: an iterator of events."""

    def __init__(self, loop: LoopThread, events: Stream | Watch) -> None:
        self._loop = loop
        self._events = events

    @property
    def opened(self) -> OpenedEvent:
        """What the stream began with; ValueError before it is entered."""
        return self._events.opened

    def __enter__(self) -> Self:
        self._loop.run(self._events.__aenter__())
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._loop.run(self._events.__aexit__(kind, error, trace))

    def __iter__(self) -> Iterator[StreamEvent]:
        return self

    def __next__(self) -> StreamEvent:
        event = self.next()
        if event is None:
            raise StopIteration
        return event

    def next(self, timeout_s: float | None = None) -> StreamEvent | None:
        """The next event, None at the end; TimeoutError after `timeout_s`, which loses nothing."""
        return self._loop.run(_next(self._events), timeout_s)

    def save(
        self,
        path: str | os.PathLike[str],
        *,
        keep_times: bool = False,
        tell: Callable[[StreamEvent], object] | None = None,
    ) -> Summary:
        """As Stream.save; `tell` is called in the thread of the client."""
        return self._loop.run(self._events.save(path, keep_times=keep_times, tell=tell))

    def chunks(self, *, keep_times: bool = False) -> Iterator[bytes]:
        """As Stream.chunks."""
        return self._loop.each(self._events.chunks(keep_times=keep_times))


class SyncStream(SyncWatch):
    """One stream of the caller's own, see Stream: an iterator of events, and the ways to steer it (from any thread)."""

    def __init__(self, loop: LoopThread, stream: Stream) -> None:
        super().__init__(loop, stream)
        self._stream = stream

    @property
    def session_id(self) -> str:
        """As Stream.session_id."""
        return self._stream.session_id

    def cue(self, cue: CueAt | str, *, change: ChangeName | None = None) -> SyncCue:
        """As Stream.cue."""
        return SyncCue(self._loop, self._loop.run(self._stream.cue(cue, change=change)))

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

    def __init__(self, target: str, *, credentials: Credentials | None = None, timeout_s: float | None = None) -> None:
        """As Client."""
        self._loop = LoopThread()
        try:
            self._client = self._loop.run(_connect(target, credentials, timeout_s))
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

    def resume(
        self,
        token: bytes,
        cursor: int | None = None,
        options: StreamOptions | None = None,
        *,
        session_id: str = "",
    ) -> SyncStream:
        """As Client.resume."""
        return SyncStream(self._loop, self._client.resume(token, cursor, options, session_id=session_id))

    def watch(self, session_id: str, *, from_segment: int | None = None) -> SyncWatch:
        """As Client.watch."""
        return SyncWatch(self._loop, self._client.watch(session_id, from_segment=from_segment))

    def watch_ops(self, session_id: str) -> Iterator[pb.OpSpan]:
        """As Client.watch_ops."""
        return self._loop.each(self._client.watch_ops(session_id))

    def export_session(self, session_id: str, *, hand_over: bool = False) -> Iterator[bytes]:
        """As Client.export_session."""
        return self._loop.each(self._client.export_session(session_id, hand_over=hand_over))

    def import_session(self, parts: Iterable[bytes]) -> pb.ImportResponse:
        """As Client.import_session."""
        return self._loop.run(self._client.import_session(_each(parts)))

    def hand_over(self, session_id: str, address: str = "", token: bytes = b"", *, new_session_id: str = "") -> None:
        """As Client.hand_over."""
        self._loop.run(self._client.hand_over(session_id, address, token, new_session_id=new_session_id))

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

    def drain(self, grace_s: float | Fraction = 0, *, end_streams: bool = False) -> int:
        """As Client.drain."""
        return self._loop.run(self._client.drain(grace_s, end_streams=end_streams))


async def _connect(target: str, credentials: Credentials | None, timeout_s: float | None) -> Client:
    return Client(target, credentials=credentials, timeout_s=timeout_s)


async def _next(items: AsyncIterator[Item]) -> Item | None:
    return await anext(items, None)


async def _each(parts: Iterable[bytes]) -> AsyncGenerator[bytes, None]:
    for part in parts:
        yield part
