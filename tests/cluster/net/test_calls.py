"""What is to be done when a call is over is done once, however it ends; over real gRPC on the loopback."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import grpc
import pytest

from cluster.net.calls import when_over
from longtake.core.errors import InternalFault

METHOD = "/test.Service/Method"
LARGE = bytes(3 * 2**20)
"""Larger than what lies between a server and a client that does not read."""

Context = grpc.aio.ServicerContext[bytes, bytes]
Call = grpc.aio.UnaryStreamCall[bytes, bytes]
Answers = Callable[[Context], AsyncIterator[bytes]]


class Served:
    """A method that answers as the test says, and notes the ends of its calls."""

    def __init__(self, answers: Answers) -> None:
        self._answers = answers
        self.begun = 0
        self.over: list[int] = []
        """For each end, how many calls had begun."""

    async def method(self, request: bytes, context: Context) -> AsyncIterator[bytes]:
        self.begun += 1
        when_over(lambda: self.over.append(self.begun))
        async for answer in self._answers(context):
            yield answer

    async def ended(self, count: int) -> None:
        """Wait until so many calls are over."""
        async with asyncio.timeout(10):
            while len(self.over) < count:
                await asyncio.sleep(0.005)


@asynccontextmanager
async def serving(answers: Answers) -> AsyncIterator[tuple[Served, Callable[[], Call]]]:
    """A server on a free port, and how to call it."""
    served = Served(answers)
    server = grpc.aio.server()
    handler: grpc.RpcMethodHandler[bytes, bytes] = grpc.unary_stream_rpc_method_handler(served.method)
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("test.Service", {"Method": handler}),))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
            method: grpc.aio.UnaryStreamMultiCallable[bytes, bytes] = channel.unary_stream(METHOD)
            yield served, lambda: method(b"")
    finally:
        await server.stop(0.0)


async def two(context: Context) -> AsyncIterator[bytes]:
    yield b"1"
    yield b"2"


async def aborted(context: Context) -> AsyncIterator[bytes]:
    yield b"1"
    await context.abort(grpc.StatusCode.ABORTED, "enough")


async def broken(context: Context) -> AsyncIterator[bytes]:
    yield b"1"
    raise ValueError("a defect")


async def pausing(context: Context) -> AsyncIterator[bytes]:
    yield b"1"
    await asyncio.Event().wait()


async def flood(context: Context) -> AsyncIterator[bytes]:
    while True:
        yield LARGE


async def read_all(call: Call) -> None:
    try:
        async for _ in call:
            pass
    except grpc.aio.AioRpcError:
        pass


async def leave(call: Call) -> None:
    await call.read()
    await asyncio.sleep(0.1)  # the server waits for its next answer, or for the client to read
    call.cancel()


@pytest.mark.parametrize(
    ("answers", "end"),
    [(two, read_all), (aborted, read_all), (broken, read_all), (pausing, leave), (flood, leave)],
)
async def test_what_is_to_be_done_is_done_once_for_each_call(
    answers: Answers, end: Callable[[Call], Awaitable[None]]
) -> None:
    async with serving(answers) as (served, call):
        for number in (1, 2):
            await end(call())
            await served.ended(number)
        await asyncio.sleep(0.05)
        assert served.over == [1, 2], "once, and not before the next began"


async def test_outside_of_a_call_it_is_refused() -> None:
    done: list[None] = []
    refused = asyncio.Event()

    def outside() -> None:
        with pytest.raises(InternalFault, match="outside of any task"):
            when_over(lambda: done.append(None))
        refused.set()

    asyncio.get_running_loop().call_soon(outside)
    async with asyncio.timeout(10):
        await refused.wait()
    assert done == []
