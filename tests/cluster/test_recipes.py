"""A server of several recipes: chosen by name, told with what each costs, kept by forks, files and the journal."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import pytest

from cluster.config import parse_config
from cluster.launch.served import served_recipes
from cluster.render import render_events
from cluster.serve import Ready, Stop, serve_until
from longtake.cli.main import run
from longtake.client import Client, ClientError, CueAt, OpenedEvent, SegmentEvent, StreamOptions, open_request
from longtake.client.events import CueAcceptedEvent, StreamEvent
from longtake.core.errors import InvalidField
from tests.workers.model_dir import model_info, write_model

PROMPT = "a red ball resting in the fog"
PICTURES = 41
FILES = {
    "plain": '[steps]\nladder = [1000, 500]\n[blocks]\nframes = 2\n[context]\nlevel = "clean"\nwindow_frames = 5\n',
    "fine": '[steps]\nladder = [1000, 500]\n[blocks]\nframes = 1\n[context]\nlevel = "input"\nwindow_frames = 4\n',
}
"""Recipes for the model of these tests, by their names."""


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("model")
    write_model(folder)
    for name, text in FILES.items():
        (folder / f"{name}.toml").write_text(text)
    return folder


def files(model: Path, *names: str) -> list[str]:
    return [str(model / f"{name}.toml") for name in names]


@asynccontextmanager
async def serving(model: Path, recipes: list[str], **sections: Mapping[str, object]) -> AsyncIterator[Ready]:
    """A server with these recipes beside the model's own, its workers in this process."""
    document: dict[str, Mapping[str, object]] = {
        "model": {"path": str(model), "recipes": recipes},
        "cluster": {"launch": "in-process", "denoise_workers": 1},
        "listen": {"port": 0},
    }
    stop = Stop()
    told: asyncio.Queue[Ready] = asyncio.Queue()
    running = asyncio.create_task(serve_until(parse_config(document | sections), stop, say=told.put_nowait))
    begun = asyncio.create_task(told.get())
    await asyncio.wait((running, begun), return_when=asyncio.FIRST_COMPLETED)
    if running.done():
        begun.cancel()
        running.result()
    try:
        yield begun.result()
    finally:
        stop()
        stop()
        await running


def options(recipe: str, **changes: object) -> StreamOptions:
    given = {"seed": 3, "pictures": PICTURES, "codec": "raw", "window": 2, "recipe": recipe} | changes
    return StreamOptions(**given)  # type: ignore[arg-type]


async def made(client: Client, wished: StreamOptions) -> tuple[OpenedEvent, dict[int, bytes]]:
    async with client.stream(PROMPT, wished) as stream:
        return stream.opened, {event.index: event.data async for event in stream if isinstance(event, SegmentEvent)}


async def rendered(model: Path, recipe: str) -> dict[int, bytes]:
    told: list[StreamEvent] = []
    request = open_request(PROMPT, options(""))
    await render_events(request, told.append, model=str(model), recipe=recipe)
    return {event.index: event.data for event in told if isinstance(event, SegmentEvent)}


