"""What the page does for who uses it: focus, keys, files, links, streams that wait for room or have ended."""

from __future__ import annotations

import io
import json
import re
from collections.abc import Iterator
from pathlib import Path

import av
import pytest
from PIL import Image
from playwright.sync_api import Browser, Dialog, Locator, Page, Route, WebSocketRoute, expect

from longtake.v1 import longtake_pb2 as pb
from tests.cluster.http.page.chromium import (
    NO_ROOM,
    PATIENCE_MS,
    QUICK,
    WITHOUT,
    Server,
    advances,
    end,
    keep,
    newest,
    open_tab,
    refuse_for_room,
    stands_still,
    start,
    take_what_is_left,
)

pytestmark = WITHOUT

PROMPT = "a red ball swaying at night"
FIELD = "Cue: what to show next"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    running = Server(tmp_path_factory.mktemp("server"), QUICK)
    try:
        yield running
    finally:
        running.end()


@pytest.fixture
def tab(browser: Browser, server: Server) -> Iterator[Page]:
    """A tab without the page yet; what the page says on the console or throws fails the test."""
    found = open_tab(browser, "about:blank")
    yield found
    assert (found.evaluate("window.complaints") or []) == []
    found.context.close()


@pytest.fixture
def page(tab: Page, server: Server) -> Page:
    tab.goto(server.url)
    return tab


def begin(page: Page, prompt: str = PROMPT) -> Locator:
    if not page.get_by_label("Pace").is_visible():
        take_what_is_left(page)
    card = start(page, prompt)
    advances(card, 0.5)
    return card


def session_of(card: Locator) -> str:
    return card.locator("[data-part=about]").inner_text().rsplit(" ", 1)[-1]


# --- typing and keys --------------------------------------------------------------------------------------------------


def test_whoever_opens_the_page_types_and_then_steers_without_leaving_the_keyboard(page: Page) -> None:
    expect(page.get_by_label("Prompt")).to_be_focused(timeout=PATIENCE_MS)
    page.keyboard.type(PROMPT)
    page.keyboard.press("Enter")
    card = newest(page)
    expect(card.get_by_label(FIELD)).to_be_focused(timeout=PATIENCE_MS)
    page.keyboard.press("Enter")
    expect(card.locator("[data-part=cueProblem]")).to_have_text("Say what to show: here is no text yet.")
    expect(page.locator("article")).to_have_count(1)
    page.keyboard.type("a blue box in the snow f ?")
    expect(card.locator("[data-part=cueProblem]")).to_be_hidden()
    page.keyboard.press("Enter")
    expect(card.get_by_label(FIELD)).to_be_focused()
    expect(card.get_by_role("listitem")).to_contain_text("shown since", timeout=PATIENCE_MS)
    assert page.evaluate("document.fullscreenElement") is None, "letters that are typed are letters"
    card.get_by_label("at, s").fill("later")
    card.get_by_label(FIELD).fill("a green ring")
    page.keyboard.press("Enter")
    expect(card.locator("[data-part=cueProblem]")).to_contain_text("at: 'later' is not allowed; allowed: seconds")
    expect(card.get_by_label("at, s")).to_be_focused()
    end(card)


