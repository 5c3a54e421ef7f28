"""The door of the public port over real gRPC: who is let in, what they see, and when they have to go."""

from __future__ import annotations

import asyncio
import inspect
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from cluster.access import guard
from cluster.access.callers import HEALTH_CHECK, LONGTAKE, RIGHTS, Caller, CallerRole, current_call, new_token
from cluster.frontend.offer import WireLimits
from longtake.client import Client, CueAt, Stream, StreamOptions
from longtake.client.credentials import Credentials
from longtake.client.errors import ClientError
from longtake.client.events import Event, RequestRefusedEvent, SegmentEvent
from longtake.core.errors import InternalFault, NotAllowed
from longtake.core.events import OpDone, Open
from longtake.v1 import longtake_pb2 as pb
from longtake.v1 import longtake_pb2_grpc as rpc
from tests.cluster.access.doors import House, guarded_cell
from tests.cluster.frontend.toy import GEOMETRY, OP_S, toy_cell

UNKNOWN = "no-such-session"
Ask = Callable[[Client, str], Awaitable[object]]


@pytest.fixture
def house(tmp_path: Path) -> House:
    return House(tmp_path)


@pytest.fixture(autouse=True)
def quick_sweeps(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(guard, "SWEEP_S", 0.05)


async def first(answers: AsyncIterator[object]) -> object:
    return await anext(answers)


async def fork(client: Client, session: str) -> object:
    async with client.stream("mine now", StreamOptions(fork=session, pictures=1000)) as stream:
        return stream.opened


async def open_one(client: Client, session: str) -> object:
    async with client.stream("red", StreamOptions(pictures=9)) as stream:
        return [event async for event in stream][-1]


BY_SESSION: dict[str, Ask] = {
    "Watch": lambda client, session: first(client.watch(session)),
    "GetSession": lambda client, session: client.get_session(session),
    "CloseSession": lambda client, session: client.close_session(session),
    "WatchOps": lambda client, session: first(client.watch_ops(session)),
    "Stream": fork,
}
"""Methods that name a session, as a client calls them."""
OTHERS: dict[str, Ask] = {
    "GetModel": lambda client, _: client.get_model(),
    "ListSessions": lambda client, _: client.list_sessions(),
    "GetStatus": lambda client, _: client.get_status(),
    "Drain": lambda client, _: client.drain(60),
}
METHODS = {method.name for method in pb.DESCRIPTOR.services_by_name["LongtakeService"].methods}


async def refusal(asking: Awaitable[object]) -> ClientError:
    with pytest.raises(ClientError) as refused:
        await asyncio.wait_for(asking, 10)
    return refused.value


def raw(message: bytes) -> bytes:
    """Puts nothing around it."""
    return message


# --- the table --------------------------------------------------------------------------------------------------------


def test_every_method_of_the_service_has_its_row_in_the_table_of_rights() -> None:
    rows = {method.removeprefix(LONGTAKE) for method in RIGHTS if method.startswith(LONGTAKE)}
    assert rows == METHODS
    assert {*BY_SESSION, *OTHERS} == METHODS, "the tests below leave no method out"


def test_a_method_without_a_row_may_be_called_by_nobody() -> None:
    for role in CallerRole:
        with pytest.raises(NotAllowed, match=r"New: .*allowed: nobody"):
            Caller(tenant="acme", role=role, credential="").check(LONGTAKE + "New")


async def test_every_method_of_the_client_sends_the_token(house: House) -> None:
    """Each is answered, if only by what is not there; one that forgot the token would be UNAUTHENTICATED."""
    asks: dict[str, Ask] = {
        "watch": BY_SESSION["Watch"],
        "get_session": BY_SESSION["GetSession"],
        "close_session": BY_SESSION["CloseSession"],
        "watch_ops": BY_SESSION["WatchOps"],
        "stream": BY_SESSION["Stream"],
        "get_model": OTHERS["GetModel"],
        "list_sessions": OTHERS["ListSessions"],
        "get_status": OTHERS["GetStatus"],
        "drain": OTHERS["Drain"],
    }
    public = {name for name, _ in inspect.getmembers(Client, inspect.isfunction) if not name.startswith("_")}
    assert public - {"close"} == set(asks)
    async with guarded_cell(house) as guarded, guarded.client("acme operator") as client:
        for name, ask in asks.items():
            if name in ("get_model", "list_sessions", "get_status", "drain"):
                await ask(client, "")
            else:
                assert (await refusal(ask(client, UNKNOWN))).code is grpc.StatusCode.NOT_FOUND, name


def test_what_is_served_without_a_guard_is_served_to_nobody() -> None:
    with pytest.raises(InternalFault, match="nobody was asked"):
        current_call()


# --- who is let in ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("token", ["", "lt_guessed", new_token(), "x" * 4000, "a.b.c"])
async def test_without_a_token_that_is_known_no_method_does_anything(house: House, token: str) -> None:
    async with (
        guarded_cell(house) as guarded,
        guarded.client("acme client") as owner,
        owner.stream("red", StreamOptions(window=1)) as stream,
        Client(guarded.cell.target, credentials=Credentials(token=token)) as stranger,
    ):
        assert stream.opened is not None
        before = len(guarded.cell.events)
        for method, ask in (BY_SESSION | OTHERS).items():
            error = await refusal(ask(stranger, stream.opened.session_id))
            assert error.code is grpc.StatusCode.UNAUTHENTICATED, method
            assert token not in error.message or not token
        assert (await refusal(open_one(stranger, ""))).code is grpc.StatusCode.UNAUTHENTICATED
        assert not guarded.cell.engine.is_draining
        opens = [event for event in guarded.cell.events[before:] if isinstance(event, Open)]
        assert opens == [] and len(guarded.cell.engine.scheduler.sessions()) == 1
        assert guarded.refusals() == {"wrong_credentials" if token else "no_credentials": 10}


@pytest.mark.parametrize(
    "value", ["", "Bearer", "Bearer ", "Basic dXNlcjpwYXNz", "{token}", "Bearer {token} x", "Bearer {token},{token}"]
)
async def test_a_header_that_is_not_bearer_and_a_token_lets_nobody_in(house: House, value: str) -> None:
    header = value.format(token=house.tokens["acme client"])
    async with guarded_cell(house) as guarded, grpc.aio.insecure_channel(guarded.cell.target) as channel:
        stub = rpc.LongtakeServiceStub(channel)
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await stub.GetModel(pb.GetModelRequest(), metadata=(("authorization", header),))
        assert refused.value.code() is grpc.StatusCode.UNAUTHENTICATED
        twice = (("authorization", f"Bearer {house.tokens['acme client']}"),) * 2
        with pytest.raises(grpc.aio.AioRpcError, match="more than once"):
            await stub.GetModel(pb.GetModelRequest(), metadata=twice)
        await stub.GetModel(pb.GetModelRequest(), metadata=twice[:1])


async def test_of_a_stranger_not_one_byte_is_parsed(house: House) -> None:
    """What cannot be parsed is told to callers who are known; a stranger hears only that they are none."""
    async with guarded_cell(house) as guarded, grpc.aio.insecure_channel(guarded.cell.target) as channel:
        known = (("authorization", f"Bearer {house.tokens['acme client']}"),)
        for metadata, code in (((), "UNAUTHENTICATED"), (known, "INVALID_ARGUMENT")):
            for method in ("GetSession", "CloseSession"):
                with pytest.raises(grpc.aio.AioRpcError) as refused:
                    await channel.unary_unary(LONGTAKE + method, raw, raw)(b"\xff\xff\xff", metadata=metadata)
                assert refused.value.code().name == code, method
            for method in ("Watch", "WatchOps"):
                with pytest.raises(grpc.aio.AioRpcError) as refused:
                    answers = channel.unary_stream(LONGTAKE + method, raw, raw)(b"\xff\xff\xff", metadata=metadata)
                    await anext(aiter(answers))
                assert refused.value.code().name == code, method


async def test_health_is_open_to_all_and_the_rest_beside_the_service_to_the_known_only(house: House) -> None:
    async with guarded_cell(house) as guarded, grpc.aio.insecure_channel(guarded.cell.target) as channel:
        health = health_pb2_grpc.HealthStub(channel)
        answer = await health.Check(health_pb2.HealthCheckRequest())
        assert answer.status is not None and HEALTH_CHECK not in RIGHTS
        reflection = reflection_pb2_grpc.ServerReflectionStub(channel)
        question = reflection_pb2.ServerReflectionRequest(list_services="")
        known = (("authorization", f"Bearer {house.tokens['umbrella viewer']}"),)
        for metadata in ((), known):
            for call in (
                reflection.ServerReflectionInfo(iter((question,)), metadata=metadata),
                health.Watch(health_pb2.HealthCheckRequest(), metadata=metadata),
            ):
                if metadata:
                    assert await call.read() is not grpc.aio.EOF
                    call.cancel()
                else:
                    with pytest.raises(grpc.aio.AioRpcError) as refused:
                        await call.read()
                    assert refused.value.code() is grpc.StatusCode.UNAUTHENTICATED


async def test_what_each_role_may(house: House) -> None:
    async with guarded_cell(house) as guarded:
        for role in CallerRole:
            async with guarded.client(f"acme {role.value}") as client:
                for method, ask in (BY_SESSION | OTHERS).items():
                    allowed = role in RIGHTS[LONGTAKE + method]
                    try:
                        await ask(client, UNKNOWN)
                    except ClientError as error:
                        expected = grpc.StatusCode.NOT_FOUND if allowed else grpc.StatusCode.PERMISSION_DENIED
                        assert error.code is expected, (role, method)
                    else:
                        assert allowed and method in OTHERS
                assert guarded.cell.engine.is_draining == (role is CallerRole.OPERATOR)
        assert set(guarded.refusals()) == {"not_allowed"}


async def test_where_nobody_is_asked_everybody_may_everything() -> None:
    async with toy_cell() as cell, Client(cell.target) as one, Client(cell.target) as other:
        async with one.stream("red", StreamOptions(window=1)) as stream:
            (session,) = await other.list_sessions()
            assert stream.opened is not None
            assert (session.session_id, session.tenant) == (stream.opened.session_id, "default")
            await other.close_session(session.session_id)
        await other.get_status()


# --- whose sessions ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", BY_SESSION)
async def test_the_session_of_another_tenant_is_not_there_in_the_same_words(house: House, method: str) -> None:
    async with (
        guarded_cell(house) as guarded,
        guarded.client("acme client") as owner,
        guarded.client("umbrella client") as other,
        owner.stream("red", StreamOptions(window=1)) as stream,
    ):
        assert stream.opened is not None
        session = stream.opened.session_id
        unknown = "x" * len(session)
        foreign, missing = [await refusal(BY_SESSION[method](other, name)) for name in (session, unknown)]
        assert foreign.code is missing.code is grpc.StatusCode.NOT_FOUND
        assert foreign.message.replace(session, unknown) == missing.message
        assert foreign.violations == missing.violations
        assert await other.list_sessions() == ()
        (own,) = await owner.list_sessions()
        assert own.tenant == "acme"
        await upto_segments(stream, 3)  # it has not been disturbed


async def upto_segments(stream: Stream, count: int) -> list[Event]:
    """Events up to so many segments."""
    events: list[Event] = []
    async for event in stream:
        events.append(event)
        if sum(isinstance(event, SegmentEvent) for event in events) == count:
            break
    return events


async def test_colleagues_of_the_tenant_and_operators_of_any_see_and_end_its_sessions(house: House) -> None:
    async with guarded_cell(house) as guarded, guarded.client("acme client") as owner:
        for who in ("acme viewer", "umbrella operator"):
            async with guarded.client(who) as other, owner.stream("red", StreamOptions(window=1)) as stream:
                assert stream.opened is not None
                (session,) = await other.list_sessions()
                assert session.session_id == stream.opened.session_id
                assert (await other.get_session(session.session_id)).tenant == "acme"
                await first(other.watch(session.session_id))
            await guarded.cell.settled()
        async with (
            guarded.client("umbrella operator") as operator,
            owner.stream("red", StreamOptions(window=1)) as stream,
        ):
            assert stream.opened is not None
            await operator.close_session(stream.opened.session_id)
            error = await refusal(upto_segments(stream, 1000))
            assert error.code is grpc.StatusCode.ABORTED


async def test_a_tenant_may_fork_its_own(house: House) -> None:
    async with (
        guarded_cell(house) as guarded,
        guarded.client("acme client") as owner,
        owner.stream("red", StreamOptions(window=1)) as stream,
    ):
        assert stream.opened is not None
        await upto_segments(stream, 1)
        assert await fork(owner, stream.opened.session_id) is not None
    actions = [line["action"] for line in house.audited()]
    assert actions.count("fork") == actions.count("open") == 1


# --- when they have to go ---------------------------------------------------------------------------------------------


async def ends(stream: Stream) -> ClientError:
    """With what error a stream ends that has no end of its own."""
    return await refusal(upto_segments(stream, 1_000_000))


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
        assert stream.opened is not None
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
    async with (
        guarded_cell(house, segment_bytes=900_000) as guarded,
        guarded.client("acme client") as client,
        client.stream("red", StreamOptions(window=8, auto_ack=False)),
    ):
        live = guarded.cell.server._guard._live
        while not live or any(stream.waits for stream in live):  # until a frame waits for the client to read
            await asyncio.sleep(0.01)
        house.write(without="acme client")
        while guarded.cell.engine.scheduler.sessions() or live:
            await asyncio.sleep(0.01)


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


# --- quotas -----------------------------------------------------------------------------------------------------------


async def test_streams_at_once(house: House) -> None:
    house.quotas["acme"] = "streams = 2"
    house.write()
    async with guarded_cell(house) as guarded, guarded.client("acme client") as client:
        for _ in range(3):  # what ended makes room again
            async with client.stream("one", _endless()), client.stream("two", _endless()):
                error = await refusal(open_one(client, ""))
                assert error.code is grpc.StatusCode.RESOURCE_EXHAUSTED and "used up: 2 at once" in error.message
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
        assert told.cue_id == refused and "3 a minute" in told.message
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
                        assert stream.opened is not None
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


# --- what is written of it --------------------------------------------------------------------------------------------


async def test_the_audit_log_tells_who_did_what_to_which_session(house: House) -> None:
    async with guarded_cell(house) as guarded, guarded.client("acme client") as client:
        async with client.stream("red", StreamOptions(window=1)) as stream:
            assert stream.opened is not None
            session = stream.opened.session_id
            await stream.cue("blue")
            await stream.pause()
            await stream.play()
            await upto_segments(stream, 3)
            async with guarded.client("umbrella client") as other:
                await refusal(other.close_session(session))
                await refusal(fork(other, session))
            async with guarded.client("umbrella operator") as operator:
                await operator.close_session(session)
            await ends(stream)
        async with Client(guarded.cell.target) as stranger:
            await refusal(stranger.list_sessions())
    lines = [
        (line.get("tenant"), line.get("credential"), line["action"], line.get("session"), line["outcome"])
        for line in house.audited()
    ]
    me, they = ("acme", "token client"), ("umbrella", "token client")
    assert sorted(lines, key=str) == sorted(
        [
            (*me, "open", session, "OK"),
            (*me, "cue", session, "OK"),
            (*me, "pause", session, "OK"),
            (*me, "play", session, "OK"),
            (*they, "close", session, "NOT_FOUND"),
            (*they, "open", None, "NOT_FOUND"),
            ("umbrella", "token operator", "close", session, "OK"),
            (*me, "closed", session, "OK"),
            (None, None, "call", None, "UNAUTHENTICATED"),
        ],
        key=str,
    )
    for line in house.audited():
        assert line["peer"].startswith("ipv4:127.0.0.1:") and line["method"].startswith("/longtake.v1.")
        assert line["time"].endswith("+00:00")


async def test_neither_tokens_nor_prompts_are_in_any_log_or_answer_to_others(
    house: House, caplog: pytest.LogCaptureFixture
) -> None:
    prompt, cue = "an unmistakable walrus", "a singular axolotl"
    wrong = new_token()
    with caplog.at_level(logging.DEBUG):
        async with guarded_cell(house) as guarded, guarded.client("acme client") as client:
            async with client.stream(prompt, StreamOptions(window=1)) as stream:
                await stream.cue(cue)
                await stream.cue(CueAt(prompt="12345678901234567890"))
                await upto_segments(stream, 5)
            async with Client(guarded.cell.target, credentials=Credentials(token=wrong)) as stranger:
                await refusal(open_one(stranger, ""))
            await refusal(open_with(client, prompt + " \x00" + "x" * 5000))
            house.file.write_text(house.file.read_text() + f'\n[[tenants.acme.tokens]]\nid = "x"\nhash = "{wrong}"\n')
            await asyncio.sleep(0.2)
            await guarded.cell.settled()
    text = caplog.text + (house.folder / "audit.jsonl").read_text()
    assert "opened, seed" in text or "token client" in text
    for secret in (prompt, "walrus", cue, "axolotl", "12345678901234567890", wrong, *house.tokens.values()):
        assert secret not in text, secret


async def open_with(client: Client, prompt: str) -> object:
    async with client.stream(prompt, StreamOptions(pictures=9)) as stream:
        return stream.opened


async def test_guesses_do_not_fill_the_disk(house: House) -> None:
    async with guarded_cell(house) as guarded, Client(guarded.cell.target) as stranger:
        now_s = guarded.tenancy.audit._clock = lambda: 1_800_000_000.0
        for _ in range(60):
            await refusal(stranger.get_model())
        guarded.tenancy.audit._clock = lambda: now_s() + 1
        await refusal(stranger.get_model())
        assert guarded.refusals() == {"no_credentials": 61}
    lines = house.audited()
    assert len(lines) == 21 and lines[-1]["left_out_before"] == 40


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
