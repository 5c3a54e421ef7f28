"""Calls with one answer, health and reflection, over real gRPC against a real engine."""

from __future__ import annotations

import asyncio
import re
from dataclasses import replace

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from cluster.frontend.server import SERVICE, FrontendServer
from longtake.client import Client, StreamOptions
from longtake.client.errors import ClientError
from longtake.client.events import ClosedEvent, SegmentEvent
from longtake.core.errors import InvalidField
from longtake.core.events import WorkerJoined
from longtake.core.work import Ability, Role, WorkerId
from longtake.v1 import longtake_pb2 as pb
from tests.cluster.frontend.carried import counting_cell
from tests.cluster.frontend.reading import stands_still, upto
from tests.cluster.frontend.toy import Door, toy_cell


async def test_close_session_ends_anothers_stream() -> None:
    async with toy_cell() as cell, Client(cell.target) as client, client.stream("red") as stream:
        await client.close_session(stream.opened.session_id)
        closed = await upto(stream, ClosedEvent)
        assert isinstance(closed, ClosedEvent) and closed.ending == "operator"
        with pytest.raises(ClientError) as caught:
            await anext(stream)
        assert caught.value.code is grpc.StatusCode.ABORTED
        with pytest.raises(ClientError) as caught:
            await client.close_session(stream.opened.session_id)
        assert caught.value.code is grpc.StatusCode.NOT_FOUND


async def test_the_name_of_every_session_names_its_cell() -> None:
    async with (
        counting_cell(door=Door(cell="east-1")) as cell,
        Client(cell.target) as client,
        client.stream("red", StreamOptions(window=2)) as stream,
    ):
        await upto(stream, SegmentEvent)
        imported = await client.import_session(client.export_session(stream.session_id))
        async with client.stream("blue", StreamOptions(fork=stream.session_id, fork_block=1)) as fork:
            names = {stream.opened.session_id, imported.session_id, fork.opened.session_id}
            assert len(names) == 3 and all(re.fullmatch(r"east-1\.[0-9a-f]{24}", name) for name in names)
            assert {one.session_id for one in await client.list_sessions()} == names
        assert (await client.get_status()).cell == "east-1"


async def test_who_closes_a_stream_may_say_why_in_a_line() -> None:
    async with toy_cell() as cell, Client(cell.target) as client, client.stream("red") as stream:
        assert stream.opened is not None
        session = stream.opened.session_id
        for wrong in ("two\nlines", "from the \u202eright", 501 * "x"):
            with pytest.raises(ClientError, match="one line of at most 500 bytes") as caught:
                await client.close_session(session, wrong)
            assert caught.value.code is grpc.StatusCode.INVALID_ARGUMENT
        await client.close_session(session, "maintenance at noon")
        closed = await upto(stream, ClosedEvent)
        assert isinstance(closed, ClosedEvent) and closed.reason == "maintenance at noon"
        with pytest.raises(ClientError, match=r"an operator has ended the stream \(maintenance at noon\)"):
            await anext(stream)


async def test_a_server_says_for_how_long_it_has_been_draining() -> None:
    async with toy_cell() as cell, Client(cell.target) as client, client.stream("red"):
        assert not (await client.get_status()).HasField("draining_for_s")
        await asyncio.sleep(0.3)
        await client.drain(60)
        status = await client.get_status()
        assert 0 <= status.draining_for_s < 0.3 < status.uptime_s
        await client.drain(30)
        assert (await client.get_status()).draining_for_s > status.draining_for_s  # of the first Drain


