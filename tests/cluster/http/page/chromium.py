"""The page in a real browser against a real server: tools of the tests that type, look and listen as a reader does."""

from __future__ import annotations

import contextlib
import io
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import av
import grpc
import numpy as np
from playwright.sync_api import Browser, Locator, Page, ViewportSize, WebSocketRoute, expect, sync_playwright

from cluster.http.page.answers import error_message
from longtake.client.errors import ClientError
from longtake.core.scarcity import Scarcity
from pocket.judge import Pictures, Seen, classify
from tests.programs import needs

ROOT = Path(__file__).resolve().parent.parent.parent.parent.parent
CHROMIUM = shutil.which("chromium")
PATIENCE_MS = 30_000
expect.set_options(timeout=PATIENCE_MS)
PICTURES = os.environ.get("LONGTAKE_PICTURES")
"""A folder for screenshots; without it none are taken."""
CONFIG = """
[cluster]
launch = "in-process"
denoise_workers = 1
[listen]
port = 0
[http]
address = "127.0.0.1:0"
"""
QUICK = '[model]\ndevice = "simulated:2ms"\n'

PROMPT = "a red ball swaying at night"
WITHOUT = needs("chromium")

LOOK = """
async (video) => {
  const canvas = document.createElement("canvas");
  [canvas.width, canvas.height] = [video.videoWidth, video.videoHeight];
  const pen = canvas.getContext("2d", { willReadFrequently: true });
  const pictures = [];
  for (let n = 0; n < 6; n++) {
    pen.drawImage(video, 0, 0);
    pictures.push(Array.from(pen.getImageData(0, 0, canvas.width, canvas.height).data));
    await new Promise((resolve) => setTimeout(resolve, 60));
  }
  return { width: canvas.width, height: canvas.height, pictures };
}
"""
"""Pictures that the browser has decoded, as it would show them."""


class Server:
    """`longtake serve` as a process."""

    def __init__(self, folder: Path, further: str = "") -> None:
        config = folder / "server.toml"
        config.write_text(CONFIG + further)
        self.log = (folder / "server.log").open("w+")
        self.process = subprocess.Popen(
            [sys.executable, "-m", "longtake", "serve", str(config)],
            env=os.environ | {"PYTHONPATH": str(ROOT)},
            stdout=subprocess.PIPE,
            stderr=self.log,
            text=True,
        )
        assert self.process.stdout is not None
        ready = self.process.stdout.readline()
        assert ", page at http://" in ready, (folder / "server.log").read_text()
        self.url = ready.split(", page at ")[1].strip()

    def end(self, how: signal.Signals = signal.SIGTERM) -> None:
        self.process.send_signal(how)
        self.process.wait(60)
        assert self.process.stdout is not None
        self.process.stdout.close()
        self.log.close()


@contextlib.contextmanager
def launched() -> Iterator[Browser]:
    """Chromium, without a window."""
    sandbox = ["--no-sandbox"] if os.geteuid() == 0 else []
    with sync_playwright() as playwright:
        found = playwright.chromium.launch(executable_path=CHROMIUM, args=sandbox)
        yield found
        found.close()


def open_tab(browser: Browser, url: str, *, dark: bool = False, phone: bool = False) -> Page:
    scheme: Literal["dark", "light"] = "dark" if dark else "light"
    if phone:
        size: ViewportSize = {"width": 390, "height": 844}
        context = browser.new_context(
            viewport=size, color_scheme=scheme, has_touch=True, is_mobile=True, device_scale_factor=2
        )
    else:
        context = browser.new_context(viewport={"width": 1280, "height": 800}, color_scheme=scheme)
    context.set_default_timeout(PATIENCE_MS)
    context.add_init_script(
        "window.complaints = []; addEventListener('error', (e) => complaints.push(e.message));"
        "addEventListener('unhandledrejection', (e) => complaints.push(String(e.reason)));"
        "addEventListener('securitypolicyviolation', (e) => complaints.push(e.violatedDirective));"
    )
    tab = context.new_page()
    tab.goto(url)
    return tab


def start(page: Page, prompt: str) -> Locator:
    """Type a prompt, press Enter; the new stream's card."""
    page.get_by_label("Prompt").fill(prompt)
    expect(page.get_by_role("button", name="Start", exact=True)).to_be_enabled()
    page.get_by_label("Prompt").press("Enter")
    card = newest(page)
    expect(card.get_by_role("heading")).to_have_text(prompt)
    return card


def press(button: Locator) -> None:
    """Press a button that a reader sees and can reach.

    With its key: a page that grows moves it away from a mouse between the way there and the click.
    """
    button.click(trial=True)
    button.press("Enter")


