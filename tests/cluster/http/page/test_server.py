"""The page's server: what it answers, whom it refuses, what a connection may cost, and how it begins and ends."""

from __future__ import annotations

import asyncio
import re
import socket
import ssl
import stat
from pathlib import Path

import httpx
import pytest
import trustme
import websockets
from websockets.frames import Frame, Opcode

from cluster.config import parse_config
from cluster.http import connections as bounds
from cluster.http.page import connections
from cluster.http.page.app import STATIC
from cluster.http.page.server import page_for
from cluster.net.addresses import address_in
from longtake.core.errors import InvalidField
from longtake.net.addresses import Address
from tests.cluster.http.page.cell import PROMPT, Browser, page_cell

SECURE = {
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "no-referrer",
    "cross-origin-resource-policy": "same-origin",
}


async def test_every_file_is_served_with_headers_that_forbid_what_the_page_does_not_need() -> None:
    async with page_cell() as cell, httpx.AsyncClient(base_url=cell.url) as http:
        paths = ["/", *(f"/static/{path.name}" for path in STATIC.iterdir()), "/nothing", "/api/model", "/api/sessions"]
        for path in paths:
            answer = await http.get(path)
            assert answer.status_code == (404 if path == "/nothing" else 200), path
            assert SECURE.items() <= answer.headers.items(), path
            policy = answer.headers["content-security-policy"]
            assert "default-src 'none'" in policy and "frame-ancestors 'none'" in policy and "unsafe" not in policy
        assert (await http.get("/static/../app.py")).status_code == 404
        assert (await http.post("/api/sessions")).status_code == 405
        model = (await http.get("/api/model")).json()
    assert (model["width"], model["fps"], len(model["steps"])) == (64, 16.0, 4)
    assert {group["name"] for group in model["vocabulary"]} == {"colour", "shape", "motion", "background"}


def test_the_page_has_nothing_inline_nothing_of_others_and_refers_to_files_that_exist() -> None:
    html = (STATIC / "index.html").read_text()
    assert not re.search(r"<script(?![^>]*\bsrc=)|<style|\sstyle=|\son\w+=", html)
    used = set(re.findall(r'(?:href|src)="static/([^"]+)"', html))
    assert not re.search(r'(?:href|src)="/', html), "the page may lie below a path"
    for path in STATIC.glob("*.js"):
        text = path.read_text()
        assert not re.search(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|eval\(", text), path
        used |= set(re.findall(r'from "\./([^"]+)"', text))
    harmless = re.compile(r"//(?= )|http://www.w3.org/\S+")  # comments, a name space
    for path in STATIC.iterdir():
        assert "//" not in harmless.sub("", path.read_text()), path
    assert used == {path.name for path in STATIC.iterdir()} - {"index.html"}


async def test_other_origins_and_foreign_names_are_refused() -> None:
    async with page_cell() as cell, httpx.AsyncClient(base_url=cell.url) as http:
        for origin in ("http://evil.example", "null", cell.url + "0", "http://[", "file://"):
            with pytest.raises(websockets.InvalidStatus) as refused:
                async with cell.browser(origin=origin):
                    pass
            assert refused.value.response.status_code == 403
            assert (await http.get("/api/sessions", headers={"origin": origin})).status_code == 403
        with pytest.raises(websockets.InvalidStatus):
            async with websockets.connect(cell.url.replace("http", "ws", 1) + "/api/stream"):
                pass
        port = httpx.URL(cell.url).port
        for host, status in (("evil.example", 403), ("localhost", 200), ("[::1]", 200), ("[", 403), ("", 403)):
            answer = await http.get("/api/sessions", headers={"host": f"{host}:{port}" if host else ""})
            assert answer.status_code == status, host


async def test_a_connection_without_a_whole_request_is_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bounds, "REQUEST_TIMEOUT_S", 0.3)
    async with page_cell() as cell:
        port = httpx.URL(cell.url).port
        whole = f"GET /api/model HTTP/1.1\r\nhost: 127.0.0.1:{port}\r\n\r\n".encode()
        for before in (b"", whole):  # a slow first request, and a slow one after a good one
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(before + b"GET / HTTP/1.1\r\nhost: 127.0.0.1\r\n")
            with pytest.raises((ConnectionResetError, BrokenPipeError, asyncio.IncompleteReadError)):
                for _ in range(10_000):
                    writer.write(b"x")
                    await writer.drain()
                    if before:
                        await reader.readuntil(b"}")
                        before = b""
                    await asyncio.sleep(0.02)
                    if reader.at_eof():
                        raise ConnectionResetError
            writer.close()


async def test_there_are_no_more_connections_than_allowed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bounds.BoundedHttp, "most", staticmethod(lambda: 2))
    async with page_cell() as cell:
        async with cell.browser(), cell.browser():
            with pytest.raises((OSError, EOFError, websockets.InvalidMessage)):
                async with cell.browser():
                    pass
        async with httpx.AsyncClient(base_url=cell.url) as http:
            for attempt in range(100):  # until the server has noticed that the others are gone
                try:
                    assert (await http.get("/api/model")).status_code == 200
                    return
                except httpx.TransportError:
                    await asyncio.sleep(0.05 * (attempt > 0))
        raise AssertionError("no connection became free")


