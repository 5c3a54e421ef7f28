"""The page in a real browser against a real server: somebody types a prompt, looks, steers, and sees what was asked."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.cluster.http.page.cell import tenants_file
from tests.cluster.http.page.chromium import (
    QUICK,
    WITHOUT,
    Server,
    advances,
    end,
    keep,
    newest,
    open_tab,
    press,
    shows,
    sign_in,
    stands_still,
    start,
    take_what_is_left,
    time_s,
)

pytestmark = WITHOUT


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    running = Server(tmp_path_factory.mktemp("server"))
    try:
        yield running
    finally:
        running.end()


@pytest.fixture
def page(browser: Browser, server: Server) -> Iterator[Page]:
    """A tab with the page in it; what it says on the console or throws fails the test."""
    tab = open_tab(browser, server.url)
    yield tab
    complaints = tab.evaluate("window.complaints ?? []")
    tab.context.close()
    assert complaints == []


def test_a_prompt_becomes_video_a_cue_changes_it_and_the_buttons_do_what_they_say(page: Page) -> None:
    page.set_viewport_size({"width": 1440, "height": 900})
    expect(page.get_by_role("button", name="Start", exact=True)).to_be_enabled()
    keep(page, "empty")
    take_what_is_left(page)
    card = start(page, "a red ball swaying at night")
    advances(card, 1.0)
    shows(card, "red", "ball", "night")
    card.get_by_label("Cue: what to show next").fill("a blue box resting in the snow")
    card.get_by_label("Cue: what to show next").press("Enter")
    cue = card.get_by_role("listitem")
    expect(cue).to_contain_text("shown since")
    expect(card.get_by_role("heading")).to_have_text("a blue box resting in the snow")
    shows(card, "blue", "box", "snow")
    card.get_by_label("Cue: what to show next").fill("a magenta ring circling, whistling, at dusk")
    card.get_by_label("Cue: what to show next").press("Enter")
    expect(cue.first).to_contain_text("not understood: whistling")
    keep(page, "light")

    press(card.get_by_role("button", name="Pause"))
    expect(card.locator("[data-part=state]")).to_have_text("paused")
    stands_still(card)
    press(card.get_by_role("button", name="Play"))
    advances(card)

    card.locator("canvas").press("ArrowLeft")
    op = re.compile(r"Block \d+, (denoise at step \d|commit at step \d|decode), on (denoise|decode)-\d: \d+\.\d ms")
    expect(card.locator("[data-part=caption]")).to_have_text(op)
    for rate in ("made", "shown"):
        expect(card.locator(f"[data-part={rate}]")).to_have_text(re.compile(r"^\d+\.\d /s$"))

    end(card)
    expect(page.locator("#none")).to_be_visible()
    press(card.get_by_role("button", name="Remove"))
    expect(page.locator("article")).to_have_count(0)


def test_two_streams_at_once_and_somebody_who_watches_one_of_them(browser: Browser, server: Server, page: Page) -> None:
    take_what_is_left(page)
    first = start(page, "a green ring resting at dusk")
    advances(first)
    second = start(page, "a yellow triangle bobbing in the fog")
    advances(second, 1.0)
    advances(first)
    shows(second, "yellow", "triangle", "fog")
    shows(first, "green", "ring", "dusk")

    other = open_tab(browser, server.url, dark=True)
    press(other.get_by_role("button", name="Watch a green ring"))
    watched = other.locator("article")
    advances(watched, 1.0)
    shows(watched, "green", "ring", "dusk")
    expect(watched.get_by_role("heading")).to_have_text("a green ring resting at dusk")
    assert watched.locator("form").is_hidden(), "an observer does not steer"
    assert watched.get_by_role("group").count() == 0, "nor are words offered"
    keep(other, "watching-dark")
    end(first)
    end(second)
    why = "The stream has ended: whoever began it has ended it."
    expect(watched.locator("[data-part=notice]")).to_have_text(why)
    expect(page.locator("#none")).to_be_visible()
    other.context.close()


def test_what_the_model_does_not_understand_is_said_for_as_long_as_it_holds(
    browser: Browser, server: Server, page: Page
) -> None:
    take_what_is_left(page)
    card = start(page, "a flying unicorn over Paris")
    reading = card.locator("[data-part=reading]")
    advances(card, 2.0)
    expect(reading).to_have_text(
        "not understood: flying, unicorn, paris; taken instead: colour red, shape ball, motion resting, background fog"
    )
    expect(reading).to_have_attribute("data-heard", "none")
    card.get_by_label("Cue: what to show next").fill("a purple elephant dancing")
    card.get_by_label("Cue: what to show next").press("Enter")
    cue = card.get_by_role("listitem")
    expect(cue).to_contain_text("shown since")
    expect(cue).to_contain_text("not understood: elephant, dancing")
    expect(cue).to_have_attribute("data-heard", "part")

    other = open_tab(browser, server.url)
    press(other.get_by_role("button", name="Watch a purple elephant dancing"))
    watched = other.locator("article")
    expect(watched.get_by_role("heading")).to_have_text("a purple elephant dancing")
    card.get_by_label("Cue: what to show next").fill("a green box at night")
    card.get_by_label("Cue: what to show next").press("Enter")
    for seen in (card, watched):
        expect(seen.get_by_role("heading")).to_have_text("a green box at night")
        expect(seen.locator("[data-part=reading]")).to_have_text(
            "understood: colour green, shape box, background night; taken instead: motion resting"
        )
    end(card)
    other.context.close()


def test_what_cannot_be_is_said_in_a_sentence_and_the_page_goes_on(page: Page) -> None:
    expect(page.get_by_role("button", name="Start", exact=True)).to_be_enabled()
    page.get_by_label("Prompt").fill("   ")
    page.get_by_label("Prompt").press("Enter")
    expect(page.locator("#prompt-problem")).to_have_text("Say what to show: here is no text yet.")
    expect(page.get_by_label("Prompt")).to_be_focused()
    page.get_by_label("Prompt").fill("x" * 4097)
    press(page.get_by_role("button", name="Start", exact=True))
    expect(page.locator("#prompt-problem")).to_have_text("4097 bytes are too long; allowed: 1 to 4096")
    page.get_by_label("Prompt").fill("a red ball")
    expect(page.locator("#prompt-problem")).to_be_hidden()
    press(page.get_by_text("Options"))
    wrong = {
        "Seed": (str(2**64), "seed: '18446744073709551616' is not allowed; allowed: 0 to 2^64 - 1, or nothing"),
        "Length, s": ("0", "length: 0 is not allowed; allowed: more than 0 s, or nothing for a stream without end"),
        "Buffer, segments": ("99", "buffer: '99' is not allowed; allowed: 1 to 32 segments, or nothing"),
    }
    for label, (value, _) in wrong.items():
        page.get_by_label(label).fill(value)
    press(page.get_by_text("Options"))  # folded away: what is wrong must be seen all the same
    press(page.get_by_role("button", name="Start", exact=True))
    for label, (_, sentence) in wrong.items():
        field = page.get_by_label(label)
        expect(field).to_have_accessible_description(re.compile(re.escape(sentence)))
        expect(field).to_have_attribute("aria-invalid", "true")
    expect(page.get_by_label("Seed")).to_be_focused()
    expect(page.locator("article")).to_have_count(0)
    for label in wrong:
        page.get_by_label(label).fill("")
    page.get_by_label("Length, s").fill("soon")
    press(page.get_by_role("button", name="Start", exact=True))
    sentence = "length: 'soon' is not allowed; allowed: seconds, such as 12 or 1.5, or 1:30"
    expect(page.locator("#duration-problem")).to_have_text(sentence)
    page.get_by_label("Length, s").fill("0:03")
    page.get_by_label("Pace").select_option("fast")
    card = start(page, "<img src=x onerror=alert(1)> red ball")
    expect(card.locator("img")).to_have_count(0)
    expect(card.locator("[data-part=notice]")).to_have_text("The stream is complete.")
    assert time_s(card) > 0


@pytest.fixture(scope="module")
def quick(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server whose devices only take their time, little of it, and which asks who one is."""
    folder = tmp_path_factory.mktemp("quick")
    running = Server(folder, QUICK + f'[auth]\ntenants = "{tenants_file(folder)}"\n')
    try:
        yield running
    finally:
        running.end()


