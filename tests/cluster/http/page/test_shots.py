"""A cue of the page may begin a new shot, where the stream's recipe lets it."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, expect

from tests.cluster.http.page.chromium import (
    PROMPT,
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

pytestmark = WITHOUT


@pytest.fixture(scope="module")
def several(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server of two recipes, one of which can cut."""
    running = Server(tmp_path_factory.mktemp("several"), QUICK + 'recipes = ["longlive-2"]\n')
    try:
        yield running
    finally:
        running.end()


def test_a_cue_may_begin_a_new_shot_where_the_recipe_lets_it(browser: Browser, several: Server) -> None:
    tab = open_tab(browser, several.url)
    card = begin(tab)
    expect(card.get_by_label("As a new shot")).to_be_hidden()
    end(card)
    tab.get_by_label("Recipe").select_option("longlive-2")
    card = begin(tab)
    tab.evaluate(
        "window.sent = []; const send = WebSocket.prototype.send;"
        "WebSocket.prototype.send = function (data) { window.sent.push(data); return send.call(this, data); }; 0"
    )
    card.get_by_label("As a new shot").check()
    card.get_by_label("Cue: what to show next").fill("a blue box swaying at night")
    press(card.get_by_role("button", name="Send"))
    expect(card.get_by_role("listitem")).to_contain_text("shown since")
    expect(card.get_by_label("As a new shot")).not_to_be_checked()
    sent = tab.evaluate("window.sent.filter((frame) => frame.includes('cue'))")
    assert len(sent) == 1 and '"cut":true' in sent[0]
    end(card)
    assert tab.evaluate("window.complaints") == []
    tab.context.close()


def test_a_cue_may_go_back_to_an_earlier_shot(browser: Browser, several: Server) -> None:
    tab = open_tab(browser, several.url)
    take_what_is_left(tab)
    tab.get_by_label("Recipe").select_option("longlive-2")
    card = begin(tab)
    expect(card.get_by_label("Back to")).to_be_hidden()
    card.get_by_label("As a new shot").check()
    card.get_by_label("Cue: what to show next").fill("a blue box swaying at night")
    press(card.get_by_role("button", name="Send"))
    back = card.get_by_label("Back to")
    expect(back).to_be_visible()
    expect(back.get_by_role("option")).to_have_text(["no earlier shot", f"shot 0: {PROMPT}"])
    tab.evaluate(
        "window.sent = []; const send = WebSocket.prototype.send;"
        "WebSocket.prototype.send = function (data) { window.sent.push(data); return send.call(this, data); }; 0"
    )
    back.select_option("0")
    expect(card.get_by_label("Cue: what to show next")).to_have_value(PROMPT)
    expect(card.get_by_label("As a new shot")).to_be_checked()
    press(card.get_by_role("button", name="Send"))
    expect(card.get_by_role("listitem").first).to_contain_text("shown since")
    expect(back.get_by_role("option")).to_have_text(
        ["no earlier shot", "shot 1: a blue box swaying at night", f"shot 0: {PROMPT}"]
    )
    sent = [json.loads(text) for text in tab.evaluate("window.sent")]
    (cue,) = [frame for frame in sent if frame["type"] == "cue"]
    assert (cue["cut"], cue["back_to_shot"], cue["prompt"]) == (True, 0, PROMPT)
    expect(back).to_have_value("")
    expect(card.get_by_label("As a new shot")).to_be_enabled()
    keep(tab, "shots")
    assert not tab.evaluate("complaints")
    end(card)
