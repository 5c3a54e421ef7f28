"""The page goes on with its streams: after a reload, a cut connection, and a server that was killed."""

from __future__ import annotations

import json
import re
import signal
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Locator, Page, WebSocketRoute, expect

from tests.cluster.http.page.chromium import (
    QUICK,
    WITHOUT,
    Server,
    advances,
    end,
    open_tab,
    press,
    stands_still,
    start,
    take_what_is_left,
    time_s,
)
from tests.cluster.http.page.way import way_to

pytestmark = [WITHOUT, pytest.mark.slow]

PROMPT, OTHER = "a red ball swaying at night", "a blue box resting in the snow"
BUFFER_S = 8 * 0.75
"""What a window of 8 segments holds."""
EXACT = "The stream goes on, exact: nothing is missing."

NOTE_WHAT_IS_APPENDED = """
() => {
  window.appended = [];
  const append = SourceBuffer.prototype.appendBuffer;
  SourceBuffer.prototype.appendBuffer = function (bytes) {
    window.appended.push(new Uint8Array(bytes).join());
    append.call(this, bytes);
  };
}
"""
"""Segments differ at least in their times."""


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    running = Server(tmp_path, QUICK)
    try:
        yield running
    finally:
        running.end()


def sessions(server: Server) -> list[dict[str, object]]:
    with urllib.request.urlopen(f"{server.url}api/sessions") as answer:  # its own address
        found: list[dict[str, object]] = json.load(answer)["sessions"]
        return found


def session_of(card: Locator) -> str:
    """The session's name, as the card shows it."""
    expect(card.locator("[data-part=about]")).to_have_text(re.compile(r"[0-9a-f]{24}"))
    text = card.locator("[data-part=about]").text_content()
    assert text is not None
    return text.rsplit(" ", 1)[-1]


def begin(tab: Page, prompt: str = PROMPT) -> Locator:
    take_what_is_left(tab)
    tab.get_by_label("Buffer, segments").fill("8")
    card = start(tab, prompt)
    advances(card, 1.0)
    return card


def begins_at_s(card: Locator) -> float:
    """Where the video of a page that was loaded again begins."""
    begun = "(video) => video.currentTime > 0 && video.currentTime"
    handle = card.page.wait_for_function(begun, arg=card.locator("video").element_handle())
    found: float = handle.json_value()
    return found


def plays_upto(card: Locator, until_s: float) -> None:
    """Wait until the video is there."""
    advances(card, until_s - time_s(card))


def send_cue(card: Locator, prompt: str) -> None:
    card.get_by_label("Cue: what to show next").fill(prompt)
    card.get_by_label("Cue: what to show next").press("Enter")


def notice(card: Locator) -> Locator:
    return card.locator("[data-part=notice]")


def kept(tab: Page) -> int:
    """How many streams the tab could go on with."""
    found: int = tab.evaluate("Object.keys(sessionStorage).filter((key) => key.startsWith('longtake.stream.')).length")
    return found


def close(tab: Page) -> None:
    assert tab.evaluate("window.complaints ?? []") == []
    tab.context.close()


def test_after_a_reload_the_stream_goes_on_where_it_was_with_all_that_was_known_of_it(
    browser: Browser, server: Server
) -> None:
    tab = open_tab(browser, server.url)
    card = begin(tab)
    session = session_of(card)
    send_cue(card, OTHER)
    expect(card.get_by_role("listitem")).to_contain_text("shown since")
    token = tab.evaluate("Object.entries(sessionStorage).find(([key]) => key.startsWith('longtake.stream.'))[1]")
    before_s = time_s(card)
    tab.reload()
    card = tab.locator("article")
    expect(notice(card)).to_have_text(EXACT)
    assert session_of(card) == session
    assert before_s - 1.5 < begins_at_s(card) < before_s + BUFFER_S, "from the segment that was being shown"
    advances(card, 2.0)
    assert [one["session_id"] for one in sessions(server)] == [session], "no new one was opened"
    expect(card.get_by_role("heading")).to_have_text(OTHER)
    expect(card.get_by_role("listitem")).to_contain_text("shown since")
    assert tab.evaluate("location.href") == server.url and json.loads(token)["token"] not in tab.content()

    press(card.get_by_role("button", name="Pause"))
    expect(card.locator("[data-part=state]")).to_have_text("paused")
    tab.reload()
    expect(notice(card)).to_have_text(EXACT)
    expect(card.locator("[data-part=state]")).to_have_text("paused")
    stands_still(card)
    press(card.get_by_role("button", name="Play"))
    advances(card, BUFFER_S + 1)

    end(card)
    assert kept(tab) == 0
    tab.reload()
    expect(tab.locator("#none")).to_be_visible()
    expect(tab.locator("article")).to_have_count(0)
    close(tab)


