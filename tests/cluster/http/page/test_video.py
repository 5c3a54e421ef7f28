"""Video at an address: the same bytes as everywhere, credit by what was read, and who may ask for what."""

from __future__ import annotations

import asyncio
import io
import socket
import sys
import threading
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from fractions import Fraction
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import urlencode, urlsplit

import av
import httpx
import pytest
from playwright.sync_api import Browser as Chromium
from starlette.types import Message

from cluster.config import ServerConfig
from cluster.http.page.server import settings
from cluster.http.page.video import PIECE_BYTES, Sending
from cluster.net.listener import HttpListener
from longtake.client import Client, StreamOptions
from longtake.client.events import OpenedEvent, SegmentEvent, StreamEvent
from longtake.net.addresses import Address
from longtake.v1 import longtake_pb2 as pb
from tests.cluster.frontend.toy import HEADER, ToyCell, segment, toy_cell
from tests.cluster.http.page.cell import PROMPT, page_cell, tenants_file, until
from tests.cluster.http.page.chromium import QUICK, WITHOUT, Server, open_tab

LARGE_BYTES = 200_000
CUE = "a blue box resting in the fog"


def path(**parameters: object) -> str:
    return "/stream.mp4?" + urlencode({"prompt": PROMPT} | parameters)


@asynccontextmanager
async def toy_page() -> AsyncIterator[tuple[ToyCell, str]]:
    """A cell with large segments, and the address of a page before it."""
    async with toy_cell(segment_bytes=LARGE_BYTES, delay_s=0.002) as cell:
        listening = socket.create_server(("127.0.0.1", 0))
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 65536)  # little disappears in the kernel
        address = Address(host="127.0.0.1", port=listening.getsockname()[1])
        listener = HttpListener(settings(cell.target, address, ServerConfig()), listening)
        listener.begin()
        try:
            yield cell, f"http://{address}"
        finally:
            await listener.end()


async def test_an_address_gives_the_bytes_that_the_command_line_writes(tmp_path: Path) -> None:
    file = tmp_path / "same.mp4"
    async with page_cell() as cell, httpx.AsyncClient(base_url=cell.url) as http:
        asked = ("--seed", "7", "--duration", "5s", "--cue", f"2s={CUE}", "--quality", "30", "--server", cell.target)
        command = [sys.executable, "-m", "longtake", "stream", PROMPT, *asked, "-o", str(file)]
        written = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.DEVNULL)
        assert await written.wait() == 0
        answer = await http.get(path(seed=7, duration=5, quality=30, cue=f"2s={CUE}"))
        other = await http.get(path(seed=8, duration="5s", quality=30, pace="realtime"))
        async with Client(cell.target) as client:
            assert await client.list_sessions() == ()
    assert answer.status_code == 200 and answer.content == file.read_bytes() and other.content != answer.content
    assert answer.headers["content-type"].startswith("video/mp4; codecs=") and "transfer-encoding" in answer.headers
    assert (answer.headers["accept-ranges"], answer.headers["cache-control"]) == ("none", "no-store")
    assert answer.headers["longtake-seed"] == "7" and answer.headers["longtake-session"] in str(answer.headers)
    assert answer.headers["x-content-type-options"] == "nosniff"
    with av.open(io.BytesIO(answer.content), "r") as video:
        assert len(list(video.decode(video=0))) == 80


async def test_without_a_length_it_goes_on_until_the_connection_breaks_and_that_ends_the_stream() -> None:
    async with page_cell() as cell, Client(cell.target) as client, httpx.AsyncClient(base_url=cell.url) as http:

        async def nobody() -> bool:
            return await client.list_sessions() == ()

        async with http.stream("GET", path()) as answer:
            pieces, received = answer.aiter_bytes(), 0
            while received < 50_000:
                received += len(await anext(pieces))
            assert len(await client.list_sessions()) == 1
        await asyncio.wait_for(until(nobody), 10)


async def test_a_player_that_does_not_read_stops_its_stream_and_goes_on_where_it_was() -> None:
    async with toy_page() as (cell, url):
        place = urlsplit(url)
        narrow = socket.create_connection((place.hostname, place.port))
        narrow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
        reader, writer = await asyncio.open_connection(sock=narrow, limit=4096)
        writer.write(f"GET {path(seed=3)} HTTP/1.0\r\nhost: {place.netloc}\r\n\r\n".encode())
        begun = -1
        for _ in range(20):  # until what lies between is full
            await asyncio.sleep(0.3)
            before, begun = begun, max(cell.blocks_begun().values(), default=-1)
            if begun == before and begun > 0:
                break
        assert 0 < begun < 20, "a window, and what the buffers on the way hold"
        (view,) = cell.engine.scheduler.sessions()
        assert view.segments_sent - view.segments_acknowledged <= view.window
        await reader.readuntil(b"\r\n\r\n")
        assert await reader.readexactly(len(HEADER)) == HEADER
        for block in range(begun + 10):
            assert await reader.readexactly(LARGE_BYTES) == segment(block, 3, PROMPT, LARGE_BYTES)
        writer.transport.abort()
        await asyncio.wait_for(cell.settled(), 10)


