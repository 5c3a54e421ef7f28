"""The worker's end of the link: dials the engine, passes messages between it and the compute thread, dials again.

Run as a process of its own: `python -m workers.link --engine HOST:PORT --worker NAME …`, with the launch's secret as
the first line of its standard input. The process ends when the engine says so or cannot be reached any more.
"""

from __future__ import annotations

import asyncio
import logging
from typing import Protocol

import grpc
import grpc.aio

from longtake.core.errors import Unavailable
from longtake.link.v1 import link_pb2 as pb
from longtake.link.v1 import link_pb2_grpc
from workers.denoise.layer_split import PEER_S
from workers.link.convert import MAX_MESSAGE_BYTES, down_from_proto, hello_to_proto, up_to_proto
from workers.link_trust import ENGINE_NAME, LinkFiles, shown
from workers.messages import Failed, Introduction, Shutdown, StartOver, Up
from workers.patience import awake_for
from workers.runner import Performer, Runner
from workers.vitals import show_name, vitals

HEARTBEAT_S = 1.0
REDIAL_S = 0.3
PATIENCE_S = 6.0
"""How long the engine may be out of reach before the process ends. The process's own pauses do not count."""
END_S = 2 * PEER_S
"""How long a compute thread may take to end: one that waits for a neighbour in its chain gives up before."""
CHANNEL_OPTIONS: tuple[tuple[str, int], ...] = (
    ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
    ("grpc.max_send_message_length", MAX_MESSAGE_BYTES),
    ("grpc.initial_reconnect_backoff_ms", 200),
    ("grpc.max_reconnect_backoff_ms", 1000),
    ("grpc.use_local_subchannel_pool", 1),
    ("grpc.enable_http_proxy", 0),  # a proxy of the environment is for the world outside
)
_FATAL = (
    grpc.StatusCode.UNAUTHENTICATED,
    grpc.StatusCode.FAILED_PRECONDITION,
    grpc.StatusCode.INVALID_ARGUMENT,
)

_log = logging.getLogger("longtake.worker")

AttachCall = grpc.aio.StreamStreamCall[pb.AttachRequest, pb.AttachResponse]


class Weights(Protocol):
    """Weights on their device; see workers.start.loading."""

    @property
    def introduction(self) -> Introduction:
        """What the worker says of itself in its Hello."""
        ...

    @property
    def meeting_point(self) -> str:
        """Where the worker meets others; see workers.start.spec.WorkerSpec."""
        ...

    def fresh(self) -> Performer:
        """A worker over the weights, without any history."""
        ...