def newest(page: Page) -> Locator:
    """The card that was opened last, whatever becomes of its neighbours."""
    return page.locator(f"article[data-number='{page.locator('article').first.get_attribute('data-number')}']")


def begin(page: Page, prompt: str = PROMPT) -> Locator:
    """A stream that plays, of the pace that a slow machine does not refuse."""
    if not page.get_by_label("Pace").is_visible():
        take_what_is_left(page)
    card = start(page, prompt)
    advances(card, 0.5)
    return card


def session_of(card: Locator) -> str:
    """The session's name, as the card shows it."""
    return card.locator("[data-part=about]").inner_text().rsplit(" ", 1)[-1]


def newest_when_there(tab: Page) -> Locator:
    """The newest card, once there is one."""
    expect(tab.locator("article").first).to_be_attached()
    return newest(tab)


def video_of(path: Path) -> tuple[float, int]:
    """When the first picture of a file is shown, in seconds, and how many there are."""
    with av.open(io.BytesIO(path.read_bytes()), mode="r") as container:
        times = [frame.time for frame in container.decode(video=0)]
    assert times[0] is not None
    return times[0], len(times)


def take_what_is_left(page: Page) -> None:
    """Choose the pace that a slow machine does not refuse."""
    press(page.get_by_text("Options"))
    page.get_by_label("Pace").select_option("fast")


def time_s(card: Locator) -> float:
    found: float = card.locator("video").evaluate("(video) => video.currentTime")
    return found


def advances(card: Locator, by_s: float = 0.3) -> None:
    """Wait until the video has gone on; fails by its timeout if it stands still."""
    card.page.wait_for_function(
        "([video, until]) => video.currentTime >= until",
        arg=[card.locator("video").element_handle(), time_s(card) + by_s],
    )


def stands_still(card: Locator) -> None:
    """The video does not go on for a second of this page's time, once it is where its segments begin."""
    card.page.wait_for_function(
        "(video) => video.buffered.length && video.currentTime >= video.buffered.start(0)",
        arg=card.locator("video").element_handle(),
    )
    before = time_s(card)
    card.page.wait_for_timeout(1000)
    assert time_s(card) == before


def seen(card: Locator) -> Seen:
    """What the judge sees in what the browser shows."""
    got = card.locator("video").evaluate(LOOK)
    shape = (-1, got["height"], got["width"], 4)
    pictures: Pictures = np.array(got["pictures"], dtype=np.uint8).reshape(shape)[..., :3]
    return classify(pictures)


def shows(card: Locator, colour: str, shape: str, background: str) -> None:
    """Wait until the screen shows it; fails with what it shows instead."""
    what = None
    for _ in range(20):
        what = seen(card)
        if (what.colour, what.shape, what.background) == (colour, shape, background):
            return
        card.page.wait_for_timeout(500)
    raise AssertionError(f"a {colour} {shape} in {background} was asked for; the screen shows {what}")


def keep(page: Page, name: str) -> None:
    if PICTURES:
        page.screenshot(path=Path(PICTURES) / f"page-{name}.png")


def sign_in(tab: Page, token: str) -> None:
    field = tab.get_by_label("Token")
    expect(field).to_be_visible()
    field.fill(token)
    field.press("Enter")


def end(card: Locator) -> None:
    """End the stream: a page that is only closed leaves it to its server for a while."""
    press(card.get_by_role("button", name="End", exact=True))
    expect(card.locator("[data-part=notice]")).to_have_text("The stream has ended.")


NO_ROOM = "No room for another live stream: decode-0 has 9 % of its time free, one takes 43 %."


def refuse_for_room(
    tab: Page, *, after_s: float | None = 29, times: int = 1, fast: bool = True
) -> list[dict[str, object]]:
    """Have the first streams refused, as by a server that is full; the frames by which streams are opened, so far."""
    scarcity = Scarcity(retry_after_s=after_s, fast_instead=fast)
    sentence = f"{NO_ROOM} {scarcity.advice}".strip()
    error = ClientError(
        grpc.StatusCode.RESOURCE_EXHAUSTED,
        sentence,
        retry_after_s=after_s,
        facts={"fast_instead": "true"} if fast else {},
    )
    opened: list[dict[str, object]] = []

    def answer(socket: WebSocketRoute) -> None:
        def first(text: str | bytes) -> None:
            opened.append(json.loads(text))
            socket.send(json.dumps(error_message(error)))

        if len(opened) < times:
            socket.on_message(first)
        else:
            behind = socket.connect_to_server()

            def pass_on(text: str | bytes) -> None:
                if '"open"' in str(text):
                    opened.append(json.loads(text))
                behind.send(text)

            socket.on_message(pass_on)

    tab.route_web_socket("**/api/stream", answer)
    return opened
