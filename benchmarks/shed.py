"""Live streams while a worker has become slow, with and without a recipe that sheds steps; and how many are let in.

python -m benchmarks.shed --json

A cell in simulated time (`benchmarks.cell_model`): the real scheduler, devices that are only numbers, and an arithmetic
in place of a model whose results depend on everything that those of a model do, so every segment has bytes. In the
middle of the run one of two denoise workers becomes slower by a factor. By the recipe `asd` blocks take fewer steps
then, by the same one without its shorter lists they come late. Blocks that were begun before must be the same bytes in
both. Then as many streams are let in as the cell takes, once with `limits.admit_at = "usual"` and once with `"shed"`.
Each row says what is wrong in it, and so does the exit status.
"""

from __future__ import annotations

import json
import sys
from collections import Counter
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from fractions import Fraction

import click

from benchmarks.cell_model import Client, Simulation
from benchmarks.hardware import ENOUGH_BYTES, Hardware
from longtake.core.effects import Effect, Emit
from longtake.core.flow import Pace
from longtake.core.limits import AdmitAt, Limits
from longtake.core.recipe.blocks import BlockPlan
from longtake.core.recipe.geometry import Geometry
from longtake.core.recipe.recipe import Recipe
from longtake.core.work import DecodeWork, ForwardWork, FromLatent, LatentRef, SessionId, WorkerId
from longtake.recipes import shipped
from workers.messages import Decode, Done, Forward, Task

RECIPE = "asd"
LIVE = 8
SLOWER = 1.6
HARDWARE = Hardware(devices=2, forward_s=0.0335, decode_s=0.02, jitter=0.05, link_s=0.001)
"""Two denoise workers, of which each has the time of four streams of four steps a block, at 89 % of it."""
LEAST_LATE, MOST_LATE = 0.05, 0.001
"""Shares of blocks: without shedding more than the first must come late, with it no more than the second."""
LEAST_GAIN = 1.6
SMALL = Geometry(width=16, height=16, fps=Fraction(16), latent_channels=1, blocks=BlockPlan(frames=3))
"""So that bytes cost little; the time of an op is that of the hardware."""
_OPENS_S = 0.75
"""Between two clients."""
_PLAYS_S = 30.0
"""By then all streams play."""


class WithBytes(Simulation):
    """A cell in simulated time whose workers really do what they are told: each segment has bytes."""

    def __init__(self, recipe: Recipe, *, seed: int, limits: Limits | None = None) -> None:
        self.latents: dict[LatentRef, bytes] = {}
        self.segments: dict[tuple[SessionId, int], bytes] = {}
        """Those that have left, by session and block."""
        self.sent_s: dict[tuple[SessionId, int], float] = {}
        self.steps: Counter[int] = Counter()
        """Of the blocks that have left after the warm-up."""
        self.slack_s: list[float] = []
        """How long before it was due each of them left."""
        self._made: dict[tuple[SessionId, int], bytes] = {}
        limits = limits or Limits(max_sessions=1000, journal_bytes=ENOUGH_BYTES)
        super().__init__(HARDWARE, recipe=recipe, geometry=SMALL, limits=limits, seed=seed, warmup_s=_PLAYS_S)

    def slow_down(self, worker: WorkerId, factor: float, *, at_s: float) -> None:
        """From then on every op of a worker takes so many times as long."""

        def slower() -> None:
            self._devices[worker].op_s *= factor

        self.at(at_s, slower)

    def _finish(self, worker: WorkerId, generation: int, seconds: float) -> None:
        device = self._devices[worker]
        if device.generation == generation:
            dispatch = device.queue[0]
            done = device.copies.worker.perform(Task(sequence=dispatch.sequence, order=self._order(dispatch.work)))
            assert isinstance(done, Done)
            if isinstance(dispatch.work, DecodeWork):
                self._made[dispatch.work.session, dispatch.work.block] = done.segment
            else:
                sent = [work for work in dispatch.work if work.returns.are_sent]
                for work, latents in zip(sent, done.outputs, strict=True):
                    self.latents[LatentRef(session=work.session, block=work.block, step=work.enters)] = latents
        super()._finish(worker, generation, seconds)

    def _order(self, work: DecodeWork | tuple[ForwardWork, ...]) -> Decode | tuple[Forward, ...]:
        if isinstance(work, DecodeWork):
            return Decode(work=work, latents=self.latents[work.latents])
        return tuple(
            Forward(
                work=each,
                latents=self.latents[each.input.ref] if isinstance(each.input, FromLatent) else b"",
                conditioning=b"p",
            )
            for each in work
        )

    def _perform(self, effect: Effect) -> None:
        if isinstance(effect, Emit):
            key = effect.session, effect.block
            self.segments[key], self.sent_s[key] = self._made.pop(key), self.now_s
            if self.now_s >= self.warmup_s:
                self.steps[effect.steps] += 1
                self.slack_s += [] if effect.slack_s is None else [effect.slack_s]
        super()._perform(effect)


@dataclass(frozen=True, slots=True, kw_only=True)
class SlowRow:
    """What live streams saw while a worker was slow."""

    sheds: bool
    live_streams: int
    slower: float
    seconds: float
    """Of simulated time, after all streams play; the worker is slow in the second half."""
    blocks: int
    late_share: float
    """Of these blocks, by the clients' screens."""
    least_slack_s: float
    """Of these blocks: how long before it was due the one left that was nearest to be late."""
    steps: dict[int, int]
    """How many blocks took so many steps."""

    def wrong(self) -> list[str]:
        """What should not be."""
        if self.sheds:
            found = [f"{self.late_share:.2%} of the blocks came late"] if self.late_share > MOST_LATE else []
            return found + ([] if len(self.steps) > 1 else ["nothing was shed"])
        return [] if self.late_share > LEAST_LATE else [f"only {self.late_share:.2%} of the blocks came late"]


