"""Floods at the ports of a real server beside live streams: what is late, what it costs, what is left of it.

python -m benchmarks.floods --json
python -m benchmarks.floods --flood bodies --seconds 60 --json

The server is real: the pocket model, its workers, gRPC, tenants. So are its clients: they play four live streams with a
buffer of 1.5 s, and new ones come all the time. A flood has a process of its own on the same machine; it is nice, and
says which share of a core it took. Each row says what is wrong in it, and so does the exit status.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import sys
import tempfile
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path

import click

from benchmarks.chaos_cell import ChaosCell, Setup, chaos_cell
from benchmarks.chaos_report import Row, Say, run, say_json, say_text
from benchmarks.flood_attacks import FLOODS
from benchmarks.live_streams import BUFFER_S, Audience, LiveRow
from benchmarks.prometheus import free_port
from cluster.access.callers import hash_of, new_token
from longtake.client import Client
from longtake.client.credentials import Credentials
from longtake.client.errors import ClientError
from monitoring import declarations as metrics

QUIET = "none"
FILES = 1024
"""File descriptors that the server may have: as many as shells give, and fewer than a flood has connections."""
DOOR_S, ENTER_S = 0.5, 5.0
"""How often a new client tries to get in, and after what it gives up."""
BACK_S = 60.0
"""By then memory and descriptors are to be back."""
MOST_MEMORY = 1.1
"""Of what it was before: so much memory may be held after a flood."""
MOST_PEAK = 1.25
"""And so much by the server while it lasts."""
OWN_FILES = 2
"""Descriptors more than before that may be gRPC's own: it opens one now and then, and keeps it."""
MOST_LOG_BYTES = 1_000_000
_LOOK_S = 0.1


@dataclass(slots=True)
class Held:
    """What the processes of a cell have at one moment."""

    files: int
    """Descriptors of the server."""
    mb: dict[str, float]
    """Memory of each process."""

    @classmethod
    def now(cls, cell: ChaosCell) -> Held:
        return cls(
            files=cell.server.files(),
            mb={name: round(one.resident_bytes() / 1e6, 1) for name, one in sorted(cell.all().items())},
        )

    @property
    def all_mb(self) -> float:
        return round(sum(self.mb.values()), 1)

    def is_back(self, before: Held) -> bool:
        """Whether no more is held than before, of memory not much more."""
        return (
            self.files <= before.files + OWN_FILES
            and self.all_mb <= MOST_MEMORY * before.all_mb
            and self.mb["server"] <= MOST_MEMORY * before.mb["server"]
        )


@dataclass(slots=True)
class Door:
    """New clients, one after another, each on a connection of its own."""

    credentials: Credentials
    clients_in: int = 0
    clients_out: int = 0
    worst_entry_s: float = 0.0

    async def knock(self, address: str) -> None:
        """Until cancelled."""
        while True:
            began_s = time.monotonic()
            try:
                async with asyncio.timeout(ENTER_S), Client(address, credentials=self.credentials) as client:
                    await client.get_model()
                self.clients_in += 1
            except (ClientError, TimeoutError):
                self.clients_out += 1
            self.worst_entry_s = max(self.worst_entry_s, time.monotonic() - began_s)
            await asyncio.sleep(DOOR_S)


@dataclass(frozen=True, slots=True, kw_only=True)
class FloodRow(LiveRow):
    """What came of one flood."""

    flood: str
    clients_in: int
    clients_out: int
    worst_entry_s: float
    before: Held
    peak_files: int
    peak_server_mb: float
    after: Held
    log_bytes: int
    attacker: dict[str, float] = field(default_factory=dict)

    def wrong(self) -> list[str]:
        """What should not be."""
        found = self.wrong_live()
        found += [f"{self.clients_out} new clients did not get in"] if self.clients_out else []
        if self.after.files > self.before.files + OWN_FILES:
            found.append(f"{self.after.files} descriptors, before {self.before.files}")
        for name, after_mb, before_mb in (
            ("all processes", self.after.all_mb, self.before.all_mb),
            ("the server", self.after.mb["server"], self.before.mb["server"]),
        ):
            if after_mb > MOST_MEMORY * before_mb:
                found.append(f"{name} hold {after_mb} MB, before {before_mb}")
        if self.peak_server_mb > MOST_PEAK * self.before.mb["server"]:
            found.append(f"the server held {self.peak_server_mb} MB meanwhile, before {self.before.mb['server']}")
        found += [f"{self.log_bytes} bytes of log"] if self.log_bytes >= MOST_LOG_BYTES else []
        return found

    def as_dict(self) -> Row:
        """As it is printed."""
        rounded = {"worst_late_s": round(self.worst_late_s, 3), "worst_entry_s": round(self.worst_entry_s, 3)}
        memory = {"all_mb_before": self.before.all_mb, "all_mb_after": self.after.all_mb}
        return asdict(self) | rounded | memory | {"wrong": self.wrong()}


