"""Which cell a client names: a router before several cells has nothing else to go by."""

from __future__ import annotations

import inspect
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import grpc
import pytest

from longtake.client import Client, StreamOptions
from longtake.client.credentials import Credentials
from longtake.client.errors import ClientError
from longtake.net.cells import CELL_KEY, cell_metadata, cell_of, session_name
from longtake.v1 import longtake_pb2 as pb

SESSION = "east-1.00ffab"


@dataclass(slots=True)
class Listener(grpc.GenericRpcHandler):
    """Notes what goes along with each call, and answers with the frames that are due, then with a status."""

    port: int = 0
    frames: list[list[pb.StreamResponse]] = field(default_factory=list)
    """What each further call of Stream is told."""
    heard: list[tuple[str, str | bytes | None]] = field(default_factory=list)
    """Each call's method, and the cell that it named."""
    shown: str | bytes | None = None
    """What the caller of the last one showed."""

    def service(self, details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler[bytes, bytes]:
        method = details.method.rpartition("/")[2]
        metadata = dict(details.invocation_metadata or ())
        self.heard.append((method, metadata.get(CELL_KEY)))
        self.shown = metadata.get("authorization")

        async def stream(
            requests: AsyncIterator[bytes], context: grpc.aio.ServicerContext[bytes, bytes]
        ) -> AsyncIterator[bytes]:
            await anext(requests)
            due = self.frames.pop(0) if method == "Stream" and self.frames else []
            for frame in due:
                yield frame.SerializeToString()
            await context.abort(grpc.StatusCode.UNAVAILABLE if due else grpc.StatusCode.NOT_FOUND, "that is all")

        return grpc.stream_stream_rpc_method_handler(stream)


@asynccontextmanager
async def listening() -> AsyncIterator[Listener]:
    listener = Listener()
    server = grpc.aio.server(handlers=(listener,))
    listener.port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        yield listener
    finally:
        await server.stop(0.0)


def signature(what: object) -> str:
    return str(inspect.signature(what)) if callable(what) else ""


def opened(session: str) -> pb.StreamResponse:
    video = pb.Video(width=64, height=64, fps_numerator=16, fps_denominator=1)
    return pb.StreamResponse(
        opened=pb.Opened(session_id=session, resume_token=bytes(32), window=1, timescale=16, video=video)
    )


async def all_of(items: AsyncIterator[object]) -> None:
    async for _ in items:
        pass


ABOUT_A_SESSION: dict[str, Callable[[Client, str], Awaitable[object]]] = {
    "Watch": lambda client, session: all_of(client.watch(session)),
    "WatchOps": lambda client, session: all_of(client.watch_ops(session)),
    "GetSession": lambda client, session: client.get_session(session),
    "CloseSession": lambda client, session: client.close_session(session),
    "Export": lambda client, session: all_of(client.export_session(session)),
    "HandOver": lambda client, session: client.hand_over(session),
    "Stream": lambda client, session: client.stream("red", StreamOptions(fork=session)).__aenter__(),
}


@pytest.mark.parametrize("method", ABOUT_A_SESSION)
@pytest.mark.parametrize(("session", "cell"), [(SESSION, "east-1"), ("00ffab", None), ("ä.00", None), ("", None)])
async def test_a_call_about_a_session_names_its_cell(method: str, session: str, cell: str | None) -> None:
    async with listening() as listener, Client(f"127.0.0.1:{listener.port}") as client:
        with pytest.raises(ClientError, match="that is all"):
            await ABOUT_A_SESSION[method](client, session)
        assert listener.heard == [(method, cell)]


def test_no_call_about_a_session_is_left_out() -> None:
    service = pb.DESCRIPTOR.services_by_name["LongtakeService"]
    about = {
        method.name
        for method in service.methods
        if "session_id" in method.input_type.fields_by_name or method.name == "Stream"
    }
    assert about == ABOUT_A_SESSION.keys()
    named = {name for name, what in vars(Client).items() if name[0] != "_" and "session_id" in signature(what)}
    assert named == {"watch", "watch_ops", "get_session", "close_session", "export_session", "hand_over", "resume"}


async def test_a_stream_names_the_cell_that_it_is_in_as_soon_as_it_is_known() -> None:
    async with listening() as listener, Client(f"127.0.0.1:{listener.port}") as client:
        listener.frames = [[opened(SESSION)], [opened(SESSION)]]
        with pytest.raises(ClientError, match="that is all"):
            async with client.stream("red") as stream:
                await all_of(stream)
        assert listener.heard == [("Stream", None), ("Stream", "east-1"), ("Stream", "east-1")]


async def test_who_resumes_a_stream_may_say_which_it_is() -> None:
    async with listening() as listener, Client(f"127.0.0.1:{listener.port}") as client:
        for session, cell in ((SESSION, "east-1"), ("", None)):
            listener.heard.clear()
            with pytest.raises(ClientError):
                await client.resume(bytes(32), session_id=session).__aenter__()
            assert listener.heard == [("Stream", cell)]


@pytest.mark.parametrize(("there", "cell"), [("west.01", "west"), ("", None)])
async def test_a_stream_that_moves_names_the_cell_that_it_moves_to(there: str, cell: str | None) -> None:
    """And the one before no more, also if nobody has said what it is called there."""
    async with listening() as old, listening() as new, Client(f"127.0.0.1:{old.port}") as client:
        moved = pb.Moved(address=f"127.0.0.1:{new.port}", resume_token=bytes(32), session_id=there)
        old.frames = [[opened(SESSION), pb.StreamResponse(moved=moved)]]
        new.frames = [[opened("west.01")]]
        async with client.stream("red") as stream:
            with pytest.raises(ClientError):
                await all_of(stream)
            assert stream.session_id == "west.01" and stream.opened.session_id == SESSION
        assert old.heard == [("Stream", None)]
        assert new.heard == [("Stream", cell), ("Stream", "west")]


async def test_what_a_caller_shows_goes_along_as_before() -> None:
    async with listening() as listener:
        credentials = Credentials(token="secret")
        async with Client(f"127.0.0.1:{listener.port}", credentials=credentials) as client:
            for method, ask in ABOUT_A_SESSION.items():
                with pytest.raises(ClientError, match="that is all"):
                    await ask(client, SESSION)
                assert (listener.heard[-1], listener.shown) == ((method, "east-1"), "Bearer secret")


@pytest.mark.parametrize(
    "name", ["", "ab", "a.", ".ab", "A.ab", "a.AB", "-a.ab", "a-.ab", "a.b.ab", "a.ab\n", "a.xy", "ä.ab"]
)
def test_what_names_no_cell(name: str) -> None:
    assert cell_of(name) == "" and cell_metadata(name) == ()


@pytest.mark.parametrize("cell", ["a", "0", "east-1", "x" * 63])
def test_a_session_of_every_cell_names_it(cell: str) -> None:
    assert cell_of(session_name(cell, "00ff")) == cell