def test_a_key_for_each_thing_that_is_done_often(page: Page) -> None:
    card = begin(page)
    page.keyboard.press("Escape")
    page.keyboard.press(" ")
    expect(card.get_by_role("button", name="Play")).to_be_visible()
    stands_still(card)
    page.keyboard.press(" ")
    advances(card)
    card.get_by_role("button", name="Pause").focus()
    page.keyboard.press(" ")  # presses the button, once
    expect(card.get_by_role("button", name="Play")).to_be_visible()
    page.keyboard.press(" ")
    page.keyboard.press("f")
    page.wait_for_function("() => document.fullscreenElement?.querySelector('video')")
    shown = card.locator("video").evaluate("(video) => [video.clientWidth / video.videoWidth, video.clientHeight]")
    assert shown[0] == int(shown[0]) and shown[1] <= page.evaluate("innerHeight")
    page.keyboard.press("/")
    expect(card.get_by_label(FIELD)).to_be_focused()
    page.keyboard.press("Escape")
    if page.evaluate("document.fullscreenElement !== null"):
        page.keyboard.press("f")
    page.wait_for_function("() => !document.fullscreenElement")
    with page.expect_download() as picture:
        page.keyboard.press("s")
    with Image.open(picture.value.path()) as saved:
        assert saved.size == (64, 64)

    page.keyboard.press("?")
    expect(page.get_by_role("dialog")).to_be_visible()
    page.get_by_label("Listen to single keys").uncheck()
    page.keyboard.press("Escape")
    expect(page.get_by_role("dialog")).to_be_hidden()
    before = page.evaluate("document.activeElement.outerHTML")
    page.keyboard.press("/")
    assert page.evaluate("document.activeElement.outerHTML") == before
    end(card)


def test_words_change_what_is_shown_one_at_a_time_and_a_surprise_is_a_prompt(page: Page) -> None:
    card = begin(page)
    field = card.get_by_label(FIELD)
    card.get_by_role("group", name="colour").get_by_role("button", name="blue").click()
    expect(field).to_have_value("a blue ball swaying at night")
    card.get_by_role("group", name="background").get_by_role("button", name="fog").click()
    expect(field).to_have_value("a blue ball swaying in the fog")
    expect(card.get_by_role("button", name="fog")).to_have_attribute("aria-pressed", "true")
    card.get_by_role("button", name="Send").click()
    expect(card.get_by_role("listitem")).to_contain_text("shown since", timeout=PATIENCE_MS)
    card.get_by_role("button", name="box").click()
    expect(field).to_have_value("a blue box swaying in the fog")
    page.get_by_role("button", name="Surprise me").click()
    expect(page.locator("article")).to_have_count(2)
    other = newest(page)
    expect(other.locator("[data-part=reading]")).to_have_text(
        re.compile(r"^understood: colour \w+, shape \w+, motion \w+, background \w+$"), timeout=PATIENCE_MS
    )
    end(other)
    end(card)


def test_a_cue_that_is_sent_before_the_stream_begins_is_not_lost(page: Page) -> None:
    take_what_is_left(page)
    expect(page.get_by_role("button", name="Start", exact=True)).to_be_enabled(timeout=PATIENCE_MS)
    page.evaluate(
        """([prompt, next]) => {  // in one go: the connection is not there yet
          document.getElementById("prompt").value = prompt;
          document.getElementById("new").requestSubmit();
          const cue = document.querySelector("article form");
          cue.elements.prompt.value = next;
          cue.requestSubmit();
        }""",
        [PROMPT, "a blue box"],
    )
    card = newest(page)
    expect(card.get_by_role("listitem")).to_contain_text("shown since", timeout=PATIENCE_MS)
    end(card)


def test_on_a_phone_the_picture_is_seen_first_and_no_keyboard_hides_it(browser: Browser, server: Server) -> None:
    phone = open_tab(browser, server.url, phone=True)
    card = begin(phone)
    expect(card.get_by_role("button", name="Pause")).to_be_focused()
    shown = card.locator("video").evaluate("(video) => [video.getBoundingClientRect(), innerHeight]")
    box, height = shown
    assert box["top"] >= 0 and box["bottom"] <= height
    end(card)
    phone.context.close()


# --- no room ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["", "retry_after_s"], ids=["in the sentence", "as a field"])
def test_a_stream_without_room_counts_down_and_begins_by_itself(tab: Page, server: Server, how: str) -> None:
    opened = refuse_for_room(tab, how, after_s=3)
    tab.goto(server.url)
    start(tab, PROMPT)
    refused = newest(tab)
    expect(refused.get_by_text(re.compile(r"Trying again in \d s"))).to_be_visible(timeout=PATIENCE_MS)
    expect(refused.get_by_role("alert").first).to_have_text(NO_ROOM)
    expect(refused.get_by_role("button", name="Start as fast")).to_be_focused()
    expect(refused).to_have_count(0, timeout=PATIENCE_MS)
    card = newest(tab)
    advances(card)
    assert [one["pace"] for one in opened] == ["realtime", "realtime"]
    expect(tab.locator("article")).to_have_count(1)
    expect(tab.locator("#ended")).to_be_hidden()
    end(card)


