"""What runs in the front end's container, for real: a server beside a Ray node of its own that offers nothing."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from cluster.config import ClusterSection, parse_config
from cluster.launch.plan import plan_for
from cluster.launch.ray_node import node_command
from cluster.launch.ray_placing import groups, nodes_of
from longtake.client import Client, StreamOptions
from longtake.client.events import ClosedEvent, SegmentEvent
from longtake.core.errors import Contradiction, InvalidField
from longtake.core.work import Role, WorkerId
from tests.deploy.ray_nodes import LEAVE_S, RayNodes, below, free_port, wait_for_text
from tests.workers.model_dir import model_info, write_model

ENGINE = "127.0.0.5"
POOLS = {"denoise_nodes": {"pool": "gpu"}, "decode_nodes": {"pool": "small"}}


@pytest.fixture(scope="module")
def nodes() -> Iterator[RayNodes]:
    made = RayNodes()
    try:
        made.start_head()
        made.start_node("gpu", "127.0.0.3", {"pool": "gpu"})
        made.start_node("small", "127.0.0.4", {"pool": "small"})
        yield made
    finally:
        made.stop()


@dataclass
class Container:
    """The process that a container would have as number 1, and what it said."""

    process: subprocess.Popen[bytes]
    log: Path
    port: int

    def said(self, text: str) -> str:
        return wait_for_text(self.log, text, self.process)


def of_the_pod(nodes: RayNodes, folder: Path) -> dict[str, str]:
    """The environment of the container, which has Ray's token as a file: as the chart gives it."""
    environment = dict(nodes.environment)
    token = folder / "auth_token"
    token.write_text(environment.pop("RAY_AUTH_TOKEN"))
    token.chmod(0o440)
    return environment | {"RAY_AUTH_TOKEN_PATH": str(token)}


@contextmanager
def container(nodes: RayNodes, folder: Path, model: str, cluster: str) -> Iterator[Container]:
    """`python -m cluster.launch.ray_node` with a configuration; whatever is left of it at the end is killed."""
    ports = [free_port(ENGINE) for _ in range(3)]
    config = folder / "longtake.toml"
    config.write_text(f"""
[model]
{model}
[cluster]
launch = "ray"
ray_address = "{nodes.address}"
{cluster}
[listen]
host = "{ENGINE}"
port = {ports[0]}
[link]
host = "{ENGINE}"
port = {ports[1]}
meeting_port = {ports[2]}
""")
    log = folder / "container.log"
    command = [sys.executable, "-m", "cluster.launch.ray_node", str(config)]
    environment = of_the_pod(nodes, folder)
    with log.open("wb") as out:
        process = subprocess.Popen(command, cwd=folder, env=environment, stdout=out, stderr=subprocess.STDOUT)
    try:
        yield Container(process, log, ports[0])
    finally:
        if process.poll() is None:
            process.terminate()
            try:
                process.wait(LEAVE_S)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


async def drained(running: Container) -> tuple[int, ClosedEvent]:
    """Of an endless stream, at whose third segment the container gets SIGTERM: how many came, and how it ended."""
    shown = 0
    async with (
        Client(f"{ENGINE}:{running.port}") as client,
        client.stream("a red ball resting in the fog", StreamOptions(seed=7, codec="raw")) as stream,
    ):
        async for event in stream:
            match event:
                case SegmentEvent():
                    assert event.index == shown
                    shown += 1
                    if shown == 3:
                        running.process.send_signal(signal.SIGTERM)
                case ClosedEvent():
                    return shown, event
    raise AssertionError("the stream ended without saying so")


@pytest.mark.slow
@pytest.mark.ray
@pytest.mark.timeout(300)
def test_workers_are_where_their_role_says_a_chain_is_on_one_node_and_sigterm_drains(
    nodes: RayNodes, tmp_path: Path
) -> None:
    write_model(tmp_path)
    where = 'denoise_workers = 1\nlayer_split = 2\nchains_on_one_node = true\ndenoise_nodes = { pool = "gpu" }\n'
    with container(nodes, tmp_path, f'path = "{tmp_path}"', where + 'decode_nodes = { pool = "small" }') as running:
        running.said("ready: ")
        assert (nodes.workers_on("gpu"), nodes.workers_on("small"), nodes.workers_on("head")) == (2, 1, 0)
        own = below(running.process.pid)
        assert not any("ray::WorkerActor" in command for command in own.values())
        shown, closed = asyncio.run(drained(running))
        assert running.process.wait(LEAVE_S) == 0
    assert (closed.ending, closed.segments) == ("drained", shown)
    assert {pid for pid in own if Path(f"/proc/{pid}").exists()} == set()
    assert (nodes.workers_on("gpu"), nodes.workers_on("small")) == (0, 0)


