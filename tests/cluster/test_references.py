"""Streams with a reference, as clients have them: rendered and streamed alike, after a kill, forked and exported."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from safetensors.torch import load_file

from cluster.cell.engine import Engine
from cluster.cell.journal import GivenPictures
from cluster.cell.ownership import Ownership
from cluster.cell.snapshot import Snapshot, brought, taken
from cluster.frontend.exported import Form, pieces, read
from cluster.frontend.offer import offer_for
from cluster.frontend.server import FrontendServer
from cluster.launch.served import served_recipes
from cluster.render import in_process_engine, in_process_workers, render_events
from longtake.client import Client, ClientError, StreamOptions, open_request
from longtake.client.events import SegmentEvent, StreamEvent
from longtake.core.errors import InvalidField
from longtake.core.limits import Limits
from longtake.core.recipe.context import Level
from longtake.core.work import Continuity, Fork, SessionId
from tests.cluster.cell.world import Hashes
from tests.cluster.kept_cell import IDENTITY, PROMPT, cell, outlives_a_kill
from tests.core.support.recipes import altered
from tests.samples import first
from tests.workers.given_pictures import encoded, moving_ball, png
from tests.workers.model_dir import model_info, write_model, write_model_that_encodes
from workers.models import weights
from workers.models.weights import save_model

PICTURES = [encoded(picture) for picture in moving_ball(12, 48)]
IMAGE, OTHER = PICTURES[0], PICTURES[11]


def write(folder: Path, level: Level = Level.OUTPUT) -> Path:
    """A model whose own recipe needs an image, in a window of six frames."""
    info = write_model_that_encodes(folder, level)
    info = replace(info, recipe=altered(info.recipe, reference_frames=1, window_frames=6))
    save_model(folder, info, load_file(folder / "dit.safetensors"), load_file(folder / "vae.safetensors"))
    return folder


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(tmp_path_factory.mktemp("model"))


@asynccontextmanager
async def served(model: Path) -> AsyncIterator[Client]:
    """A client of a server of the model, in this process."""
    info = weights.load_info(model)
    workers = in_process_workers(model, info.recipe, denoise=2, sessions=3)
    recipes = served_recipes(info, ("clean",), is_pocket=False)
    workers = tuple(replace(spec, recipes=tuple(each.recipe for each in recipes)) for spec in workers)
    async with in_process_engine(model, workers, recipes=recipes) as engine:
        offer = offer_for(info, Limits(), recipes, encodes=weights.encodes(model))
        server = await FrontendServer.start(engine, offer, host="127.0.0.1", port=0)
        try:
            async with Client(f"127.0.0.1:{server.port}") as client:
                yield client
            engine.scheduler.check()
            assert not engine.journal.sessions and not engine.journal.size_bytes, "nothing is left behind"
        finally:
            await server.stop(0.0)


def options(*references: bytes, **more: object) -> StreamOptions:
    values: dict[str, object] = {"seed": 7, "pictures": 60, "codec": "raw", "references": references}
    return StreamOptions(**(values | more))  # type: ignore[arg-type]


async def bytes_of(client: Client, asked: StreamOptions) -> list[tuple[int, bytes]]:
    async with client.stream(PROMPT, asked) as stream:
        return [(event.first_picture, event.data) async for event in stream if isinstance(event, SegmentEvent)]


async def test_what_is_streamed_is_what_is_rendered_and_never_the_reference(model: Path) -> None:
    rendered = list[StreamEvent]()
    await render_events(open_request(PROMPT, options(IMAGE)), rendered.append, model=str(model))
    made = [(each.first_picture, each.data) for each in rendered if isinstance(each, SegmentEvent)]
    async with served(model) as client:
        assert (await client.get_model()).recipe.reference_frames == 1
        streamed, again = await bytes_of(client, options(IMAGE)), await bytes_of(client, options(IMAGE))
        other = await bytes_of(client, options(OTHER))
        given = await bytes_of(client, options(IMAGE, given=tuple(PICTURES[:5])))
        given_other = await bytes_of(client, options(OTHER, given=tuple(PICTURES[:5])))
    assert streamed == again == made and len(made) > 6
    assert [first for first, _ in made] == [0, *range(5, 60, 8)], "blocks have their numbers and pictures"
    assert all(one != two for (_, one), (_, two) in zip(streamed, other, strict=True)), "every block looks at it"
    assert given[0] == given_other[0] and given[2:] != given_other[2:], "what is given is shown, and the other is not"


async def test_what_is_wrong_with_a_reference_is_said(model: Path, tmp_path: Path) -> None:
    cases = {
        "open.references": (
            options(),
            options(IMAGE, IMAGE),
            options(IMAGE, recipe="clean"),
            options(png(8, 8, body=b"no")),
        ),
        "open.references[0]": (options(b"GIF89a"), options(png(5000, 1)), options(IMAGE + bytes(600 << 10))),
    }
    async with served(model) as client:
        for field, asked in cases.items():
            for each in asked:
                with pytest.raises(ClientError) as caught:
                    await bytes_of(client, each)
                assert caught.value.code.name == "INVALID_ARGUMENT"
                assert [violation.field for violation in caught.value.violations] == [field]
        with pytest.raises(ClientError, match=r"1: .* has every block look at that"):
            await bytes_of(client, options())
        with pytest.raises(ClientError, match="recipe 'clean' looks at no images"):
            await bytes_of(client, options(IMAGE, recipe="clean"))
    info = write_model(tmp_path)
    info = replace(info, recipe=altered(info.recipe, reference_frames=1, window_frames=6))
    save_model(tmp_path, info, load_file(tmp_path / "dit.safetensors"), load_file(tmp_path / "vae.safetensors"))
    async with served(tmp_path) as client:
        with pytest.raises(ClientError, match="no encoder"):
            await bytes_of(client, options(IMAGE))


@pytest.mark.parametrize("level", first(1, [Level.INPUT, Level.CLEAN]))
async def test_a_stream_goes_on_after_a_kill_with_the_same_bytes(tmp_path: Path, level: Level) -> None:
    model = write(tmp_path / "model", level)
    told = await outlives_a_kill(model, tmp_path, GivenPictures(references=(IMAGE,)))
    assert [opened.continuity for opened in told] == [Continuity.EXACT] * 2


def exported(engine: Engine, session: SessionId) -> tuple[Snapshot, Form]:
    """A session as it would be exported now."""
    found = engine.scheduler.inspect(session)
    snapshot = taken(engine, found, IDENTITY.record(found, Ownership(tenant="", offered=b"")))
    return snapshot, Form.of(found.graph, found.geometry)


async def test_a_fork_of_the_past_has_the_reference_and_a_file_brings_it_along(model: Path, tmp_path: Path) -> None:
    parent, child = SessionId("a"), SessionId("b")
    async with cell(model, tmp_path / "live", limits=Limits(rewind_blocks=50)) as there:
        there.engine.journal.give(parent, GivenPictures(references=(IMAGE,)))
        hashes = Hashes(model_info().recipe.step_count)
        hashes.listen(there.engine)
        client = there.open(parent)
        await client.until(6)
        fork = there.open(child, fork=Fork(session=parent, block=2))
        await fork.until(2)
        snapshot, form = exported(there.engine, child)
        file = bytearray().join(pieces(snapshot, form))
        found = read(file, lambda _: form)
        assert found.latents == snapshot.latents and (0, form.steps + 1) in found.latents
        with pytest.raises(InvalidField, match="tensors latents/STEP/BLOCK"):
            read(file, lambda _: replace(form, references=0))
        await client.to_the_end()
        await fork.to_the_end()
        assert hashes.of(child) == hashes.of(parent)[2:], "with the same seed and prompt it is the same stream"
    async with cell(model, tmp_path / "elsewhere") as here:
        token, durability = here.tenancy.owners.add(child, "default"), here.engine.keeping.durability
        here.engine.submit(brought(found, here.engine))
        async with asyncio.timeout(60):
            while here.engine.scheduler.session(child) is None:
                await asyncio.sleep(0.005)
        assert durability is not None
        await durability.land(here.engine.scheduler.inspect(child), found.cues, here.engine.journal)
        shutil.copytree(tmp_path / "elsewhere", tmp_path / "killed")
    async with cell(model, tmp_path / "killed") as after:
        assert after.adopted == 1
        again = after.resume(token, 3)
        await again.to_the_end()
        assert again.segments == {block: data for block, data in fork.segments.items() if block > 3}


async def test_a_stream_whose_reference_is_lost_is_not_taken_in(
    model: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    session = SessionId("a")
    async with cell(model, tmp_path / "live") as before:
        before.engine.journal.give(session, GivenPictures(references=(IMAGE,)))
        client = before.open(session)
        await client.until(3)
        await before.written()
        shutil.copytree(tmp_path / "live", tmp_path / "later")
    (truth,) = (tmp_path / "later").rglob("truth*")
    data = bytearray(truth.read_bytes())
    latent_bytes = 4 * 4 * 4 * 4  # one frame of the model's, somewhere behind the record
    data[-latent_bytes // 2] ^= 1
    truth.write_bytes(data)
    async with cell(model, tmp_path / "later") as after:
        async with asyncio.timeout(60):
            while "none of the reference" not in caplog.text:
                await asyncio.sleep(0.005)
        assert after.engine.scheduler.session(session) is None