async def test_what_is_told_of_model_sessions_and_cluster() -> None:
    async with toy_cell() as cell, Client(cell.target) as client:
        model = await client.get_model()
        words = {group.name: list(group.words) for group in model.vocabulary}
        assert (model.name, words) == ("toy", {"colour": ["red", "blue"], "shape": ["ball"]})
        assert (model.first_block_pictures, model.block_pictures) == (9, 12)
        assert (list(model.recipe.steps), model.recipe.level) == ([1000, 500], pb.LEVEL_OUTPUT)
        assert list(model.decoders) == [pb.DECODER_FULL]
        assert [option.codec for option in model.codecs] == [pb.CODEC_H264, pb.CODEC_MJPEG, pb.CODEC_RAW]
        assert model.limits.max_message_bytes == 1 << 20
        options = StreamOptions(seed=9, pace="realtime", window=2)
        async with client.stream("red", options) as stream:
            await stands_still(cell)
            session = await client.get_session(stream.opened.session_id)
            (listed,) = await client.list_sessions()
            assert listed.age_s > session.age_s > 0
            listed.age_s = session.age_s
            assert listed == session
            assert (session.prompt, session.seed, session.window) == ("red", 9, 2)
            assert (session.pace, session.state) == (pb.PACE_REALTIME, pb.SESSION_STATE_RUNNING)
            status = await client.get_status()
            assert [worker.worker_id for worker in status.workers] == ["d0", "d1", "v0"]
            assert status.workers[2].free == 15 and status.sessions == 1
        with pytest.raises(ClientError) as caught:
            await client.get_session("nobody")
        assert caught.value.code is grpc.StatusCode.NOT_FOUND


async def test_the_status_tells_how_each_worker_rounds() -> None:
    async with toy_cell() as cell, Client(cell.target) as client:
        now_s, ability = cell.engine.now_s(), Ability(capacity=9, numerics="ab12")
        cell.engine.submit(WorkerJoined(now_s=now_s, worker=WorkerId("d2"), role=Role.DENOISE, ability=ability))
        while len((status := await client.get_status()).workers) < 4:
            pass
    told = {worker.worker_id: worker.numerics for worker in status.workers}
    assert told == {"d0": "", "d1": "", "d2": "ab12", "v0": ""}


async def test_reflection_lists_the_service_and_health_follows_the_workers() -> None:
    async with toy_cell() as cell, grpc.aio.insecure_channel(cell.target) as channel:
        request = reflection_pb2.ServerReflectionRequest(list_services="")
        stub = reflection_pb2_grpc.ServerReflectionStub(channel)
        async for answer in stub.ServerReflectionInfo(iter([request])):
            assert SERVICE in [service.name for service in answer.list_services_response.service]
        health = health_pb2_grpc.HealthStub(channel)
        states = health.Watch(health_pb2.HealthCheckRequest(service=SERVICE))
        while (await states.read()).status != health_pb2.HealthCheckResponse.SERVING:
            pass
        cell.workers[2].die()
        assert (await states.read()).status == health_pb2.HealthCheckResponse.NOT_SERVING
        states.cancel()


async def test_a_model_whose_prompts_are_encoded_apart_is_served_once_a_text_worker_is_there() -> None:
    async with toy_cell() as cell, grpc.aio.insecure_channel(cell.target) as channel:
        cell.server.offer = replace(cell.server.offer, text_workers=1)
        states = health_pb2_grpc.HealthStub(channel).Watch(health_pb2.HealthCheckRequest(service=SERVICE))
        await cell.server.tell_health()
        while (await states.read()).status != health_pb2.HealthCheckResponse.NOT_SERVING:
            pass
        now_s, ability = cell.engine.now_s(), Ability(capacity=1)
        cell.engine.submit(WorkerJoined(now_s=now_s, worker=WorkerId("text-0"), role=Role.TEXT, ability=ability))
        assert (await states.read()).status == health_pb2.HealthCheckResponse.SERVING
        states.cancel()


async def test_a_port_in_use_is_refused() -> None:
    async with toy_cell() as cell:
        offer = cell.server.offer
        with pytest.raises(InvalidField, match="a port that is free"):
            await FrontendServer.start(cell.engine, offer, host="127.0.0.1", port=cell.server.port)
