"""A cell with real gRPC, engine and scheduler, whose workers do arithmetic that can be done by hand.

Latents are the names of the steps that made them, conditioning is the prompt itself, and a segment is a line of text:
`segment(block, seed, prompt)` says which, so every byte that a client receives is known beforehand.
"""

from __future__ import annotations

import asyncio
import queue
import threading
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import AbstractAsyncContextManager, AbstractContextManager, asynccontextmanager, contextmanager
from dataclasses import dataclass, field, replace
from fractions import Fraction

import grpc

from cluster.access.audit import Audit
from cluster.access.identity import Access
from cluster.access.tenancy import Tenancy
from cluster.cell.engine import Engine
from cluster.frontend.offer import Offer, WireLimits
from cluster.frontend.server import FrontendServer
from longtake.core.effects import Effect, EncodeText
from longtake.core.errors import InvalidField
from longtake.core.events import Event, Tick
from longtake.core.limits import Limits
from longtake.core.recipe.blocks import BlockPlan
from longtake.core.recipe.context import Context, Level
from longtake.core.recipe.geometry import Geometry
from longtake.core.recipe.ops import Kind
from longtake.core.recipe.recipe import Recipe
from longtake.core.recipe.steps import StepPlan
from longtake.core.scheduler import Scheduler
from longtake.core.sessions.life import State
from longtake.core.work import Ability, DecodeWork, ForwardWork, FromLane, FromNoise, ImageId, Role, WorkerId
from longtake.net.cells import DEFAULT_CELL
from monitoring.folding.recorder import AllRecorders, Recorder, Silent
from workers.messages import Decode, Done, Down, Encoded, Failed, Forward, Introduction, Task, Up
from workers.models.api import PromptParts
from workers.models.text_rules import text_rules
from workers.simulated.arithmetic import REACH
from workers.simulated.fake import HEADER as HEADER
from workers.simulated.fake import FakeWorker, Image
from workers.simulated.lanes import SimulatedLanes

GEOMETRY = Geometry(width=64, height=64, fps=Fraction(16), latent_channels=16, blocks=BlockPlan(frames=3))
RECIPE = Recipe(
    steps=StepPlan(ladder=(1000, 500), shift=5.0),
    blocks=BlockPlan(frames=3),
    context=Context(level=Level.OUTPUT, window_frames=9),
)
UNKNOWN_WORD = "zyzzyva"
OP_S = 2**-10
"""What the workers say that an op takes them."""
BAD_PROMPT = "a prompt that breaks the encoder"


def segment(block: int, seed: int, prompt: str, size_bytes: int = 0) -> bytes:
    """What the toy cell sends for `block`."""
    line = f"block {block} of seed {seed} through steps 0 1 shows {prompt};".encode()
    return line.ljust(size_bytes, b".")


def read(prompt: str) -> PromptParts | None:
    """A text without a word is none."""
    if prompt.strip().isdigit():
        raise InvalidField("prompt", prompt, "words")
    return text_rules("pocket").read(prompt)


class Words(SimulatedLanes):
    """Lanes whose latents are words instead of numbers."""

    def forward(self, order: Forward) -> list[bytes]:
        """The latents that a denoise op produces."""
        work, prompt = order.work, self.memory.text(order, bytes)
        if work.kind is Kind.COMMIT:
            return []
        match work.input:
            case FromNoise():
                latents = f"block {work.block} of seed {work.noise.seed} through steps".encode()
            case FromLane():
                latents = self.memory.output(work)
            case _:
                latents = order.latents
        latents += f" {work.step}".encode()
        if work.times.next_sigma is None:
            latents += b" shows " + prompt + b";"
        if work.returns.are_kept:
            self.memory.keep(work, latents)
        return [latents] if work.returns.are_sent else []


class ToyWorker:
    """A port whose worker answers each message `delay_s` later, one after the other."""

    def __init__(
        self,
        engine: Engine,
        name: str,
        role: Role,
        *,
        transit: dict[ImageId, Image],
        delay_s: float,
        segment_bytes: int,
        lanes: type[SimulatedLanes],
    ) -> None:
        self.id = WorkerId(name)
        self.dispatched: list[ForwardWork | DecodeWork] = []
        self._engine = engine
        self._delay_s = delay_s
        self._segment_bytes = segment_bytes
        self._free_at_s = 0.0
        capacity = 36 * RECIPE.page_count if role is Role.DENOISE else 16
        self._worker = FakeWorker(lanes(GEOMETRY, pages=capacity), transit)
        engine.join(
            Introduction(
                worker=self.id,
                role=role,
                ability=Ability(
                    capacity=capacity,
                    batch_limit=4,
                    replay_depth=REACH.layers if role is Role.DENOISE else REACH.latents,
                ),
                model_digest="toy",
            ),
            self,
        )

    def send(self, message: Down) -> None:
        """Work on a message."""
        answer = self._answer(message)
        if answer is None:
            return
        loop = asyncio.get_running_loop()
        self._free_at_s = max(self._free_at_s, loop.time()) + self._delay_s
        loop.call_at(self._free_at_s, self._engine.hear, self.id, self, answer)

    def end(self, reason: str) -> None:
        """Nothing is held here that would need an end."""

    def die(self) -> None:
        """As if the process were killed."""
        self._engine.leave(self.id, self, "killed by the test")

    def _answer(self, message: Down) -> Up | None:
        match message:
            case Task(order=Decode() as order) if isinstance(self._worker.lanes, Words):
                self.dispatched.append(order.work)
                segment = order.latents.ljust(self._segment_bytes, b".") if order.work.picture_count else b""
                return Done(sequence=message.sequence, segment=segment, seconds=OP_S)
            case Task(order=tuple() as batch):
                self.dispatched += [forward.work for forward in batch]
                done = self._worker.perform(message)
                assert isinstance(done, Done)
                return replace(done, seconds=OP_S * len(batch))
            case EncodeText(conditioning=ref) if message.prompt == BAD_PROMPT:
                return Failed(sessions=(ref.session,), sequence=None, reason="the encoder broke")
            case EncodeText(prompt=prompt) if UNKNOWN_WORD in prompt:
                notice = f"ignored: {UNKNOWN_WORD}"
                return Encoded(conditioning=message.conditioning, tensor=prompt.encode(), notice=notice)
            case _:
                return self._worker.perform(message)