async def test_streams_are_made_by_the_recipe_they_name_and_equal_what_is_rendered(model: Path) -> None:
    own = model_info().recipe
    async with serving(model, files(model, "plain", "fine")) as ready, Client(ready.address) as client:
        answer = await client.get_model()
        assert [each.name for each in answer.recipes] == ["own", "plain", "fine"]
        assert answer.recipes[0].recipe == answer.recipe and answer.recipe.digest == own.digest
        blocks = [(each.first_block_pictures, each.block_pictures) for each in answer.recipes]
        assert blocks == [(5, 8), (5, 8), (1, 4)]
        assert answer.recipes[0].relative_cost == 1 and all(each.latency_s > 0 for each in answer.recipes)
        # 6 forwards for 8 pictures; 3 of the same shape; 2 for 4 pictures, each for less than a block of two takes.
        assert answer.recipes[1].relative_cost == pytest.approx(3 / 6)
        assert 0 < answer.recipes[2].relative_cost != pytest.approx(4 / 6), "forwards of its shape were measured"
        assert [each.proven for each in answer.recipes] == [True, False, False]
        streams = {name: await made(client, options(name)) for name in ("", "own", "plain", "fine")}
        listed = {each.name: each.recipe.digest for each in answer.recipes}
        for name, (opened, _) in streams.items():
            assert opened.recipe == (name or "own") and opened.recipe_digest == listed[opened.recipe]
        together = await asyncio.gather(*(made(client, options(name)) for name in ("fine", "plain", "fine", "")))
    assert [segments for _, segments in together] == [streams[name][1] for name in ("fine", "plain", "fine", "")]
    assert streams[""][1] == streams["own"][1] != streams["plain"][1]
    assert [len(streams[name][1]) for name in ("own", "plain", "fine")] == [6, 6, 11]
    for name, text in (("own", ""), ("plain", str(model / "plain.toml")), ("fine", str(model / "fine.toml"))):
        assert await rendered(model, text) == streams[name][1], name


async def test_a_name_that_is_not_served_is_refused_with_those_that_are(model: Path) -> None:
    async with serving(model, files(model, "plain")) as ready, Client(ready.address) as client:
        for name in ("fine", "Plain", "hiar", "x" * 500):
            with pytest.raises(ClientError) as caught:
                await made(client, options(name))
            (violation,) = caught.value.violations
            assert violation.field == "open.recipe" and violation.description.endswith("allowed: own, plain")
        asked = ["stream", PROMPT, "--duration", "1s", "--server", ready.address, "--recipe", "fine", "-o"]
        assert await asyncio.to_thread(run, [*asked, "/nowhere/x.mp4"]) == 2
        session = ""
        async with client.stream(PROMPT, options("plain")) as stream:
            session = stream.opened.session_id
            assert (await client.list_sessions())[0].recipe == "plain"
            with pytest.raises(ClientError, match="the recipe that is forked"):
                await made(client, options("own", fork=session))
            opened, _ = await made(client, options("", fork=session))
            assert opened.recipe == "plain"
            again, _ = await made(client, options("plain", fork=session))
            assert again.recipe == "plain"


async def test_times_of_a_cue_are_those_of_the_blocks_of_its_stream(model: Path) -> None:
    async with serving(model, files(model, "fine")) as ready, Client(ready.address) as client:
        cues = (CueAt(prompt="a blue box at night", block=6),)
        async with client.stream(PROMPT, options("fine", cues=cues)) as stream:
            events = [event async for event in stream]
    (accepted,) = (event for event in events if isinstance(event, CueAcceptedEvent))
    (sixth,) = (event for event in events if isinstance(event, SegmentEvent) and event.index == 6)
    assert accepted.block == 6 and accepted.start_s == sixth.start_s


async def test_an_exported_stream_goes_on_by_its_recipe_whatever_that_is_called_there(model: Path) -> None:
    renamed = model / "elsewhere.toml"
    renamed.write_text(FILES["fine"])
    async with serving(model, files(model, "fine")) as ready, Client(ready.address) as client:
        _, whole = await made(client, options("fine"))
        async with client.stream(PROMPT, options("fine", auto_ack=False)) as stream:
            async for event in stream:
                if isinstance(event, SegmentEvent) and event.index == 1:
                    break
            parts = [part async for part in client.export_session(stream.opened.session_id)]
    async with serving(model, [*files(model, "plain"), str(renamed)]) as ready, Client(ready.address) as client:
        answer = await client.import_session(_again(parts))
        async with client.resume(answer.resume_token, None, options("")) as stream:
            assert stream.opened.recipe == "elsewhere"
            got = {event.index: event.data async for event in stream if isinstance(event, SegmentEvent)}
    assert got == whole
    async with serving(model, files(model, "plain")) as ready, Client(ready.address) as client:
        with pytest.raises(ClientError, match=r"fine \([0-9a-f]{64}\).*the recipes of this server: own .*, plain "):
            await client.import_session(_again(parts))


