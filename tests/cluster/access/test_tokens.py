"""What resumes a session: its newest token, shown by its own tenant, and nothing else."""

from __future__ import annotations

import secrets

import grpc
import pytest

from cluster.access.owners import TOKEN_BYTES, Owners
from cluster.cell.clients import MOST_ENDED, REMEMBERED_S
from cluster.cell.ownership import Ownership, hash_of_token
from longtake.client import Client, StreamOptions
from longtake.client.errors import ClientError
from longtake.client.events import SegmentEvent
from longtake.core.errors import UnknownToken
from longtake.core.work import SessionId
from tests.cluster.access.asking import upto_segments
from tests.cluster.access.doors import GuardedCell, House, guarded_cell
from tests.cluster.frontend.reading import stands_still, upto

SESSION = SessionId("s")
REFUSED = (grpc.StatusCode.NOT_FOUND, "open.resume_token: it resumes no session of yours")
EACH = 50


async def answer(client: Client, token: bytes, cursor: int | None = None) -> tuple[grpc.StatusCode, str]:
    """How a client is refused that shows a token."""
    with pytest.raises(ClientError) as refused:
        async with client.resume(token, cursor):
            pass
    assert not refused.value.violations and refused.value.retry_after_s is None
    return refused.value.code, refused.value.message


async def many_calls(client: Client, token: bytes) -> list[bytes]:
    """A stream goes on with so many calls; their tokens, of which the client has acknowledged what followed each."""
    tokens = [token]
    for index in range(EACH):
        async with client.resume(tokens[-1], index, StreamOptions(auto_ack=False)) as stream:
            event = await upto(stream, SegmentEvent)
            assert isinstance(event, SegmentEvent) and event.index == index + 1
            await stream.ack(event.index)
            await upto(stream, SegmentEvent)  # there was no credit for it before the acknowledgement
            tokens.append(await stream.leave())
    return tokens


async def test_200_tokens_that_are_stolen_old_foreign_or_guessed_resume_nothing_and_tell_nothing(house: House) -> None:
    answers = set()
    async with (
        guarded_cell(house) as guarded,
        guarded.client("acme client") as client,
        guarded.client("umbrella client") as thief,
        guarded.client("umbrella operator") as mighty,
    ):
        *old, newest = await many_calls(client, await left_behind(guarded, client))
        assert len({*old, newest}) == EACH + 1 and {len(token) for token in old} == {TOKEN_BYTES}
        for number in range(EACH):
            nearly = bytearray(newest)
            nearly[number % TOKEN_BYTES] ^= 1 << number % 8
            answers |= {
                await answer(thief if number % 2 else mighty, newest, number),
                await answer(client, old[number], number),
                await answer(client, bytes(nearly)),
                await answer(client, secrets.token_bytes(TOKEN_BYTES), number),
            }
        assert answers == {REFUSED}
        assert guarded.refusals() == {"unknown_token": 4 * EACH}
        async with client.resume(newest, EACH) as stream:
            event = await upto(stream, SegmentEvent)
            assert isinstance(event, SegmentEvent) and event.index == EACH + 1
    refused = [line for line in house.audited() if line["action"] == "resume" and line["outcome"] != "OK"]
    assert refused and {line["outcome"] for line in refused} == {"NOT_FOUND"}
    written = (house.folder / "audit.jsonl").read_text()
    assert not any(shape in written for token in old for shape in (token.hex(), hash_of_token(token).hex()))


async def left_behind(guarded: GuardedCell, client: Client) -> bytes:
    """A session whose client is away; the token that it left with."""
    async with client.stream("red", StreamOptions(seed=1, window=2)) as stream:
        await upto(stream, SegmentEvent)
        token = await stream.leave()
    await guarded.cell.left()
    return token


async def test_another_credential_of_the_tenant_goes_on_with_the_stream(house: House) -> None:
    async with guarded_cell(house) as guarded:
        async with guarded.client("acme client") as client:
            token = await left_behind(guarded, client)
        async with guarded.client("acme operator") as other, other.resume(token, 0) as stream:
            await upto_segments(stream, 3)
            (session,) = await other.list_sessions()
            assert session.tenant == "acme" and session.attached
        async with guarded.client("acme viewer") as viewer:
            with pytest.raises(ClientError) as refused:
                await viewer.resume(token).__aenter__()
            assert refused.value.code is grpc.StatusCode.PERMISSION_DENIED
    actions = [line["action"] for line in house.audited() if line.get("session") and line["outcome"] == "OK"]
    assert actions == ["open", "detached", "resume", "closed"]


