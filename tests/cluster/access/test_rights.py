"""The door of the public port over real gRPC: who is let in, and whose sessions they see."""

from __future__ import annotations

import inspect

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from cluster.access.callers import HEALTH_CHECK, LONGTAKE, RIGHTS, Caller, CallerRole, current_call, new_token
from longtake.client import Client, StreamOptions
from longtake.client.credentials import Credentials
from longtake.client.errors import ClientError
from longtake.core.errors import InternalFault, NotAllowed
from longtake.core.events import Open
from longtake.v1 import longtake_pb2 as pb
from longtake.v1 import longtake_pb2_grpc as rpc
from tests.cluster.access.asking import (
    ANSWERS,
    BY_SESSION,
    METHODS,
    OTHERS,
    UNKNOWN,
    Ask,
    first,
    fork,
    open_one,
    refusal,
    upto_segments,
)
from tests.cluster.access.doors import House, guarded_cell
from tests.cluster.frontend.toy import toy_cell


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
        "resume": lambda client, _: client.resume(bytes(32)).__aenter__(),
        "get_model": OTHERS["GetModel"],
        "list_sessions": OTHERS["ListSessions"],
        "get_status": OTHERS["GetStatus"],
        "export_session": BY_SESSION["Export"],
        "hand_over": OTHERS["HandOver"],
        "import_session": OTHERS["Import"],
        "drain": OTHERS["Drain"],
    }
    public = {name for name, _ in inspect.getmembers(Client, inspect.isfunction) if not name.startswith("_")}
    assert public - {"close"} == set(asks)
    async with guarded_cell(house) as guarded, guarded.client("acme operator") as client:
        for name, ask in asks.items():
            if name in ("get_model", "list_sessions", "get_status", "drain"):
                await ask(client, "")
            else:
                expected = ANSWERS["Import"] if name == "import_session" else grpc.StatusCode.NOT_FOUND
                assert (await refusal(ask(client, UNKNOWN))).code is expected, name


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
        before = len(guarded.cell.events)
        for method, ask in (BY_SESSION | OTHERS).items():
            error = await refusal(ask(stranger, stream.opened.session_id))
            assert error.code is grpc.StatusCode.UNAUTHENTICATED, method
            assert token not in error.message or not token
        assert (await refusal(open_one(stranger, ""))).code is grpc.StatusCode.UNAUTHENTICATED
        assert not guarded.cell.engine.is_draining
        opens = [event for event in guarded.cell.events[before:] if isinstance(event, Open)]
        assert opens == [] and len(guarded.cell.engine.scheduler.sessions()) == 1
        calls = len(METHODS) + 1
        assert guarded.refusals() == {"wrong_credentials" if token else "no_credentials": calls}


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
                        answer = ANSWERS.get(method, grpc.StatusCode.NOT_FOUND)
                        expected = answer if allowed else grpc.StatusCode.PERMISSION_DENIED
                        assert error.code is expected, (role, method)
                    else:
                        assert allowed and method in OTHERS
                assert guarded.cell.engine.is_draining == (role is CallerRole.OPERATOR)
        assert set(guarded.refusals()) == {"not_allowed"}


async def test_where_nobody_is_asked_everybody_may_everything() -> None:
    async with toy_cell() as cell, Client(cell.target) as one, Client(cell.target) as other:
        async with one.stream("red", StreamOptions(window=1)) as stream:
            (session,) = await other.list_sessions()
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


async def test_colleagues_of_the_tenant_and_operators_of_any_see_and_end_its_sessions(house: House) -> None:
    async with guarded_cell(house) as guarded, guarded.client("acme client") as owner:
        for who in ("acme viewer", "umbrella operator"):
            async with guarded.client(who) as other, owner.stream("red", StreamOptions(window=1)) as stream:
                (session,) = await other.list_sessions()
                assert session.session_id == stream.opened.session_id
                assert (await other.get_session(session.session_id)).tenant == "acme"
                await first(other.watch(session.session_id))
            await guarded.cell.settled()
        async with (
            guarded.client("umbrella operator") as operator,
            owner.stream("red", StreamOptions(window=1)) as stream,
        ):
            await operator.close_session(stream.opened.session_id)
            error = await refusal(upto_segments(stream, 1000))
            assert error.code is grpc.StatusCode.ABORTED


async def test_a_tenant_may_fork_its_own(house: House) -> None:
    async with (
        guarded_cell(house) as guarded,
        guarded.client("acme client") as owner,
        owner.stream("red", StreamOptions(window=1)) as stream,
    ):
        await upto_segments(stream, 1)
        assert await fork(owner, stream.opened.session_id) is not None
    actions = [line["action"] for line in house.audited()]
    assert actions.count("fork") == actions.count("open") == 1
