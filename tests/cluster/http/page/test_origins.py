"""Under which addresses the page may be used: its own, or those of a proxy before it, also below a path there."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest
import websockets
from playwright.sync_api import Browser as Chromium
from playwright.sync_api import expect

from cluster.config import parse_config
from longtake.core.errors import InvalidField
from longtake.net.origins import WrongOrigin, parse_origin
from tests.cluster.http.page.cell import PROMPT, Browser, PageCell, page_cell
from tests.cluster.http.page.chromium import QUICK, WITHOUT, Server, advances, end, open_tab, start, take_what_is_left
from tests.cluster.http.page.proxy import Proxy, proxy

PUBLIC = "https://video.example.org"


async def status(cell: PageCell, host: str, origin: str) -> tuple[int, str]:
    """How a WebSocket is answered that was called by this name from that page, and what is said."""
    port = httpx.URL(cell.url).port
    address = cell.url.replace("http", "ws", 1) + "/api/stream"
    headers = {"host": host.replace("PORT", str(port))}
    try:
        # websockets sets Host itself, so the handshake is spoken by a request that asks for the same.
        async with httpx.AsyncClient() as http:
            upgrade = {
                "connection": "upgrade",
                "upgrade": "websocket",
                "sec-websocket-version": "13",
                "sec-websocket-key": "MDAwMDAwMDAwMDAwMDAwMA==",
                "origin": origin.replace("PORT", str(port)),
            }
            async with http.stream("GET", address.replace("ws", "http", 1), headers=headers | upgrade) as answer:
                said = "" if answer.status_code == 101 else (await answer.aread()).decode()
                return answer.status_code, said
    except httpx.RemoteProtocolError:
        return 101, ""


OWN = (
    ("127.0.0.1:PORT", "http://127.0.0.1:PORT", 101),
    ("localhost:9999", "http://localhost:9999", 101),
    ("localhost:443", "https://localhost", 101),
    ("localhost", "http://localhost:80", 101),
    ("localhost:PORT", "http://LOCALHOST:PORT", 101),
    ("localhost", PUBLIC, 403),
    ("video.example.org", PUBLIC, 403),
    ("localhost:80", "https://localhost", 403),
)
PROXIED = (
    ("localhost", PUBLIC, 101),
    ("video.example.org", PUBLIC, 101),
    ("127.0.0.1:PORT", PUBLIC + ":443", 101),
    ("localhost", "HTTPS://Video.Example.org", 101),
    ("localhost", "http://video.example.org", 403),
    ("localhost", PUBLIC + ":8443", 403),
    ("localhost", PUBLIC + "/", 403),
    ("localhost", "https://other.example.org", 403),
    ("evil.example.org", PUBLIC, 403),
    ("127.0.0.1:PORT", "http://127.0.0.1:PORT", 403),
)


async def test_without_a_proxy_the_page_is_used_under_the_address_that_it_is_called_by() -> None:
    async with page_cell() as cell:
        for host, origin, expected in OWN:
            assert (await status(cell, host, origin))[0] == expected, (host, origin)
        _, said = await status(cell, "localhost", PUBLIC)
        assert said.startswith(f"origin: '{PUBLIC}' is not allowed; allowed: ") and "http.origins" in said


async def test_behind_a_proxy_the_page_is_used_under_the_public_origins_and_no_other_also_none_of_another_scheme() -> (
    None
):
    http = {"address": "127.0.0.1:0", "origins": [PUBLIC]}
    async with page_cell({"http": http}) as cell:
        for host, origin, expected in PROXIED:
            assert (await status(cell, host, origin))[0] == expected, (host, origin)
        assert (await status(cell, "localhost", "https://other.example.org"))[1].endswith(f"; allowed: {PUBLIC}")
        async with cell.browser(origin=PUBLIC) as socket:
            await Browser(socket).say(type="open", prompt=PROMPT, duration_s=1)
            await Browser(socket).upto("opened")


@pytest.mark.parametrize(
    "text", ["video.example.org", PUBLIC + "/", PUBLIC + "/longtake", "null", "ftp://a", "https://a:99999", "https://*.a",
             "https://", "", "https://u@a", "https://a?x", "https://a, https://b", "https://é.org", "https://a:0", "https://[::"]
)  # fmt: skip
def test_what_is_no_origin_is_refused_at_start_with_what_one_looks_like(text: str) -> None:
    with pytest.raises(WrongOrigin):
        parse_origin(text)
    with pytest.raises(InvalidField, match=r"^http\.origins\.0: .*; allowed: SCHEME://HOST or SCHEME://HOST:PORT"):
        parse_config({"http": {"origins": [text]}})


def test_one_origin_that_is_no_list_is_refused_with_the_list() -> None:
    with pytest.raises(InvalidField, match=r'^http\.origins: .* allowed: a list: \["https://a"\]$'):
        parse_config({"http": {"origins": "https://a"}})
    assert parse_config({"http": {"origins": ["https://A:443", "http://[::1]:8080"]}}).http.origins == (
        "https://a",
        "http://[::1]:8080",
    )


async def test_a_websocket_passes_a_proxy_that_takes_a_path_off() -> None:
    async with (
        proxy(Proxy()) as before,
        page_cell({"http": {"address": "127.0.0.1:0", "origins": [before.origin]}}) as cell,
    ):
        before.target = urlsplit(cell.url).netloc
        address = f"ws://127.0.0.1:{before.port}/longtake/api/stream"
        async with websockets.connect(address, origin=websockets.Origin(before.origin), max_size=None) as socket:
            await Browser(socket).say(type="open", prompt=PROMPT, duration_s=1)
            await Browser(socket).upto("closed")


@contextmanager
def proxy_in_thread(made: Proxy) -> Iterator[Proxy]:
    """A proxy on an event loop of its own."""
    begun, over = threading.Event(), asyncio.Event()
    loops: list[asyncio.AbstractEventLoop] = []

    async def live() -> None:
        loops.append(asyncio.get_running_loop())
        async with proxy(made):
            begun.set()
            await over.wait()

    thread = threading.Thread(target=asyncio.run, args=(live(),))
    thread.start()
    begun.wait(10)
    try:
        yield made
    finally:
        loops[0].call_soon_threadsafe(over.set)
        thread.join()


@WITHOUT
def test_below_a_path_of_a_proxy_everything_of_the_page_loads_and_a_stream_plays(
    browser: Chromium, tmp_path: Path
) -> None:
    with proxy_in_thread(Proxy()) as before:
        server = Server(tmp_path, f'origins = ["{before.origin}"]\n' + QUICK)
        before.target = urlsplit(server.url).netloc
        try:
            tab = open_tab(browser, "about:blank")
            failed: list[str] = []
            tab.on("response", lambda answer: failed.append(answer.url) if answer.status >= 400 else None)
            tab.on("requestfailed", lambda request: failed.append(request.url))
            tab.goto(f"{before.origin}/longtake/")
            expect(tab.locator("#model")).not_to_be_empty()
            take_what_is_left(tab)
            card = start(tab, PROMPT)
            advances(card, 0.5)
            end(card)
            assert failed == [] and tab.evaluate("window.complaints") == []
            tab.context.close()
        finally:
            server.end()
