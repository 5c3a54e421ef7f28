"""Hand-over over real gRPC: a client's stream goes on at another server, and its user has to do nothing."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace

import grpc
import pytest

from longtake.cli import hand_over as cli
from longtake.cli.server import Server
from longtake.client import (
    Client,
    ClosedEvent,
    CueAcceptedEvent,
    CueAppliedEvent,
    CueAt,
    MovedEvent,
    ReconnectingEvent,
    RequestRefusedEvent,
    ResumedEvent,
    SegmentEvent,
    StreamEvent,
    StreamOptions,
)
from longtake.client.errors import ClientError
from longtake.core.adoption import Freeze, Thaw
from longtake.core.dispatch import handing
from longtake.core.events import Attach
from longtake.core.limits import Limits
from longtake.v1 import longtake_pb2 as pb
from longtake.v1 import longtake_pb2_grpc as rpc
from tests.cluster.frontend.carried import (
    BLOCKS,
    OPTIONS,
    counting_cell,
    exported,
    in_parts,
    refused,
    resumed,
    stream_with,
    until,
)
from tests.cluster.frontend.reading import everything, segments, upto
from tests.cluster.frontend.toy import ToyCell


@pytest.fixture(autouse=True)
def quick_attempts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cli, "RETRY_S", 0.02)


@asynccontextmanager
async def two_cells(*, limits: Limits | None = None) -> AsyncIterator[tuple[ToyCell, ToyCell]]:
    """The server that streams are on, and one to which they may go."""
    async with counting_cell(delay_s=0.002) as old, counting_cell(delay_s=0.002, limits=limits) as new:
        yield old, new


async def hand_over(old: ToyCell, new: ToyCell) -> list[str]:
    """What the command says that hands everything over."""
    said: list[str] = []
    await cli.hand_all_over(Server(target=old.target), Server(target=new.target), said.append)
    return said


def cues_in(events: list[StreamEvent]) -> tuple[CueAt, ...]:
    """The cues as they were accepted, each once."""
    accepted = [(event.cue_id, event.block) for event in events if isinstance(event, CueAcceptedEvent)]
    applied = [(event.cue_id, event.block) for event in events if isinstance(event, CueAppliedEvent)]
    assert accepted == applied and len({cue for cue, _ in accepted}) == len(accepted), "each in effect once"
    return tuple(CueAt(prompt=f"prompt of {cue}", id=cue, block=block) for cue, block in accepted)


async def is_that_of_an_undisturbed_one(events: list[StreamEvent], *, count: int) -> None:
    """All segments came once, in order, and are the bytes of a stream with the same cues at the same blocks."""
    got = segments(events)
    assert [one.index for one in got] == list(range(BLOCKS))
    cues = cues_in(events)
    assert len(cues) == count and not any(isinstance(event, RequestRefusedEvent) for event in events)
    assert {one.index: one.data for one in got} == await stream_with(cues)
    assert events[-1] == ClosedEvent(ending="completed", reason="", segments=BLOCKS - events_before(events))


def events_before(events: list[StreamEvent]) -> int:
    """The segments that the server which ended the stream did not send."""
    closed = events[-1]
    assert isinstance(closed, ClosedEvent)
    return BLOCKS - closed.segments


async def test_a_running_stream_goes_on_elsewhere_with_a_cue_that_was_asked_for_just_then() -> None:
    async with two_cells() as (old, new), Client(old.target) as client:
        async with client.stream("red", OPTIONS) as stream:
            events = await until(stream, 5)
            await stream.cue(CueAt(prompt="prompt of before", id="before"))
            events += await until(stream, 13)
            moving = asyncio.create_task(hand_over(old, new))
            while not any(session.is_frozen for session in old.engine.scheduler.cell.sessions.values()):
                events.append(await anext(stream))
            await stream.cue(CueAt(prompt="prompt of then", id="then"))
            events += await everything(stream)
            (said,) = await moving
        assert said == f"{stream.opened.session_id}: moved to {new.target}"
        await is_that_of_an_undisturbed_one(events, count=2)
        told = [event for event in events if isinstance(event, MovedEvent | ReconnectingEvent | ResumedEvent)]
        moved, resumed_event = told
        assert isinstance(moved, MovedEvent) and moved.text == f"the stream has moved to {new.target}"
        assert isinstance(resumed_event, ResumedEvent) and resumed_event.continuity == "exact"
        await old.settled()
        await new.settled()
        assert not [event for event in old.events if isinstance(event, Attach)], "the old one is not asked again"
        assert old.engine.journal.sessions == () and new.engine.journal.sessions == ()


@pytest.mark.parametrize("window", [1, 4, 16])
@pytest.mark.parametrize("auto_ack", [True, False])
async def test_wherever_the_client_stands_nothing_is_missing_and_nothing_comes_twice(
    window: int, auto_ack: bool
) -> None:
    options = replace(OPTIONS, window=window, auto_ack=auto_ack)
    async with two_cells() as (old, new), Client(old.target) as client, client.stream("red", options) as stream:
        events: list[StreamEvent] = []
        moving = None
        async for event in stream:
            events.append(event)
            if isinstance(event, SegmentEvent):
                if (not auto_ack and event.index % max(1, window - 1) == 0) or (
                    not auto_ack and event.index == BLOCKS - 1
                ):
                    await stream.ack(event.index)
                if event.index == 16:
                    moving = asyncio.create_task(hand_over(old, new))
        assert moving is not None and len(await moving) == 1
        await is_that_of_an_undisturbed_one(events, count=0)
        assert any(isinstance(event, MovedEvent) for event in events)


async def test_a_client_that_is_away_is_told_when_it_comes_back() -> None:
    expected = await stream_with(())
    async with two_cells() as (old, new), Client(old.target) as client:
        async with client.stream("red", OPTIONS) as stream:
            events = await until(stream, 9)
            token = await stream.leave()
        await old.left()
        assert len(await hand_over(old, new)) == 1
        await old.settled()
        last = segments(events)[-1].index
        async with client.resume(token, last) as again:
            assert again.opened.segment == last + 1
            rest = await everything(again)
        assert any(isinstance(event, MovedEvent) for event in rest)
        got = {one.index: one.data for one in segments(rest)}
        assert got == {block: data for block, data in expected.items() if block > last}
        async with grpc.aio.insecure_channel(old.target) as channel:
            call = rpc.LongtakeServiceStub(channel).Stream()
            await call.write(pb.StreamRequest(open=pb.Open(resume_token=token, cursor=last)))
            answers = [frame async for frame in _frames(call)]
        assert [frame.WhichOneof("frame") for frame in answers] == ["moved", "closed"]
        assert answers[0].moved.address == new.target and answers[1].closed.ending == pb.ENDING_MOVED
        async with Client(old.target) as stranger:
            with refused("NOT_FOUND"):
                await resumed(stranger, bytes(32), last)


async def _frames(
    call: grpc.aio.StreamStreamCall[pb.StreamRequest, pb.StreamResponse],
) -> AsyncIterator[pb.StreamResponse]:
    try:
        async for frame in call:
            yield frame
    except grpc.aio.AioRpcError as error:
        assert error.code() is grpc.StatusCode.ABORTED


async def test_many_go_one_after_the_other_and_one_that_cannot_stays() -> None:
    async with two_cells(limits=Limits(max_sessions=2)) as (old, new), Client(old.target) as client:
        streams = [client.stream("red", replace(OPTIONS, seed=seed)) for seed in range(3)]
        for stream in streams:
            await stream.__aenter__()
        tasks = [asyncio.create_task(everything(stream)) for stream in streams]
        said = await hand_over(old, new)
        results = await asyncio.gather(*tasks)
        assert len(said) == 3 and sum("moved to" in line for line in said) == 2
        (stays,) = [line for line in said if "stays" in line]
        assert "2 are open, as many as may be" in stays and "RESOURCE_EXHAUSTED" in stays
        for seed, events in enumerate(results):
            got = {one.index: one.data for one in segments(events)}
            assert got == await stream_with((), replace(OPTIONS, seed=seed))
        for stream in streams:
            await stream.__aexit__(None, None, None)


# --- what goes wrong --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("wrong", ["nobody is there", "it drains", "it is full"])
async def test_where_the_new_server_takes_nothing_the_stream_goes_on_and_its_cues_with_it(wrong: str) -> None:
    limits = Limits(max_sessions=1)
    async with (
        two_cells(limits=limits) as (old, new),
        Client(new.target) as other,
        other.stream("red", StreamOptions(window=1, reconnect_s=0)),
        Client(old.target) as client,
        client.stream("red", OPTIONS) as stream,
    ):
        events = await until(stream, 9)
        if wrong == "nobody is there":
            await new.server.stop(0.0)
        elif wrong == "it drains":
            await other.drain(60)
        moving = asyncio.create_task(hand_over(old, new))
        while not moving.done() and not any(isinstance(event, Freeze) for event in old.events):
            events.append(await anext(stream))
        await stream.cue(CueAt(prompt="prompt of then", id="then"))
        events += await everything(stream)
        said = await moving
        assert [": stays: " in line for line in said] == [True]
        await is_that_of_an_undisturbed_one(events, count=1)
        assert not any(isinstance(event, MovedEvent | ReconnectingEvent) for event in events)


async def test_a_hand_over_that_never_comes_is_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(handing, "FROZEN_S", 0.2)
    options = replace(OPTIONS, auto_ack=False)
    async with two_cells() as (old, new), Client(old.target) as client, Client(new.target) as other:
        async with client.stream("red", options) as stream:
            events = await until(stream, 3)  # and there it stands, without credit
            data = await exported(client, stream.opened.session_id, hand_over=True)
            answer = await other.import_session(in_parts(data))
            await stream.cue(CueAt(prompt="prompt of then", id="then"))
            events.append(await upto(stream, CueAcceptedEvent))
            with refused("FAILED_PRECONDITION"):
                await client.hand_over(stream.opened.session_id, new.target, answer.resume_token)
            await stream.ack(3)
            async for event in stream:
                events.append(event)
                if isinstance(event, SegmentEvent):
                    await stream.ack(event.index)
        await is_that_of_an_undisturbed_one(events, count=1)


async def test_an_export_that_breaks_thaws_the_session() -> None:
    options = replace(OPTIONS, window=1, auto_ack=False)
    async with two_cells() as (old, _), Client(old.target) as client, client.stream("red", options) as stream:
        await until(stream, 0)
        (session,) = old.engine.scheduler.cell.sessions.values()
        async with grpc.aio.insecure_channel(old.target) as channel:
            request = pb.ExportRequest(session_id=session.id, hand_over=True)
            call = rpc.LongtakeServiceStub(channel).Export(request)
            while not session.is_frozen:
                await asyncio.sleep(0)
            call.cancel()
        while not any(isinstance(event, Thaw) for event in old.events):
            await asyncio.sleep(0.005)
        assert not session.is_frozen


WRONG: dict[str, tuple[str, bytes, str]] = {
    "no port": ("host", bytes(32), "address"),
    "no host": (":50051", bytes(32), "address"),
    "port 0": ("host:0", bytes(32), "address"),
    "a space": ("a host:1", bytes(32), "address"),
    "a control": ("ho\nst:1", bytes(32), "address"),
    "a scheme": ("unix:///tmp/x", bytes(32), "address"),
    "too long": ("h" * 300 + ":1", bytes(32), "address"),
    "no token": ("host:1", b"", "resume_token"),
    "half a token": ("host:1", bytes(16), "resume_token"),
    "a token alone": ("", bytes(32), "resume_token"),
}


@pytest.mark.parametrize("name", WRONG)
async def test_nobody_is_sent_to_what_is_no_address(name: str) -> None:
    address, token, field = WRONG[name]
    options = replace(OPTIONS, window=1)
    async with two_cells() as (old, _), Client(old.target) as client, client.stream("red", options) as stream:
        with refused("INVALID_ARGUMENT", field):
            await client.hand_over(stream.opened.session_id, address, token)
        with refused("FAILED_PRECONDITION"):
            await client.hand_over(stream.opened.session_id, "host:1", bytes(32))


@pytest.mark.parametrize("name", ["ä.00", "east 00", "east.\n", "x" * 257])
async def test_nobody_is_sent_to_what_is_no_session(name: str) -> None:
    options = replace(OPTIONS, window=1)
    async with two_cells() as (old, _), Client(old.target) as client, client.stream("red", options) as stream:
        with refused("INVALID_ARGUMENT", "new_session_id"):
            await client.hand_over(stream.session_id, "host:1", bytes(32), new_session_id=name)
        with refused("INVALID_ARGUMENT", "new_session_id"):
            await client.hand_over(stream.session_id, new_session_id="east.00")


async def test_a_stream_that_is_sent_to_where_nobody_is_fails_after_it_tried_there() -> None:
    async with two_cells() as (old, _), Client(old.target) as client:
        options = replace(OPTIONS, reconnect_s=0.3)
        async with client.stream("red", options) as stream:
            events = await until(stream, 3)
            await exported(client, stream.opened.session_id, hand_over=True)
            await client.hand_over(stream.opened.session_id, "127.0.0.1:1", bytes(32))
            with pytest.raises(ClientError) as caught:
                events += await everything(stream)
            assert caught.value.code is grpc.StatusCode.UNAVAILABLE
        assert not [event for event in old.events if isinstance(event, Attach)]
