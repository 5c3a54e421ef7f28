"""What an observer is told of a stream whose client stops, goes away, and comes back or not."""

from __future__ import annotations

import asyncio

import httpx

from tests.cluster.http.page.cell import PROMPT, Browser, Message, page_cell


async def waiting(browser: Browser) -> Message:
    """The next notice of waiting, with what is shown meanwhile acknowledged."""
    while True:
        message = await browser.upto("notice")
        if "waiting" in message:
            return message


async def both_see(owner: Browser, observer: Browser, opened: Message) -> None:
    """Watch a stream until its observer has a segment: one that comes late sees none until the owner consumes."""
    await observer.say(type="watch", session_id=opened["session_id"])
    seen = asyncio.create_task(observer.upto("segment"))
    while not seen.done():
        segment = await owner.upto("segment")
        await owner.say(type="ack", segment=segment["index"])
    await seen


async def test_an_observer_is_told_that_the_client_is_away_and_that_it_is_back_and_may_come_meanwhile() -> None:
    async with page_cell() as cell, cell.browser() as watching, httpx.AsyncClient(base_url=cell.url) as http:
        observer = Browser(watching)
        async with cell.browser() as socket:
            owner = Browser(socket)
            await owner.say(type="open", prompt=PROMPT, window=4)
            opened = await owner.upto("opened")
            await both_see(owner, observer, opened)
            await owner.say(type="pause")
            told = await waiting(observer)
            assert told["waiting"] and "has paused it" in str(told["text"])
            await owner.say(type="play")
            assert not (await waiting(observer))["waiting"]
            segment = await owner.upto("segment")
        told = await waiting(observer)
        assert told["waiting"] and "is away. It waits, and goes on when they come back" in str(told["text"])
        (session,) = (await http.get("/api/sessions")).json()["sessions"]
        assert session["attached"] is False and session["waiting"] == told["text"]
        async with cell.browser() as later:
            other = Browser(later)
            await other.say(type="watch", session_id=opened["session_id"])
            assert (await other.upto("opened"))["session_id"] == opened["session_id"]
            assert (await waiting(other))["text"] == told["text"]
        async with cell.browser() as socket:
            owner = Browser(socket)
            token, cursor = opened["resume_token"], segment["index"]
            await owner.say(type="resume", resume_token=token, cursor=cursor)
            consuming = asyncio.create_task(owner.upto("closed"))
            assert (await waiting(observer)) == {"type": "notice", "text": "The stream goes on.", "waiting": False}
            await observer.upto("segment")
            await owner.say(type="close")
            closed = await observer.upto("closed")
            assert closed["sentence"] == "The stream has ended: whoever began it has ended it."
            await consuming


async def test_an_observer_is_told_when_nobody_comes_back_and_can_watch_another_one() -> None:
    async with page_cell({"limits": {"detached_s": 0.5}}) as cell, cell.browser() as watching:
        observer = Browser(watching)
        async with cell.browser() as socket:
            owner = Browser(socket)
            await owner.say(type="open", prompt=PROMPT, window=2)
            opened = await owner.upto("opened")
            await both_see(owner, observer, opened)
        closed = await observer.upto("closed")
        assert closed["ending"] == "abandoned" and "whoever began it went away" in str(closed["sentence"])
        async with cell.browser() as socket, cell.browser() as again:
            owner, observer = Browser(socket), Browser(again)
            await owner.say(type="open", prompt=PROMPT)
            opened = await owner.upto("opened")
            await observer.say(type="watch", session_id=opened["session_id"])
            await observer.upto("opened")
