"""Chromium and a quick server, for the tests of the page that need them."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, Page

from tests.cluster.http.page.chromium import QUICK, Server, launched, open_tab


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with launched() as found:
        yield found


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
