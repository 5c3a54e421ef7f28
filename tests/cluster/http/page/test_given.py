"""A stream of the page may begin with a picture, or look at one, where its recipe allows it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import websockets
from playwright.sync_api import Browser as Chromium
from playwright.sync_api import Locator, Page, expect

from longtake.client import Client, StreamOptions
from longtake.client.events import SegmentEvent
from longtake.client.pictures import MAX_ALL_BYTES, MAX_BYTES
from tests.cluster.http.page.cell import PROMPT, Browser, page_cell, tenants_file
from tests.cluster.http.page.chromium import (
    QUICK,
    WITHOUT,
    Server,
    begin,
    end,
    keep,
    open_tab,
    press,
    take_what_is_left,
)
from tests.workers.given_pictures import encoded, moving_ball

RECIPES = ["reference", "lag-2"]
PICTURE, OTHER = (encoded(picture) for picture in moving_ball(2))


# --- what the server takes ------------------------------------------------------------------------------------------


async def pieces(socket: websockets.ClientConnection, data: bytes, size: int = 1000) -> None:
    for start in range(0, len(data), size):
        await socket.send(data[start : start + size])


async def test_a_picture_in_pieces_is_what_any_client_gives() -> None:
    async with page_cell({"model": {"device": "simulated:2ms", "recipes": RECIPES}}) as cell:
        made: dict[str, list[bytes]] = {}
        for name, recipe, given, images in (
            ("given", "", [PICTURE], []),
            ("other", "", [OTHER], []),
            ("looks", "reference", [], [PICTURE]),
            ("both", "reference", [PICTURE], [OTHER]),
        ):
            async with cell.browser() as socket:
                browser = Browser(socket)
                sizes = {"given_bytes": [*map(len, given)], "references_bytes": [*map(len, images)]}
                await browser.say(type="open", prompt=PROMPT, seed="3", recipe=recipe, duration_s=3, **sizes)
                for data in (*given, *images):
                    await pieces(socket, data)
                await browser.upto("closed")
                made[name] = browser.bytes[1:]
            options = StreamOptions(seed=3, recipe=recipe, duration_s=3, given=tuple(given), references=tuple(images))
            async with Client(cell.target) as client, client.stream(PROMPT, options) as stream:
                right = [event.data async for event in stream if isinstance(event, SegmentEvent)]
            assert made[name] == right, name
        assert made["given"] != made["other"] and made["looks"] != made["both"]


@pytest.mark.parametrize(
    ("sizes", "sent", "sentence"),
    [
        ({"given_bytes": [9]}, [b"ten bytes."], "pictures: '10 bytes' is not allowed; allowed: pieces of a picture"),
        ({"given_bytes": [9]}, ['{"type": "play"}'], "pictures: '(text)' is not allowed"),
        ({"given_bytes": [9]}, [b"five.", b""], "pictures: '5 bytes' is not allowed"),
        ({"references_bytes": [MAX_BYTES, MAX_BYTES]}, [], f"allowed: up to {MAX_ALL_BYTES} bytes together"),
        ({"given_bytes": [MAX_BYTES + 1]}, [], "given_bytes.0: 524289 is not allowed"),
        ({"given_bytes": [9]}, [b"no image."], "open.given[0]: "),
        ({"references_bytes": [9]}, [b"no image."], "open.references: '1 image' is not allowed; allowed: none"),
    ],
)
async def test_what_is_none_is_refused_with_what_is_allowed(
    sizes: dict[str, object], sent: list[str | bytes], sentence: str
) -> None:
    async with page_cell() as cell, cell.browser() as socket:
        browser = Browser(socket)
        await browser.say(type="open", prompt=PROMPT, **sizes)
        for piece in sent:
            await socket.send(piece)
        told = await browser.hear()
        assert told["type"] == "error" and sentence in str(told["sentence"]), told


async def test_a_stranger_is_refused_before_any_picture_is_taken(tmp_path: Path) -> None:
    async with page_cell({"auth": {"tenants": str(tenants_file(tmp_path))}}) as cell, cell.browser() as socket:
        browser = Browser(socket)
        await browser.say(type="open", prompt=PROMPT, given_bytes=[MAX_BYTES])
        async with asyncio.timeout(20):
            assert (await browser.hear())["code"] == "UNAUTHENTICATED"


# --- what the page offers -------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def several(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server by whose recipes streams may begin with a picture, need one to look at, or may do neither."""
    running = Server(tmp_path_factory.mktemp("several"), QUICK + f"recipes = {json.dumps(RECIPES)}\n")
    try:
        yield running
    finally:
        running.end()


@pytest.fixture
def tab(browser: Chromium, several: Server) -> Iterator[Page]:
    found = open_tab(browser, several.url)
    take_what_is_left(found)
    yield found
    assert not found.evaluate("complaints")
    found.context.close()


def fields(tab: Page) -> tuple[Locator, Locator]:
    """Those for a picture to begin with, and for the image to look at."""
    return tab.get_by_label("First picture", exact=True), tab.get_by_label("Image it looks at")


