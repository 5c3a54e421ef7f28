"""A stream over the page's WebSocket outlives it: another one goes on with it, by token and cursor, byte for byte."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import Mapping
from pathlib import Path

import pytest
import websockets

from cluster.http.page import sockets
from cluster.http.page.answers import event_message
from longtake.client import Client, StreamOptions
from longtake.client.credentials import Credentials
from longtake.client.events import ResumedEvent, SegmentEvent
from longtake.v1 import longtake_pb2 as pb
from tests.cluster.http.page.cell import PROMPT, Browser, Message, PageCell, page_cell, tenants_file

SEED = 5
LENGTH_S = 9


async def undisturbed(cell: PageCell) -> list[bytes]:
    """The segments that a client of the service gets, whom nothing happens to."""
    options = StreamOptions(seed=SEED, duration_s=LENGTH_S)
    async with Client(cell.target) as client, client.stream(PROMPT, options) as stream:
        return [event.data async for event in stream if isinstance(event, SegmentEvent)]


async def away(client: Client, session_id: object) -> None:
    """Wait until the server has noticed that the browser is gone; fails by the test's own timeout."""
    while (await client.get_session(str(session_id))).attached:
        await asyncio.sleep(0.02)


async def state(client: Client) -> pb.SessionState:
    (session,) = await client.list_sessions()
    return session.state


async def refusal(cell: PageCell, **first: object) -> Message:
    """How a first frame is refused."""
    async with cell.browser() as socket:
        browser = Browser(socket)
        await browser.say(**first)
        message = await browser.hear()
        with pytest.raises(websockets.ConnectionClosedOK):
            await browser.hear()
        return message


@pytest.mark.parametrize("abruptly", [False, True])
async def test_another_socket_goes_on_after_the_last_segment_that_was_shown_byte_for_byte(abruptly: bool) -> None:
    async with page_cell() as cell, Client(cell.target) as client:
        whole = await undisturbed(cell)
        shown: list[bytes] = []
        first: dict[str, object] = {"type": "open", "prompt": PROMPT, "seed": str(SEED), "duration_s": LENGTH_S}
        session_ids, tokens = set(), []
        for until in (2, 4, 5, None):
            async with cell.browser() as socket:
                browser = Browser(socket)
                await browser.say(**first)
                opened = await browser.upto("opened")
                session_ids.add(opened["session_id"])
                tokens.append(opened["resume_token"])
                assert (opened["segment"], opened["continuity"]) == (len(shown), "exact")
                while until is None or len(shown) < until:
                    message = await browser.hear()
                    if message["type"] == "closed":
                        break
                    if message["type"] == "segment":
                        assert message["index"] == len(shown)
                        shown.append(browser.bytes[-1])
                        with contextlib.suppress(
                            websockets.ConnectionClosedOK
                        ):  # the stream is over; more is to be read
                            await browser.say(type="ack", segment=message["index"])
                if until == 4:
                    await browser.hear()  # comes, and is not shown: it comes again
                if until is not None and abruptly:
                    socket.transport.abort()
            if until is not None:
                await away(client, opened["session_id"])
            first = {"type": "resume", "resume_token": tokens[-1], "cursor": len(shown) - 1}
        assert shown == whole
        assert (message["ending"], message["segments"]) == ("completed", len(whole))
        assert len(session_ids) == 1 and len(set(tokens)) == 4, "one stream, and a new token for each connection"


async def test_who_has_shown_nothing_gets_all_again() -> None:
    async with page_cell() as cell:
        async with cell.browser() as socket:
            browser = Browser(socket)
            await browser.say(type="open", prompt=PROMPT, window=2)
            opened = await browser.upto("opened")
            before = [await browser.hear() for _ in range(2)]
        async with cell.browser() as socket:
            again = Browser(socket)
            await again.say(type="resume", resume_token=opened["resume_token"])
            assert (await again.upto("opened"))["segment"] == 0
            assert [await again.hear() for _ in range(2)] == before
        assert again.bytes == browser.bytes


async def test_of_two_browsers_with_one_token_the_older_is_told_that_the_stream_has_moved() -> None:
    async with page_cell() as cell, cell.browser() as one, cell.browser() as two, Client(cell.target) as client:
        older, newer = Browser(one), Browser(two)
        await older.say(type="open", prompt=PROMPT, window=2)
        opened = await older.upto("opened")
        await older.hear()
        await newer.say(type="resume", resume_token=opened["resume_token"])
        renewed = await newer.upto("opened")
        moved = await older.upto("closed")
        assert moved["ending"] == "moved"
        with pytest.raises(websockets.ConnectionClosedOK):
            await older.hear()
        assert (await client.get_session(str(opened["session_id"]))).attached, "the older has not taken it along"
        while (message := await newer.hear()).get("index") != 3:  # with a window of 2 that takes an acknowledgement
            if message["type"] == "segment":
                await newer.say(type="ack", segment=message["index"])
        message = await refusal(cell, type="resume", resume_token=opened["resume_token"])
        assert message["code"] == "NOT_FOUND", "the old token is no good once the new one is known to have arrived"
        assert renewed["resume_token"] != opened["resume_token"]