@dataclass(frozen=True, slots=True)
class Site:
    """A server under floods, and who watches it."""

    cell: ChaosCell
    audience: Audience
    credentials: Credentials

    async def measure(self, flood: str, seconds: float) -> FloodRow:
        """One flood; `none` is as long a time without one."""
        before = Held.now(self.cell)
        log_bytes, late = self.cell.log.stat().st_size, await self._late()
        self.audience.take()
        door = Door(self.credentials)
        knocking = asyncio.create_task(door.knock(self.cell.address))
        peak = Held(files=0, mb={"server": 0.0})
        weighing = asyncio.create_task(self._weigh(peak))
        attacker = await attack(flood, self._target(flood), seconds)
        knocking.cancel()
        await asyncio.gather(knocking, return_exceptions=True)
        after = await self._settle(before)  # what it held up comes now
        weighing.cancel()
        seen = self.audience.take()
        return FloodRow(
            flood=flood, seconds=seconds, live_streams=len(self.audience.streams), blocks=seen.blocks,
            late_blocks=seen.late_blocks, worst_late_s=seen.worst_late_s,
            server_late_blocks=await self._late() - late, lost=seen.lost,
            clients_in=door.clients_in, clients_out=door.clients_out, worst_entry_s=door.worst_entry_s,
            before=before, peak_files=peak.files, peak_server_mb=peak.mb["server"], after=after,
            log_bytes=self.cell.log.stat().st_size - log_bytes, attacker=attacker,
        )  # fmt: skip

    def _target(self, flood: str) -> str:
        ports = {
            "metrics": self.cell.metrics.removeprefix("http://").partition("/")[0],
            "hellos": f"127.0.0.1:{self.cell.setup.link_port}",
        }
        return ports.get(flood, self.cell.address)

    async def _late(self) -> float:
        return (await self.cell.scraped()).sum(metrics.LATE_BLOCKS, pace="realtime")

    async def _weigh(self, peak: Held) -> None:
        while True:
            peak.files = max(peak.files, self.cell.server.files())
            peak.mb["server"] = max(peak.mb["server"], round(self.cell.server.resident_bytes() / 1e6, 1))
            await asyncio.sleep(_LOOK_S)

    async def _settle(self, before: Held) -> Held:
        """What is held when it is back, or when it should have been."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(BACK_S):
                while not Held.now(self.cell).is_back(before):
                    await asyncio.sleep(_LOOK_S)
        return Held.now(self.cell)


async def attack(flood: str, target: str, seconds: float) -> dict[str, float]:
    """One flood, by a process of its own that leaves the processors to the others; what it has seen."""
    if flood == QUIET:
        return await asyncio.sleep(seconds, {})
    command = ["nice", "-n", "19", sys.executable, "-m", "benchmarks.flood_attacks", flood, target, f"{seconds}"]
    process = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE)
    try:
        said, _ = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
    if process.returncode:
        raise RuntimeError(f"the flood {flood} ended with status {process.returncode}")
    counts: dict[str, float] = json.loads(said)
    return counts


def guarded(folder: Path, streams: int, model: str) -> tuple[Setup, Credentials]:
    """A server that asks who calls, and what an honest client shows."""
    token = new_token()
    tenants = folder / "tenants.toml"
    tenants.write_text(
        f'[tenants.acme]\n[[tenants.acme.tokens]]\nid = "client"\nrole = "client"\nhash = "{hash_of(token)}"\n'
    )
    tenants.chmod(0o600)
    extra = f'[metrics]\naddress = "127.0.0.1:0"\n[auth]\ntenants = "{tenants}"\n'
    setup = Setup(model=model, decode=1, sessions=streams, link_port=free_port(), most_files=FILES, extra=extra)
    return setup, Credentials(token=token)


async def measure(floods: list[str], seconds: float, streams: int, buffer_s: float, model: str, say: Say) -> bool:
    """Say a row of each flood, one after another, on one server; returns whether nothing is wrong in any."""
    with tempfile.TemporaryDirectory() as name:
        setup, credentials = guarded(Path(name), streams, model)
        async with chaos_cell(setup, Path(name)) as cell:
            try:
                async with Audience(cell.address, streams, buffer_s=buffer_s, credentials=credentials) as audience:
                    site = Site(cell, audience, credentials)
                    wrong = []
                    for flood in floods:
                        row = await site.measure(flood, seconds)
                        say(row.as_dict())
                        wrong += row.wrong()
                    return not wrong
            except BaseException:
                click.echo(cell.last_words(), err=True)
                raise


@click.command()
@click.option("--flood", "floods", multiple=True, type=click.Choice([QUIET, *FLOODS]), help="Default: all.")
@click.option("--seconds", default=30.0, show_default=True, help="How long each flood lasts.")
@click.option("--streams", default=4, show_default=True, type=click.IntRange(1), help="Live streams meanwhile.")
@click.option("--buffer", "buffer_s", default=BUFFER_S, show_default=True, help="Seconds that players wait at first.")
@click.option("--model", default="pocket", show_default=True, help="A model, as in a configuration.")
@click.option("--json", "as_json", is_flag=True, help="One object a line.")
def main(floods: tuple[str, ...], seconds: float, streams: int, buffer_s: float, model: str, as_json: bool) -> None:
    """Flood the ports of a server, and measure what others see of it."""
    say = say_json if as_json else say_text
    asked = list(floods or (QUIET, *FLOODS))
    sys.exit(0 if run(measure(asked, seconds, streams, buffer_s, model, say)) else 1)


if __name__ == "__main__":
    main()