def test_a_stream_without_room_begins_as_fast_or_not_at_all(tab: Page, server: Server) -> None:
    opened = refuse_for_room(tab, times=2)
    tab.goto(server.url)
    start(tab, PROMPT)
    expect(newest(tab).get_by_text("Trying again in 28 s")).to_be_visible(timeout=PATIENCE_MS)
    keep(tab, "no-room")
    newest(tab).get_by_role("button", name="Give up").click()
    expect(tab.locator("article")).to_have_count(0)
    start(tab, PROMPT)
    newest(tab).get_by_role("button", name="Start as fast").click()
    tab.wait_for_function("() => document.querySelector('video')?.currentTime > 0.3", timeout=PATIENCE_MS)
    assert [one["pace"] for one in opened] == ["realtime", "realtime", "fast"]
    assert [one["prompt"] for one in opened] == [PROMPT] * 3
    end(newest(tab))


# --- the end ----------------------------------------------------------------------------------------------------------


def test_streams_that_have_ended_become_lines_and_one_begins_again_with_its_seed(page: Page) -> None:
    first = begin(page)
    seed = re.compile(r"seed \d+")
    about = first.locator("[data-part=about]").inner_text()
    end(first)
    expect(first.get_by_role("button", name="Start again")).to_be_focused()
    page.wait_for_timeout(4500)
    expect(first.locator("video")).to_be_visible()  # the newest stays as it is
    second = begin(page, "a blue box in the snow")
    lines = page.locator("#ended").get_by_role("listitem")
    expect(lines).to_have_count(1, timeout=PATIENCE_MS)
    expect(lines).to_contain_text(re.compile(rf"{PROMPT}\s+\d+\.\d s · The stream has ended\."))
    expect(first).to_have_count(0)
    with page.expect_download() as video:
        lines.get_by_role("button", name="Save").click()
    assert video_of(video.value.path())[1] > 0
    end(second)
    lines.get_by_role("button", name="Start again").click()
    third = newest(page)
    expect(third.locator("[data-part=about]")).to_contain_text("seed", timeout=PATIENCE_MS)
    again = third.locator("[data-part=about]").inner_text()
    assert seed.findall(again) == seed.findall(about) and session_of(third) not in about
    expect(lines).to_have_count(1, timeout=PATIENCE_MS)
    expect(lines).to_contain_text("a blue box in the snow")
    page.get_by_role("button", name="Clear all").click()
    expect(page.locator("#ended")).to_be_hidden()
    expect(page.get_by_label("Prompt")).to_be_focused()
    end(third)
    third.get_by_role("button", name="Remove").click()
    expect(page.get_by_role("heading", name="What do you want to see?")).to_be_visible()


def test_who_leaves_a_stream_that_runs_is_asked_and_who_has_ended_it_is_not(browser: Browser, server: Server) -> None:
    tab = open_tab(browser, server.url)
    asked: list[str] = []

    def stay(dialog: Dialog) -> None:
        asked.append(dialog.type)
        dialog.dismiss()

    tab.on("dialog", stay)
    card = begin(tab)
    tab.evaluate("setTimeout(() => location.assign('about:blank'))")
    advances(card, 1.0)
    assert asked == ["beforeunload"]
    end(card)
    tab.close(run_before_unload=True)
    assert asked == ["beforeunload"]


