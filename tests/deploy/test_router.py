"""Several cells behind the committed configuration of Envoy: no call fails that one of the cells could have met."""

from __future__ import annotations

import asyncio
import contextlib
import subprocess
from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

import grpc
import pytest

from cluster.frontend.server import SERVICE
from longtake.client import Client, ClosedEvent, MovedEvent, ResumedEvent, SegmentEvent, Stream, StreamOptions
from longtake.client.errors import ClientError
from longtake.core.limits import Limits
from longtake.net.cells import cell_of
from longtake.v1 import longtake_pb2 as pb
from longtake.v1 import longtake_pb2_grpc as rpc
from tests.cluster.frontend.carried import OPTIONS, counting_cell, exported, in_parts, stream_with, until
from tests.cluster.frontend.reading import everything, segments, upto
from tests.cluster.frontend.toy import Door, ToyCell
from tests.deploy.router import FILE, WAIT_S, Router, committed, endpoints, envoy, placed, router, routes

TIMES = 20
ROOMY, NO_QUEUE = Limits(max_sessions=64, max_queued=0), Limits(max_sessions=1, max_queued=0)
OPEN = StreamOptions(window=1)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Where the router's files lie; without Envoy the test is skipped before anything is started."""
    envoy()
    return tmp_path


@asynccontextmanager
async def two_cells(
    folder: Path, east: Limits = ROOMY, west: Limits = ROOMY
) -> AsyncIterator[tuple[ToyCell, ToyCell, Router, Client]]:
    """Both cells, the router before them, and a client of the router."""
    async with (
        counting_cell(limits=east, door=Door(cell="east")) as one,
        counting_cell(limits=west, door=Door(cell="west")) as other,
        router(placed(committed(), {"east": one.server.port, "west": other.server.port}), folder) as way,
        Client(way.target, timeout_s=10.0) as client,
    ):
        async with asyncio.timeout(WAIT_S):  # a first check may fail where the machine is busy
            while await way.healthy() != 2:
                await asyncio.sleep(0.05)
        yield one, other, way, client


def refused(cell: ToyCell) -> int:
    """How many streams the cell has refused."""
    return sum(cell.server.calls.ended[f"{SERVICE}/Stream", status] for status in ("RESOURCE_EXHAUSTED", "UNAVAILABLE"))


def by_cell(method: str, cells: Sequence[ToyCell]) -> dict[str, int]:
    """How many calls of a method have ended in each."""
    return {cell.server.offer.cell: calls(cell, method) for cell in cells}