async def test_a_session_without_its_client_ends_when_what_that_showed_ceases_to_hold(house: House) -> None:
    async with guarded_cell(house) as guarded, guarded.client("acme client") as client:
        await left_behind(guarded, client)
        house.write(without="acme client")
        await guarded.cell.settled()
    ended = [line["detail"] for line in house.audited() if line["action"] == "closed"]
    assert ended == ["access"]


async def test_credentials_of_a_call_that_has_lost_its_session_end_nothing(house: House) -> None:
    async with (
        guarded_cell(house, segment_bytes=900_000) as guarded,
        guarded.client("acme client") as client,
        guarded.client("acme operator") as other,
        client.stream("red", StreamOptions(seed=1, window=8, auto_ack=False)) as stream,
    ):
        await stands_still(guarded.cell)  # the server waits for this client to read
        async with other.resume(stream.opened.resume_token, None, StreamOptions(window=2)) as again:
            await upto_segments(again, 3)
            assert not guarded.cell.server.calls.ended, "the older call is still there"
            house.write(without="acme client")
            while not guarded.refusals():
                await upto_segments(again, 1)
            await upto_segments(again, 10)
            await stream.leave()


async def test_a_session_counts_for_its_tenant_while_its_client_is_away(house: House) -> None:
    house.quotas["acme"] = "streams = 1"
    house.write()
    async with guarded_cell(house) as guarded, guarded.client("acme client") as client:
        token = await left_behind(guarded, client)
        with pytest.raises(ClientError, match="1 of 1 are open"):
            await client.stream("red").__aenter__()
        async with client.resume(token, 0) as stream:
            await upto_segments(stream, 3)
        await guarded.cell.settled()
        async with client.stream("red") as stream:
            await upto_segments(stream, 3)


# --- the record -------------------------------------------------------------------------------------------------------


def test_the_old_token_holds_until_a_segment_after_it_is_acknowledged() -> None:
    owners = Owners()
    first = owners.add(SESSION, "acme")
    owners.acknowledged(SESSION, 3)
    _, second = owners.resume(first, "acme", 5)
    owners.acknowledged(SESSION, 5)  # sent before, on the old call
    session, third = owners.resume(first, "acme", 5)  # the answer with the second one was lost
    assert session == SESSION
    with pytest.raises(UnknownToken):
        owners.resume(second, "acme", 5)
    owners.acknowledged(SESSION, 6)
    with pytest.raises(UnknownToken):
        owners.resume(first, "acme", 6)
    assert owners.resume(third, "acme", 6)[0] == SESSION


def test_the_newest_token_that_is_shown_makes_the_one_before_it_worthless() -> None:
    owners = Owners()
    first = owners.add(SESSION, "acme")
    _, second = owners.resume(first, "acme", None)
    owners.resume(second, "acme", None)
    with pytest.raises(UnknownToken):
        owners.resume(first, "acme", None)


def test_sessions_that_have_ended_are_known_for_a_while_and_so_many_of_them() -> None:
    owners = Owners()
    tokens = [owners.add(SessionId(str(number)), "acme") for number in range(MOST_ENDED + 2)]
    for number in range(MOST_ENDED + 1):
        owners.ended(SessionId(str(number)), 0.0)
    assert owners.tenant(SessionId("0")) is None and owners.tenant(SessionId("1")) == "acme"
    assert owners.resume(tokens[1], "acme", None)[0] == "1"
    owners.ended(SessionId(str(MOST_ENDED + 1)), REMEMBERED_S)
    assert len(owners) == 1


def test_nothing_of_a_token_but_its_hash_is_kept() -> None:
    owners = Owners()
    token = owners.add(SESSION, "acme")
    assert owners.of(SESSION) == Ownership(tenant="acme", offered=hash_of_token(token))
    assert token != hash_of_token(token)
