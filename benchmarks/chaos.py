"""Chaos: a real server whose processes are killed and stopped, and whether its streams are what they would have been.

python -m benchmarks.chaos --kills 30 --stops 10 --stalls 5
python -m benchmarks.chaos --launcher ray --kills 6 --stops 2 --stalls 1
python -m benchmarks.chaos --hour
python -m benchmarks.chaos --kills 4 --stops 1 --stalls 0 --recipe longlive --fast 2 --realtime 0

Clients stream all the while, each the same script again and again, with cues on the way. Faults come one after the
other, each when what the one before did has healed. Every stream is compared, byte by byte, with what `longtake render`
makes of its prompt, seed and cues by the same recipe (realtime streams may shed steps, where it has steps to shed; then
they are not rendered alike). For each fault: the longest time that each client went without a segment. At the end:
whether everything is free and nothing is left. The exit status says whether all streams were complete and equal, but
for those that were told that they are approximate, as those may be whose memory is folded from what is not kept.

`--hour` is one stream of an hour, as fast as it can be made, with a cue a minute and a kill every two minutes of it.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypedDict, Unpack

import click

from benchmarks.chaos_cell import ChaosCell, Setup, chaos_cell
from benchmarks.chaos_faults import Counts, Fault, strike
from benchmarks.chaos_hour import hour
from benchmarks.chaos_report import FaultRow, Say, finish, judge, kinds, run, say_json, say_text
from benchmarks.chaos_streams import COMPLETED, Renderer, Script, Take, longest_gap_s, stream
from cluster.launch.plan import model_path
from longtake.client import Client, PaceName
from longtake.client.errors import ClientError
from longtake.core.errors import Unavailable
from longtake.recipes import find_recipe
from workers.models import weights

HEAL_S = 120.0
"""How long a cell may take until all that a fault has hit goes on."""
CALM_S = (1.0, 4.0)
"""Between the healing of one fault and the next one, drawn from these."""
RETRY_S = 0.5
ON_ITS_WAY_S = 1.0
"""By then all has come that was sent before a fault, and the cell has noticed that a process is dead."""
FINISH_S = 600.0
_LOOK_S = 0.1


class Asked(TypedDict):
    """The options of the command line."""

    kills: int
    stops: int
    stalls: int
    server_kills: int
    nodes: int
    node_kills: int
    launcher: str
    model: str
    recipe: str
    reference: tuple[Path, ...]
    extra: str
    fast: int
    realtime: int
    blocks: int
    cue_every: int
    seed: int
    is_hour: bool
    as_json: bool


@dataclass(slots=True)
class Viewer:
    """A client that plays its script again and again."""

    script: Script
    takes: list[Take] = field(default_factory=list)

    async def watch(self, address: str, over: asyncio.Event) -> None:
        """Stream until it is over: what runs then is finished."""
        while not over.is_set():
            take = Take(self.script, time.monotonic())
            self.takes.append(take)
            await stream(address, take)
            if take.ending != COMPLETED:
                await asyncio.sleep(RETRY_S)

    def has_seen_since(self, moment_s: float) -> bool:
        """Whether a segment has come since then."""
        return any(take.came_s and take.came_s[-1] > moment_s for take in self.takes[-2:])


@dataclass(slots=True)
class Chaos:
    """One run: clients, faults, and what came of them."""

    cell: ChaosCell
    viewers: list[Viewer]
    say: Say
    draw: random.Random
    rows: list[FaultRow] = field(default_factory=list)

    @property
    def takes(self) -> list[Take]:
        """All streams of all clients."""
        return [take for viewer in self.viewers for take in viewer.takes]

    async def run(self, faults: list[Fault]) -> None:
        """Strike while the clients stream, then let them finish."""
        over = asyncio.Event()
        watching = [asyncio.create_task(viewer.watch(self.cell.address, over)) for viewer in self.viewers]
        try:
            await self._heal()
            for fault in faults:
                await asyncio.sleep(self.draw.uniform(*CALM_S))
                self.rows.append(await self._strike(fault))
                self.say(self.rows[-1].as_dict())
                if not self.cell.is_up:
                    raise Unavailable("the server has ended, though nobody asked it to")
            over.set()
            async with asyncio.timeout(FINISH_S):
                await asyncio.gather(*watching)
        finally:
            for task in watching:
                task.cancel()
            await asyncio.gather(*watching, return_exceptions=True)

    async def _strike(self, fault: Fault) -> FaultRow:
        ended = {id(take) for take in self.takes if take.ending}
        before = self._told()
        struck_s = time.monotonic()
        victim = await strike(self.cell, fault, self.draw)
        healed = await self._heal()
        until_s = time.monotonic()
        struck = [take for take in self.takes if id(take) not in ended and take.has_begun]
        return FaultRow(
            fault=str(fault),
            victim=victim,
            gaps_s=[longest_gap_s(viewer.takes, struck_s, until_s) for viewer in self.viewers],
            healed_s=until_s - struck_s if healed else None,
            lost=[take.ending for take in struck if take.ending not in ("", COMPLETED)],
            told=sorted(text for text in self._told() - before if text.startswith("notice: ")),
        )

    def _told(self) -> Counter[str]:
        """What all clients were told so far."""
        return sum((take.told for take in self.takes), Counter[str]())

    async def _heal(self) -> bool:
        """Wait until every client gets segments, not only what was on its way, and all workers are there.

        Returns whether that came about.
        """
        await asyncio.sleep(ON_ITS_WAY_S)
        since_s = time.monotonic()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(HEAL_S):
                while not all(viewer.has_seen_since(since_s) for viewer in self.viewers):
                    await asyncio.sleep(_LOOK_S)
                while await self._joined() < len(self.cell.setup.workers):
                    await asyncio.sleep(_LOOK_S)
                return True
        return False

    async def _joined(self) -> int:
        with contextlib.suppress(ClientError):
            async with Client(self.cell.address) as client:
                return len((await client.get_status()).workers)
        return 0


async def storm(setup: Setup, counts: Counts, scripts: list[Script], seed: int, say: Say) -> bool:
    """One run with several clients; whether all was right."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        renderer = Renderer(folder, setup.model, processes=2)
        async with chaos_cell(setup, folder) as cell:
            chaos = Chaos(cell, [Viewer(script) for script in scripts], say, random.Random(seed))
            try:
                await chaos.run(list(counts.plan(seed)))
                is_clean = await finish(cell, say)
                for row in kinds(chaos.rows):
                    say(row)
                judgement = await judge(chaos.takes, renderer)
                say(judgement.as_dict())
            except BaseException:
                click.echo(cell.last_words(), err=True)
                raise
            finally:
                await renderer.stop()
    return is_clean and judgement.is_right and all(row.healed_s is not None for row in chaos.rows)