@pytest.mark.slow
@pytest.mark.ray
@pytest.mark.timeout(300)
def test_without_room_it_waits_and_a_signal_ends_the_waiting(nodes: RayNodes, tmp_path: Path) -> None:
    where = 'denoise_workers = 1\nplace_within_s = 3600\ndenoise_nodes = { pool = "absent" }'
    with container(nodes, tmp_path, 'device = "simulated:5ms"', where) as running:
        logged = running.said("waiting up to 3600 s")
        assert "1 x {'CPU': 0.1} on nodes with {'pool': 'absent'}" in logged
        running.process.send_signal(signal.SIGTERM)
        assert running.process.wait(LEAVE_S) == 0


def test_room_is_asked_for_by_role_and_for_a_chain_on_one_node() -> None:
    document = {"cluster": {"ray_address": "head:6379", "layer_split": 2, "denoise_workers": 2,
                            "chains_on_one_node": True, **POOLS},
                "link": {"host": "10.0.0.7", "port": 7000, "meeting_port": 7001}}  # fmt: skip
    plan = plan_for(parse_config(document), model_info())
    assert (plan.link.host, plan.link.port, plan.link.meeting_port) == ("10.0.0.7", 7000, 7001)
    asked = groups(plan.workers, plan.cluster)
    assert asked.keys() == {"", "denoise-0", "denoise-1"}
    chain, alone = asked[WorkerId("denoise-1")], asked[WorkerId("")]
    assert (chain.strategy, chain.nodes) == ("STRICT_PACK", ({"pool": "gpu"},) * 2)
    assert (alone.strategy, alone.nodes) == ("PACK", ({"pool": "small"},))
    assert str(chain).startswith("on one node: 2 x {'CPU': 0.1} on nodes with {'pool': 'gpu'}")
    apart = groups(plan.workers, ClusterSection())
    assert {group.strategy for group in apart.values()} == {"PACK"}
    assert nodes_of(Role.DECODE, ClusterSection(denoise_nodes={"a": "b"})) == {}


def test_text_workers_are_beside_decode_workers_or_where_it_is_said() -> None:
    beside = ClusterSection(decode_nodes={"pool": "small"})
    apart = ClusterSection(decode_nodes={"pool": "small"}, text_nodes={"pool": "text"})
    assert [nodes_of(Role.TEXT, section) for section in (beside, apart)] == [{"pool": "small"}, {"pool": "text"}]
    assert nodes_of(Role.DECODE, apart) == {"pool": "small"}


def test_labels_are_for_a_ray_that_is_joined() -> None:
    for pool in ("denoise_nodes", "decode_nodes", "text_nodes"):
        with pytest.raises(Contradiction, match=rf"{pool} .*ray_address"):
            parse_config({"cluster": {pool: {"pool": "gpu"}}})
    with pytest.raises(InvalidField, match=r"cluster\.denoise_nodes"):
        parse_config({"cluster": {"ray_address": "head:6379", "denoise_nodes": {"pool": "!in(gpu"}}})


def test_the_node_offers_nothing_and_has_the_pods_address(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("POD_IP", "10.1.2.3")
    command = node_command(parse_config({"cluster": {"ray_address": "head:6379"}}))
    assert {"--address=head:6379", "--node-ip-address=10.1.2.3", "--num-cpus=0", "--num-gpus=0"} <= set(command)
    other = node_command(parse_config({"cluster": {"ray_address": "head:6379"}, "link": {"host": "10.9.9.9"}}))
    assert "--node-ip-address=10.9.9.9" in other


@pytest.mark.parametrize("text", ["", '[cluster]\nlaunch = "subprocess"\nray_address = "head:6379"', "[cluster"])
def test_a_configuration_that_joins_nothing_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "c.toml").write_text(text)
    found = subprocess.run([sys.executable, "-m", "cluster.launch.ray_node", str(tmp_path / "c.toml")],
                           capture_output=True, text=True, cwd=Path(__file__).parents[2])  # fmt: skip
    assert found.returncode == 2
    assert "cluster.ray_address" in found.stderr or "TOML" in found.stderr
