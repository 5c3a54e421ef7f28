"""The engine's end of the link: a gRPC service on which workers attach themselves."""

from __future__ import annotations

import asyncio
import logging
import math
from collections import deque
from collections.abc import AsyncIterator, Callable
from typing import NoReturn, Protocol

import grpc
import grpc.aio
from google.protobuf.message import DecodeError

from cluster.cell.attached import Port
from cluster.cell.signal import Signal
from cluster.launch.absences import Absences
from cluster.net.descriptors import Connections
from cluster.net.grpc_options import server_options
from longtake.core.awake import TURN_S, Awake
from longtake.core.errors import InvalidField
from longtake.core.sparing import Sparing, with_left_out
from longtake.core.work import Loss, WorkerId
from longtake.link.v1 import link_pb2 as pb
from longtake.net.addresses import Address
from workers.link.convert import MAX_MESSAGE_BYTES, down_to_proto, hello_from_proto, up_from_proto
from workers.link_trust import WORKER_NAME, LinkFiles, is_worker, shows
from workers.messages import Down, Introduction, Up
from workers.patience import within

SILENCE_S = 5.0
"""A worker that says nothing for this long (five heartbeats) is lost. The engine's own pauses do not count."""
HELLO_S = 5.0
"""A connection that has not said Hello by then is closed."""
QUEUE_LIMIT = 1024
MAX_HELLO_BYTES = 64 << 10
SPARE_CALLS = 16
"""Calls at once beside two of each worker: one may dial again before its old link is found broken."""
COMPLAINT_S = 10.0
"""How often the log tells of callers who are no workers."""

_log = logging.getLogger("longtake.link")

_SERVICE = pb.DESCRIPTOR.services_by_name["LinkService"].full_name
_Context = grpc.aio.ServicerContext[bytes, pb.AttachResponse]
"""Of a call whose messages come as bytes, which are parsed when it is known whose they are, and how many."""


class _LinkPort:
    """One attached worker as the engine sees it."""

    def __init__(self, lost: Callable[[str], None], ended: Callable[[_LinkPort], None]) -> None:
        """`lost` is to be called if the worker does not read; `ended` is called once, when the engine is done with
        this port."""
        self._lost = lost
        self._ended = ended
        self.stands = True
        """Whether the link was not seen to break."""
        self.heard()
        self.reason = ""
        """Why the engine gave it up; empty while it is attached."""
        self._waiting: deque[Down] = deque()
        self._changed = Signal()

    def heard(self) -> None:
        """Its silence begins anew."""
        self.silence = Awake(asyncio.get_running_loop().time())

    def send(self, message: Down) -> None:
        """See cluster.cell.attached.Port."""
        if len(self._waiting) >= QUEUE_LIMIT:
            self._lost("it does not read what it is sent")
            return
        self._waiting.append(message)
        self._changed.set()

    def end(self, reason: str) -> None:
        """See cluster.cell.attached.Port."""
        if not self.reason:
            self.reason = reason
            self._changed.set()
            self._ended(self)

    async def next(self) -> Down | None:
        """What is to be sent next, as soon as there is something; None once the engine has given the worker up."""
        while not self.reason:
            if self._waiting:
                return self._waiting.popleft()
            await self._changed.wait()
        return None


class Attachments(Protocol):
    """What attached workers speak with: the engine, or Chains, which gathers the workers of chains before it."""

    def join(self, introduction: Introduction, port: Port) -> Attachments:
        """See cluster.cell.engine.Engine."""
        ...

    def leave(self, worker: WorkerId, port: Port, reason: str, cause: Loss = Loss.LINK) -> None:
        """See cluster.cell.engine.Engine."""
        ...

    def hear(self, worker: WorkerId, port: Port, message: Up) -> None:
        """See cluster.cell.engine.Engine."""
        ...


