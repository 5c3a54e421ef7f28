"""Streams that begin with pictures: the oracle's bits, the same bytes rendered and streamed, and after a kill."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from hashlib import sha256
from pathlib import Path

import pytest
import torch

from cluster.cell.journal import GivenPictures
from cluster.frontend.offer import offer_for
from cluster.frontend.server import FrontendServer
from cluster.launch.served import served_recipes
from cluster.render import in_process_engine, in_process_workers, render_events
from longtake.client import Client, ClientError, StreamOptions, open_request
from longtake.client.events import OpenedEvent, SegmentEvent, StreamEvent
from longtake.core.events import CueRequest
from longtake.core.limits import Limits
from longtake.core.recipe.context import Level
from longtake.core.recipe.given import plan_with
from longtake.core.work import Continuity, CueId, Fork, SessionId
from tests.cluster.cell.world import Hashes
from tests.cluster.kept_cell import OTHER, PROMPT, cell, outlives_a_kill
from tests.samples import first
from tests.workers.given_pictures import encoded, latents_of, moving_ball, png
from tests.workers.model_dir import model_info, write_model, write_model_that_encodes
from tests.workers.oracle import ContiguousLanes
from tests.workers.oracle_beginning import Beginning, generate_from
from workers.decode.giving import PictureEncoder
from workers.decode.slots import LatentFormat
from workers.denoise.noise import normal
from workers.denoise.worker import tensor_to_bytes
from workers.models import weights
from workers.models.api import Compute, sdpa
from workers.models.text import load_text_encoder

PICTURES = [encoded(picture) for picture in moving_ball(13, 48)]
LEVELS = (Level.CLEAN, Level.OUTPUT, Level.INPUT)
COUNTS = (1, 5, 9, 13)
"""1 to 4 latent frames: of blocks of two, the first has one or two."""


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("model")
    write_model_that_encodes(folder)
    return folder


def expected(model: Path, count: int, blocks: int, seed: int, prompts: dict[int, str]) -> list[str]:
    """SHA-256 of the blocks of a stream by the oracle, given ones included."""
    torch.set_num_threads(1)
    info = weights.load_info(model)
    frames = 1 + (count - 1) // 4
    plan = plan_with(info.recipe.blocks, frames)
    recipe, geometry = replace(info.recipe, blocks=plan), info.geometry.divided(plan)
    encoder = weights.load_encoder(model, info, Compute())
    assert encoder is not None
    latents_FCHW = latents_of(PictureEncoder(encoder, LatentFormat.of(info), geometry), PICTURES[:count])
    given = [latents_FCHW[plan.own(block).start : plan.own(block).stop][None] for block in range(plan.block_of(frames))]
    denoiser, text = weights.load_denoiser(model, info, Compute()), load_text_encoder(model, info, Compute())
    made = generate_from(
        denoiser,
        recipe,
        {block: text.encode(prompt).features_TC[None] for block, prompt in prompts.items()},
        lambda block, draw: normal(seed, block, draw, geometry.shape_of(block))[None],
        blocks,
        ContiguousLanes(denoiser, recipe.window_frames, recipe.sink_frames, attention=sdpa),
        Beginning(given=given),
    )
    return [sha256(tensor_to_bytes(x0_BFCHW[0])).hexdigest() for x0_BFCHW in made]


@asynccontextmanager
async def served(model: Path, hashes: Hashes | None = None) -> AsyncIterator[Client]:
    """A client of a server of the model, in this process."""
    info = weights.load_info(model)
    workers = in_process_workers(model, info.recipe, denoise=2, sessions=3)
    recipes = served_recipes(info, (), is_pocket=False)
    async with in_process_engine(model, workers, recorder=hashes, recipes=recipes) as engine:
        if hashes is not None:
            hashes.listen(engine)
        offer = offer_for(info, Limits(), recipes, encodes=weights.encodes(model))
        server = await FrontendServer.start(engine, offer, host="127.0.0.1", port=0)
        try:
            async with Client(f"127.0.0.1:{server.port}") as client:
                yield client
            engine.scheduler.check()
            assert not engine.journal.sessions and not engine.journal.size_bytes, "nothing is left behind"
        finally:
            await server.stop(0.0)


def options(count: int, **more: object) -> StreamOptions:
    values: dict[str, object] = {"seed": 7, "pictures": 60, "codec": "raw", "given": tuple(PICTURES[:count])}
    return StreamOptions(**(values | more))  # type: ignore[arg-type]


@pytest.mark.parametrize("count", first(2, COUNTS))
async def test_what_is_streamed_is_what_is_rendered_and_its_latents_are_the_oracles(model: Path, count: int) -> None:
    hashes, rendered, streamed = Hashes(model_info().recipe.step_count), list[StreamEvent](), list[StreamEvent]()
    await render_events(open_request(PROMPT, options(count)), rendered.append, model=str(model))
    async with served(model, hashes) as client, client.stream(PROMPT, options(count)) as stream:
        async for event in stream:
            streamed.append(event)

    def bytes_of(events: list[StreamEvent]) -> list[tuple[int, int, bytes]]:
        found = [event for event in events if isinstance(event, SegmentEvent)]
        return [(segment.first_picture, segment.picture_count, segment.data) for segment in found]

    assert bytes_of(streamed) == bytes_of(rendered)
    opened = streamed[0]
    assert isinstance(opened, OpenedEvent)
    frames = 1 + (count - 1) // 4
    plan = plan_with(model_info().recipe.blocks, frames)
    assert opened.given_segments == plan.block_of(frames - 1) + 1
    shown = sum(pictures for _, pictures, _ in bytes_of(streamed)[: opened.given_segments])
    assert shown == count, "what is given is shown"
    blocks = len(bytes_of(streamed))
    right = expected(model, count, blocks, 7, {0: PROMPT})
    assert hashes.of(opened.session_id) == right
    assert right != expected(model, count, blocks, 8, {0: PROMPT}), "it is not only what is given"


async def test_what_cannot_be_given_is_refused_in_words_and_leaves_nothing(model: Path, tmp_path: Path) -> None:
    broken = png(8, 8, body=b"no deflate")
    cases = {
        "open.given[0]": (b"GIF89a",),
        "open.given[4]": (*PICTURES[:4], png(5000, 1)),
        "open.given": (broken,),
    }
    async with served(model) as client:
        assert (await client.get_model()).max_given_pictures == 17, "as many as the window of five frames holds"
        for field, given in cases.items():
            with pytest.raises(ClientError) as caught:
                async with client.stream(PROMPT, options(1, given=given)):
                    pass
            assert caught.value.code.name == "INVALID_ARGUMENT"
            assert [violation.field for violation in caught.value.violations] == [field]
        with pytest.raises(ClientError) as caught:
            async with client.stream(PROMPT, options(13, pictures=13)):
                pass
        assert [violation.field for violation in caught.value.violations] == ["open.length"]
    write_model(tmp_path)
    async with served(tmp_path) as client:
        assert (await client.get_model()).max_given_pictures == 0
        with pytest.raises(ClientError, match="no encoder"):
            async with client.stream(PROMPT, options(1)):
                pass


@pytest.mark.parametrize("level", first(1, LEVELS))
async def test_a_stream_of_every_level_goes_on_after_a_kill_with_the_same_bytes(tmp_path: Path, level: Level) -> None:
    model, cue = tmp_path / "model", CueRequest(cue=CueId("c"), prompt=OTHER, block=4)
    write_model_that_encodes(model, level)
    given = GivenPictures(given=tuple(PICTURES[:9]))
    told = await outlives_a_kill(model, tmp_path, given, given_frames=3, cues=(cue,))
    assert [(opened.continuity, opened.given_segments) for opened in told] == [(Continuity.EXACT, 2)] * 2


async def test_a_fork_of_the_past_has_of_what_was_given_what_lies_before_it(model: Path, tmp_path: Path) -> None:
    parent, child = SessionId("a"), SessionId("b")
    async with cell(model, tmp_path / "live", limits=Limits(rewind_blocks=50)) as there:
        there.engine.journal.give(parent, GivenPictures(given=tuple(PICTURES[:13])))
        hashes = Hashes(model_info().recipe.step_count)
        hashes.listen(there.engine)
        client = there.open(parent, given_frames=4)
        await client.until(6)
        fork = there.open(child, fork=Fork(session=parent, block=1), seed=3)
        await asyncio.gather(client.to_the_end(), fork.to_the_end())
        made = hashes.of(child)
    frames = expected(model, 5, 1, 3, {0: PROMPT})  # of the first two latent frames, which are one block
    right = expected(model, 5, 1 + len(made), 3, {0: PROMPT})
    assert right[:1] == frames and made == right[1:]
    assert min(fork.segments) == 1
