"""What axe finds in every state of the page, light and dark, on a desk and on a phone: nothing."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
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
    newest,
    open_tab,
    refuse_for_room,
    sign_in,
    start,
    take_what_is_left,
)
from tests.npm import node_modules
from tests.samples import covering

pytestmark = WITHOUT

AXE = {"axe-core": "4.10.3"}
FOUND = "async () => (await axe.run()).violations.map(({ id, nodes }) => `${id}: ${nodes.map(({ html }) => html)}`)"
LEAST_PX = 32
SMALL = f"""
() => Array.from(document.querySelectorAll("button, input, select, textarea, summary"))
  .filter((element) => element.checkVisibility() && element.type !== "checkbox")
  .map((element) => [element.textContent || element.name || element.id, element.getBoundingClientRect()])
  .filter(([, {{ width, height }}]) => height < {LEAST_PX} || width < {LEAST_PX})
  .map(([name, {{ width, height }}]) => `${{name}} ${{width}}x${{height}}`)
"""

Check = Callable[[Page], None]


@pytest.fixture(scope="module")
def axe() -> str:
    folder = node_modules(json.dumps({"private": True, "dependencies": AXE}))
    return (folder / "axe-core" / "axe.min.js").read_text()


def check(tab: Page, axe: str) -> None:
    tab.evaluate(axe)
    assert tab.evaluate(FOUND) == []
    assert tab.evaluate("document.documentElement.scrollWidth <= innerWidth"), "nothing sticks out at the side"
    assert tab.evaluate("window.complaints") == []


@pytest.mark.slow
@pytest.mark.parametrize("width", [1440, 1024, 390])
@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_every_state_is_without_a_violation(browser: Browser, server: Server, axe: str, dark: bool, width: int) -> None:
    def tab_of(address: str) -> Page:
        tab = open_tab(browser, address, dark=dark, phone=width == 390)
        tab.set_viewport_size({"width": width, "height": 844 if width == 390 else 900})
        return tab

    def is_fine(tab: Page, name: str) -> None:
        check(tab, axe)
        if width == 390:
            assert tab.evaluate(SMALL) == [], f"too small for a thumb: {name}"

    tab = tab_of(server.url)
    expect(tab.get_by_role("button", name="Start", exact=True)).to_be_enabled()
    is_fine(tab, "empty")
    tab.get_by_label("Prompt").fill(" ")
    tab.get_by_label("Prompt").press("Enter")
    is_fine(tab, "blank")
    take_what_is_left(tab)
    card = start(tab, "a flying red ball at night")
    advances(card, 1.0)
    cue = card.get_by_label("Cue: what to show next")
    cue.fill("a blue box dancing in the snow")
    cue.press("Enter")
    expect(card.get_by_role("listitem").first).to_contain_text("shown since")
    cue.fill("a green ring")
    card.get_by_label("at, s").fill("500")
    cue.press("Enter")
    expect(card.get_by_role("listitem").first).to_contain_text("block")
    is_fine(tab, "playing")

    watcher = tab_of(f"{server.url}#session={card.locator('[data-part=about]').inner_text().rsplit(' ', 1)[-1]}")
    watched = watcher.locator("article")
    advances(watched)
    is_fine(watcher, "watching")
    end(card)
    expect(watched.get_by_role("button", name="Watch again")).to_be_visible()
    is_fine(watcher, "watched")
    is_fine(tab, "ended")

    another = start(tab, "a green ring bobbing")
    expect(tab.locator("#ended li")).to_have_count(1)
    advances(another)
    is_fine(tab, "rows")
    end(another)
    another.locator("[data-part=again]").press("?")
    expect(tab.get_by_role("dialog")).to_be_visible()
    is_fine(tab, "keys")
    tab.context.close()
    watcher.context.close()

    full = tab_of("about:blank")
    refuse_for_room(full)
    full.goto(server.url)
    start(full, "a green ring in the fog")
    expect(newest(full).get_by_role("button", name="Start as fast")).to_be_visible()
    is_fine(full, "refused")
    full.context.close()


def test_asking_for_a_token_is_without_a_violation(browser: Browser, tmp_path: Path, axe: str) -> None:
    server = Server(tmp_path, QUICK + f'[auth]\ntenants = "{tenants_file(tmp_path)}"\n')
    try:
        tab = open_tab(browser, server.url)
        sign_in(tab, "wrong")
        expect(tab.locator("#problem")).to_contain_text("token")
        check(tab, axe)
        tab.context.close()
    finally:
        server.end()


def test_what_is_wrong_would_be_found(browser: Browser, server: Server, axe: str) -> None:
    tab = open_tab(browser, server.url)
    expect(tab.get_by_role("button", name="Start", exact=True)).to_be_enabled()
    tab.evaluate(
        """() => {
          document.querySelector(".quiet").style.color = "#ccc";
          const button = document.getElementById("show-keys");
          button.ariaLabel = button.textContent = button.title = "";
        }"""
    )
    tab.evaluate(axe)
    found = {one.split(":")[0] for one in tab.evaluate(FOUND)}
    assert {"color-contrast", "button-name"} <= found
    tab.context.close()


@pytest.mark.parametrize(("dark", "width"), covering([False, True], [1280, 390], together=1))
def test_a_menu_of_recipes_is_there_where_there_is_a_choice_and_only_there(
    browser: Browser, server: Server, several: Server, axe: str, dark: bool, width: int
) -> None:
    one = open_tab(browser, server.url, dark=dark, phone=width == 390)
    take_what_is_left(one)
    expect(one.get_by_label("Pace")).to_be_visible()
    expect(one.get_by_label("Recipe")).to_be_hidden()
    one.context.close()
    tab = open_tab(browser, several.url, dark=dark, phone=width == 390)
    take_what_is_left(tab)
    menu = tab.get_by_label("Recipe")
    expect(menu).to_be_visible()
    assert [text.partition(",")[0] for text in menu.locator("option").all_inner_texts()] == [
        "hiar: cost × 1.00", "clean: cost × 0.63", "causal-forcing-pp: cost × 1.13",
    ]  # fmt: skip
    menu.select_option("causal-forcing-pp")
    expect(tab.locator("#recipe-help")).to_contain_text("Nobody has judged its pictures")
    check(tab, axe)
    card = start(tab, "a flying red ball at night")
    advances(card, 1.0)
    expect(card.locator("[data-part=about]")).to_contain_text("yours · causal-forcing-pp · seed")
    expect(card.locator("canvas")).to_have_attribute("aria-label", re.compile("^Ops of the stream by time: 4 steps"))
    check(tab, axe)
    if width == 390:
        assert tab.evaluate(SMALL) == []
    end(card)
    tab.context.close()


@pytest.fixture(scope="module")
def several(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server of several recipes."""
    running = Server(tmp_path_factory.mktemp("several"), QUICK + 'recipes = ["clean", "causal-forcing-pp"]\n')
    try:
        yield running
    finally:
        running.end()
