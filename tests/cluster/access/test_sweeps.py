"""Streams are looked at as long as they last: when those inside have to go."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator

import grpc
import pytest

from cluster.access import guard
from cluster.access.callers import new_token
from longtake.client import Client, StreamOptions
from longtake.client.credentials import Credentials
from tests.cluster.access.asking import ends, open_one, refusal, upto_segments
from tests.cluster.access.doors import House, guarded_cell


@pytest.mark.parametrize("how", ["removed", "expired", "demoted", "replaced"])
async def test_a_stream_ends_when_its_token_ceases_to_hold_and_others_go_on(house: House, how: str) -> None:
    async with (
        guarded_cell(house) as guarded,
        guarded.client("acme client") as client,
        guarded.client("umbrella client") as other,
        client.stream("red", StreamOptions(window=1)) as stream,
        other.stream("blue", StreamOptions(window=1)) as others,
    ):
        ending = asyncio.create_task(ends(stream))
        old = house.tokens["acme client"]
        if how == "removed":
            house.write(without="acme client")
        elif how == "expired":
            house.write(expires={"acme client": "2020-01-01T00:00:00Z"})
        elif how == "demoted":
            house.write(role_of={"acme client": "viewer"})
        else:
            house.tokens["acme client"] = new_token()
            house.write()
        error = await ending
        assert error.code is grpc.StatusCode.UNAUTHENTICATED
        async with Client(guarded.cell.target, credentials=Credentials(token=old)) as again:
            expected = grpc.StatusCode.PERMISSION_DENIED if how == "demoted" else grpc.StatusCode.UNAUTHENTICATED
            assert (await refusal(open_one(again, ""))).code is expected
        if how == "replaced":
            async with guarded.client("acme client") as renewed:
                await open_one(renewed, "")
        await upto_segments(others, 5)
        while len(guarded.cell.engine.scheduler.sessions()) > 1:
            await asyncio.sleep(0.01)


async def test_a_stream_ends_when_its_token_expires_by_the_clock(house: House) -> None:
    now_s = time.time()
    ahead_s = [0.0]
    until = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(now_s + 3600))
    house.write(expires={"acme client": until})
    async with (
        guarded_cell(house, clock=lambda: now_s + ahead_s[0]) as guarded,
        guarded.client("acme client") as client,
        client.stream("red", StreamOptions(window=1)) as stream,
    ):
        await upto_segments(stream, 3)
        ahead_s[0] = 3601.0
        assert (await ends(stream)).code is grpc.StatusCode.UNAUTHENTICATED
        for ask in (open_one(client, ""), client.list_sessions()):
            error = await refusal(ask)
            assert error.code is grpc.StatusCode.UNAUTHENTICATED and "the token has expired" in error.message


@pytest.mark.parametrize("method", ["Watch", "WatchOps"])
async def test_observers_have_to_go_too(house: House, method: str) -> None:
    async with (
        guarded_cell(house) as guarded,
        guarded.client("acme client") as client,
        guarded.client("acme viewer") as viewer,
        client.stream("red", StreamOptions(window=1)) as stream,
    ):
        session = stream.opened.session_id
        answers: AsyncIterator[object] = viewer.watch(session) if method == "Watch" else viewer.watch_ops(session)

        async def all_of_them() -> None:
            async for _ in answers:
                pass

        watching = asyncio.create_task(refusal(all_of_them()))
        await upto_segments(stream, 3)
        house.write(without="acme viewer")
        assert (await watching).code is grpc.StatusCode.UNAUTHENTICATED
        await upto_segments(stream, 3)


async def test_one_who_does_not_read_is_cut_off(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    """The session ends, and the call does not stay for as long as its client likes."""
    monkeypatch.setattr(guard, "GRACE_S", 0.2)
    size_bytes = 900_000
    async with (
        guarded_cell(house, segment_bytes=size_bytes) as guarded,
        guarded.client("acme client") as client,
        client.stream("red", StreamOptions(window=8, auto_ack=False)),
    ):
        sent_bytes = [0]
        while sent_bytes[-1] < size_bytes or len(set(sent_bytes[-10:])) > 1:  # until one waits for the client to read
            await asyncio.sleep(0.01)
            sent_bytes.append(guarded.tenancy.ledger.account("acme", time.time()).sent_bytes)
        house.write(without="acme client")
        ended = guarded.cell.server.calls.ended
        while guarded.cell.engine.scheduler.sessions() or not ended:
            await asyncio.sleep(0.01)
        assert ended == {("longtake.v1.LongtakeService/Stream", "CANCELLED"): 1}, "not by a status that nobody reads"


async def test_a_file_that_became_wrong_changes_nothing_and_is_told(
    house: House, caplog: pytest.LogCaptureFixture
) -> None:
    async with (
        guarded_cell(house) as guarded,
        guarded.client("acme client") as client,
        client.stream("red", StreamOptions(window=1)) as stream,
    ):
        with caplog.at_level(logging.ERROR, "longtake.tenants"):
            for text in ("tenants = 5", "[tenants.acme", "[tenants.acme]\nquta = 1"):
                house.file.write_text(text)
                seen = len(caplog.records)
                while len(caplog.records) == seen:
                    await asyncio.sleep(0.01)
        house.file.unlink()
        await asyncio.sleep(0.2)
        await upto_segments(stream, 3)
        await open_one(client, "")
