"""What came of a run of chaos, in rows: of each fault, of each kind of fault, of all streams, of what is left."""

from __future__ import annotations

import asyncio
import contextlib
import json
import signal
import statistics
from collections import Counter
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import asdict, dataclass

import click

from benchmarks.chaos_cell import ChaosCell
from benchmarks.chaos_streams import COMPLETED, Renderer, Take
from longtake.client import Client
from longtake.client.errors import ClientError

FREE_S = 150.0
"""How long the cell may take until everything is free after the last stream: a server that was killed and started again
waits two minutes for who may not have got the end of one (longtake.core.dispatch.attendance.READ_S)."""

Row = dict[str, object]
Say = Callable[[Row], None]


def say_json(row: Row) -> None:
    """One JSON object a line."""
    click.echo(json.dumps(row))


def say_text(row: Row) -> None:
    """For people."""
    click.echo("  ".join(f"{key}={value}" for key, value in row.items() if value not in ([], {}, "")))


@dataclass(frozen=True, slots=True, kw_only=True)
class FaultRow:
    """What followed from one fault."""

    fault: str
    victim: str
    gaps_s: list[float]
    """For each client, the longest time without a segment."""
    healed_s: float | None
    """After this time every client had a segment again and all workers were there; None: not in time."""
    lost: list[str]
    """How streams ended that it has cost."""
    told: list[str]
    """What clients were told of it beside segments, cues and recoveries, each once."""

    def as_dict(self) -> Row:
        """As it is printed."""
        healed_s = None if self.healed_s is None else round(self.healed_s, 2)
        return asdict(self) | {"gaps_s": [round(gap_s, 2) for gap_s in self.gaps_s], "healed_s": healed_s}


def kinds(rows: Sequence[FaultRow]) -> list[Row]:
    """The figures of each kind of fault, in the order in which kinds came first."""
    found: dict[str, list[FaultRow]] = {}
    for row in rows:
        found.setdefault(row.fault, []).append(row)
    return [
        {"kind": kind, "faults": len(alike), **percentiles([gap_s for row in alike for gap_s in row.gaps_s]),
         "streams_lost": sum(len(row.lost) for row in alike),
         "not_healed": sum(row.healed_s is None for row in alike)}
        for kind, alike in found.items()
    ]  # fmt: skip


def percentiles(values: Sequence[float]) -> Row:
    """Median, 99th percentile and worst of times without a segment."""
    ordered = sorted(values)
    p99 = ordered[min(len(ordered) - 1, round(0.99 * len(ordered)))]
    figures = {"gap_p50_s": statistics.median(ordered), "gap_p99_s": p99, "gap_worst_s": ordered[-1]}
    return {name: round(value, 2) for name, value in figures.items()}


@dataclass(frozen=True, slots=True, kw_only=True)
class Judgement:
    """All streams against what they should have been."""

    streams: int
    complete: int
    refused: int
    """Others that did not even begin."""
    differing: list[str]
    """Where bytes were others than rendered ones, and segments out of order."""
    approximate: list[str]
    """Where bytes were others and the client was told so, by a recipe whose memory cannot be made again exactly."""
    endings: dict[str, int]
    told: dict[str, int]
    """What clients were told beside segments and cues."""
    segments: int

    @property
    def is_right(self) -> bool:
        """Whether every stream is complete, with the right bytes; there must have been some."""
        return 0 < self.streams == self.complete and not self.differing

    def as_dict(self) -> Row:
        """As it is printed."""
        said = f"{self.complete} of {self.streams} complete, "
        said += "bytes equal" if not self.differing else f"bytes differ in {len(self.differing)}"
        said += f", {len(self.approximate)} approximate and told so" if self.approximate else ""
        return {"result": said, **asdict(self)}


async def judge(takes: Sequence[Take], renderer: Renderer) -> Judgement:
    """Compare every stream that has begun with what is rendered, as far as it went."""
    begun = [take for take in takes if take.has_begun]
    rendered = await asyncio.gather(*(renderer.expected(take) for take in begun))
    where = [(take, take.compare(right)) for take, right in zip(begun, rendered, strict=True)]
    wrong = [each for take in takes for each in take.wrong]
    others = [(take, f"{take.script.pace} {take.script.number}: {parts}") for take, parts in where if parts]
    return Judgement(
        streams=len(begun),
        complete=sum(take.ending == COMPLETED for take in begun),
        refused=len(takes) - len(begun),
        differing=[said for take, said in others if not take.may_differ] + wrong,
        approximate=[said for take, said in others if take.may_differ],
        endings=dict(Counter(take.ending for take in takes)),
        told=dict(sum((take.told for take in takes), Counter[str]())),
        segments=sum(take.segments for take in takes),
    )


async def what_is_held(cell: ChaosCell) -> Row:
    """Sessions, pages and slots that are still taken a while after the last stream, by the server's own account."""
    held: Row = {"server": "does not answer"}
    with contextlib.suppress(TimeoutError, ClientError):
        async with asyncio.timeout(FREE_S), Client(cell.address) as client:
            while held:
                status = await client.get_status()
                taken = {worker.worker_id: worker.capacity - worker.free for worker in status.workers}
                held = {name: count for name, count in taken.items() if count}
                held |= {"sessions": status.sessions} if status.sessions else {}
                await asyncio.sleep(0.2)
    return held


async def finish(cell: ChaosCell, say: Say) -> bool:
    """Look what is held, end the server, and look what is left of it; whether there was nothing."""
    held = await what_is_held(cell)
    left = await cell.stop()
    say({"held": held, **left})
    is_clean = not held and left == {"status": 0, "processes": [], "shared_memory": []}
    if not is_clean:
        click.echo(cell.last_words(), err=True)
    return is_clean


def run(work: Coroutine[None, None, bool]) -> bool:
    """Do it on an event loop that SIGTERM ends as Ctrl-C does, so that nothing is left behind."""

    async def guarded() -> bool:
        task = asyncio.ensure_future(work)
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
        return await task

    return asyncio.run(guarded())
