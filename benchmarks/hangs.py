"""Workers whose device never ends an op, and workers that are merely slow: what live streams wait, and what comes back.

python -m benchmarks.hangs --json
python -m benchmarks.hangs --worker decode --decoders 1 --times 1 --json

A real server whose realtime sessions are each on one denoise and one decode worker. One of them hangs in the middle of
an op, as a kernel that never returns. Sessions with state there must go on elsewhere, within the bound on an op (20
times what it usually takes, at least 5 s) and the time that recovery may take; where there is no other worker of its
kind, when a new process has taken its place. Others must go on meanwhile. The new process must serve. A worker that is
5 times as slow for 10 s must not be given up. Each row says what is wrong in it, and so does the exit status.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
import tempfile
import time
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import asdict, dataclass, field
from pathlib import Path

import click

from benchmarks.chaos_cell import ChaosCell, Setup, chaos_cell
from benchmarks.chaos_report import Row, Say, run, say_json, say_text
from benchmarks.live_streams import Audience, LiveStream
from cluster.launch.absences import BACK_S
from longtake.client import Client, StreamOptions
from longtake.client.errors import ClientError
from longtake.core.errors import Unavailable
from longtake.core.fleet.hangs import LEAST_S, REPORTS, TIMES
from longtake.core.limits import Limits
from monitoring import declarations as metrics

ROLES = ("denoise", "decode")
HANGING = Path(__file__).parent / "hanging"
"""What makes workers hang: see the file in it."""
KNOWN = REPORTS + 5
"""So many dispatches a worker must have done before it hangs: the bound is of what it usually takes."""
BUSY_S = 60.0
GONE_S = 120.0
"""By then a new process has taken the place of one that hung, and serves."""
OTHERS_S = 3.0
"""A stream that has nothing with the worker never waits so long: four blocks."""
SLOW_TIMES, SLOW_S = 5, 10.0
SLOWER = 1.3
"""By so much the moving average of its ops has grown then at least; else it was not slow."""
AFTER_SLOW_S = 6.0
"""Whoever takes what was slow for a hang may do so only now."""
TRY_PICTURES = 33
"""Of a stream that shows whether a new process serves: three blocks."""
_LOOK_S = 0.1


@dataclass(slots=True)
class Ops:
    """Which worker did what for each live stream, as the server tells its clients."""

    done: dict[int, list[tuple[float, str]]] = field(default_factory=dict)
    """For each stream, when an op of it was reported and by whom."""
    dispatches: dict[str, set[float]] = field(default_factory=dict)
    """For each worker, when its dispatches were sent."""
    batches: Counter[str] = field(default_factory=Counter)
    """The most ops that shared a dispatch of a worker."""

    async def watch(self, client: Client, stream: LiveStream) -> None:
        """Until the session ends."""
        with contextlib.suppress(ClientError):
            async for span in client.watch_ops(stream.session):
                self.done.setdefault(stream.number, []).append((time.monotonic(), span.worker_id))
                self.dispatches.setdefault(span.worker_id, set()).add(span.dispatched_at_s)
                self.batches[span.worker_id] = max(self.batches[span.worker_id], span.batch)

    def busiest(self, role: str) -> tuple[str, int]:
        """The worker of a role with the most dispatches, and how many; nobody if there was none."""
        counts = {name: len(sent) for name, sent in self.dispatches.items() if name.startswith(f"{role}-")}
        return max(counts.items(), key=lambda each: each[1], default=("", 0))

    def by(self, number: int, role: str, from_s: float, until_s: float) -> list[str]:
        """The workers of a role that did something for a stream between two moments."""
        spans = self.done.get(number, [])
        return sorted({by for at_s, by in spans if from_s < at_s <= until_s and by.startswith(f"{role}-")})


@contextlib.asynccontextmanager
async def watched(address: str, streams: list[LiveStream]) -> AsyncIterator[Ops]:
    """What workers do for these streams, meanwhile."""
    ops = Ops()
    async with Client(address) as client:
        tasks = [asyncio.create_task(ops.watch(client, stream)) for stream in streams]
        try:
            yield ops
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class HangRow:
    """What followed from one hang."""

    hung: str
    is_only_one: bool
    op_s: float
    """What the worker usually takes for an op."""
    limit_s: float
    """The bound on its ops."""
    start_s: float
    """How long the whole server took to start."""
    waits_s: dict[int, float]
    """For each stream that had state there, its longest time without a segment."""
    went_on_with: dict[int, list[str]]
    """The workers of the role that served those streams before the new process did."""
    other_waits_s: dict[int, float]
    recovery_s: float
    """What the recoveries took, on average, from the loss of the worker."""
    replaced_s: float | None
    """When a new process had joined in its place, from the hang on."""
    serves_s: float | None
    """When that had done an op."""
    given_up: float
    """How many workers the server counts as hung."""
    lost: list[str]
    late_blocks: int

    @property
    def bound_s(self) -> float:
        """The longest that a stream with state there may wait."""
        comes_back_s = BACK_S + self.start_s if self.is_only_one else 0.0
        return self.limit_s + comes_back_s + Limits().recover_within_s

    def wrong(self) -> list[str]:
        """What should not be."""
        found = [f"a session was lost: {ending}" for ending in self.lost]
        found += ["no session had state there"] if not self.waits_s else []
        for number, wait_s in self.waits_s.items():
            if wait_s > self.bound_s:
                found.append(f"stream {number} waited {wait_s:.1f} s, allowed are {self.bound_s:.1f}")
            if not self.is_only_one and not [by for by in self.went_on_with[number] if by != self.hung]:
                found.append(f"stream {number} did not go on elsewhere")
        for number, wait_s in self.other_waits_s.items():
            if wait_s > OTHERS_S:
                found.append(f"stream {number} had nothing there and waited {wait_s:.1f} s")
        found += [f"{self.given_up:g} workers are counted as hung"] if self.given_up != 1 else []
        found += ["it was not replaced"] if self.replaced_s is None else []
        return found + (["the new process does not serve"] if self.serves_s is None else [])

    def as_dict(self) -> Row:
        """As it is printed."""
        whole = asdict(self) | {"bound_s": self.bound_s}
        return {name: _rounded(value) for name, value in whole.items()} | {"wrong": self.wrong()}


@dataclass(frozen=True, slots=True, kw_only=True)
class SlowRow:
    """What followed from a worker that was slow for a while."""

    slow: str
    times: int
    seconds: float
    op_s: float
    """What the worker usually took for an op."""
    slow_op_s: float
    """What it took at the end of that time."""
    given_up: float
    """Workers that the server counts as lost."""
    is_same_process: bool
    waits_s: dict[int, float]
    """The longest time without a segment of each stream."""
    lost: list[str]

    def wrong(self) -> list[str]:
        """What should not be."""
        found = [f"a session was lost: {ending}" for ending in self.lost]
        found += [f"{self.given_up:g} workers were given up"] if self.given_up else []
        found += [f"it was not slow: {self.slow_op_s:.3f} s an op"] if self.slow_op_s < SLOWER * self.op_s else []
        return found + ([] if self.is_same_process else ["it is another process"])

    def as_dict(self) -> Row:
        """As it is printed."""
        return {name: _rounded(value) for name, value in asdict(self).items()} | {"wrong": self.wrong()}


def _rounded(value: object) -> object:
    match value:
        case float():
            return round(value, 3)
        case dict():
            return {name: _rounded(each) for name, each in value.items()}
        case _:
            return value


@dataclass(frozen=True, slots=True)
class Trouble:
    """A cell whose workers can be made to hang, one after another."""

    cell: ChaosCell
    folder: Path
    """Where the processes of workers look what they are to do."""
    streams: int
    start_s: float

    async def hang(self, role: str) -> HangRow:
        """Have a worker of this role hang; what came of it."""
        async with (
            Audience(self.cell.address, self.streams) as audience,
            watched(self.cell.address, audience.streams) as ops,
        ):
            worker = await self._busy(ops, role)
            before, hung, began_s = await self.cell.scraped(), self.cell.find()[worker], time.monotonic()
            struck = [each.number for each in audience.streams if worker in ops.by(each.number, role, 0.0, began_s)]
            audience.take()
            (self.folder / worker).write_text(f"hang {hung.pid}")
            replaced_s = await self._replaced(worker, hung.pid, began_s)
            until_s = time.monotonic()
            serves_s = None if replaced_s is None else await self._serves(worker, began_s)
            await audience.until_all_since(until_s, BUSY_S)
            after, seen, end_s = await self.cell.scraped(), audience.take(), time.monotonic()
            waits_s = dict(enumerate(audience.waits_s(began_s, end_s)))
        (self.folder / worker).unlink()
        op_s = before.sum(metrics.OP_SECONDS, worker=worker)
        recoveries = after.sum(metrics.RECOVERY) - before.sum(metrics.RECOVERY)
        return HangRow(
            hung=worker, is_only_one=self._count(role) == 1, op_s=op_s,
            limit_s=max(LEAST_S, TIMES * op_s * ops.batches[worker]), start_s=self.start_s,
            waits_s={number: waits_s[number] for number in struck},
            went_on_with={number: ops.by(number, role, began_s + LEAST_S, end_s) for number in struck},
            other_waits_s={number: wait_s for number, wait_s in waits_s.items() if number not in struck},
            recovery_s=(after.total(metrics.RECOVERY) - before.total(metrics.RECOVERY)) / max(1.0, recoveries),
            replaced_s=replaced_s, serves_s=serves_s,
            given_up=after.sum(metrics.WORKERS_LOST, cause="hang") - before.sum(metrics.WORKERS_LOST, cause="hang"),
            lost=seen.lost, late_blocks=seen.late_blocks,
        )  # fmt: skip

    async def slow_down(self, role: str) -> SlowRow:
        """Have a worker of this role be slow for a while; what came of it."""
        async with (
            Audience(self.cell.address, self.streams) as audience,
            watched(self.cell.address, audience.streams) as ops,
        ):
            worker = await self._busy(ops, role)
            before, same, began_s = await self.cell.scraped(), self.cell.find()[worker], time.monotonic()
            audience.take()
            (self.folder / worker).write_text(f"slow {SLOW_TIMES}")
            await asyncio.sleep(SLOW_S)
            slow_op_s = (await self.cell.scraped()).sum(metrics.OP_SECONDS, worker=worker)
            (self.folder / worker).unlink()
            await asyncio.sleep(AFTER_SLOW_S)
            await audience.until_all_since(time.monotonic(), GONE_S)
            after, seen = await self.cell.scraped(), audience.take()
            return SlowRow(
                slow=worker, times=SLOW_TIMES, seconds=SLOW_S,
                op_s=before.sum(metrics.OP_SECONDS, worker=worker), slow_op_s=slow_op_s,
                given_up=after.sum(metrics.WORKERS_LOST) - before.sum(metrics.WORKERS_LOST),
                is_same_process=self.cell.find().get(worker) == same,
                waits_s=dict(enumerate(audience.waits_s(began_s, time.monotonic()))), lost=seen.lost,
            )  # fmt: skip

    def _count(self, role: str) -> int:
        return sum(name.startswith(f"{role}-") for name in self.cell.setup.workers)

    async def _busy(self, ops: Ops, role: str) -> str:
        """The worker of this role that is the first to have done what it is judged by. Unavailable if none does."""
        until_s = time.monotonic() + BUSY_S
        while time.monotonic() < until_s:
            worker, dispatches = ops.busiest(role)
            if dispatches >= KNOWN:
                return worker
            await asyncio.sleep(_LOOK_S)
        raise Unavailable(f"no {role} worker has enough to do: in {BUSY_S:g} s {ops.busiest(role)[1]} dispatches")

    async def _replaced(self, worker: str, hung: int, began_s: float) -> float | None:
        """When another process is there, and joined."""
        role = worker.partition("-")[0]
        while time.monotonic() < began_s + GONE_S:
            new = self.cell.find().get(worker)
            if new is not None and new.pid != hung:
                scraped = await self.cell.scraped()
                if scraped.sum(metrics.WORKERS, role=role) == self._count(role):
                    return time.monotonic() - began_s
            await asyncio.sleep(_LOOK_S)
        return None

    async def _serves(self, worker: str, began_s: float) -> float | None:
        """When it has done an op: of those streams, or of a new one, which is spread over all denoise workers."""
        before = (await self.cell.scraped()).sum(metrics.OPS, worker=worker)
        async with Client(self.cell.address) as client:
            while time.monotonic() < began_s + GONE_S:
                options = StreamOptions(pace="fast", pictures=TRY_PICTURES)
                with contextlib.suppress(ClientError):
                    async with client.stream("a red ball", options) as stream:
                        async for _ in stream:
                            if (await self.cell.scraped()).sum(metrics.OPS, worker=worker) > before:
                                return time.monotonic() - began_s
                await asyncio.sleep(_LOOK_S)
        return None


async def measure(roles: list[str], decoders: int, times: int, streams: int, model: str, say: Say) -> bool:
    """Say a row of each hang and of each slowness; returns whether nothing is wrong in any."""
    wrong = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        trouble = folder / "trouble"
        trouble.mkdir()
        root = Path(__file__).resolve().parent.parent
        found = os.pathsep.join([str(root), str(HANGING), *filter(None, [os.environ.get("PYTHONPATH")])])
        setup = Setup(
            model=model, decode=decoders, sessions=streams + 1, packed=True,
            extra='[metrics]\naddress = "127.0.0.1:0"\n',
            environment={"PYTHONPATH": found, "HANG_FOLDER": str(trouble)},
        )  # fmt: skip
        began_s = time.monotonic()
        async with chaos_cell(setup, folder) as cell:
            troubled = Trouble(cell, trouble, streams, time.monotonic() - began_s)
            try:
                for role in [*roles] * times:
                    hang = await troubled.hang(role)
                    say(hang.as_dict())
                    wrong += hang.wrong()
                for role in roles:
                    slow = await troubled.slow_down(role)
                    say(slow.as_dict())
                    wrong += slow.wrong()
            except BaseException:
                click.echo(cell.last_words(), err=True)
                raise
    return not wrong


@click.command()
@click.option("--worker", "roles", multiple=True, type=click.Choice(ROLES), help="Who hangs. Default: both.")
@click.option("--decoders", default=2, show_default=True, type=click.IntRange(1), help="Decode workers.")
@click.option("--times", default=3, show_default=True, type=click.IntRange(0), help="Hangs of each.")
@click.option("--streams", default=4, show_default=True, type=click.IntRange(1), help="Live streams.")
@click.option("--model", default="pocket", show_default=True, help="A model, as in a configuration.")
@click.option("--json", "as_json", is_flag=True, help="One object a line.")
def main(roles: tuple[str, ...], decoders: int, times: int, streams: int, model: str, as_json: bool) -> None:
    """Have workers hang and be slow, and measure what live streams wait."""
    say = say_json if as_json else say_text
    sys.exit(0 if run(measure(list(roles or ROLES), decoders, times, streams, model, say)) else 1)


if __name__ == "__main__":
    main()
