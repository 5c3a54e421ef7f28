"""What the page does for who uses it: focus, keys, streams that wait for room or have ended."""

from __future__ import annotations

import json
import re

from PIL import Image
from playwright.sync_api import Browser, Dialog, Page, WebSocketRoute, expect

from tests.cluster.http.page.chromium import (
    NO_ROOM,
    PROMPT,
    WITHOUT,
    Server,
    advances,
    begin,
    end,
    keep,
    newest,
    newest_when_there,
    open_tab,
    press,
    refuse_for_room,
    session_of,
    stands_still,
    start,
    take_what_is_left,
    video_of,
)

pytestmark = WITHOUT

FIELD = "Cue: what to show next"


# --- typing and keys --------------------------------------------------------------------------------------------------


def test_whoever_opens_the_page_types_and_then_steers_without_leaving_the_keyboard(page: Page) -> None:
    expect(page.get_by_label("Prompt")).to_be_focused()
    page.keyboard.type(PROMPT)
    page.keyboard.press("Enter")
    card = newest(page)
    expect(card.get_by_label(FIELD)).to_be_focused()
    page.keyboard.press("Enter")
    expect(card.locator("[data-part=cueProblem]")).to_have_text("Say what to show: here is no text yet.")
    expect(page.locator("article")).to_have_count(1)
    page.keyboard.type("a blue box in the snow f ?")
    expect(card.locator("[data-part=cueProblem]")).to_be_hidden()
    page.keyboard.press("Enter")
    expect(card.get_by_label(FIELD)).to_be_focused()
    expect(card.get_by_role("listitem")).to_contain_text("shown since")
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
    # What had the focus is hidden, and has it until that is drawn.
    page.wait_for_function("() => document.activeElement === document.body")
    page.keyboard.press("/")
    assert page.evaluate("document.activeElement === document.body")
    end(card)


def test_words_change_what_is_shown_one_at_a_time_and_a_surprise_is_a_prompt(page: Page) -> None:
    card = begin(page)
    field = card.get_by_label(FIELD)
    press(card.get_by_role("group", name="colour").get_by_role("button", name="blue"))
    expect(field).to_have_value("a blue ball swaying at night")
    press(card.get_by_role("group", name="background").get_by_role("button", name="fog"))
    expect(field).to_have_value("a blue ball swaying in the fog")
    expect(card.get_by_role("button", name="fog")).to_have_attribute("aria-pressed", "true")
    press(card.get_by_role("button", name="Send"))
    expect(card.get_by_role("listitem")).to_contain_text("shown since")
    press(card.get_by_role("button", name="box"))
    expect(field).to_have_value("a blue box swaying in the fog")
    press(page.get_by_role("button", name="Surprise me"))
    expect(page.locator("article")).to_have_count(2)
    other = newest(page)
    expect(other.locator("[data-part=reading]")).to_have_text(
        re.compile(r"^understood: colour \w+, shape \w+, motion \w+, background \w+$")
    )
    end(other)
    end(card)


def test_a_cue_that_is_sent_before_the_stream_begins_is_not_lost(page: Page) -> None:
    take_what_is_left(page)
    expect(page.get_by_role("button", name="Start", exact=True)).to_be_enabled()
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
    expect(card.get_by_role("listitem")).to_contain_text("shown since")
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


def test_a_stream_that_waiting_does_not_help_is_not_tried_again_by_itself(tab: Page, server: Server) -> None:
    opened = refuse_for_room(tab, after_s=None, fast=True)
    tab.goto(server.url)
    start(tab, PROMPT)
    refused = newest(tab)
    expect(refused.get_by_role("button", name="Start as fast")).to_be_focused()
    expect(refused.get_by_text("Trying again")).to_be_hidden()
    tab.wait_for_timeout(1000)
    assert len(opened) == 1
    press(refused.get_by_role("button", name="Give up"))


def test_a_stream_without_room_counts_down_and_begins_by_itself(tab: Page, server: Server) -> None:
    opened = refuse_for_room(tab, after_s=3, fast=False)
    tab.goto(server.url)
    start(tab, PROMPT)
    refused = newest(tab)
    expect(refused.get_by_text(re.compile(r"Trying again in \d s"))).to_be_visible()
    expect(refused.get_by_role("alert").first).to_have_text(NO_ROOM)
    expect(refused.get_by_role("button", name="Start as fast")).to_be_hidden()
    expect(refused.get_by_role("button", name="Try now")).to_be_focused()
    expect(refused).to_have_count(0)
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
    expect(newest(tab).get_by_text("Trying again in 28 s")).to_be_visible()
    keep(tab, "no-room")
    press(newest(tab).get_by_role("button", name="Give up"))
    expect(tab.locator("article")).to_have_count(0)
    start(tab, PROMPT)
    press(newest(tab).get_by_role("button", name="Start as fast"))
    tab.wait_for_function("() => document.querySelector('video')?.currentTime > 0.3")
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
    expect(lines).to_have_count(1)
    expect(lines).to_contain_text(re.compile(rf"{PROMPT}\s+\d+\.\d s · The stream has ended\."))
    expect(first).to_have_count(0)
    with page.expect_download() as video:
        press(lines.get_by_role("button", name="Save"))
    assert video_of(video.value.path())[1] > 0
    end(second)
    press(lines.get_by_role("button", name="Start again"))
    third = newest(page)
    expect(third.locator("[data-part=about]")).to_contain_text("seed")
    again = third.locator("[data-part=about]").inner_text()
    assert seed.findall(again) == seed.findall(about) and session_of(third) not in about
    expect(lines).to_have_count(1)
    expect(lines).to_contain_text("a blue box in the snow")
    press(page.get_by_role("button", name="Clear all"))
    expect(page.locator("#ended")).to_be_hidden()
    expect(page.get_by_label("Prompt")).to_be_focused()
    end(third)
    press(third.get_by_role("button", name="Remove"))
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
    why = "The stream has ended: the token that began it, or yours, has expired or was taken back."
    sockets[0].send(json.dumps({"type": "closed", "ending": "access", "reason": "", "sentence": why, "segments": 3}))
    expect(watched.locator("[data-part=notice]")).to_have_text(why)
    press(watched.get_by_role("button", name="Watch again"))
    expect(watched).to_have_count(0)
    again = newest(tab)
    advances(again)
    assert session_of(again) == session and len(sockets) == 2
    end(card)
    expect(again.locator("[data-part=notice]")).to_contain_text("whoever began it")
    press(again.get_by_role("button", name="Watch again"))
    gone = "There is no such stream: it has ended, or its link is wrong."
    expect(newest(tab).locator("[data-part=problem]")).to_have_text(gone)
    press(newest(tab).get_by_role("button", name="Remove"))
    assert tab.evaluate("location.hash") == ""
    owner.context.close()