async def _again(parts: list[bytes]) -> AsyncIterator[bytes]:
    for part in parts:
        yield part


async def test_the_next_server_goes_on_by_the_recipe_that_the_journal_names(model: Path, tmp_path: Path) -> None:
    journal = {"journal": {"path": str(tmp_path / "journal")}}
    async with AsyncExitStack() as behind, serving(model, files(model, "fine"), **journal) as ready:
        client = await behind.enter_async_context(Client(ready.address))
        _, whole = await made(client, options("fine"))
        wished = options("fine", pictures=PICTURES, window=4, auto_ack=False, reconnect_s=0.0)
        stream = await client.stream(PROMPT, wished).__aenter__()
        token = stream.opened.resume_token
        async for event in stream:
            if isinstance(event, SegmentEvent) and event.index == 1:
                break
        await stream.ack(1)
    async with serving(model, files(model, "plain"), **journal) as ready, Client(ready.address) as client:
        with pytest.raises(ClientError, match="resumes no session"):  # it stays on disk
            async with client.resume(token, 1, options("")):
                pass
    async with (
        serving(model, files(model, "plain", "fine"), **journal) as ready,
        Client(ready.address) as client,
        client.resume(token, 1, options("")) as stream,
    ):
        assert stream.opened.recipe == "fine"
        got = {event.index: event.data async for event in stream if isinstance(event, SegmentEvent)}
    assert got == {index: data for index, data in whole.items() if index > 1}


async def test_the_command_lists_them(model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    async with serving(model, files(model, "plain")) as ready:
        assert await asyncio.to_thread(run, ["recipes", "--server", ready.address]) == 0
        text = capsys.readouterr().out
        assert await asyncio.to_thread(run, ["recipes", "--server", ready.address, "--json"]) == 0
        listed = json.loads(capsys.readouterr().out)
    assert "own    cost 1.00 x" in text and "plain  cost 0.50 x" in text and "unproven" in text
    listed = listed["recipes"]
    assert [each["name"] for each in listed] == ["own", "plain"] and listed[1]["recipe"]["steps"] == [1000, 500]


# --- which recipes a configuration may name -----------------------------------------------------------------------


def test_the_models_own_recipe_is_the_first_and_has_the_name_that_it_is_known_by(model: Path, tmp_path: Path) -> None:
    info = model_info()
    assert [each.name for each in served_recipes(info, (), is_pocket=False)] == ["own"]
    own = tmp_path / "mine.toml"
    own.write_text(
        '[steps]\nladder = [1000, 750, 500]\n[blocks]\nframes = 2\n[context]\nlevel = "output"\n'
        "window_frames = 5\nsink_frames = 1\n"
    )
    served = served_recipes(info, (*files(model, "plain"), str(own)), is_pocket=False)
    assert [each.name for each in served] == ["mine", "plain"] and served[0].recipe == info.recipe


@pytest.mark.parametrize(
    ("asked", "allowed"),
    [
        (("clean", "clean"), "names differ"),
        (("cleaner",), "hiar, "),
        (("./none.toml",), "a readable file"),
        (("{model}/plain.toml", "{model}/other/plain.toml"), "names differ"),
        (("{model}/plain.toml", "{model}/same.toml"), "the same as plain"),
    ],
)
def test_what_a_configuration_may_not_name_is_refused_by_its_key(
    model: Path, asked: tuple[str, ...], allowed: str
) -> None:
    (model / "other").mkdir(exist_ok=True)
    (model / "other/plain.toml").write_text(FILES["fine"])
    (model / "same.toml").write_text(FILES["plain"])
    with pytest.raises(InvalidField) as caught:
        served_recipes(model_info(), [text.format(model=model) for text in asked], is_pocket=False)
    assert caught.value.field == "model.recipes" and allowed in caught.value.allowed