def test_another_tab_with_a_copy_of_the_storage_takes_no_stream_and_a_new_one_after_the_first_does(
    browser: Browser, server: Server
) -> None:
    tab = open_tab(browser, server.url)
    card = begin(tab)
    session = session_of(card)
    with tab.expect_popup() as popup:
        tab.evaluate("window.open(location.href)")  # has the storage of its opener
    copy = popup.value
    expect(copy.locator("#server")).to_have_text("1 stream")
    copy.wait_for_timeout(1000)
    assert copy.locator("article").count() == 0 and kept(copy) == 0
    advances(card, BUFFER_S)
    assert kept(tab) == 1

    known = tab.evaluate("Object.entries(sessionStorage)")
    tab.close()
    restored = copy.context.new_page()  # as a browser does it that has crashed
    restored.add_init_script(f"for (const [key, value] of {json.dumps(known)}) sessionStorage.setItem(key, value);")
    restored.goto(server.url)
    expect(restored.locator("article")).to_have_count(1)
    assert session_of(restored.locator("article")) == session
    end(restored.locator("article"))
    close(copy)


def test_a_browser_that_has_kept_an_older_moment_goes_on_after_what_was_shown(browser: Browser, server: Server) -> None:
    tab = open_tab(browser, server.url)
    card = begin(tab)
    session = session_of(card)
    advances(card, 2 * BUFFER_S)
    tab.evaluate("""() => {
      const [key, known] = Object.entries(sessionStorage).find(([key]) => key.startsWith("longtake.stream."));
      addEventListener("pagehide", () => {
        sessionStorage.setItem(key, JSON.stringify({ ...JSON.parse(known), cursor: null }));
      });
    }""")
    tab.reload()
    card = tab.locator("article")
    assert session_of(card) == session
    advances(card)
    expect(card.locator("[data-part=problem]")).to_be_hidden()
    end(card)
    close(tab)


def test_what_cannot_be_gone_on_with_is_said_in_a_line_and_forgotten(browser: Browser, server: Server) -> None:
    tab = open_tab(browser, server.url)
    begin(tab)
    tab.evaluate("""() => {
      const [key, known] = Object.entries(sessionStorage).find(([key]) => key.startsWith("longtake.stream."));
      addEventListener("pagehide", () => {
        sessionStorage.setItem(key, JSON.stringify({ ...JSON.parse(known), token: "00".repeat(32) }));
      });
    }""")
    tab.reload()
    card = tab.locator("article")
    sentence = "The stream cannot be gone on with: it has ended, or another connection has it."
    expect(card.locator("[data-part=problem]")).to_have_text(sentence)
    assert kept(tab) == 0
    press(card.get_by_role("button", name="Remove"))
    press(tab.get_by_role("button", name="Watch a red ball"))
    advances(card, 0.0)
    press(card.get_by_role("button", name="Pause"))
    close(tab)


def test_what_is_told_of_losses_is_shown_in_a_line_and_stays_for_a_while(browser: Browser, server: Server) -> None:
    tab = open_tab(browser, "about:blank")
    sockets: list[WebSocketRoute] = []

    def pass_on(socket: WebSocketRoute) -> None:
        """Everything as it is, but the second is told to try again, and the pictures are said to be other ones."""
        sockets.append(socket)
        if len(sockets) == 2:
            refusal = {"type": "error", "code": "UNAVAILABLE", "sentence": "not yet"}
            socket.on_message(lambda first: socket.send(json.dumps(refusal)))
            return
        behind = socket.connect_to_server()
        behind.on_message(
            lambda told: socket.send(told.replace('"exact"', '"restarted"') if isinstance(told, str) else told)
        )

    tab.route_web_socket("**/api/stream", pass_on)
    tab.goto(server.url)
    card = begin(tab)
    lost = "a worker was lost: the stream went on after 0.4 s (exact)"
    sockets[0].send(json.dumps({"type": "recovered", "text": lost}))
    expect(notice(card)).to_have_text(lost)
    advances(card, 3.0)  # segments have come since
    expect(notice(card)).to_have_text(lost)
    expect(notice(card)).to_be_hidden()
    tab.reload()
    anew = re.compile(r"The stream goes on, and begins anew from segment \d+ on\.")
    expect(notice(card)).to_have_text(anew)
    advances(card)
    assert len(sockets) == 3
    token, goes_on = "ab" * 32, "the stream goes on after segment 7 (exact)"
    sockets[2].send(json.dumps({"type": "resumed", "text": goes_on, "resume_token": token}))
    expect(notice(card)).to_have_text(goes_on)
    assert token in tab.evaluate("Object.values(sessionStorage).join()")
    end(card)
    close(tab)


