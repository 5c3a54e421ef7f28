"""Streams through chaos: a client that notes all it is told and when, and what `longtake render` makes of the same."""

from __future__ import annotations

import asyncio
import hashlib
import sys
import time
from bisect import bisect_right
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path

from longtake.client import Client, CueAt, EndingName, PaceName, StreamOptions
from longtake.client.errors import ClientError
from longtake.client.events import (
    ClosedEvent,
    CueAcceptedEvent,
    CueAppliedEvent,
    NoticeEvent,
    OpenedEvent,
    RecoveredEvent,
    RequestRefusedEvent,
    ResumedEvent,
    SegmentEvent,
    StreamEvent,
)
from longtake.core.recipe.geometry import Geometry
from longtake.recipes import find_recipe

PROMPTS = ("a red ball circling in the fog", "a blue box swaying at night", "a green ring bobbing at dusk")
WINDOW = 4
AHEAD = 3 * WINDOW
"""A cue is asked for so many blocks before its own: no block of it can have begun."""
SILENCE_S = 180.0
"""A client that is told nothing for so long gives up: the longest that a server takes to come back, and more."""
RENDER_S = 3600.0
COMPLETED: EndingName = "completed"
APPROXIMATE = f"{RecoveredEvent.__name__}, approximate"
_USUAL = (OpenedEvent, CueAppliedEvent)
"""What needs no note; all that is not known here is noted by its name."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Script:
    """What a client asks for, always alike."""

    number: int
    pace: PaceName
    blocks: int
    cue_every: int
    """Blocks from one cue to the next."""
    geometry: Geometry
    recipe: str = ""
    """By which it is made, by name; empty: the model's own."""
    references: tuple[Path, ...] = ()
    """Images that it looks at."""

    @property
    def prompt(self) -> str:
        return PROMPTS[self.number % len(PROMPTS)]

    @property
    def seed(self) -> int:
        return 1000 + self.number

    def start_s(self, block: int) -> Fraction:
        """When a block begins."""
        return self.geometry.time_s(self.geometry.first_picture(block))

    def cue_at(self, block: int) -> CueAt | None:
        """The cue that takes effect at a block, if one does."""
        turn, rest = divmod(block, self.cue_every)
        if rest or not turn:
            return None
        return CueAt(prompt=PROMPTS[(self.number + turn) % len(PROMPTS)], block=block, id=f"at-{block}")

    def options(self) -> StreamOptions:
        return StreamOptions(
            seed=self.seed, pace=self.pace, window=WINDOW, duration_s=self.start_s(self.blocks), codec="h264",
            recipe=self.recipe, references=tuple(path.read_bytes() for path in self.references),
        )  # fmt: skip


@dataclass(slots=True)
class Take:
    """One stream, as its client has it."""

    script: Script
    began_s: float
    data: bytearray = field(default_factory=bytearray)
    """The header and all segments."""
    ends: list[int] = field(default_factory=list)
    """How many bytes there were after the header and after each segment."""
    came_s: list[float] = field(default_factory=list)
    """When each segment came."""
    cues: dict[str, int] = field(default_factory=dict)
    """The blocks for which cues were accepted."""
    told: Counter[str] = field(default_factory=Counter)
    """What else the client was told, and how often."""
    wrong: list[str] = field(default_factory=list)
    """What no stream may be told: a segment twice, or out of order."""
    ending: str = ""
    """How it ended; COMPLETED is the only good one."""

    @property
    def has_begun(self) -> bool:
        """Whether the server has granted it."""
        return bool(self.ends)

    @property
    def segments(self) -> int:
        return len(self.came_s)

    def hear(self, event: StreamEvent) -> None:
        """Note what the client was told."""
        match event:
            case OpenedEvent() if not self.ends:
                self._add(event.header)
            case SegmentEvent():
                if event.index != self.segments:
                    self.wrong.append(f"segment {event.index} came where {self.segments} is due")
                self._add(event.data)
                self.came_s.append(time.monotonic())
            case CueAcceptedEvent():
                self.cues[event.cue_id] = event.block
            case ClosedEvent():
                self.ending = COMPLETED if event.ending == COMPLETED else f"{event.ending}: {event.reason}"
            case NoticeEvent():
                self.told[f"notice: {event.text}"] += 1
            case RequestRefusedEvent():
                self.told[f"refused: {event.message}"] += 1
            case RecoveredEvent() | ResumedEvent():
                self.told[f"{type(event).__name__}, {event.continuity}"] += 1
            case _ if not isinstance(event, _USUAL):
                self.told[type(event).__name__] += 1

    @property
    def may_differ(self) -> bool:
        """Whether its client was told that it is approximate, by a recipe that folds what is not kept."""
        name = self.script.recipe
        folds = bool(name) and find_recipe(name, field="--recipe").recipe.memory.folds
        return folds and self.told[APPROXIMATE] > 0

    def _add(self, data: bytes) -> None:
        self.data += data
        self.ends.append(len(self.data))

    def compare(self, rendered: bytes) -> str:
        """Where the bytes part from those that were rendered: empty if nowhere, as far as the stream went."""
        if self.ending == COMPLETED and bytes(self.data) == rendered:
            return ""
        if rendered.startswith(self.data) and self.ending != COMPLETED:
            return ""
        equal = next((at for at, (own, other) in enumerate(zip(self.data, rendered, strict=False)) if own != other),
                     min(len(self.data), len(rendered)))  # fmt: skip
        return f"segment {bisect_right(self.ends, equal) - 1} of {self.segments} differs"