def test_a_token_is_asked_for_and_kept_by_one_tab(browser: Browser, quick: Server) -> None:
    tab = open_tab(browser, quick.url)
    sign_in(tab, "wrong")
    expect(tab.locator("#problem")).to_contain_text("token")
    sign_in(tab, "alice" * 4)
    expect(tab.locator("#sign-in")).to_be_hidden()
    card = start(tab, "a red ball resting at night")
    advances(card)
    assert tab.evaluate("[sessionStorage.length, localStorage.length, document.cookie]") == [2, 0, ""]
    end(card)
    assert tab.evaluate("sessionStorage.length") == 1, "the token of a stream that has ended is of no use"
    assert "alice" not in tab.url
    tab.reload()
    expect(tab.locator("#server")).to_have_text(re.compile(r"\d stream"))
    other = tab.context.new_page()
    other.goto(quick.url)
    expect(other.get_by_label("Token")).to_be_visible()
    tab.context.close()


FULL = """
(video) => {
  const append = SourceBuffer.prototype.appendBuffer;
  let left = 3;
  SourceBuffer.prototype.appendBuffer = function (bytes) {
    if (left-- > 0) throw new DOMException("full", "QuotaExceededError");
    append.call(this, bytes);
  };
  video.playbackRate = 8;
}
"""
"""The browser's buffer is full three times; and playback is quicker than life."""
KEPT = "(video) => [video.buffered.length, video.buffered.end(0) - video.buffered.start(0), video.buffered.start(0)]"