async def test_what_comes_next_is_asked_for_when_the_connection_has_taken_what_came_before() -> None:
    waiting, drained, asked = 0, asyncio.Event(), list[int]()

    async def send(message: Message) -> None:
        """As the server's: it waits before it writes while more is waiting than it likes."""
        nonlocal waiting
        if waiting > PIECE_BYTES:
            asyncio.get_running_loop().call_later(0.01, drained.set)
            await drained.wait()
            drained.clear()
            waiting = 0
        waiting += len(message.get("body", b""))

    async def events() -> AsyncIterator[StreamEvent]:
        for index in range(4):
            yield segment_event(index, bytes(LARGE_BYTES))
            asked.append(waiting)

    await Sending(send).all(events())
    assert len(asked) == 4 and max(asked) <= PIECE_BYTES


def segment_event(index: int, data: bytes) -> SegmentEvent:
    return SegmentEvent(
        index=index, first_picture=0, picture_count=1, start_s=Fraction(0), duration_s=Fraction(1), prompt_version=0,
        data=data, keyframe=True,
    )  # fmt: skip


async def test_a_stream_that_is_ended_by_others_breaks_off_so_that_nobody_takes_it_for_whole() -> None:
    async with page_cell() as cell, Client(cell.target) as client, httpx.AsyncClient(base_url=cell.url) as http:
        with pytest.raises(httpx.RemoteProtocolError):
            async with http.stream("GET", path(pace="realtime")) as answer:
                async for _ in answer.aiter_bytes():
                    await client.close_session(answer.headers["longtake-session"])


async def test_when_the_server_drains_an_answer_ends() -> None:
    async with page_cell() as cell, httpx.AsyncClient(base_url=cell.url) as http:
        with pytest.raises(httpx.RemoteProtocolError):
            async with http.stream("GET", path()) as answer:
                async for _ in answer.aiter_bytes():
                    cell.stop()
        await asyncio.wait_for(cell.serving, 20)


WRONG = (
    ("/stream.mp4", "prompt: None is not allowed; allowed: text"),
    (path(prompt=" "), "prompt: ' ' is not allowed; allowed: text"),
    (path(prompt="\x07"), "prompt: '\\x07' is not allowed; allowed: text without control characters"),
    (path(prompt="a" * 5000), "prompt: "),
    (path() + "&prompt=b", "prompt: 'b' is not allowed; allowed: once"),
    *((path(duration=text), f"duration: {text!r} is not allowed; allowed: a number of seconds above 0")
      for text in ("0", "-1", "nan", "inf", "", "0.0", "1e3", "x", "true", "1m", "٣", "9" * 13)),
    *((path(seed=text), f"seed: {text!r} is not allowed; allowed: a whole number")
      for text in ("-1", "", "1.5", "0x1", "9" * 21, "true")),
    (path(seed=2**64), "seed: 18446744073709551616 is not allowed; allowed: a whole number of 0 to"),
    (path(pace="slow"), "pace: 'slow' is not allowed; allowed: realtime, fast"),
    (path(quality=52), "quality: 52 is not allowed; allowed: 1 to 51 for h264"),
    (path(quality="-1"), "quality: '-1' is not allowed"),
    (path(decoder="huge"), "decoder: 'huge' is not allowed; allowed: full, tiny"),
    (path(decoder="tiny"), "decoder: "),
    (path(cue="x"), "cue: 'x' is not allowed; allowed: SECONDS=PROMPT"),
    (path(cue="1= "), "cue: '1= ' is not allowed; allowed: SECONDS=PROMPT"),
    (path(cue="-1=a"), "cue: '-1=a' is not allowed; allowed: SECONDS=PROMPT"),
    (path(cue="1=\x07"), "cue: "),
    (path(codec="raw"), "codec: 'raw' is not allowed; allowed: one of the parameters prompt, duration, seed,"),
    (path(duration=0, seed="x"), "seed: 'x' is not allowed; allowed: a whole number, 0 to 2^64 - 1; duration: '0'"),
)  # fmt: skip