async def test_a_message_of_endless_parts_costs_its_socket_and_nobody_elses() -> None:
    async with page_cell() as cell, cell.browser() as good:
        async with cell.browser() as bad:
            parts = [Frame(Opcode.TEXT, b"", fin=False)]
            parts += [Frame(Opcode.CONT, b"", fin=False)] * (connections.MAX_FRAGMENTS + 1)
            bad.transport.write(b"".join(part.serialize(mask=True) for part in parts))
            with pytest.raises(websockets.ConnectionClosedError):
                await bad.recv()
        await Browser(good).say(type="open", prompt=PROMPT)
        await Browser(good).upto("opened")


async def test_a_flood_of_pings_from_a_peer_that_does_not_read_does_not_pile_up(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    peers: list[connections.BoundedWebSocket] = []
    pings = 0

    class Watched(connections.BoundedWebSocket):
        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            super().connection_made(transport)
            peers.append(self)
            # Little of what is written disappears in the kernel.
            transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)

        def handle_ping(self) -> None:
            nonlocal pings
            pings += 1
            super().handle_ping()

    monkeypatch.setattr("cluster.http.page.server.BoundedWebSocket", Watched)
    count = 15_000
    flood = Frame(Opcode.PING, bytes(125)).serialize(mask=True) * (count // 100)
    async with page_cell() as cell, cell.browser() as browser:
        browser.transport.pause_reading()
        browser.transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        for _ in range(100):
            browser.transport.write(flood)
        while pings < count:
            assert peers[0].transport.get_write_buffer_size() < 512 * 1024, "high water, and the answers to one read"
            await asyncio.sleep(0.01)
        assert not peers[0].writable.is_set(), "it was more than anybody's buffers hold"
        browser.transport.resume_reading()


def issue(folder: Path, authority: trustme.CA) -> tuple[Path, Path]:
    """Certificate and key of this machine, always in the same files."""
    certificate = authority.issue_cert("127.0.0.1")
    pem, key = folder / "server.pem", folder / "server.key"
    pem.write_bytes(b"".join(part.bytes() for part in certificate.cert_chain_pems))
    key.write_bytes(certificate.private_key_pem.bytes())
    return pem, key


def trusting(authority: trustme.CA) -> ssl.SSLContext:
    context = ssl.create_default_context()
    authority.configure_trust(context)
    return context


async def test_over_tls_the_page_serves_the_same_and_takes_a_new_certificate_without_a_restart(tmp_path: Path) -> None:
    old, new = trustme.CA(), trustme.CA()
    pem, key = issue(tmp_path, old)
    config = parse_config({"http": {"address": "127.0.0.1:0"}, "tls": {"certificate": str(pem), "key": str(key)}})
    async with page_for(config) as page:
        assert page is not None and page.url.startswith("https://127.0.0.1:")
        page.begin()
        async with httpx.AsyncClient(verify=trusting(old)) as http:
            assert "<title>Longtake</title>" in (await http.get(page.url)).text
        issue(tmp_path, new)
        async with httpx.AsyncClient(verify=trusting(new)) as http:
            assert (await http.get(page.url)).status_code == 200
        pem.write_text("no certificate")
        async with httpx.AsyncClient(verify=trusting(new)) as http:
            assert (await http.get(page.url)).status_code == 200, "the last that was right stays"
    with pytest.raises(InvalidField, match=r"^tls\.(certificate|key): .*server"):
        async with page_for(config):
            pass


async def test_with_a_client_ca_browsers_need_a_certificate(tmp_path: Path) -> None:
    authority = trustme.CA()
    pem, key = issue(tmp_path, authority)
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    tls = {"certificate": str(pem), "key": str(key), "client_ca": str(tmp_path / "ca.pem")}
    async with page_for(parse_config({"http": {"address": "127.0.0.1:0"}, "tls": tls})) as page:
        assert page is not None
        page.begin()
        with pytest.raises(httpx.TransportError):
            async with httpx.AsyncClient(verify=trusting(authority)) as http:
                await http.get(page.url)
        context = trusting(authority)
        authority.issue_cert("reader@example.org").configure_cert(context)
        async with httpx.AsyncClient(verify=context) as http:
            assert (await http.get(page.url)).status_code == 200


async def test_the_way_to_the_service_is_a_socket_in_a_folder_of_the_owner_that_is_gone_afterwards() -> None:
    async with page_for(parse_config({"http": {"address": ":0"}})) as page:
        assert page is not None
        folder = Path(page.target.removeprefix("unix:")).parent
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700
        assert page.url.startswith("http://127.0.0.1:"), "the host of listen"
    assert not folder.exists()
    async with page_for(parse_config({})) as none:
        assert none is None


async def test_a_port_in_use_is_named() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        with pytest.raises(InvalidField, match=rf"^http\.address: '{address}' is not allowed; allowed: an address of"):
            async with page_cell(address=address):
                pass


@pytest.mark.parametrize(
    ("text", "address"),
    [
        (":8080", Address(host="10.0.0.1", port=8080)),
        ("localhost:0", Address(host="localhost", port=0)),
        ("[::1]:80", Address(host="::1", port=80)),
    ],
)
def test_an_address_is_a_host_and_a_port(text: str, address: Address) -> None:
    assert address_in(text, field="http.address", host="10.0.0.1") == address
    assert address_in(str(address), field="http.address", host="other") == address


@pytest.mark.parametrize(
    "text", ["", "8080", "localhost", "localhost:", ":65536", "::1:80", "a:-1", "a:٣", "a\n:1", ":8 0"]
)
def test_what_is_no_address_is_refused_by_name(text: str) -> None:
    with pytest.raises(InvalidField, match=r"^http\.address: "):
        address_in(text, field="http.address", host="127.0.0.1")