def test_a_cut_connection_is_said_played_over_and_mended_for_who_steers_and_who_watches(
    browser: Browser, server: Server
) -> None:
    with way_to(server) as way:
        tab, other = open_tab(browser, way.url), open_tab(browser, way.url)
        tab.evaluate(NOTE_WHAT_IS_APPENDED)
        card = begin(tab)
        session = session_of(card)
        press(other.get_by_role("button", name="Watch a red ball"))
        watched = other.locator("article")
        advances(watched, 1.0)
        for _ in range(5):  # in the middle of whatever is on its way
            way.cut()
            expect(notice(card)).to_have_text(EXACT)
            advances(card, 1.0)

        before_s = time_s(card)
        way.cut(for_good=True)
        for one in (card, watched):
            expect(notice(one)).to_have_text("Connection lost, reconnecting …")
            expect(one.locator("[data-part=state]")).to_have_text("lost")
        assert notice(card).get_attribute("role") == "status"
        plays_upto(card, before_s + 1.0)  # what is here
        send_cue(card, OTHER)
        expect(card.get_by_role("listitem")).to_contain_text("sent")
        tab.wait_for_timeout(1000)
        way.mend(server)
        expect(notice(card)).to_have_text(EXACT)
        expect(notice(watched)).to_have_text("Watching again, from the newest on.")
        expect(card.get_by_role("listitem")).to_contain_text("shown since")
        advances(card, BUFFER_S)
        advances(watched, 2.0)
        assert [one["session_id"] for one in sessions(server)] == [session]
        appended = tab.evaluate("window.appended")
        assert len(appended) == len(set(appended)) > 20
        assert card.locator("video").evaluate("(video) => video.buffered.length") == 1, "no gap"
        assert tab.evaluate("window.complaints") == other.evaluate("window.complaints") == []

        way.cut(for_good=True)
        press(card.get_by_role("button", name="End", exact=True))
        way.mend(server)
        expect(notice(card)).to_have_text("The stream has ended.")
        assert kept(tab) == 0
        tab.context.close()
        other.context.close()


QUICKER = "() => { const wait = window.setTimeout; window.setTimeout = (work, ms) => wait(work, ms / 20); }"
"""What the page waits for takes less."""
LATER = "() => { const now = performance.now.bind(performance); performance.now = () => now() + 120_000; }"


def test_a_silent_connection_is_lost_and_who_is_away_for_too_long_is_told_to_load_the_page_again(
    browser: Browser, server: Server
) -> None:
    with way_to(server) as way:
        tab = open_tab(browser, way.url)
        card = begin(tab)
        session = session_of(card)
        tab.evaluate(QUICKER)
        advances(card, 2.0)
        expect(notice(card)).to_be_hidden()
        server.process.send_signal(signal.SIGSTOP)
        try:
            expect(notice(card)).to_have_text("Connection lost, reconnecting …")
        finally:
            server.process.send_signal(signal.SIGCONT)
        expect(notice(card)).to_have_text(EXACT)
        advances(card, 2.0)

        way.cut(for_good=True)
        expect(notice(card)).to_have_text("Connection lost, reconnecting …")
        tab.evaluate(LATER)
        problem = card.locator("[data-part=problem]")
        expect(problem).to_contain_text("The server keeps the stream for a while: load")
        expect(card.locator("[data-part=state]")).to_have_text("lost")
        assert kept(tab) == 1
        way.mend(server)
        tab.reload()
        expect(notice(card)).to_have_text(EXACT)
        assert session_of(card) == session
        advances(card, 2.0)
        end(card)
        close(tab)


def test_a_killed_server_is_waited_for_and_the_next_one_goes_on_with_the_stream(
    browser: Browser, tmp_path: Path
) -> None:
    further = f'{QUICK}[journal]\npath = "{tmp_path / "journal"}"\n'
    server = Server(tmp_path, further)
    with way_to(server) as way:
        try:
            tab, other = open_tab(browser, way.url), open_tab(browser, way.url)
            tab.evaluate(NOTE_WHAT_IS_APPENDED)
            card = begin(tab)
            session = session_of(card)
            press(other.get_by_role("button", name="Watch a red ball"))
            advances(other.locator("article"))
        finally:
            server.end(signal.SIGKILL)
        expect(notice(card)).to_have_text("Connection lost, reconnecting …")
        server = Server(tmp_path, further)
        try:
            way.mend(server)
            expect(notice(card)).to_have_text(EXACT)
            advances(card, BUFFER_S + 2)
            advances(other.locator("article"), 2.0)
            assert [one["session_id"] for one in sessions(server)] == [session]
            appended = tab.evaluate("window.appended")
            assert len(appended) == len(set(appended))
            assert tab.evaluate("window.complaints") == []
            end(card)
            tab.context.close()
            other.context.close()
        finally:
            server.end()