async def test_what_cannot_be_is_a_status_of_its_own_and_a_sentence_that_names_the_parameter() -> None:
    async with page_cell() as cell, httpx.AsyncClient(base_url=cell.url) as http, Client(cell.target) as client:
        for asked, sentence in WRONG:
            answer = await http.get(asked)
            assert answer.status_code == 400 and answer.json()["sentence"].startswith(sentence), (asked, answer.text)
            assert answer.headers["content-type"] == "application/json"
        assert (await http.get("/sessions/nobody.mp4")).status_code == 404
        assert (await http.get("/sessions/nobody.mp4?x=1")).status_code == 400
        assert (await http.post(path())).status_code == 405
        assert await client.list_sessions() == ()


async def test_without_room_there_is_a_time_to_try_again(tmp_path: Path) -> None:
    limits = {"max_sessions": 1, "max_queued": 0}
    async with page_cell({"limits": limits}) as cell, httpx.AsyncClient(base_url=cell.url) as http:
        async with Client(cell.target) as client, client.stream(PROMPT):
            for pace in ("fast", "realtime"):
                answer = await http.get(path(pace=pace))
                assert (answer.status_code, answer.json()["code"]) == (429, "RESOURCE_EXHAUSTED")
                assert int(answer.headers["retry-after"]) >= 1 and answer.json()["sentence"]

        async def room() -> bool:
            return (await http.get(path(duration=1))).status_code == 200

        await asyncio.wait_for(until(room), 10)


async def test_who_waits_in_the_queue_and_goes_leaves_it(tmp_path: Path) -> None:
    async with (
        page_cell({"limits": {"max_sessions": 1}}) as cell,
        httpx.AsyncClient(base_url=cell.url) as http,
        Client(cell.target) as client,
        client.stream(PROMPT),
    ):

        async def queued() -> bool:
            return pb.SESSION_STATE_QUEUED in [session.state for session in await client.list_sessions()]

        async def alone() -> bool:
            return len(await client.list_sessions()) == 1

        asking = asyncio.create_task(http.get(path()))
        await asyncio.wait_for(until(queued), 10)
        asking.cancel()
        await asyncio.wait_for(until(alone), 10)


async def test_a_head_makes_no_stream_and_a_range_none_but_from_the_start() -> None:
    async with page_cell() as cell, httpx.AsyncClient(base_url=cell.url) as http, Client(cell.target) as client:
        head = await http.head(path(duration=1))
        assert (head.status_code, head.headers["content-type"], head.content) == (200, "video/mp4", b"")
        assert head.headers["accept-ranges"] == "none"
        assert (await http.head(path(duration=0))).status_code == 400
        assert (await http.head("/sessions/nobody.mp4")).status_code == 404
        assert await client.list_sessions() == ()
        whole = await http.get(path(duration=1, seed=1))
        for wanted, status in (("bytes=0-", 200), ("bytes=0-1", 200), ("pages=2-", 200), ("bytes=1-", 416),
                               ("bytes=-5", 416), ("bytes=0-1,5-6", 416), ("bytes=x", 416)):  # fmt: skip
            answer = await http.get(path(duration=1, seed=1), headers={"range": wanted})
            assert answer.status_code == status, wanted
            assert answer.content == whole.content if status == 200 else "range" in answer.json()["sentence"]


@pytest.fixture
def sections(tmp_path: Path) -> Mapping[str, Mapping[str, object]]:
    return {"auth": {"tenants": str(tenants_file(tmp_path))}}


async def test_rights_and_quotas_are_those_of_the_page(sections: Mapping[str, Mapping[str, object]]) -> None:
    def basic(name: str) -> httpx.BasicAuth:
        return httpx.BasicAuth("anybody", name * 4)

    async with page_cell(sections) as cell, httpx.AsyncClient(base_url=cell.url) as http:
        for auth in (None, basic("eve")):
            for method in ("GET", "HEAD"):
                answer = await http.request(method, path(duration=1), auth=auth)
                assert answer.status_code == 401 and "Basic" in answer.headers["www-authenticate"]
        for shown in ("Basic ????", "Basic /w==", "Digest x", "Bearer två", "Bearer"):
            answer = await http.get(path(duration=1), headers=[(b"authorization", shown.encode())])
            assert answer.status_code in (400, 401), shown
        assert (await http.get(path(duration=1), auth=basic("victor"))).status_code == 403
        assert (await http.get(path(duration=1), auth=basic("alice"))).status_code == 200
        bob = {"authorization": f"Bearer {'bob' * 4}"}
        async with http.stream("GET", path(), headers=bob) as answer:
            assert answer.status_code == 200
            session = answer.headers["longtake-session"]
            second = await http.get(path(duration=1), headers=bob)
            assert (second.status_code, second.headers["retry-after"]) == (429, "5")
            assert "quota of streams is used up" in second.json()["sentence"]
            other = await http.get(f"/sessions/{session}.mp4", auth=basic("victor"))
            assert other.status_code == 404