async def become(figures: Callable[[], object], expected: object) -> None:
    """A call is counted when it is over, which is a little later than its client knows."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(1.0):
            while figures() != expected:
                await asyncio.sleep(0.01)
    assert figures() == expected


def calls(cell: ToyCell, method: str) -> int:
    """How many calls of a method have ended in the cell."""
    return sum(count for (name, _), count in cell.server.calls.ended.items() if name == f"{SERVICE}/{method}")


@asynccontextmanager
async def stream_in(cell: ToyCell, options: StreamOptions = OPEN) -> AsyncIterator[Stream]:
    """A stream that was opened in this cell and not through the router."""
    async with Client(cell.target) as client, client.stream("red", options) as stream:
        yield stream


async def cell_of_new_stream(client: Client) -> str:
    """The cell that a stream is opened in, which has shown a picture and has ended."""
    async with client.stream("red", OPEN) as stream:
        await upto(stream, SegmentEvent)
        return cell_of(stream.opened.session_id)


# --- where new streams go ---------------------------------------------------------------------------------------------


async def test_streams_spread_over_the_cells(folder: Path) -> None:
    async with two_cells(folder) as (east, west, _, client):
        streams = [client.stream("red", OPEN) for _ in range(8)]
        for stream in streams:
            await stream.__aenter__()
        found = Counter(cell_of(stream.session_id) for stream in streams)
        assert set(found) == {"east", "west"} and max(found.values()) <= 6, "the cell with fewer calls is taken"
        for stream in streams:
            await stream.__aexit__(None, None, None)
        assert refused(east) == refused(west) == 0


async def test_where_one_cell_is_full_each_stream_opens_in_the_other(folder: Path) -> None:
    async with two_cells(folder, east=NO_QUEUE) as (east, _, _, client), stream_in(east):
        found = [await cell_of_new_stream(client) for _ in range(TIMES)]
        assert found == ["west"] * TIMES
        assert refused(east) > 0, "the full cell was asked, and the client did not notice"


async def test_streams_that_come_at_once_open_in_the_other_cell_too(folder: Path) -> None:
    async with two_cells(folder, east=NO_QUEUE) as (east, _, _, client), stream_in(east):
        found = await asyncio.gather(*(cell_of_new_stream(client) for _ in range(8)))
        assert found == ["west"] * 8 and refused(east) > 0


async def test_where_all_cells_are_full_the_client_is_told_when_to_come_again(folder: Path) -> None:
    async with (
        two_cells(folder, east=NO_QUEUE, west=NO_QUEUE) as (east, west, _, client),
        stream_in(east),
        stream_in(west),
    ):
        for asked in range(1, 6):
            with pytest.raises(ClientError) as caught:
                await cell_of_new_stream(client)
            assert caught.value.code is grpc.StatusCode.RESOURCE_EXHAUSTED
            assert caught.value.retry_after_s is not None and caught.value.retry_after_s > 0
            await become(lambda: (refused(east), refused(west)), (asked, asked))  # each was asked once


async def test_a_cell_that_drains_gets_no_stream_and_keeps_those_it_has(folder: Path) -> None:
    async with two_cells(folder) as (east, _, way, client), stream_in(east) as stays:
        await upto(stays, SegmentEvent)
        east.engine.begin_drain(60.0)
        assert await cell_of_new_stream(client) == "west", "also before the router knows"
        async with asyncio.timeout(2.0):
            while await way.healthy() == 2:
                await asyncio.sleep(0.02)
        before = refused(east)
        assert [await cell_of_new_stream(client) for _ in range(TIMES)] == ["west"] * TIMES
        assert refused(east) == before, "it was not even asked"
        name = stays.session_id
        assert [(await client.get_session(name)).session_id for _ in range(TIMES)] == [name] * TIMES
        await upto(stays, SegmentEvent)


# --- calls about a session --------------------------------------------------------------------------------------------


async def test_calls_about_a_session_reach_the_cell_that_has_it(folder: Path) -> None:
    async with two_cells(folder) as (east, west, _, client):
        found = Counter[str]()
        for _ in range(TIMES):
            async with client.stream("red", OPEN) as stream:
                name = stream.session_id
                cell = cell_of(name)
                found[cell] += 1
                await upto(stream, SegmentEvent)
                assert (await client.get_session(name)).session_id == name
                async with client.watch(name) as watch:
                    assert watch.opened.session_id == name
                async with client.stream("blue", StreamOptions(window=1, fork=name, fork_block=1)) as fork:
                    assert cell_of(fork.session_id) == cell
                await client.close_session(name, "enough")
                ended = await upto(stream, ClosedEvent)
                assert isinstance(ended, ClosedEvent) and ended.ending == "operator"
        assert found.keys() == {"east", "west"}
        for method in ("GetSession", "CloseSession"):
            # No cell was asked for what is in the other one.
            await become(partial(by_cell, method, (east, west)), found)


async def test_a_client_that_comes_back_reaches_the_cell_that_has_its_stream(folder: Path) -> None:
    async with two_cells(folder) as (east, west, _, client):
        for knows_its_name in (True, False):
            for cell in (east, west):
                other = west if cell is east else east
                async with Client(cell.target) as inside, inside.stream("red", OPTIONS) as stream:
                    events = await until(stream, 5)
                    token = await stream.leave()
                before = calls(other, "Stream")
                session_id = stream.session_id if knows_its_name else ""
                for _ in range(3):  # by chance it would find it now and then
                    async with client.resume(token, 5, session_id=session_id) as again:
                        assert again.session_id == stream.session_id
                        token = await again.leave()
                assert (calls(other, "Stream") == before) or not knows_its_name
                async with client.resume(token, 5, session_id=session_id) as again:
                    events += await everything(again)
                assert {one.index: one.data for one in segments(events)} == await stream_with(())


async def test_sessions_whose_names_name_no_cell_are_looked_for_in_each(folder: Path) -> None:
    """As names that older servers gave, clients that do not send the metadata, and cells that were renamed."""
    async with two_cells(folder) as (east, west, way, _), grpc.aio.insecure_channel(way.target) as channel:
        stub = rpc.LongtakeServiceStub(channel)
        async with stream_in(east) as first, stream_in(west) as second:
            for stream in (first, second):
                request = pb.GetSessionRequest(session_id=stream.session_id)
                for metadata in ((), (("longtake-cell", "north"),)):
                    for _ in range(TIMES):
                        answer = await stub.GetSession(request, metadata=metadata)
                        assert answer.session.session_id == stream.session_id
            with pytest.raises(grpc.aio.AioRpcError, match="nobody") as caught:
                await stub.GetSession(pb.GetSessionRequest(session_id="nobody"))
            assert caught.value.code() is grpc.StatusCode.NOT_FOUND


async def test_a_stream_that_is_handed_over_goes_on_behind_the_router(folder: Path) -> None:
    """Its client reaches the router only: the name that it has in the new cell leads it there."""
    async with two_cells(folder) as (east, west, way, client), client.stream("red", OPTIONS) as stream:
        events = await until(stream, 5)
        old = stream.session_id
        here, there = (east, west) if cell_of(old) == "east" else (west, east)
        async with Client(here.target) as source, Client(there.target) as target:
            answer = await target.import_session(in_parts(await exported(source, old, hand_over=True)))
            new = answer.session_id
            await source.hand_over(old, way.target, answer.resume_token, new_session_id=new)
        events += await everything(stream)
        assert cell_of(new) not in ("", cell_of(old))
        assert stream.session_id == new and stream.opened.session_id == old
        (moved,) = [event for event in events if isinstance(event, MovedEvent)]
        assert (moved.address, moved.session_id) == (way.target, new)
        assert [event.continuity for event in events if isinstance(event, ResumedEvent)] == ["exact"]
        assert {one.index: one.data for one in segments(events)} == await stream_with(())
        await become(lambda: calls(here, "Stream"), 1)  # the call that was moved, and none that came back


@pytest.mark.parametrize("method", ["ListSessions", "GetStatus", "Drain"])
async def test_what_is_asked_of_one_cell_is_not_answered_for_all(folder: Path, method: str) -> None:
    asked = {"ListSessions": Client.list_sessions, "GetStatus": Client.get_status, "Drain": Client.drain}[method]
    async with two_cells(folder) as (east, west, _, client):
        with pytest.raises(ClientError, match="call it at its own address") as caught:
            await asked(client)
        assert caught.value.code is grpc.StatusCode.UNIMPLEMENTED
        assert calls(east, method) == calls(west, method) == 0
        assert (await client.get_model()).name == "toy"


# --- the file itself --------------------------------------------------------------------------------------------------


def test_envoy_takes_the_committed_file_as_it_is() -> None:
    done = subprocess.run([envoy(), "--mode", "validate", "-c", FILE], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "deprecated" not in done.stderr.lower()


def test_each_cell_may_be_asked_once() -> None:
    config = committed()
    cells = endpoints(config)
    assert {cell: address["address"] for cell, address in cells.items()} == {cell: cell for cell in cells}
    retries = [one["route"]["retry_policy"]["num_retries"] for one in routes(config) if "route" in one]
    assert retries == [len(cells) - 1] * 2