def longest_gap_s(takes: Sequence[Take], from_s: float, until_s: float) -> float:
    """The longest time in which a client waited for a segment and got none, that lies within these moments in part.

    `takes` are its streams, one after the other. Where one was lost it waits on; after one that was complete it does
    not. What it waits for still has lasted until `until_s`.
    """
    waits: list[tuple[float, float]] = []
    since_s = None
    for take in takes:
        since_s = take.began_s if since_s is None else since_s
        for came_s in take.came_s:
            waits.append((since_s, came_s))
            since_s = came_s
        if take.ending == COMPLETED:
            since_s = None
    if since_s is not None:
        waits.append((since_s, max(since_s, until_s)))
    return max((end_s - start_s for start_s, end_s in waits if end_s > from_s and start_s < until_s), default=0.0)


async def stream(address: str, take: Take) -> None:
    """Play a script to its end, however it ends; what comes is in `take`, its ending last."""
    script = take.script
    try:
        async with Client(address) as client, client.stream(script.prompt, script.options()) as playing:
            events = aiter(playing)
            while True:
                async with asyncio.timeout(SILENCE_S):
                    event = await anext(events)
                take.hear(event)
                if isinstance(event, SegmentEvent):
                    cue = script.cue_at(event.index + AHEAD)
                    if cue is not None and event.index + AHEAD < script.blocks:
                        await playing.cue(cue)
    except StopAsyncIteration:
        take.ending = take.ending or "it just ended"
    except ClientError as error:
        take.ending = take.ending or f"{error.code.name}: {error.message}"
    except TimeoutError:
        take.ending = f"nothing for {SILENCE_S:g} s"


class Renderer:
    """`longtake render`, once for each stream, behind everything else that runs here."""

    def __init__(self, folder: Path, model: str, processes: int) -> None:
        self._folder = folder
        self._model = model
        self._turns = asyncio.Semaphore(processes)
        self._made: dict[str, asyncio.Task[bytes]] = {}

    async def expected(self, take: Take) -> bytes:
        """The bytes that the same prompt and seed give, with the cues at the blocks that the client was told."""
        script = take.script
        command = [script.prompt, "--seed", str(script.seed), "--duration", _text(script.start_s(script.blocks))]
        command += ["--recipe", script.recipe] if script.recipe else []
        command += [argument for path in script.references for argument in ("--reference", str(path.resolve()))]
        for name, block in take.cues.items():
            if block >= script.blocks:
                continue
            asked = script.cue_at(int(name.removeprefix("at-")))
            assert asked is not None
            command += ["--cue", f"{_text(script.start_s(block))}={asked.prompt}"]
        key = hashlib.sha256("\n".join(command).encode()).hexdigest()[:16]
        if key not in self._made:
            self._made[key] = asyncio.create_task(self._render(command, self._folder / f"{key}.mp4"))
        return await asyncio.shield(self._made[key])

    async def _render(self, command: list[str], output: Path) -> bytes:
        whole = ["nice", "-n", "5", sys.executable, "-m", "longtake", "render", *command]
        whole += ["--model", self._model, "-o", str(output), "--json"]
        async with self._turns:
            process = await asyncio.create_subprocess_exec(*whole, stdout=asyncio.subprocess.DEVNULL)
            try:
                async with asyncio.timeout(RENDER_S):
                    status = await process.wait()
            finally:
                if process.returncode is None:
                    process.kill()
        if status:
            raise RuntimeError(f"longtake render ended with status {status}")
        return await asyncio.to_thread(output.read_bytes)

    async def stop(self) -> None:
        """End what is still being rendered."""
        for task in self._made.values():
            task.cancel()
        await asyncio.gather(*self._made.values(), return_exceptions=True)


def _text(seconds: Fraction) -> str:
    """A time as the command line takes it: exact, because blocks begin at sixteenths of a second."""
    return f"{float(seconds):.6f}s"