class WorkerLink:
    """Keeps one loaded worker attached to its engine."""

    def __init__(
        self, loaded: Weights, engine: str, token: str, files: LinkFiles | None = None, *, workers: int = 1
    ) -> None:
        """`engine` is host:port; with `files` it must show a certificate, and is shown one.

        So many `workers` share this process, this one included.
        """
        self._workers = workers
        self._loaded = loaded
        self._files = files
        self._engine = engine
        self._token = token
        self._heard = False
        self._next: Performer | None = None
        """The worker of the next attachment: to make one may take longer than the engine bears silence."""

    async def serve(self) -> None:
        """Work until the engine sends Shutdown; Unavailable if it refuses or is out of reach for too long.

        After a break everything held for sessions is worthless, because the engine has ended them; so the next
        attachment starts with a fresh worker over the same weights.
        """
        patience = asyncio.create_task(awake_for(PATIENCE_S))
        try:
            while (why := await self._broken()) is not None:
                if self._heard:
                    patience.cancel()
                    patience = asyncio.create_task(awake_for(PATIENCE_S))
                elif patience.done():
                    raise Unavailable(f"no engine at {self._engine}: {why}")
                _log.info("link to %s broke (%s), dialling again", self._engine, why)
                await asyncio.sleep(REDIAL_S)
        finally:
            patience.cancel()

    async def _broken(self) -> str | None:
        """Dial once and work until the link ends; returns why it broke, None if the engine sent Shutdown."""
        self._heard = False
        if self._next is None:
            self._next = await asyncio.to_thread(self._loaded.fresh)
        try:
            async with self._channel() as channel:
                if await self._attached(self._call(channel), self._next):
                    return None
        except grpc.aio.AioRpcError as error:
            if error.code() in _FATAL:
                raise Unavailable(f"the engine refuses this worker: {error.details()}") from error
            return f"{error.code().name}: {error.details()}"
        return "the stream ended"

    def _call(self, channel: grpc.aio.Channel) -> AttachCall:
        call: AttachCall = link_pb2_grpc.LinkServiceStub(channel).Attach(metadata=shown(self._token))
        return call

    def _channel(self) -> grpc.aio.Channel:
        if self._files is None:
            return grpc.aio.insecure_channel(self._engine, options=CHANNEL_OPTIONS)
        named = (*CHANNEL_OPTIONS, ("grpc.ssl_target_name_override", ENGINE_NAME))
        return grpc.aio.secure_channel(
            self._engine, grpc.ssl_channel_credentials(*self._files.contents()), options=named
        )

    async def _attached(self, call: AttachCall, performer: Performer) -> bool:
        """Serve one attachment, from Hello on; True if it ended by Shutdown, False or AioRpcError if it broke."""
        await call.write(hello_to_proto(self._loaded.introduction))
        welcome = await call.read()
        if not isinstance(welcome, pb.AttachResponse) or welcome.WhichOneof("message") != "welcome":
            await call.code()  # raises nothing; the status is thrown by the next read
            return False
        self._heard, self._next = True, None
        loop = asyncio.get_running_loop()
        outbox: asyncio.Queue[Up | str | StartOver] = asyncio.Queue()

        def say(message: Up | str | StartOver) -> None:
            loop.call_soon_threadsafe(outbox.put_nowait, message)

        runner = Runner(performer, report=say, ended=say, meeting_point=self._loaded.meeting_point)
        runner.start()
        reader = asyncio.create_task(self._read(call, runner))
        writer = asyncio.create_task(self._write(call, outbox))
        beating = asyncio.create_task(self._beat(runner, outbox))
        try:
            return await self._ended(reader, writer)
        finally:
            for task in (reader, writer, beating):
                task.cancel()
            runner.put(Shutdown())
            if not await asyncio.to_thread(runner.join, END_S):
                raise Unavailable(f"worker {self._loaded.introduction.worker} is broken: {runner.hanging} hangs")

    async def _ended(self, reader: asyncio.Task[None], writer: asyncio.Task[str | StartOver]) -> bool:
        """Wait for the end of an attachment; what `_attached` returns and raises."""
        await asyncio.wait((reader, writer), return_when=asyncio.FIRST_COMPLETED)
        if not writer.done():
            reader.result()  # the link broke: raises its status
            return False
        try:
            reason = writer.result()
        except asyncio.InvalidStateError:  # the link broke, and a write noticed before the reader was told
            return False
        if isinstance(reason, StartOver):
            _log.warning("worker %s starts over: %s", self._loaded.introduction.worker, reason)
        # The engine ends the call when it has read the last word, which a connection that goes before may take along.
        await asyncio.wait((reader,), timeout=REDIAL_S)
        if isinstance(reason, StartOver):
            return False
        if reason:
            raise Unavailable(f"worker {self._loaded.introduction.worker} is broken: {reason}")
        return True

    async def _read(self, call: AttachCall, runner: Runner) -> None:
        worker = self._loaded.introduction.worker
        while True:
            message = await call.read()
            if not isinstance(message, pb.AttachResponse):
                return
            runner.put(down_from_proto(message, worker))

    async def _write(self, call: AttachCall, outbox: asyncio.Queue[Up | str | StartOver]) -> str | StartOver:
        """Send what the compute thread reports; returns the reason with which it ended."""
        while True:
            message = await outbox.get()
            if isinstance(message, StartOver):
                await asyncio.sleep(REDIAL_S)  # if another worker was lost, the engine shall hear of that one first
                await call.write(up_to_proto(Failed(sessions=(), sequence=None, reason=str(message))))
                return message
            if isinstance(message, str):
                await call.done_writing()
                return message
            await call.write(up_to_proto(message))

    async def _beat(self, runner: Runner, outbox: asyncio.Queue[Up | str | StartOver]) -> None:
        while True:
            outbox.put_nowait(vitals(runner.images, workers=self._workers))
            await asyncio.sleep(HEARTBEAT_S)


def serve(loaded: Weights, engine: str, token: str, files: LinkFiles | None = None) -> None:
    """Work for the engine at `engine` (host:port) until it is done with this worker. Unavailable if that fails."""
    show_name(loaded.introduction.worker)
    asyncio.run(WorkerLink(loaded, engine, token, files).serve())
