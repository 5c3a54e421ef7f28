"""What the page shows and gives away: a large picture, true figures, files and links; on iPhones, and below a path."""

from __future__ import annotations

import re

import pytest
from playwright.sync_api import Browser, Page, Route, WebSocketRoute, expect

from tests.cluster.http.page.chromium import (
    PROMPT,
    WITHOUT,
    Server,
    advances,
    begin,
    end,
    newest_when_there,
    open_tab,
    press,
    session_of,
    start,
    take_what_is_left,
    video_of,
)

pytestmark = WITHOUT


# --- links and files --------------------------------------------------------------------------------------------------


def test_a_link_is_watched_after_a_reload_too_and_what_was_received_is_a_file_that_begins_at_0(
    page: Page, browser: Browser, server: Server
) -> None:
    card = begin(page)
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    press(card.get_by_role("button", name="Copy a link"))
    expect(card.locator("[data-part=notice]")).to_contain_text("The link is copied")
    link = page.evaluate("navigator.clipboard.readText()")
    assert link == f"{server.url}#session={session_of(card)}"
    advances(card, 2.0)

    other = open_tab(browser, link)
    watched = newest_when_there(other)
    expect(watched.get_by_role("heading")).to_have_text(PROMPT)
    advances(watched, 1.5)
    with other.expect_download() as video:
        press(watched.get_by_role("button", name="Save the video"))
    begins_s, pictures = video_of(video.value.path())
    assert begins_s == 0 and pictures >= 12, "it was watched from the middle on"
    with page.expect_download() as video:
        press(card.get_by_role("button", name="Save the video"))
    begins_s, pictures = video_of(video.value.path())
    assert begins_s == 0 and pictures >= 9 + 2 * 12 and (pictures - 9) % 12 == 0
    other.reload()
    watched = newest_when_there(other)
    advances(watched)
    assert session_of(watched) == session_of(card)
    end(card)
    other.context.close()


def test_the_page_lies_below_a_path_too(tab: Page, server: Server) -> None:
    def below(route: Route) -> None:
        route.fulfill(response=route.fetch(url=route.request.url.replace("/longtake/", "/")))

    sockets: list[str] = []

    def socket_below(socket: WebSocketRoute) -> None:
        sockets.append(socket.url)

    tab.route("**/longtake/**", below)
    tab.route_web_socket("**/api/stream", socket_below)
    tab.goto(f"{server.url}longtake/")
    start(tab, PROMPT)
    tab.unroute_all(behavior="ignoreErrors")
    assert sockets == [server.url.replace("http", "ws") + "longtake/api/stream"]


# --- the picture and its figures --------------------------------------------------------------------------------------


def test_the_picture_is_large_in_whole_multiples_of_its_pixels_and_below_it_is_the_form_on_a_phone(page: Page) -> None:
    card = begin(page)
    video = card.locator("video")
    for width, height, least in ((1440, 900, 512), (1024, 768, 384), (390, 844, 320)):
        page.set_viewport_size({"width": width, "height": height})
        page.wait_for_timeout(200)
        box = video.bounding_box()
        assert box and box["width"] == box["height"] >= least and box["width"] % 64 == 0, (width, box)
    assert video.evaluate("(video) => getComputedStyle(video).imageRendering") == "pixelated"
    form = page.locator("#new").bounding_box()
    theatre = card.locator("[data-part=theatre]").bounding_box()
    assert form and theatre and form["y"] > theatre["y"] + theatre["height"]
    smooth = """async () => {
      const { Screen } = await import("/static/screen.js");
      const kinds = ["div", "div", "div", "video"];
      const [stage, theatre, screen, video] = kinds.map((kind) => document.createElement(kind));
      document.querySelector("main").append(stage);
      stage.append(theatre);
      theatre.append(screen);
      screen.append(video);
      const made = new Screen({ theatre, screen, video }, { width: 832, height: 480 });
      const found = [video.dataset.pixels, video.clientWidth, stage.clientWidth, stage.dataset.beside];
      made.dispose();
      stage.remove();
      return found;
    }"""
    pixels, width, room, beside = page.evaluate(smooth)
    assert pixels == "smooth" and abs(width - room) <= 1 and beside == "false"
    end(card)


def test_rates_are_of_whole_segments_and_do_not_fall_while_the_next_is_awaited(page: Page) -> None:
    rates = """async () => {
      const { Rates } = await import("/static/rates.js");
      const now = performance.now;
      let clock_ms = 1000;
      performance.now = () => clock_ms;
      const rates = new Rates(16);
      const found = [];
      for (let n = 0; n < 400; n++, clock_ms += 50) {
        if (n % 15 === 0) rates.note(0.75, 8);
        rates.look(n * 0.05, false);
        if (n > 100) found.push(rates.made, rates.shown);
      }
      rates.look(1000, false);
      const jumped = rates.shown;
      performance.now = now;
      return [Math.min(...found), Math.max(...found), jumped];
    }"""
    least, most, jumped = page.evaluate(rates)
    assert 15.99 < least <= most < 16.01
    assert jumped is None, "a jump is not shown"


NOTE_TEXTS = """
window.texts = [];
const fill = CanvasRenderingContext2D.prototype.fillText;
CanvasRenderingContext2D.prototype.fillText = function (text, ...place) {
  window.texts.push(String(text));
  fill.call(this, text, ...place);
};
"""


def test_the_timeline_tells_blocks_and_seconds_of_the_stream_not_of_the_server(tab: Page, server: Server) -> None:
    tab.add_init_script(NOTE_TEXTS)
    tab.goto(server.url)
    card = begin(tab)
    press(card.get_by_role("button", name="Show a shorter time"))
    advances(card, 4.0)
    labels = {text for text in tab.evaluate("window.texts") if "·" in text}
    found = {int(block): float(at_s) for block, at_s in (re.findall(r"[\d.]+", label) for label in labels)}
    assert len(found) >= 3 and max(found) >= 4
    for block, at_s in found.items():
        assert at_s == pytest.approx(0 if block == 0 else (9 + 12 * (block - 1)) / 16, abs=0.05)
    end(card)


MANAGED = "window.ManagedMediaSource = window.MediaSource; delete window.MediaSource;"


def test_a_browser_that_has_only_the_managed_kind_of_source_plays_and_one_without_any_is_told(
    tab: Page, browser: Browser, server: Server
) -> None:
    tab.add_init_script(MANAGED)
    tab.goto(server.url)
    card = begin(tab)
    advances(card, 1.0)
    assert card.locator("video").evaluate("(video) => video.disableRemotePlayback")
    end(card)
    other = open_tab(browser, "about:blank")
    other.add_init_script("delete window.MediaSource;")
    other.goto(server.url)
    take_what_is_left(other)
    card = start(other, PROMPT)
    told = "video: this browser plays no streams: it has no Media Source Extensions"
    expect(card.locator("[data-part=problem]")).to_have_text(told)
    end(card)
    other.context.close()
