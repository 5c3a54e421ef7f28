"""Streams over the page's WebSocket: the same video as over gRPC, cues, credit, observers, endings."""

from __future__ import annotations

import asyncio
import json

import pytest
import websockets

from cluster.http.page.sockets import WATCH_CREDIT
from longtake.client import Client, CueAt, Stream, StreamOptions
from longtake.client.events import OpenedEvent, SegmentEvent
from longtake.v1 import longtake_pb2 as pb
from tests.cluster.http.page.cell import PROMPT, Browser, Message, page_cell, until


async def test_a_browser_gets_the_bytes_that_a_client_of_the_service_gets() -> None:
    cue = CueAt(prompt="a blue box resting in the fog", time_s=2.0, id="c")
    async with page_cell() as cell:
        async with cell.browser() as socket:
            browser = Browser(socket)
            await browser.say(type="open", prompt=PROMPT, seed="18446744073709551615", duration_s=6)
            await browser.say(type="cue", id=cue.id, prompt=cue.prompt, time_s=2.0)
            opened = await browser.upto("opened")
            closed = await browser.upto("closed")
        options = StreamOptions(seed=2**64 - 1, duration_s=6, cues=(cue,))
        async with Client(cell.target) as client, client.stream(PROMPT, options) as stream:
            events = [event async for event in stream]
    data = [e.header for e in events if isinstance(e, OpenedEvent)] + [
        e.data for e in events if isinstance(e, SegmentEvent)
    ]
    assert browser.bytes == data
    assert (opened["seed"], opened["width"], opened["fps"]) == ("18446744073709551615", 64, 16.0)
    assert (closed["ending"], closed["segments"]) == ("completed", len(data) - 1)


async def test_a_cue_is_answered_twice_and_a_wrong_one_once_with_what_is_allowed() -> None:
    async with page_cell() as cell, cell.browser() as socket:
        browser = Browser(socket)
        await browser.say(type="open", prompt=PROMPT, window=2)
        await browser.upto("segment")
        await browser.say(type="cue", id="good", prompt="a green ring pulsing in the snow")
        await browser.say(type="cue", id="late", prompt=PROMPT, time_s=0)
        await browser.say(type="cue", id="bad", prompt="  ")
        answers: dict[object, Message] = {}
        while len(answers) < 3:
            message = await browser.hear()
            if message["type"] in ("cue_accepted", "refused"):
                answers[message["id"]] = message
        accepted, late, bad = answers["good"], answers["late"], answers["bad"]
        assert (late["code"], bad["code"]) == ("FAILED_PRECONDITION", "INVALID_ARGUMENT")
        assert isinstance(late["earliest_block"], int) and late["earliest_block"] > 0
        assert bad["field"] == "cue.prompt" and "allowed: 1 to 4096 bytes" in str(bad["sentence"])
        await browser.say(type="ack", segment=0)
        applied = await browser.upto("cue_applied")
        assert accepted["id"] == applied["id"] == "good" and accepted["block"] == applied["block"]
        await browser.say(type="close")
        assert (await browser.upto("closed"))["ending"] == "client"


async def test_ops_are_shown_with_their_step_block_and_worker() -> None:
    async with page_cell() as cell, cell.browser() as socket:
        browser = Browser(socket)
        await browser.say(type="open", prompt=PROMPT, duration_s=20)
        seen: set[tuple[object, object]] = set()
        while not {("denoise", 3), ("commit", 3), ("decode", 0)} <= seen:
            ops = await browser.ops()
            seen |= {(op["kind"], op["step"]) for op in ops}
            assert all(0 <= float(str(op["dispatched_at_s"])) <= float(str(op["done_at_s"])) for op in ops)


async def test_who_acknowledges_nothing_gets_a_window_then_a_parked_stream_and_then_goes_on_where_it_was() -> None:
    async with page_cell({"limits": {"park_after_s": 0.5}}) as cell, cell.browser() as socket:
        browser = Browser(socket)
        await browser.say(type="open", prompt=PROMPT, window=3)
        segments = [await browser.upto("opened")] + [await browser.hear() for _ in range(3)]
        assert [message["index"] for message in segments[1:]] == [0, 1, 2]
        async with Client(cell.target) as client:

            async def is_parked() -> bool:
                (session,) = await client.list_sessions()
                return session.state == pb.SESSION_STATE_PARKED

            await until(is_parked)
            (session,) = await client.list_sessions()
        assert (session.blocks_begun, session.segments_sent, session.segments_acknowledged) == (3, 3, 0)
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(browser.hear(), 0.2)
        await browser.say(type="ack", segment=1)
        assert (await browser.hear())["index"] == 3


async def test_pause_stops_a_stream_and_play_lets_it_go_on() -> None:
    async with page_cell() as cell, cell.browser() as socket, Client(cell.target) as client:

        async def state() -> pb.SessionState:
            return (await client.list_sessions())[0].state

        async def paused() -> bool:
            return await state() == pb.SESSION_STATE_PAUSED

        async def running() -> bool:
            return await state() == pb.SESSION_STATE_RUNNING

        browser = Browser(socket)
        await browser.say(type="open", prompt=PROMPT)
        await browser.upto("segment")
        await browser.say(type="pause")
        await until(paused)
        await browser.say(type="play")
        await until(running)


