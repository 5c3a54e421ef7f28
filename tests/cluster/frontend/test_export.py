"""Export and import over real gRPC: a session goes on from a file, byte for byte, and no file does any harm."""

from __future__ import annotations

import asyncio
import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import safetensors.numpy

from cluster.adoption import KeptSessions
from cluster.cell.identity import Identity
from longtake.client import Client, CueAt, OpenedEvent, SegmentEvent, StreamOptions
from longtake.core.limits import Limits
from longtake.v1 import longtake_pb2 as pb
from tests.cluster.frontend.carried import (
    BLOCKS,
    CUES,
    OPTIONS,
    counting_cell,
    exported,
    header_of,
    in_parts,
    refused,
    resumed,
    stream_with,
)
from tests.cluster.frontend.reading import upto
from tests.cluster.frontend.toy import GEOMETRY, RECIPE, Door, toy_cell

STEPS = 2
IDENTITY = Identity(model_digest="toy", recipe_digest=RECIPE.digest)


async def files_of(cues: tuple[CueAt, ...] = CUES) -> tuple[dict[int, bytes], dict[int, bytes]]:
    """The segments of a stream, and what it was exported to after each of them."""
    segments, taken = {}, {}
    options = replace(OPTIONS, cues=cues)
    async with counting_cell() as cell, Client(cell.target) as client, client.stream("red", options) as stream:
        async for event in stream:
            if isinstance(event, SegmentEvent):
                segments[event.index] = event.data
                if event.index < BLOCKS - 6:  # it may have ended on the way after that
                    taken[event.index] = await exported(client, stream.opened.session_id)
    return segments, taken


@pytest.fixture(scope="module")
def made() -> tuple[dict[int, bytes], dict[int, bytes]]:
    return asyncio.run(files_of())


@pytest.fixture(scope="module")
def file(made: tuple[dict[int, bytes], dict[int, bytes]]) -> bytes:
    """A session after segment 17, with a cue behind it and one before it."""
    return made[1][17]


async def test_a_session_goes_on_elsewhere_from_any_moment_byte_for_byte(
    made: tuple[dict[int, bytes], dict[int, bytes]],
) -> None:
    segments, taken = made
    assert segments == await stream_with(CUES), "an export disturbs nothing"
    async with counting_cell(limits=Limits(max_sessions=100)) as cell, Client(cell.target) as client:
        answers = {index: await client.import_session(in_parts(data)) for index, data in taken.items()}
        assert len({answer.session_id for answer in answers.values()}) == len(taken)
        for index, answer in answers.items():
            assert answer.block >= index, "what it may be made from is in the file"
        for index in (0, 7, 17, 30, max(taken)):
            got = await resumed(client, answers[index].resume_token, index)
            assert got == {block: data for block, data in segments.items() if block > index}
        cell.engine.scheduler.check()


async def test_the_file_is_one_of_safetensors_without_any_token(file: bytes) -> None:
    tensors = safetensors.numpy.load(file)
    assert {name.split("/")[1] for name in tensors} == {"1", "2"}
    assert {(tensor.dtype, tensor.shape) for tensor in tensors.values()} == {(np.dtype("<f4"), GEOMETRY.block_shape)}
    facts = json.loads(header_of(file)[0]["__metadata__"]["longtake"])
    assert facts["record"]["tokens_sha256"] == [] and facts["record"]["seed"] == OPTIONS.seed
    assert [(cue["cue"], cue["block"]) for cue in facts["cues"]] == [("nine", 9), ("later", 29)]
    steps = {(step, block) for step, block, _ in facts["versions"]}
    assert {f"latents/{step}/{block}" for step, block in steps} == tensors.keys()


async def test_what_comes_from_a_file_can_be_exported_again_and_is_the_same(file: bytes) -> None:
    async with counting_cell() as cell, Client(cell.target) as client:
        answer = await client.import_session(in_parts(file, 1000))
        again = await exported(client, answer.session_id)
    (one, rest), (other, same) = header_of(file), header_of(again)
    first, second = (json.loads(header["__metadata__"]["longtake"]) for header in (one, other))
    assert first["record"].pop("session") != second["record"].pop("session")
    assert len(same) <= len(rest), "what was kept for the blocks that are done may go"
    for name in ("record", "acknowledged"):
        assert first[name] == second[name]
    assert [cue for cue in first["cues"] if cue["block"] > 17] == [cue for cue in second["cues"] if cue["block"] > 17]