def test_each_ending_has_a_sentence_for_who_began_the_stream_and_for_who_watches(page: Page) -> None:
    names = pb.Ending.DESCRIPTOR.values_by_name
    endings = [name.removeprefix("ENDING_").lower() for name in names if name != "ENDING_UNSPECIFIED"]
    told = page.evaluate(
        """async (endings) => {
          const { endingInWords } = await import("/static/texts.js");
          const told = (watching) => endings.map((ending) => endingInWords({ ending, reason: "" }, watching));
          return [told(false), told(true)];
        }""",
        endings,
    )
    unknown = page.evaluate(
        "async () => (await import('/static/texts.js')).endingInWords({ ending: 'x', reason: 'Why.' }, true)"
    )
    assert unknown == "The stream has ended. Why."
    for sentences in told:
        assert len(set(sentences)) == len(endings)
        assert sum(sentence == "The stream has ended." for sentence in sentences) <= 1, "only for who has ended it"
    assert "The stream has ended." not in told[1]


def test_who_watches_is_told_why_it_ended_and_watches_again(tab: Page, browser: Browser, server: Server) -> None:
    sockets: list[WebSocketRoute] = []

    def answer(socket: WebSocketRoute) -> None:
        sockets.append(socket)
        socket.connect_to_server()

    owner = open_tab(browser, server.url)
    card = begin(owner)
    session = session_of(card)
    tab.route_web_socket("**/api/stream", answer)
    tab.goto(f"{server.url}#session={session}")
    watched = newest_when_there(tab)
    advances(watched)
    sockets[0].send(json.dumps({"type": "closed", "ending": "access", "reason": "", "segments": 3}))
    why = "The stream has ended: the token that began it, or yours, has expired or was taken back."
    expect(watched.locator("[data-part=notice]")).to_have_text(why, timeout=PATIENCE_MS)
    watched.get_by_role("button", name="Watch again").click()
    expect(watched).to_have_count(0)
    again = newest(tab)
    advances(again)
    assert session_of(again) == session and len(sockets) == 2
    end(card)
    expect(again.locator("[data-part=notice]")).to_contain_text("whoever began it", timeout=PATIENCE_MS)
    again.get_by_role("button", name="Watch again").click()
    gone = "There is no such stream: it has ended, or its link is wrong."
    expect(newest(tab).locator("[data-part=problem]")).to_have_text(gone, timeout=PATIENCE_MS)
    newest(tab).get_by_role("button", name="Remove").click()
    assert tab.evaluate("location.hash") == ""
    owner.context.close()


def newest_when_there(tab: Page) -> Locator:
    expect(tab.locator("article").first).to_be_attached(timeout=PATIENCE_MS)
    return newest(tab)


# --- links and files --------------------------------------------------------------------------------------------------


def video_of(path: Path) -> tuple[float, int]:
    """When the first picture of a file is shown, in seconds, and how many there are."""
    with av.open(io.BytesIO(path.read_bytes()), mode="r") as container:
        times = [frame.time for frame in container.decode(video=0)]
    assert times[0] is not None
    return times[0], len(times)


def test_a_link_is_watched_after_a_reload_too_and_what_was_received_is_a_file_that_begins_at_0(
    page: Page, browser: Browser, server: Server
) -> None:
    card = begin(page)
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    card.get_by_role("button", name="Copy a link").click()
    expect(card.locator("[data-part=notice]")).to_contain_text("The link is copied")
    link = page.evaluate("navigator.clipboard.readText()")
    assert link == f"{server.url}#session={session_of(card)}"
    advances(card, 2.0)

    other = open_tab(browser, link)
    watched = newest_when_there(other)
    expect(watched.get_by_role("heading")).to_have_text(PROMPT, timeout=PATIENCE_MS)
    advances(watched, 1.5)
    with other.expect_download() as video:
        watched.get_by_role("button", name="Save the video").click()
    begins_s, pictures = video_of(video.value.path())
    assert begins_s == 0 and pictures >= 12, "it was watched from the middle on"
    with page.expect_download() as video:
        card.get_by_role("button", name="Save the video").click()
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
    card.get_by_role("button", name="Show a shorter time").click()
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
    expect(card.locator("[data-part=problem]")).to_have_text(told, timeout=PATIENCE_MS)
    end(card)
    other.context.close()
