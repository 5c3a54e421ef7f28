"""A realtime stream of the pocket model on the page, watched for minutes: how often its video stood still.

    python -m tests.cluster.http.page.stalls --minutes 5

prints one JSON object a minute, and ends with status 1 if the video stood still or is behind. Server, browser and
whatever else runs share the machine: the figure is of a quiet one.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from pathlib import Path

from playwright.sync_api import Locator

from tests.cluster.http.page.chromium import PROMPT, Server, advances, end, launched, open_tab, start, time_s

MINUTE_S = 60.0
BEHIND_S = 2.0
"""More than the page waits before it begins to play."""


def figure(card: Locator, name: str) -> str:
    return card.locator(f"[data-part={name}]").inner_text()


def watch(card: Locator, minutes: int) -> bool:
    """Tell of every minute; returns whether the video never stood still."""
    began_s, began = time_s(card), time.monotonic()
    played_s = took_s = 0.0
    for minute in range(1, minutes + 1):
        card.page.wait_for_timeout(1000 * MINUTE_S)
        played_s, took_s = time_s(card) - began_s, time.monotonic() - began
        told: dict[str, object] = {"minute": minute, "played_s": round(played_s, 1), "took_s": round(took_s, 1)}
        told |= {name: figure(card, name) for name in ("stalls", "slack", "buffered", "made", "shown")}
        sys.stdout.write(json.dumps(told | {"load": round(os.getloadavg()[0], 1)}) + "\n")
        sys.stdout.flush()
    return figure(card, "stalls") == "0" and played_s >= took_s - BEHIND_S


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=int, default=5)
    minutes = parser.parse_args().minutes
    with tempfile.TemporaryDirectory() as folder, launched() as browser:
        server = Server(Path(folder))
        try:
            card = start(open_tab(browser, server.url), PROMPT)
            advances(card, 1.0)
            is_smooth = watch(card, minutes)
            end(card)
        finally:
            server.end()
    sys.exit(not is_smooth)


if __name__ == "__main__":
    main()