async def test_the_video_of_a_session_is_that_of_its_client_from_somewhere_on() -> None:
    async with page_cell() as cell, httpx.AsyncClient(base_url=cell.url) as http, Client(cell.target) as client:
        options = StreamOptions(seed=5, duration_s=60, window=2)
        async with client.stream(PROMPT, options) as stream:
            assert stream.opened is not None
            watching = asyncio.create_task(http.get(f"/sessions/{stream.opened.session_id}.mp4"))
            parts: list[bytes] = []
            async for event in stream:
                if isinstance(event, OpenedEvent):
                    parts.append(event.header)
                if isinstance(event, SegmentEvent):
                    parts.append(event.data)
                    await asyncio.sleep(0.05)
        seen = (await watching).content
    assert seen.startswith(parts[0])
    assert seen.endswith(b"".join(parts[-10:]))


FOREIGN = (
    ({"sec-fetch-site": "cross-site"}, 403),
    ({"sec-fetch-site": "same-site", "sec-fetch-mode": "no-cors"}, 403),
    ({"sec-fetch-site": "cross-site", "sec-fetch-mode": "navigate"}, 403),
    ({"sec-fetch-site": ""}, 403),
    ({"origin": "https://evil.example"}, 403),
    ({"origin": "null"}, 403),
    ({"user-agent": "Mozilla/5.0 (X11; Linux) Gecko/20100101 Firefox/130.0"}, 403),
    ({"host": "evil.example"}, 403),
    ({"sec-fetch-site": "same-origin", "user-agent": "Mozilla/5.0"}, 200),
    ({"sec-fetch-site": "none", "user-agent": "Mozilla/5.0"}, 200),
    ({"user-agent": "Lavf/60.16.100"}, 200),
    ({"user-agent": "VLC/3.0.20 LibVLC/3.0.20", "range": "bytes=0-"}, 200),
    ({"user-agent": "curl/8.5.0"}, 200),
)


async def test_pages_of_others_get_no_video_for_it_would_cost_what_the_server_has() -> None:
    async with page_cell() as cell, httpx.AsyncClient(base_url=cell.url) as http, Client(cell.target) as client:
        for headers, status in FOREIGN:
            for method in ("GET", "HEAD"):
                answer = await http.request(method, path(duration=1), headers=headers)
                assert answer.status_code == status, (headers, answer.text)
        own = {"origin": cell.url, "user-agent": "Mozilla/5.0"}
        assert (await http.get(path(duration=1), headers=own)).status_code == 200
        for address in ("/stream.mp4", "/sessions/nobody.mp4"):
            assert (await http.get(address, headers=FOREIGN[0][0])).status_code in (400, 403)
        assert await client.list_sessions() == ()


PLAYS = """
(address) => new Promise((done) => {
  const video = document.createElement("video");
  video.muted = true;
  video.addEventListener("timeupdate", () => video.currentTime > 0.5 && done("plays"));
  video.addEventListener("error", () => done("fails"));
  video.src = address;
  document.body.append(video);
  video.play().catch(() => done("fails"));
})
"""


@WITHOUT
def test_a_browser_plays_it_on_the_page_and_alone_and_not_on_a_page_of_others(
    browser: Chromium, tmp_path: Path
) -> None:
    others = ThreadingHTTPServer(("127.0.0.1", 0), partial(SimpleHTTPRequestHandler, directory=tmp_path))
    threading.Thread(target=others.serve_forever).start()
    server = Server(tmp_path, QUICK)
    address = server.url.rstrip("/") + path(duration=10)
    try:
        tab = open_tab(browser, server.url)
        assert tab.evaluate(PLAYS, address.removeprefix(server.url)) == "plays"
        tab.goto(address)
        for _ in range(100):
            if tab.evaluate("() => document.querySelector('video')?.currentTime > 0.5"):
                break
            tab.wait_for_timeout(100)
        else:
            raise AssertionError("the address itself does not play")
        tab.goto(f"http://127.0.0.1:{others.server_port}/")
        assert tab.evaluate(PLAYS, address) == "fails"
        tab.context.close()
    finally:
        server.end()
        others.shutdown()
        others.server_close()