@click.command()
@click.option("--kills", default=30, show_default=True, type=click.IntRange(0), help="Workers killed.")
@click.option("--stops", default=10, show_default=True, type=click.IntRange(0), help="Workers stopped for 10 s.")
@click.option("--stalls", default=5, show_default=True, type=click.IntRange(0), help="Stops of the server alone.")
@click.option("--server-kills", default=0, show_default=True, type=click.IntRange(0))
@click.option(
    "--launcher",
    default="subprocess",
    show_default=True,
    type=click.Choice(["subprocess", "ray"]),
    help="With ray its GCS and its raylet are killed at the end, if it has no --nodes.",
)
@click.option("--nodes", default=0, show_default=True, type=click.IntRange(0), help="Ray nodes beside a head.")
@click.option("--node-kills", default=0, show_default=True, type=click.IntRange(0), help="Of nodes with all workers.")
@click.option("--model", default="pocket", show_default=True, help="A model, as in a configuration.")
@click.option("--recipe", default="", help="One that ships, by which all streams are made. Default: the model's own.")
@click.option("--reference", multiple=True, type=click.Path(exists=True, dir_okay=False, path_type=Path),
              help="An image that all streams look at, by a recipe with references.")  # fmt: skip
@click.option("--extra", default="", help="More lines of the configuration; {folder} is a folder of this run.")
@click.option("--fast", default=2, show_default=True, type=click.IntRange(0), help="Clients of FAST streams.")
@click.option("--realtime", default=1, show_default=True, type=click.IntRange(0))
@click.option("--blocks", default=120, show_default=True, type=click.IntRange(1), help="Of each stream.")
@click.option("--cue-every", default=30, show_default=True, type=click.IntRange(1), help="Blocks.")
@click.option("--seed", default=1, show_default=True, help="Of the order of faults.")
@click.option("--hour", "is_hour", is_flag=True, help="One FAST stream of 4,800 blocks instead.")
@click.option("--json", "as_json", is_flag=True, help="One object a line.")
def main(**asked: Unpack[Asked]) -> None:
    """Kill and stop the processes of a server, and compare its streams with rendered ones."""
    say = say_json if asked["as_json"] else say_text
    geometry, name = weights.load_info(model_path(asked["model"])).geometry, asked["recipe"]
    looks = 0
    if name:
        recipe = find_recipe(name, field="--recipe").recipe
        geometry, looks = geometry.divided(recipe.blocks), recipe.context.reference_frames
    if len(asked["reference"]) != looks:
        raise click.UsageError(
            f"--reference was given {len(asked['reference'])} times, streams of this recipe look at {looks}"
        )
    wanted: tuple[tuple[PaceName, int], ...] = (("fast", asked["fast"]), ("realtime", asked["realtime"]))
    paces = [pace for pace, count in wanted for _ in range(count)]
    if (asked["nodes"] and asked["launcher"] != "ray") or (asked["node_kills"] and asked["nodes"] < 2):
        raise click.UsageError("--nodes need --launcher ray, and --node-kills two of them or more")
    setup = Setup(
        launcher=asked["launcher"], model=asked["model"], sessions=len(paces), nodes=asked["nodes"],
        extra=asked["extra"], recipe=name,
    )  # fmt: skip
    if asked["is_hour"]:
        sys.exit(0 if run(hour(setup, geometry, asked["seed"], say)) else 1)
    counts = Counts(
        kills=asked["kills"], stops=asked["stops"], stalls=asked["stalls"], server_kills=asked["server_kills"],
        node_kills=asked["node_kills"], ray=asked["launcher"] == "ray" and not asked["nodes"],
    )  # fmt: skip
    scripts = [
        Script(
            number=number,
            pace=pace,
            blocks=asked["blocks"],
            cue_every=asked["cue_every"],
            geometry=geometry,
            recipe=name,
            references=asked["reference"],
        )
        for number, pace in enumerate(paces)
    ]
    sys.exit(0 if run(storm(setup, counts, scripts, asked["seed"], say)) else 1)


if __name__ == "__main__":
    main()