class LinkService:
    """Lets workers of this launch, with this model, attach to the engine."""

    def __init__(
        self,
        attachments: Attachments,
        *,
        token: str,
        model_digest: str,
        silence_s: float = SILENCE_S,
        files: LinkFiles | None = None,
        start_within_s: float = math.inf,
    ) -> None:
        """With `files` workers must show a certificate; a new process has `start_within_s` to attach."""
        self._attachments = attachments
        self.files = files
        self._token = token
        self._model_digest = model_digest
        self._silence_s = silence_s
        self._ports: dict[WorkerId, _LinkPort] = {}
        self.absences = Absences(start_within_s)
        """The workers that were attached and are not."""
        self._complaints = Sparing(1, COMPLAINT_S)

    def handler(self) -> grpc.GenericRpcHandler:
        """The service, for a server."""
        attach: grpc.RpcMethodHandler[bytes, pb.AttachResponse] = grpc.stream_stream_rpc_method_handler(
            self.attach, None, pb.AttachResponse.SerializeToString
        )
        return grpc.method_handlers_generic_handler(_SERVICE, {"Attach": attach})

    async def attach(self, messages: AsyncIterator[bytes], context: _Context) -> AsyncIterator[pb.AttachResponse]:
        """Serve one worker, from its Hello to the end of its link."""
        introduction = await self._introduction(context)
        yield pb.AttachResponse(welcome=pb.Welcome())
        worker, attachments = introduction.worker, self._attachments
        port = _LinkPort(
            lost=lambda reason: attachments.leave(worker, port, reason, Loss.SILENCE),
            ended=lambda port: self._absent(introduction, port),
        )
        self._ports[worker] = port
        self.absences.came(worker)
        attachments = attachments.join(introduction, port)
        tasks = (
            asyncio.create_task(self._read(context, attachments, worker, port)),
            asyncio.create_task(self._watch(attachments, worker, port)),
        )
        try:
            while (message := await port.next()) is not None:
                yield down_to_proto(message)
        finally:
            for task in tasks:
                task.cancel()
            port.stands = False
            attachments.leave(worker, port, "its link broke")
        await context.abort(grpc.StatusCode.UNAVAILABLE, f"the engine gave this link up: {port.reason}")

    def _absent(self, introduction: Introduction, port: _LinkPort) -> None:
        """The worker has no link from now on, unless it has another one already."""
        if self._ports.get(introduction.worker) is not port:
            return
        del self._ports[introduction.worker]
        if port.stands:
            self.absences.given_up(introduction.worker, chained=introduction.part is not None)
        else:
            self.absences.starts(introduction.worker)

    async def _introduction(self, context: _Context) -> Introduction:
        """The worker's Hello; if it is wrong, the call ends with a status that says why."""
        # Who it is comes first: nothing is read of what a stranger sends.
        if self.files is not None and not is_worker(context.auth_context()):
            await self._turn_away(context, f"the certificate is not for {WORKER_NAME}")
        if not shows(context.invocation_metadata() or (), self._token):
            await self._turn_away(context, "the secret in the call's metadata is not this launch's")
        try:
            async with within(HELLO_S):
                first = await context.read()
            hello = _hello(first)
        except (TimeoutError, DecodeError):
            hello = None
        if hello is None:
            allowed = f"hello, of at most {MAX_HELLO_BYTES} bytes and within {HELLO_S:g} s"
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, f"the first message must be {allowed}")
        try:
            introduction = hello_from_proto(hello)
        except InvalidField as error:
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, str(error))
        if introduction.model_digest != self._model_digest:
            await context.abort(
                grpc.StatusCode.FAILED_PRECONDITION,
                f"hello.model_digest is {introduction.model_digest}, the engine serves {self._model_digest}",
            )
        return introduction

    async def _turn_away(self, context: _Context, why: str) -> NoReturn:
        left_out = self._complaints.left_out(asyncio.get_running_loop().time())
        if left_out is not None:
            _log.warning("%s", with_left_out(f"{context.peer()} dialled in and is no worker: {why}", left_out))
        await context.abort(grpc.StatusCode.UNAUTHENTICATED, why)

    async def _read(self, context: _Context, attachments: Attachments, worker: WorkerId, port: _LinkPort) -> None:
        reason, cause = "its link broke", Loss.LINK
        try:
            while isinstance(message := await context.read(), bytes):
                port.heard()
                attachments.hear(worker, port, up_from_proto(pb.AttachRequest.FromString(message)))
            reason = "it closed its link"
        except (InvalidField, DecodeError) as error:
            reason, cause = str(error), Loss.PROTOCOL
        finally:
            port.stands = cause is Loss.PROTOCOL
            attachments.leave(worker, port, reason, cause)

    async def _watch(self, attachments: Attachments, worker: WorkerId, port: _LinkPort) -> None:
        loop = asyncio.get_running_loop()
        while port.silence.look(loop.time()) < self._silence_s:
            await asyncio.sleep(TURN_S)
        attachments.leave(worker, port, f"it was silent for {self._silence_s:g} s", Loss.SILENCE)


def _hello(message: object) -> pb.Hello | None:
    """The Hello in a first message; None if it is none, or too large. DecodeError if it is no message at all."""
    if not isinstance(message, bytes) or len(message) > MAX_HELLO_BYTES:
        return None
    first = pb.AttachRequest.FromString(message)
    return first.hello if first.WhichOneof("message") == "hello" else None


def server_credentials(files: LinkFiles) -> grpc.ServerCredentials:
    """The engine's credentials on the link: workers must show certificates. InvalidField names a wrong file."""
    ca, key, certificate = files.contents()
    return grpc.ssl_server_credentials([(key, certificate)], root_certificates=ca, require_client_auth=True)


class LinkServer:
    """The service on a port of its own; port 0 picks a free one."""

    def __init__(self, service: LinkService, host: str = "127.0.0.1", port: int = 0, *, workers: int = 1) -> None:
        """Listen at `host` and `port` for so many; InvalidField if that is not possible, or not with these files."""
        calls = 2 * workers + SPARE_CALLS
        connections = max(calls, Connections.allowed().workers)
        options = server_options(max_message_bytes=MAX_MESSAGE_BYTES, connections=connections)
        self.absences = service.absences
        self._server = grpc.aio.server(options=options, maximum_concurrent_rpcs=calls)
        self._server.add_generic_rpc_handlers((service.handler(),))
        bound = self._bound(str(Address(host=host, port=port)), service.files)
        self.address = str(Address(host=host, port=bound))

    def _bound(self, where: str, files: LinkFiles | None) -> int:
        try:
            if files is None:
                return self._server.add_insecure_port(where)
            return self._server.add_secure_port(where, server_credentials(files))
        except RuntimeError:  # of gRPC, which does not say why
            if files is None:
                allowed = "an address of this machine and a port that is free"
                raise InvalidField("link.port", where, allowed) from None
            raise InvalidField(
                "link.key", str(files.key), f"the key of {files.certificate}, and a port that can be had at {where}"
            ) from None

    async def start(self) -> None:
        """Listen."""
        await self._server.start()

    async def stop(self) -> None:
        """Cut what is still attached and stop listening."""
        await self._server.stop(0.5)
