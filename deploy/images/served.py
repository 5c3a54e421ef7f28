"""The server of the composition in a container of the front end's image: ready, a stream, what it may not, its end."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from deploy.images.build import ROOT, Built
from deploy.images.container import Container, Ended, Setting
from deploy.images.outcomes import Wrong
from deploy.images.storage import Tools

COMPOSE = ROOT / "deploy/compose/compose.yaml"
READY_S = 180.0
END_S = 90.0
STREAM_S = 120.0
STREAM = ("a red ball bobbing at dusk", "--cue", "4s=a blue box swaying at night", "--seed", "7", "--duration", "10s")
_DOING = "running the server"
_TRIED = ("/here", "/etc/here", "/opt/longtake/here", "/home/longtake/here")
_FACTS = f"""
import errno, json, os
def refusal(path):
    try:
        open(path, "x").close()
    except OSError as error:
        return errno.errorcode[error.errno]
    return ""
status = dict(line.split(":", 1) for line in open("/proc/self/status").read().splitlines())
print(json.dumps(dict(
    uid=os.getuid(), gid=os.getgid(), no_new_privileges=int(status["NoNewPrivs"]),
    capabilities=[int(status[name], 16) for name in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")],
    refused=dict((path, refusal(path)) for path in {_TRIED}),
)))
"""
"""What a process in the container finds that it may do."""
CONFINED: Mapping[str, object] = {
    "uid": 1000, "gid": 1000, "no_new_privileges": 1, "capabilities": [0] * 5,
    "refused": dict.fromkeys(_TRIED, "EROFS"),
}  # fmt: skip
"""What that must be: the root cannot be written because it is read-only, not only because it is of another user."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Served:
    """What was seen of a server in a container."""

    ready_s: float
    video_s: float
    end_s: float
    status: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Composed:
    """The composition's server: what it is started with, and how one asks whether it is well."""

    command: tuple[str, ...]
    files: Mapping[Path, str]
    probe: tuple[str, ...]


def composed(text: str, folder: Path) -> Composed:
    """The server of a composition that lies in a folder."""
    service: dict[str, Any] = yaml.safe_load(text)["services"]["server"]
    mounts = [volume.split(":") for volume in service["volumes"]]
    kind, *probe = service["healthcheck"]["test"]
    assert kind == "CMD", kind
    return Composed(
        command=tuple(service["command"]),
        files={(folder / source).resolve(): place for source, place, _options in mounts},
        probe=tuple(probe),
    )


def serve(tools: Tools, built: Built) -> Served:
    """Run the server of an image; Wrong if it does not do what it must, Unable if there was no time for that."""
    try:
        return _serve(tools, built)
    except Wrong:
        tools.deadline.left_s(_DOING)
        raise


def _serve(tools: Tools, built: Built) -> Served:
    server = composed(COMPOSE.read_text(), COMPOSE.parent)
    given = built.image.setting
    (entry, *_default) = given.command
    setting = Setting(
        environment=given.environment, user=given.user, folder=given.folder, command=(entry, *server.command)
    )
    with tools.container("server", setting, built.root, server.files).running() as container:
        ready_s = wait_until_ready(container, server.probe, min(READY_S, tools.deadline.left_s(_DOING)))
        check_confined(container)
        video_s = stream_and_render(container)
        status, end_s = container.terminate(END_S)
        if status != 0:
            raise Wrong(f"SIGTERM ended it with status {status}, not 0:\n{container.said()}")
    return Served(ready_s=ready_s, video_s=video_s, end_s=end_s, status=status)


def wait_until_ready(container: Container, probe: tuple[str, ...], within_s: float) -> float:
    """The seconds until a server says that it is ready; Wrong if it ends, or is not in time."""
    begun_s = time.monotonic()
    while container.execute(probe).status != 0:
        if (status := container.status()) is not None:
            raise Wrong(f"the server ended with status {status}:\n{container.said()}")
        if time.monotonic() - begun_s > within_s:
            raise Wrong(f"the server is not ready after {within_s:.0f} s:\n{container.said()}")
        time.sleep(0.2)
    return time.monotonic() - begun_s


def check_confined(container: Container) -> None:
    """Wrong if a process of a container may do more than it must."""
    found = json.loads(_well(container.execute(["python", "-c", _FACTS])).out)
    if found != CONFINED:
        raise Wrong(f"a process in the container has {found}, not {dict(CONFINED)}")


def stream_and_render(container: Container) -> float:
    """The seconds of a stream made inside; Wrong if `longtake render` does not make the same bytes there."""
    streamed = _well(container.execute(["longtake", "stream", *STREAM, "--json", "-o", "/tmp/streamed.mp4"], STREAM_S))
    _well(container.execute(["longtake", "render", *STREAM, "-o", "/tmp/rendered.mp4"], STREAM_S))
    sums = _well(container.execute(["sha256sum", "/tmp/streamed.mp4", "/tmp/rendered.mp4"])).out.split()
    if sums[0] != sums[2]:
        raise Wrong(f"a stream and `longtake render` of its seed differ in the container: {sums[0]}, {sums[2]}")
    summary = json.loads(streamed.out.splitlines()[-1])
    video_s = float(summary["video_s"])
    if video_s < 10:
        raise Wrong(f"a stream of 10 s has {video_s:g} s: {summary}")
    return video_s


def _well(ended: Ended) -> Ended:
    if ended.status != 0:
        raise Wrong(f"a command in the container ended with status {ended.status}:\n{ended.out}{ended.err}")
    return ended