def choose(field: Locator, data: bytes, name: str = "ball.png", kind: str = "image/png") -> None:
    field.set_input_files({"name": name, "mimeType": kind, "buffer": data})


SENT = """
window.sent = [];
const send = WebSocket.prototype.send;
WebSocket.prototype.send = function (data) {
  window.sent.push(typeof data === "string" ? data : Array.from(data));
  return send.call(this, data);
};
0
"""


def opening(tab: Page) -> tuple[dict[str, object], bytes]:
    """The first frame of the stream that was begun last, and the bytes behind it."""
    sent = tab.evaluate("window.sent")
    start = max(place for place, data in enumerate(sent) if isinstance(data, str) and '"open"' in data)
    return json.loads(sent[start]), b"".join(bytes(data) for data in sent[start:] if isinstance(data, list))


@WITHOUT
def test_pictures_are_offered_where_the_recipe_takes_them(tab: Page) -> None:
    given, image = fields(tab)
    expect(given).to_be_visible()
    expect(image).to_be_hidden()
    tab.get_by_label("Recipe").select_option("reference")
    expect(given).to_be_visible()
    expect(image).to_be_visible()
    keep(tab, "pictures")
    tab.get_by_label("Recipe").select_option("lag-2")
    expect(given).to_be_hidden()
    expect(image).to_be_hidden()


@WITHOUT
def test_a_stream_begins_with_the_picture_that_was_chosen_and_the_next_one_does_not(tab: Page) -> None:
    tab.evaluate(SENT)
    given, _ = fields(tab)
    choose(given, PICTURE)
    card = begin(tab)
    frame, data = opening(tab)
    assert frame["given_bytes"] == [len(PICTURE)] and data == PICTURE, "a small PNG goes as it is"
    end(card)
    expect(card.get_by_role("button", name="Start again")).to_be_visible()
    press(card.get_by_role("button", name="Start again"))
    expect(tab.locator("article[data-over]")).to_have_count(0)
    assert opening(tab)[1] == PICTURE, "the same stream again begins with it again"
    begin(tab)
    frame, data = opening(tab)
    assert "given_bytes" not in frame and not data


@WITHOUT
def test_a_recipe_that_looks_at_an_image_is_not_begun_without(tab: Page) -> None:
    tab.evaluate(SENT)
    tab.get_by_label("Recipe").select_option("reference")
    tab.get_by_label("Prompt").fill(PROMPT)
    tab.get_by_label("Prompt").press("Enter")
    problem = tab.locator("#references-problem")
    expect(problem).to_have_text("no images chosen; allowed: 1 image, at which every block of this recipe looks")
    keep(tab, "no-image")
    assert not tab.evaluate("window.sent.length") and not tab.locator("article").count()
    _, image = fields(tab)
    choose(image, b"no picture")
    expect(problem).to_be_hidden()
    tab.get_by_label("Prompt").press("Enter")
    expect(problem).to_contain_text("ball.png is not allowed; allowed: a picture that this browser can show")
    choose(image, PICTURE)
    card = begin(tab)
    frame, data = opening(tab)
    assert (frame["recipe"], frame["references_bytes"]) == ("reference", [len(PICTURE)]) and data == PICTURE
    end(card)


@WITHOUT
def test_a_picture_of_another_kind_is_made_a_jpeg_and_a_choice_can_be_taken_back(tab: Page) -> None:
    tab.evaluate(SENT)
    given, _ = fields(tab)
    choose(
        given, b"<svg xmlns='http://www.w3.org/2000/svg' width='90' height='60'><rect width='50' height='60'/></svg>"
    )
    press(tab.get_by_role("button", name="No first picture"))
    assert not given.evaluate("(field) => field.files.length")
    choose(given, b"BM" + BITMAP, "ball.bmp", "image/bmp")
    card = begin(tab)
    frame, data = opening(tab)
    assert frame["given_bytes"] == [len(data)] and data.startswith(b"\xff\xd8\xff")
    end(card)


BITMAP = (
    (54 + 48).to_bytes(4, "little") + bytes(4) + (54).to_bytes(4, "little")
    + (40).to_bytes(4, "little") + (4).to_bytes(4, "little") + (4).to_bytes(4, "little")
    + (1).to_bytes(2, "little") + (24).to_bytes(2, "little") + bytes(24) + bytes(range(48))
)  # fmt: skip
"""A picture of four by four, behind its first two bytes."""


@WITHOUT
def test_a_picture_is_not_in_what_a_tab_keeps_and_the_stream_goes_on_after_a_reload(tab: Page) -> None:
    given, _ = fields(tab)
    choose(given, PICTURE)
    begin(tab)
    kept = tab.evaluate("Object.entries(sessionStorage).find(([name]) => name.startsWith('longtake.stream.'))[1]")
    assert "pictures" not in json.loads(kept)["first"] and len(kept) < 5000
    tab.once("dialog", lambda dialog: dialog.accept())
    tab.reload()
    card = tab.locator("article")
    expect(card.locator("[data-part=notice]")).to_contain_text("The stream goes on")
    end(card)
    expect(card.get_by_role("button", name="Start again")).to_be_hidden()
