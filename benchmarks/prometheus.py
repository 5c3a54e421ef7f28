"""A Prometheus of one's own for a while, Debian's binary on loopback, and the questions it is asked."""

from __future__ import annotations

import contextlib
import math
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import yaml

from longtake.core.errors import Unavailable

START_S = 30.0


@dataclass(frozen=True, slots=True)
class Curve:
    """One series of an answer."""

    labels: dict[str, str]
    points: tuple[tuple[float, float], ...]
    """Unix time in seconds, and the value; those that are no number are left out."""


@dataclass(frozen=True, slots=True)
class Prometheus:
    """One that runs."""

    url: str

    def over(self, query: str, begin_s: float, end_s: float, step_s: float) -> list[Curve]:
        """What the query gives over a time, as a dashboard asks; series without any finite value are left out."""
        found = self._get("query_range", query=query, start=f"{begin_s}", end=f"{end_s}", step=f"{step_s}")
        curves = (Curve(one["metric"], _finite(one["values"])) for one in found["result"])
        return [curve for curve in curves if curve.points]

    def now(self, query: str) -> list[Curve]:
        """What the query gives at this moment."""
        found = self._get("query", query=query)
        curves = (Curve(one["metric"], _finite([one["value"]])) for one in found["result"])
        return [curve for curve in curves if curve.points]

    def rules(self) -> list[dict[str, Any]]:
        """All rules, with their health, last error and, of alerts, what is active."""
        return [rule for group in self._get("rules")["groups"] for rule in group["rules"]]

    def targets_up(self) -> bool:
        """Whether every target answered its last scrape."""
        found = self._get("targets")["activeTargets"]
        return bool(found) and all(target["health"] == "up" for target in found)

    def _get(self, path: str, **asked: str) -> dict[str, Any]:
        answer = httpx.get(f"{self.url}/api/v1/{path}", params=asked, timeout=20.0)
        if answer.is_error:
            raise Unavailable(f"Prometheus refuses {asked}: {answer.text[:300]}")
        data: dict[str, Any] = answer.json()["data"]
        return data


def _finite(values: Sequence[Sequence[Any]]) -> tuple[tuple[float, float], ...]:
    pairs = ((float(at), float(value)) for at, value in values)
    return tuple((at, value) for at, value in pairs if math.isfinite(value))


@contextlib.contextmanager
def running_prometheus(
    folder: Path, target: str, *, rules: Sequence[Path], every: str, cell: str = ""
) -> Iterator[Prometheus]:
    """One that scrapes HOST:PORT, a cell of that name, and evaluates `rules`, both `every` so often, with its data in
    `folder`.

    Raises Unavailable if it does not start.
    """
    binary = shutil.which("prometheus")
    if binary is None:
        raise Unavailable("prometheus is not installed (Debian's package prometheus)")
    config = folder / "prometheus.yaml"
    scrape = {
        "job_name": "longtake",
        "honor_labels": True,
        "static_configs": [{"targets": [target], "labels": {"cell": cell}}],
        "scrape_timeout": every,
    }
    config.write_text(
        yaml.safe_dump(
            {
                "global": {"scrape_interval": every, "evaluation_interval": every},
                "rule_files": [str(path.resolve()) for path in rules],
                "scrape_configs": [scrape],
            }
        )
    )
    address = f"127.0.0.1:{free_port()}"
    command = [
        binary,
        f"--config.file={config}",
        f"--storage.tsdb.path={folder / 'data'}",
        f"--web.listen-address={address}",
        "--log.level=warn",
    ]
    with (folder / "prometheus.log").open("w") as log, subprocess.Popen(command, stdout=log, stderr=log) as process:
        try:
            server = Prometheus(f"http://{address}")
            _wait_until_ready(server, process, folder / "prometheus.log")
            yield server
        finally:
            process.terminate()
            try:
                process.wait(20.0)
            except subprocess.TimeoutExpired:
                process.kill()


def free_port() -> int:
    """A port of loopback that nobody listens on at this moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _wait_until_ready(server: Prometheus, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline_s = time.monotonic() + START_S
    while time.monotonic() < deadline_s and process.poll() is None:
        with contextlib.suppress(httpx.TransportError):
            if httpx.get(f"{server.url}/-/ready", timeout=2.0).is_success:
                return
        time.sleep(0.1)
    raise Unavailable(f"Prometheus did not start: {log.read_text()[-500:]}")
