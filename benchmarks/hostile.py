"""What attacks cost others: the lateness of live streams, who gets in meanwhile, files and memory during and after.

python -m benchmarks.hostile --json
python -m benchmarks.hostile --guarded --json

Devices are simulated, everything else is real: a server process, gRPC, clients that play streams in real time. The
attacker has a process of its own on the same machine, so what it computes itself is missing to the server, too.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import tempfile
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path

import click

from benchmarks.hostile_attacks import ATTACKS
from benchmarks.playback import Playback
from cluster.access.callers import hash_of, new_token
from longtake.cli.local_server import local_server
from longtake.client import Client, StreamOptions
from longtake.client.credentials import Credentials
from longtake.client.errors import ClientError
from longtake.client.events import SegmentEvent

PROMPT = "a red ball swaying at night"
QUIET_S = 12.0
SETTLE_S = 3.0
DOOR_S = 0.5
"""How often a new client tries to get in."""
ENTER_S = 5.0
"""After which it gives up."""


@dataclass(slots=True)
class Figures:
    """What others saw while something went on."""

    blocks: int = 0
    late_blocks: int = 0
    worst_late_ms: float = 0.0
    clients_in: int = 0
    clients_out: int = 0
    worst_entry_ms: float = 0.0
    peak_files: int = 0
    peak_mb: float = 0.0
    server_cpu_s: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Site:
    """A server under attack, and what an honest client of it needs."""

    address: str
    pid: int
    credentials: Credentials
    figures: list[Figures] = field(default_factory=list)
    """The last is what is filled now."""

    @property
    def now(self) -> Figures:
        return self.figures[-1]

    def files(self) -> int:
        """Open file descriptors of the server."""
        return len(os.listdir(f"/proc/{self.pid}/fd"))

    def resident_mb(self) -> float:
        """Its memory."""
        pages = int(Path(f"/proc/{self.pid}/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE") / 1e6

    def cpu_s(self) -> float:
        """Its processor time so far."""
        fields = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


async def play(site: Site, number: int, buffer_s: float) -> None:
    """A live stream, watched for ever."""
    options = StreamOptions(seed=number, pace="realtime", codec="raw")
    playback = Playback(buffer_s)
    async with (
        Client(site.address, credentials=site.credentials) as client,
        client.stream(PROMPT, options) as stream,
    ):
        async for event in stream:
            if isinstance(event, SegmentEvent):
                late_ms = 1000 * playback.lateness_s(time.monotonic(), float(event.start_s))
                site.now.blocks += 1
                site.now.late_blocks += late_ms > 0
                site.now.worst_late_ms = max(site.now.worst_late_ms, late_ms)
    raise RuntimeError("a live stream ended")


async def knock(site: Site) -> None:
    """New clients, one after another, on connections of their own."""
    while True:
        began_s = time.monotonic()
        try:
            async with asyncio.timeout(ENTER_S), Client(site.address, credentials=site.credentials) as client:
                await client.get_model()
            site.now.clients_in += 1
        except (ClientError, TimeoutError):
            site.now.clients_out += 1
        site.now.worst_entry_ms = max(site.now.worst_entry_ms, 1000 * (time.monotonic() - began_s))
        await asyncio.sleep(DOOR_S)


async def weigh(site: Site) -> None:
    """Files and memory of the server."""
    while True:
        site.now.peak_files = max(site.now.peak_files, site.files())
        site.now.peak_mb = max(site.now.peak_mb, site.resident_mb())
        await asyncio.sleep(0.1)


async def measure(site: Site, attacks: tuple[str, ...], streams: int, buffer_s: float) -> list[dict[str, object]]:
    """Figures of quiet and of each attack, one after another, while live streams go on."""
    rows: list[dict[str, object]] = []
    async with asyncio.TaskGroup() as group:
        site.figures.append(Figures())
        tasks = [group.create_task(play(site, number, buffer_s)) for number in range(streams)]
        tasks += [group.create_task(knock(site)), group.create_task(weigh(site))]
        await asyncio.sleep(SETTLE_S)
        for name in ("quiet", *attacks):
            before_files, before_mb, before_cpu_s = site.files(), site.resident_mb(), site.cpu_s()
            site.figures.append(Figures())
            found = await attack(site, name) if name in ATTACKS else await asyncio.sleep(QUIET_S, {})
            now = site.now
            now.server_cpu_s = site.cpu_s() - before_cpu_s
            await asyncio.sleep(SETTLE_S)  # what it held up comes now
            site.figures.append(Figures())
            seen = {key: round(value, 1) for key, value in asdict(now).items()}
            rows.append({
                "attack": name, **seen, "files_before": before_files, "files_after": site.files(),
                "mb_before": round(before_mb), "mb_after": round(site.resident_mb()), "attacker": found,
            })  # fmt: skip
        for task in tasks:
            task.cancel()
    return rows


async def attack(site: Site, name: str) -> dict[str, float]:
    """One attack, by a process of its own; what it has seen."""
    ca = [str(site.credentials.ca)] if site.credentials.ca else []
    command = [sys.executable, "-m", "benchmarks.hostile_attacks", name, site.address, *ca]
    process = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE)
    said, _ = await process.communicate()
    if process.returncode:
        raise RuntimeError(f"the attack {name} ended with status {process.returncode}")
    counts: dict[str, float] = json.loads(said)
    return counts


def configure(folder: Path, *, guarded: bool) -> Credentials:
    """Write server.toml, and with `guarded` a certificate and tenants; what an honest client shows."""
    text = '[model]\ndevice = "simulated:5ms"\n[cluster]\nlaunch = "subprocess"\n[limits]\nmax_sessions = 64\n'
    credentials = Credentials()
    if guarded:
        import trustme

        authority, token = trustme.CA(), new_token()
        issued = authority.issue_cert("127.0.0.1")
        authority.cert_pem.write_to_path(folder / "ca.pem")
        issued.private_key_pem.write_to_path(folder / "key.pem")
        issued.cert_chain_pems[0].write_to_path(folder / "server.pem")
        (folder / "tenants.toml").write_text(
            f'[tenants.acme]\n[[tenants.acme.tokens]]\nid = "client"\nrole = "client"\nhash = "{hash_of(token)}"\n'
        )
        for secret in ("key.pem", "tenants.toml"):
            (folder / secret).chmod(0o600)
        text += f'[tls]\ncertificate = "{folder}/server.pem"\nkey = "{folder}/key.pem"\n'
        text += f'[auth]\ntenants = "{folder}/tenants.toml"\n'
        credentials = Credentials(token=token, ca=folder / "ca.pem")
    (folder / "server.toml").write_text(text)
    return credentials


def server_pid(parent: int) -> int:
    """The process of the server: the only child that this process has then."""
    (child,) = Path(f"/proc/{parent}/task/{parent}/children").read_text().split()
    return int(child)


@click.command()
@click.option("--attack", "attacks", multiple=True, type=click.Choice(list(ATTACKS)), help="Default: all.")
@click.option("--guarded", is_flag=True, help="With TLS and tenants: the attacker has no token.")
@click.option("--streams", default=4, show_default=True, type=click.IntRange(1), help="Live streams meanwhile.")
@click.option("--buffer", "buffer_s", default=1.5, show_default=True, help="Seconds that their players wait at first.")
@click.option("--json", "as_json", is_flag=True)
def main(attacks: tuple[str, ...], guarded: bool, streams: int, buffer_s: float, as_json: bool) -> None:
    """Attack a server, and measure what others see of it."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        credentials = configure(folder, guarded=guarded)
        config = folder / "server.toml"
        with (
            (folder / "server.log").open("w") as log,
            local_server(lambda line: click.echo(line, err=True), config, log) as address,
        ):
            site = Site(address=address, pid=server_pid(os.getpid()), credentials=credentials)
            try:
                rows = asyncio.run(measure(site, attacks or tuple(ATTACKS), streams, buffer_s))
            except BaseException:
                click.echo((folder / "server.log").read_text()[-4000:], err=True)
                raise
    for row in rows:
        row = {"simulated": True, "guarded": guarded, "live_streams": streams, **row}
        click.echo(json.dumps(row) if as_json else "  ".join(f"{key}={value}" for key, value in row.items()))


if __name__ == "__main__":
    main()