async def test_a_token_that_resumes_nothing_and_a_cursor_that_cannot_be_are_refused_and_no_token_is_repeated(
    tmp_path: Path,
) -> None:
    sections: Mapping[str, Mapping[str, object]] = {"auth": {"tenants": str(tenants_file(tmp_path))}}
    async with page_cell(sections) as cell, cell.browser() as socket:
        browser = Browser(socket)
        await browser.say(type="open", prompt=PROMPT, window=2, token="alice" * 4)
        opened = await browser.upto("opened")
        token = str(opened["resume_token"])
        for access, resume_token in (("alice", "00" * 32), ("bob", token)):
            message = await refusal(cell, type="resume", resume_token=resume_token, token=access * 4)
            assert message["code"] == "NOT_FOUND" and resume_token not in str(message)
        for wrong in (token + "z", token[1:], "", "ab" * 65):
            message = await refusal(cell, type="resume", resume_token=wrong, token="alice" * 4)
            assert message["code"] == "INVALID_ARGUMENT"
            assert str(message["sentence"]).startswith("resume_token: '(not shown)' is not allowed; allowed: ")
        for cursor, field in ((1000, "open.cursor: 1000"), (-1, "cursor: -1"), (1 << 41, f"cursor: {1 << 41}")):
            message = await refusal(cell, type="resume", resume_token=token, cursor=cursor, token="alice" * 4)
            assert message["code"] == "INVALID_ARGUMENT" and str(message["sentence"]).startswith(field)
        viewer = await refusal(cell, type="resume", resume_token=token, token="victor" * 4)
        assert viewer["code"] == "PERMISSION_DENIED"
        credentials = Credentials(token="alice" * 4)
        async with Client(cell.target, credentials=credentials) as client:
            assert (await client.get_session(str(opened["session_id"]))).attached, "who was refused has changed nothing"


async def test_a_pause_holds_and_a_cue_that_was_not_answered_is_asked_for_again() -> None:
    async with page_cell() as cell, Client(cell.target) as client:
        async with cell.browser() as socket:
            browser = Browser(socket)
            await browser.say(type="open", prompt=PROMPT, window=4)
            opened = await browser.upto("opened")
            await browser.say(type="cue", id="cue-1", prompt="a green ring pulsing in the snow", time_s=9)
            accepted = await browser.upto("cue_accepted")
            await browser.say(type="pause")
            while await state(client) is not pb.SESSION_STATE_PAUSED:
                await browser.upto("segment")
        await away(client, opened["session_id"])
        async with cell.browser() as socket:
            again = Browser(socket)
            await again.say(type="resume", resume_token=opened["resume_token"])
            await again.say(type="cue", id="cue-1", prompt="a green ring pulsing in the snow", time_s=9)
            assert await again.upto("cue_accepted") == accepted
            assert await state(client) == pb.SESSION_STATE_PAUSED
            await again.say(type="play")
            applied = await again.upto("cue_applied")
            assert (applied["id"], applied["block"]) == ("cue-1", accepted["block"])


async def test_a_browser_to_which_nothing_is_to_be_told_is_told_that_it_is_not_forgotten(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(sockets, "ALIVE_S", 0.05)
    async with page_cell() as cell, cell.browser() as socket:
        browser = Browser(socket)
        await browser.say(type="open", prompt=PROMPT, window=1)
        await browser.upto("segment")  # and no further one comes
        for _ in range(2):
            while json.loads(await socket.recv())["type"] != "alive":
                pass


def test_a_token_that_the_client_behind_the_page_was_told_goes_to_the_browser() -> None:
    event = ResumedEvent(continuity="exact", segment=8, resume_token=b"\x01\xab")
    text = "the stream goes on after segment 7 (exact)"
    assert event_message(event) == {"type": "resumed", "text": text, "resume_token": "01ab"}


async def test_an_end_is_an_end_and_so_is_a_frame_that_is_none() -> None:
    async with page_cell() as cell, Client(cell.target) as client:
        for last in ({"type": "close"}, {"type": "shout"}):
            async with cell.browser() as socket:
                browser = Browser(socket)
                await browser.say(type="open", prompt=PROMPT)
                await browser.upto("segment")
                await browser.say(**last)
                while (await browser.hear())["type"] not in ("closed", "error"):
                    pass
            while await client.list_sessions():
                await asyncio.sleep(0.02)


async def test_a_stream_that_has_ended_meanwhile_tells_its_end_to_who_comes_back() -> None:
    async with page_cell() as cell, Client(cell.target) as client:
        async with cell.browser() as socket:
            browser = Browser(socket)
            await browser.say(type="open", prompt=PROMPT)
            opened = await browser.upto("opened")
        await away(client, opened["session_id"])
        await client.close_session(str(opened["session_id"]))
        async with cell.browser() as socket:
            again = Browser(socket)
            await again.say(type="resume", resume_token=opened["resume_token"])
            assert (await again.upto("closed"))["ending"] == "operator"