def offer(limits: Limits | None = None, wire: WireLimits | None = None, cell: str = DEFAULT_CELL) -> Offer:
    """What the toy cell offers."""
    return Offer(
        name="toy",
        model_digest="toy",
        geometry=GEOMETRY,
        recipe=RECIPE,
        prompt_help="Anything.",
        vocabulary={"colour": ("red", "blue"), "shape": ("ball",)},
        read_prompt=read,
        limits=limits or Limits(),
        wire=wire or WireLimits(),
        cell=cell,
    )


class EventList:
    """A recorder that keeps all events but the ticks."""

    def __init__(self) -> None:
        self.events: list[Event] = []

    def fold(self, event: Event, effects: Sequence[Effect]) -> None:
        """Keep the event."""
        if not isinstance(event, Tick):
            self.events.append(event)


@dataclass(slots=True)
class Door:
    """Who may come in, by default everybody on this machine, where, and by which name of the cell."""

    tenancy: Tenancy = field(default_factory=lambda: Tenancy(Access(), Audit()))
    tls: grpc.ServerCredentials | None = None
    port: int = 0
    """0: any that is free."""
    cell: str = DEFAULT_CELL


@dataclass(slots=True)
class ToyCell:
    """A running cell."""

    engine: Engine
    server: FrontendServer
    events: list[Event]
    delay_s: float
    segment_bytes: int
    lanes: type[SimulatedLanes]
    workers: list[ToyWorker] = field(default_factory=list)
    transit: dict[ImageId, Image] = field(default_factory=dict)

    @property
    def target(self) -> str:
        return f"127.0.0.1:{self.server.port}"

    def join(self, name: str, role: Role) -> None:
        """A worker comes, or one that has died comes back."""
        self.workers.append(
            ToyWorker(
                self.engine,
                name,
                role,
                transit=self.transit,
                delay_s=self.delay_s,
                segment_bytes=self.segment_bytes,
                lanes=self.lanes,
            )
        )

    def blocks_begun(self) -> dict[str, int]:
        """Of each session."""
        return {view.session: view.blocks_begun for view in self.engine.scheduler.sessions()}

    @property
    def attached(self) -> list[bool]:
        """Of each session that was opened, whether its client is there."""
        opening = (State.QUEUED, State.OPENING)
        return [view.attached for view in self.engine.scheduler.sessions() if view.state not in opening]

    async def left(self) -> None:
        """Wait until a session has been opened and no client is there; fails by the test's own timeout."""
        while not self.attached or any(self.attached):
            await asyncio.sleep(0.005)
        self.engine.scheduler.check()

    async def settled(self) -> None:
        """Wait until no session is left; fails by the test's own timeout."""
        while self.engine.scheduler.sessions():
            await asyncio.sleep(0.005)
        self.engine.scheduler.check()


@asynccontextmanager
async def toy_cell(
    *,
    delay_s: float = 0.0,
    segment_bytes: int = 0,
    limits: Limits | None = None,
    wire: WireLimits | None = None,
    workers: bool = True,
    door: Door | None = None,
    recorder: Recorder | None = None,
    lanes: type[SimulatedLanes] = Words,
) -> AsyncIterator[ToyCell]:
    """Two denoise workers, one decode worker, the engine and the front end on a free port.

    With other `lanes` latents are numbers, and a segment is a hash of all that the decoder was given.
    """
    limits, door = limits or Limits(), door or Door()
    kept = EventList()
    engine = Engine(Scheduler(RECIPE, GEOMETRY, limits), AllRecorders(kept, door.tenancy, recorder or Silent()))
    running = asyncio.create_task(engine.run())
    server = await FrontendServer.start(
        engine, offer(limits, wire, door.cell), host="127.0.0.1", port=door.port, tenancy=door.tenancy, tls=door.tls
    )
    cell = ToyCell(engine, server, kept.events, delay_s, segment_bytes, lanes)
    if workers:
        for name, role in (("d0", Role.DENOISE), ("d1", Role.DENOISE), ("v0", Role.DECODE)):
            cell.join(name, role)
    try:
        yield cell
    finally:
        await cell.server.stop(0.0)
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)


@contextmanager
def in_thread(there: AbstractAsyncContextManager[ToyCell]) -> Iterator[ToyCell]:
    """A cell on an event loop of its own, for callers that wait."""
    begun: queue.SimpleQueue[ToyCell] = queue.SimpleQueue()
    over = threading.Event()

    async def live() -> None:
        async with there as cell:
            begun.put(cell)
            await asyncio.to_thread(over.wait)

    thread = threading.Thread(target=asyncio.run, args=(live(),))
    thread.start()
    try:
        yield begun.get(timeout=10.0)
    finally:
        over.set()
        thread.join()


def toy_cell_in_thread(
    *, delay_s: float = 0.0, segment_bytes: int = 0, limits: Limits | None = None
) -> AbstractContextManager[ToyCell]:
    """A toy cell on an event loop of its own."""
    return in_thread(toy_cell(delay_s=delay_s, segment_bytes=segment_bytes, limits=limits))