async def test_a_paused_session_stays_paused() -> None:
    async with counting_cell() as cell, Client(cell.target) as client:
        async with client.stream("red", OPTIONS) as stream:
            await upto(stream, SegmentEvent)
            await stream.pause()
            while (await client.list_sessions())[0].state != pb.SESSION_STATE_PAUSED:
                await asyncio.sleep(0.005)
            data = await exported(client, stream.opened.session_id)
        answer = await client.import_session(in_parts(data))
        async with client.resume(answer.resume_token, 0) as stream:
            await upto(stream, OpenedEvent)
            while (await client.list_sessions())[0].state != pb.SESSION_STATE_PAUSED:
                await asyncio.sleep(0.005)
            await stream.play()
            event = await upto(stream, SegmentEvent)
            assert isinstance(event, SegmentEvent) and event.index == 1


async def test_what_has_not_begun_and_what_is_not_there_cannot_be_exported() -> None:
    async with toy_cell(workers=False) as cell, Client(cell.target) as client:
        with refused("NOT_FOUND"):
            await exported(client, "nobody")


# --- on disk ----------------------------------------------------------------------------------------------------------


async def test_it_is_on_disk_before_the_answer_leaves(file: bytes, tmp_path: Path) -> None:
    expected = await stream_with(CUES)
    door = Door()
    async with counting_cell(door=door) as cell, Client(cell.target) as client:
        kept = KeptSessions(tmp_path / "a", cell.engine, door.tenancy.owners, IDENTITY, asyncio.get_running_loop())
        try:
            await kept.take_over()
            answer = await client.import_session(in_parts(file))
            shutil.copytree(tmp_path / "a", tmp_path / "b")  # as if it were killed now
        finally:
            await kept.close()
    door = Door()
    async with counting_cell(door=door) as cell, Client(cell.target) as client:
        kept = KeptSessions(tmp_path / "b", cell.engine, door.tenancy.owners, IDENTITY, asyncio.get_running_loop())
        try:
            assert await kept.take_over() == 1
            while not cell.engine.scheduler.sessions():
                await asyncio.sleep(0.005)
            (session,) = cell.engine.scheduler.sessions()
            assert session.blocks_begun >= 17, "its latents are there as well"
            got = await resumed(client, answer.resume_token, 17)
        finally:
            await kept.close()
    assert got == {block: data for block, data in expected.items() if block > 17}


# --- room -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("limits", "code"),
    [
        (Limits(max_sessions=1), "RESOURCE_EXHAUSTED"),
        (Limits(journal_bytes=1 << 20), "RESOURCE_EXHAUSTED"),
        (Limits(detached_s=0.0), "FAILED_PRECONDITION"),
    ],
)
async def test_where_there_is_no_room_nothing_is_taken(file: bytes, limits: Limits, code: str) -> None:
    large = StreamOptions(window=32)
    async with counting_cell(limits=limits) as cell, Client(cell.target) as client, client.stream("red", large):
        before = cell.engine.journal.sessions
        with refused(code):
            await client.import_session(in_parts(file))
        assert cell.engine.journal.sessions == before and len(cell.engine.scheduler.sessions()) == 1
        cell.engine.scheduler.check()


async def test_a_server_that_drains_or_has_no_workers_takes_nothing(file: bytes) -> None:
    async with toy_cell(workers=False) as cell, Client(cell.target) as client:
        with refused("UNAVAILABLE"):
            await client.import_session(in_parts(file))
    async with (
        counting_cell() as cell,
        Client(cell.target) as client,
        client.stream("red", StreamOptions(window=1)),
    ):
        await client.drain(60)
        with refused("UNAVAILABLE"):
            await client.import_session(in_parts(file))


async def test_nobody_comes_for_it_and_it_ends(file: bytes) -> None:
    async with counting_cell(limits=Limits(detached_s=0.3)) as cell, Client(cell.target) as client:
        answer = await client.import_session(in_parts(file))
        assert not (await client.get_session(answer.session_id)).attached
        await cell.settled()
        with refused("NOT_FOUND"):
            await resumed(client, answer.resume_token, 17)