async def test_an_observer_is_sent_no_more_than_it_acknowledges_and_steers_nothing() -> None:
    async with page_cell() as cell, Client(cell.target) as client, client.stream(PROMPT) as stream:
        consuming = asyncio.create_task(_consume(stream))
        async with cell.browser() as socket:
            observer = Browser(socket)
            await observer.say(type="watch", session_id=stream.opened.session_id)
            await observer.upto("opened")
            first = [(await observer.hear())["index"] for _ in range(WATCH_CREDIT)]
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(observer.hear(), 0.5)
            begun = await blocks_begun(client)

            async def is_far_ahead() -> bool:
                return await blocks_begun(client) > begun + 20

            await until(is_far_ahead)
            await observer.say(type="ack", segment=first[-1])
            further = await observer.upto("segment")
            assert int(str(further["index"])) > begun, "the newest, not what it missed"
            await observer.say(type="pause")
            assert "type: 'pause' is not allowed; allowed: ack" in str((await observer.upto("error"))["sentence"])
        async with cell.browser() as socket:
            observer = Browser(socket)
            await observer.say(type="watch", session_id=stream.opened.session_id)
            await observer.say(type="ack", segment="x")
            assert "segment: 'x' is not allowed; allowed: a valid integer" in str(
                (await error_of(observer))["sentence"]
            )
        assert not consuming.done(), "the stream itself goes on"
        await stream.close()
        await consuming


async def error_of(browser: Browser) -> Message:
    """The error that ends what a browser is told."""
    while (message := await browser.hear())["type"] != "error":
        pass
    return message


async def blocks_begun(client: Client) -> int:
    (session,) = await client.list_sessions()
    return session.blocks_begun


async def _consume(stream: Stream) -> None:
    async for _ in stream:
        pass


async def test_a_browser_that_goes_away_leaves_its_stream() -> None:
    async with page_cell() as cell, Client(cell.target) as client:
        async with cell.browser() as socket:
            browser = Browser(socket)
            await browser.say(type="open", prompt=PROMPT)
            await browser.upto("segment")
            assert [session.attached for session in await client.list_sessions()] == [True]

        async def is_detached() -> bool:
            return [session.attached for session in await client.list_sessions()] == [False]

        await until(is_detached)


async def test_a_fork_goes_on_from_where_the_stream_is() -> None:
    async with page_cell() as cell, cell.browser() as one, cell.browser() as two:
        first, second = Browser(one), Browser(two)
        await first.say(type="open", prompt=PROMPT, window=3)
        opened = await first.upto("opened")
        for _ in range(3):
            await first.hear()
        await second.say(type="open", prompt="a green ring resting at dusk", fork=opened["session_id"])
        assert (await second.upto("segment"))["index"] == 3


WRONG: tuple[tuple[dict[str, object], str], ...] = (
    ({"type": "open", "prompt": ""}, "open.prompt: '' is not allowed; allowed: 1 to 4096 bytes of text"),
    ({"type": "open"}, "prompt: None is not allowed; allowed: it must be there"),
    ({"type": "open", "prompt": PROMPT, "window": 33}, "open.window: 33 is not allowed; allowed: 1 to 32 segments"),
    ({"type": "open", "prompt": PROMPT, "seed": str(2**64)}, "allowed: 0 to 2^64 - 1"),
    ({"type": "open", "prompt": PROMPT, "seed": 7}, "seed: 7 is not allowed; allowed: a valid string"),
    ({"type": "open", "prompt": PROMPT, "pace": "slow"}, "pace: 'slow' is not allowed; allowed: 'realtime' or 'fa"),
    ({"type": "open", "prompt": PROMPT, "colour": 1}, "colour: 1 is not allowed; allowed: one of the fields type, "),
    ({"type": "open", "prompt": " \n "}, "open.prompt: ' \\n ' is not allowed; allowed: 1 to 4096 bytes of text"),
    (
        {"type": "open", "prompt": PROMPT, "duration_s": 0},
        "duration_s: 0 is not allowed; allowed: a number of seconds,",
    ),
    ({"type": "watch", "session_id": "nobody"}, "session: 'nobody' is not open here"),
    ({"type": "cue", "id": "c", "prompt": PROMPT}, "type: 'cue' is not allowed; allowed: open, watch or resume"),
    ({"type": "open", "prompt": PROMPT, "token": "två"}, "token: '(not shown)' is not allowed"),
)


async def test_a_wrong_first_frame_gets_a_sentence_that_says_what_is_allowed() -> None:
    async with page_cell() as cell:
        for frame, sentence in WRONG:
            async with cell.browser() as socket:
                browser = Browser(socket)
                await browser.say(**frame)
                assert sentence in str((await browser.hear())["sentence"])
                with pytest.raises(websockets.ConnectionClosedOK):
                    await browser.hear()


async def test_bytes_garbage_and_messages_that_are_too_long_end_the_socket_and_nothing_else() -> None:
    async with page_cell() as cell:
        for garbage in (b"\0\1", "{", "[]", json.dumps({"type": "open", "prompt": "\ud800"})):
            async with cell.browser() as socket:
                await socket.send(garbage)
                assert "is not allowed; allowed: " in json.loads(await socket.recv())["sentence"]
        async with cell.browser() as socket:
            await socket.send(json.dumps({"type": "open", "prompt": "x" * 100_000}))
            with pytest.raises(websockets.ConnectionClosedError) as ended:
                await socket.recv()
            assert ended.value.rcvd is not None and ended.value.rcvd.code == 1009
        async with Client(cell.target) as client:
            assert await client.list_sessions() == ()


async def test_when_the_server_drains_a_browser_is_told_before_its_socket_closes() -> None:
    async with page_cell() as cell, cell.browser() as socket:
        browser = Browser(socket)
        await browser.say(type="open", prompt=PROMPT)
        await browser.upto("segment")
        cell.stop()
        assert (await browser.upto("closed"))["ending"] == "drained"
        with pytest.raises(websockets.ConnectionClosed):
            await browser.hear()
        await cell.serving
