"""How much a tenant may have: streams, prompts, device time and bytes, and no request that is too large."""

from __future__ import annotations

import asyncio
import time

import grpc
import pytest

from cluster.frontend.offer import WireLimits
from longtake.client import CueAt, StreamOptions
from longtake.client.events import RequestRefusedEvent, SegmentEvent
from longtake.core.events import OpDone
from tests.cluster.access.asking import ends, open_one, open_with, refusal, upto_segments
from tests.cluster.access.doors import House, guarded_cell
from tests.cluster.frontend.toy import GEOMETRY, OP_S

# --- quotas -----------------------------------------------------------------------------------------------------------


async def test_streams_at_once(house: House) -> None:
    house.quotas["acme"] = "streams = 2"
    house.write()
    async with guarded_cell(house) as guarded, guarded.client("acme client") as client:
        for _ in range(3):  # what ended makes room again
            async with client.stream("one", _endless()), client.stream("two", _endless()):
                error = await refusal(open_one(client, ""))
                assert (
                    error.code is grpc.StatusCode.RESOURCE_EXHAUSTED
                    and "used up: 2 of 2 are open. Try again in 5 s." in error.message
                )
                assert error.retry_after_s is not None and error.retry_after_s > 0
                async with guarded.client("umbrella client") as other:
                    await open_one(other, "")
            await guarded.cell.settled()
            while guarded.tenancy.ledger.account("acme", time.time()).streams:
                await asyncio.sleep(0.01)
        assert guarded.refusals() == {"quota": 3}


def _endless() -> StreamOptions:
    return StreamOptions(window=1)


async def test_prompts_a_minute_of_opens_and_cues_alike(house: House) -> None:
    house.quotas["acme"] = "prompts_per_minute = 3"
    house.write()
    now_s = [1_800_000_000.0]
    async with (
        guarded_cell(house, clock=lambda: now_s[0]) as guarded,
        guarded.client("acme client") as client,
        client.stream("one", StreamOptions(window=1, cues=(CueAt(prompt="two", block=5),))) as stream,
    ):
        await stream.cue("three")
        refused = await stream.cue("four")
        events = await upto_segments(stream, 3)
        (told,) = [event for event in events if isinstance(event, RequestRefusedEvent)]
        assert told.cue_id == refused.id and "3 a minute" in told.message
        error = await refusal(open_one(client, ""))
        assert error.code is grpc.StatusCode.RESOURCE_EXHAUSTED and error.retry_after_s == 20.0
        now_s[0] += 20.0
        await open_one(client, "")
        await upto_segments(stream, 8)


async def test_device_seconds_of_a_day_are_what_the_workers_took_shared_among_the_ops_of_a_pass(house: House) -> None:
    async with guarded_cell(house, delay_s=0.005) as guarded:
        owners: dict[str, str] = {}

        async def consume(tenant: str) -> None:
            async with guarded.client(f"{tenant} client") as client:
                for length in (4, 5):
                    options = StreamOptions(pictures=GEOMETRY.first_picture(length))
                    async with client.stream("red", options) as stream:
                        owners[stream.opened.session_id] = tenant
                        assert len([event async for event in stream if isinstance(event, SegmentEvent)]) == length

        await asyncio.gather(*(consume(tenant) for tenant in ("acme", "acme", "umbrella")))
        await guarded.cell.settled()
        done = [owners[work.session] for worker in guarded.cell.workers for work in worker.dispatched]
        passes = sum(isinstance(event, OpDone) for event in guarded.cell.events)
        assert 0 < passes < len(done), "no pass was shared, so nothing was shown"
        for tenant in ("acme", "umbrella"):
            account = guarded.tenancy.ledger.account(tenant, time.time())
            assert account.device_s == pytest.approx(done.count(tenant) * OP_S)


@pytest.mark.parametrize("quota", [f"device_seconds_per_day = {40 * OP_S}", "bytes_per_day = 2000"])
async def test_at_the_end_of_its_day_a_tenants_streams_end_and_none_begin_until_midnight(
    house: House, quota: str
) -> None:
    house.quotas["acme"] = quota
    house.write()
    now_s = [20_000 * 86_400 + 80_000.0]
    async with (
        guarded_cell(house, clock=lambda: now_s[0]) as guarded,
        guarded.client("acme client") as client,
        guarded.client("umbrella client") as other,
        other.stream("blue", StreamOptions(window=1)) as others,
        client.stream("red", StreamOptions(window=1)) as stream,
    ):
        error = await ends(stream)
        assert error.code is grpc.StatusCode.RESOURCE_EXHAUSTED and "of this day (UTC)" in error.message
        again = await refusal(open_one(client, ""))
        assert (again.code, again.retry_after_s) == (grpc.StatusCode.RESOURCE_EXHAUSTED, 6400.0)
        await upto_segments(others, 5)
        now_s[0] += 6400.0
        await open_one(client, "")


# --- what is too large, or not text -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("prompt", "code"),
    [
        ("x" * 4097, grpc.StatusCode.INVALID_ARGUMENT),
        ("x" * (2 << 20), grpc.StatusCode.RESOURCE_EXHAUSTED),
        ("", grpc.StatusCode.INVALID_ARGUMENT),
    ],
)
async def test_what_is_too_large_is_refused_and_other_streams_go_on(
    house: House, prompt: str, code: grpc.StatusCode
) -> None:
    async with (
        guarded_cell(house, wire=WireLimits()) as guarded,
        guarded.client("umbrella client") as other,
        other.stream("blue", StreamOptions(window=1)) as others,
        guarded.client("acme client") as client,
    ):
        assert (await refusal(open_with(client, prompt))).code is code
        assert len(guarded.cell.engine.scheduler.sessions()) == 1
        await upto_segments(others, 5)
