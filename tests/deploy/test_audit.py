"""The audit of dependencies fails for a vulnerable pin, and does not take a service that is silent for a clean bill."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from deploy.audit import CANARY, PINS, Finding, verdict

ROOT = Path(__file__).resolve().parent.parent.parent
KNOWN = Finding(name=CANARY[0], version=CANARY[1], advisories=("GHSA-1",))


@contextmanager
def advisories(known: dict[tuple[str, str], str]) -> Iterator[str]:
    """An advisory service (OSV's protocol) that knows one advisory for each of `known`."""

    class Answer(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            found = known.get((asked["package"]["name"], asked["version"]))
            vulns = [{"id": found, "affected": [], "modified": "2026-01-01T00:00:00Z"}] if found else []
            body = json.dumps({"vulns": vulns} if vulns else {}).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Answer)
    serving = threading.Thread(target=server.serve_forever)
    serving.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        serving.join()
        server.server_close()


def audit(pins: Path, url: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "deploy.audit", "--pins", str(pins), "--", "-s", "osv", "--osv-url", url]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=100)


@pytest.mark.parametrize(("version", "status"), [("1.0.1", 1), ("1.0.2", 0)])
def test_a_pin_with_an_advisory_fails_and_another_passes(tmp_path: Path, version: str, status: int) -> None:
    (tmp_path / "pins.txt").write_text(f"harmless==3.0\nleaky=={version}\n")
    with advisories({CANARY: "GHSA-1", ("leaky", "1.0.1"): "GHSA-2"}) as url:
        done = audit(tmp_path / "pins.txt", url)
    assert done.returncode == status, done.stdout + done.stderr
    assert ("leaky==1.0.1: GHSA-2" in done.stdout) is bool(status)
    assert f"2 of 2 pins audited, {status} with known vulnerabilities" in done.stdout


def test_a_service_that_knows_of_nothing_is_no_clean_bill(tmp_path: Path) -> None:
    (tmp_path / "pins.txt").write_text("leaky==1.0.1\n")
    with advisories({}) as url:
        done = audit(tmp_path / "pins.txt", url)
    assert (done.returncode, done.stdout.split(":")[0]) == (0, "audit skipped"), done.stderr


def test_pins_that_nobody_could_be_asked_about_are_named_and_never_all_of_them() -> None:
    unknown = Finding(name="own", version="", skipped="not found")
    assert verdict([KNOWN], [unknown]) == (1, ["not audited: own: not found", "no pin was audited"])
    status, lines = verdict([KNOWN], [unknown, Finding(name="fine", version="1")])
    assert (status, lines[-1]) == (0, "1 of 2 pins audited, 0 with known vulnerabilities")
    assert lines[0] == "not audited: own: not found"


def test_every_pin_is_an_exact_version() -> None:
    pins = [line for line in PINS.read_text().splitlines() if line and not line.startswith("#")]
    assert len(pins) > 50
    assert all("==" in pin for pin in pins)