@dataclass(frozen=True, slots=True, kw_only=True)
class BytesRow:
    """The segments of two runs, one of which sheds."""

    before: int
    """Segments that had left in both before the worker became slow."""
    differing_before: int
    """Of these, how many are not the same bytes in both: none may be."""
    differing_after: int
    """Of the later ones: some must be, or bytes would say nothing."""

    def wrong(self) -> list[str]:
        """What should not be."""
        found = [f"{self.differing_before} of {self.before} segments differ"] if self.differing_before else []
        return found + ([] if self.before and self.differing_after else ["bytes say nothing here"])


@dataclass(frozen=True, slots=True, kw_only=True)
class AdmitRow:
    """How many live streams are let in, and what they see."""

    admit_at: str
    live_streams: int
    seconds: float
    blocks: int
    late_blocks: int
    least_slack_s: float
    steps: dict[int, int]
    gain: float
    """Streams over those of `usual`."""

    def wrong(self) -> list[str]:
        """What should not be."""
        found = [f"{self.late_blocks} blocks came late"] if self.late_blocks else []
        is_enough = self.gain >= LEAST_GAIN or self.admit_at == AdmitAt.USUAL.value
        return found + ([] if is_enough else [f"only {self.gain:.2f} times the streams"])


def slowed(recipe: Recipe, *, sheds: bool, seconds: float, seed: int) -> tuple[WithBytes, SlowRow]:
    """Live streams, half of which are on a worker that becomes slow half way."""
    steps = recipe.steps if sheds else replace(recipe.steps, shed=())
    cell = WithBytes(replace(recipe, steps=steps), seed=seed)
    for number in range(LIVE):
        cell.add(Client(pace=Pace.REALTIME, begins_s=_OPENS_S * number))
    cell.slow_down(WorkerId("denoise-0"), SLOWER, at_s=_PLAYS_S + seconds / 2)
    cell.run(_PLAYS_S + seconds)
    live = [stream for stream in cell.streams.values() if not stream.refusals]
    row = SlowRow(
        sheds=sheds,
        live_streams=len(live),
        slower=SLOWER,
        seconds=seconds,
        blocks=cell.blocks,
        late_share=cell.late_share(),
        least_slack_s=min(cell.slack_s),
        steps=dict(sorted(cell.steps.items())),
    )
    return cell, row


def compared(one: WithBytes, other: WithBytes, until_s: float) -> BytesRow:
    """The segments of two cells before and after a moment."""
    keys = one.segments.keys() & other.segments.keys()
    before = {key for key in keys if max(one.sent_s[key], other.sent_s[key]) < until_s}
    return BytesRow(
        before=len(before),
        differing_before=sum(one.segments[key] != other.segments[key] for key in before),
        differing_after=sum(one.segments[key] != other.segments[key] for key in keys - before),
    )


def admitted(recipe: Recipe, admit_at: AdmitAt, *, seconds: float, seed: int, usual: int = 0) -> AdmitRow:
    """As many live streams as are let in; `usual` are those that are let in by the usual lists."""
    limits = Limits(max_sessions=1000, journal_bytes=ENOUGH_BYTES, admit_at=admit_at)
    cell = WithBytes(recipe, seed=seed, limits=limits)
    for number in range(4 * LIVE):
        cell.add(Client(pace=Pace.REALTIME, begins_s=_OPENS_S * number))
    cell.run(_PLAYS_S + seconds)
    live = [stream for stream in cell.streams.values() if not stream.refusals]
    return AdmitRow(
        admit_at=admit_at.value,
        live_streams=len(live),
        seconds=seconds,
        blocks=cell.blocks,
        late_blocks=sum(stream.late for stream in live),
        least_slack_s=min(cell.slack_s),
        steps=dict(sorted(cell.steps.items())),
        gain=len(live) / (usual or len(live)),
    )


@click.command(help=__doc__)
@click.option("--seconds", default=600.0, show_default=True, help="Simulated time of each run, after all play.")
@click.option("--seed", default=1, show_default=True)
@click.option("--json", "as_json", is_flag=True, help="Print one object a line.")
def main(seconds: float, seed: int, as_json: bool) -> None:
    """Run both comparisons."""
    recipe, wrong = shipped()[RECIPE].recipe, 0
    say: Callable[[str], None] = click.echo

    def show(row: SlowRow | BytesRow | AdmitRow) -> None:
        nonlocal wrong
        found = row.wrong()
        wrong += len(found)
        told = {"row": type(row).__name__, **asdict(row), "wrong": found}
        say(json.dumps(told) if as_json else "  ".join(f"{key}={value}" for key, value in told.items()))

    plain, without = slowed(recipe, sheds=False, seconds=seconds, seed=seed)
    show(without)
    shedding, with_it = slowed(recipe, sheds=True, seconds=seconds, seed=seed)
    show(with_it)
    show(compared(plain, shedding, _PLAYS_S + seconds / 2))
    usual = admitted(recipe, AdmitAt.USUAL, seconds=seconds, seed=seed)
    show(usual)
    show(admitted(recipe, AdmitAt.SHED, seconds=seconds, seed=seed, usual=usual.live_streams))
    sys.exit(1 if wrong else 0)


if __name__ == "__main__":
    main()