@pytest.mark.slow
def test_who_stops_showing_stops_the_stream_a_fork_goes_on_and_a_minute_costs_the_memory_of_seconds(
    browser: Browser, quick: Server
) -> None:
    tab = open_tab(browser, quick.url)
    sign_in(tab, "alice" * 4)
    take_what_is_left(tab)
    tab.get_by_label("Buffer, segments").fill("16")
    card = start(tab, "a red ball resting at night")
    advances(card, 2.0)

    card.locator("video").evaluate("(video) => video.pause()")
    lag = card.locator("[data-part=lag]")
    expect(lag).to_have_text("16 of 16")
    tab.wait_for_timeout(1000)
    expect(lag).to_have_text("16 of 16")
    card.locator("video").evaluate("(video) => video.play()")
    advances(card)

    press(card.get_by_role("button", name="Fork"))
    expect(tab.locator("article")).to_have_count(2)
    fork = newest(tab)
    advances(fork)
    assert time_s(fork) > 2, "it begins where the other one was, not at 0"
    press(fork.get_by_role("button", name="End", exact=True))
    advances(card)

    card.locator("video").evaluate(FULL)
    advances(card, 60.0)
    pieces, kept_s, from_s = card.locator("video").evaluate(KEPT)
    assert pieces == 1 and kept_s < 30 and from_s > 30

    observer = tab.context.new_page()
    observer.goto(quick.url)
    sign_in(observer, "alice" * 4)
    press(observer.get_by_role("button", name="Watch a red ball"))
    watched = observer.locator("article")
    advances(watched)
    press(watched.get_by_role("button", name="Pause"))
    missed_s = time_s(watched) + 10
    advances(card, missed_s - time_s(card) + 10)
    watched.locator("video").evaluate("(video) => { video.onseeking = () => { window.jumped = true; }; }")
    press(watched.get_by_role("button", name="Play"))
    advances(watched, missed_s - time_s(watched))
    assert observer.evaluate("window.jumped"), "an observer who has paused goes on with what is newest"
    tab.context.close()


def test_when_the_server_goes_the_page_says_so(browser: Browser, tmp_path: Path) -> None:
    server = Server(tmp_path, QUICK)
    try:
        tab = open_tab(browser, server.url)
        card = start(tab, "a blue ring bobbing in the fog")
        advances(card)
    finally:
        server.end()
    expect(card.locator("[data-part=notice]")).to_contain_text("The server is shutting down")
    expect(tab.locator("#problem")).to_have_text("The server does not answer. Trying again.")
    expect(tab.locator("#server")).to_have_text("no connection")
    tab.context.close()


def test_on_a_phone_everything_fits(browser: Browser, server: Server) -> None:
    phone = open_tab(browser, server.url, phone=True)
    take_what_is_left(phone)
    card = start(phone, "a magenta ball circling in the snow")
    advances(card, 1.0)
    assert phone.evaluate("document.documentElement.scrollWidth") <= 390
    phone.evaluate("scrollTo(0, 0)")
    keep(phone, "phone")
    end(card)
    phone.context.close()
