"""The identity matrix: every way to lay out and run a session must leave the very latents of the sequential oracle.

python -m tests.identity --seeds 20 --blocks 60        # all layouts, the pocket model and the simulated one; minutes
python -m tests.identity --break                       # one page is swapped for another: every row must fail

The denoise workers are real ones under the real engine, link messages and scheduler, as threads of this process; the
decode worker encodes prompts and makes no pictures, because the x0 of every block is compared by its SHA-256.
"""

from __future__ import annotations

import asyncio
import contextlib
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from hashlib import sha256
from itertools import combinations, islice
from pathlib import Path

import click
import torch
from torch import Tensor

from benchmarks.simulated_streams import expected_latents, small_pictures
from cluster.chains import Chains
from cluster.engine import Engine
from cluster.in_process import ThreadPort
from cluster.launch import POCKET, model_path
from cluster.outbox import Outbox, SegmentOut
from cluster.render import in_process_workers
from longtake.core.admission import Limits
from longtake.core.effects import Closed, Dispatch, EncodeText, Forget, PrepareStream, Refused, Stow
from longtake.core.errors import UnknownPeer
from longtake.core.events import Ack, Ending
from longtake.core.scheduler import Scheduler
from longtake.core.work import DecodeWork, PageId, Role, SessionId
from tests.cluster.world import Hashes, expected_hashes, open_event
from tests.core.world import is_fused
from workers.link import Loaded
from workers.messages import Decode, Done, Encoded, Introduction, Prepared, Shutdown, Task, Up
from workers.models import weights
from workers.models.text import TextEncoder, text_encoder
from workers.orders import Detached, Filled, Order
from workers.peers import MeetingPoint
from workers.runner import Worker
from workers.spec import WorkerSpec, load_worker
from workers.worker import tensor_to_bytes

PROMPTS = ("a red ball circling in the fog", "a blue box swaying at night", "a green ring bobbing at dusk")
SIMULATED = "simulated:0ms"


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """How sessions are spread and run."""

    name: str
    workers: int = 1
    batch_limit: int = 1
    together: int = 1
    """Sessions open at once."""
    fused: bool = False
    """A commit and the next block's denoise op of its lane may be one forward."""
    broken: bool = False
    """Two pages change places once, in every worker: what is compared must not be equal."""


LAYOUTS = (
    Layout(name="sequential"),
    Layout(name="step pipeline", workers=4),
    Layout(name="data parallel", workers=2, together=4),
    Layout(name="paired", batch_limit=2),
    Layout(name="fused, step pipeline", workers=4, batch_limit=2, together=4, fused=True),
    Layout(name="fused, batched 8", batch_limit=8, together=8, fused=True),
    *(Layout(name=f"batched {size}", batch_limit=size, together=8) for size in range(2, 9)),
    Layout(name="step pipeline, batched 4", workers=4, batch_limit=4, together=8),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """What a layout really did, so that a row cannot be equal for want of what it is about."""

    hashes: Mapping[int, Sequence[str]]
    """Of the x0 of every block, by seed."""
    largest_batch: int
    mixed: int
    """Forwards of commits and denoise ops together."""
    fused: int
    """Pairs of a commit and the next denoise op of its lane in one forward."""

    def __str__(self) -> str:
        return f"batches up to {self.largest_batch}, {self.mixed} mixed, {self.fused} fused"


def _seen(hashes: Hashes, seeds: Sequence[int]) -> Seen:
    batches = [
        effect.work
        for effect in hashes.effects
        if isinstance(effect, Dispatch) and not isinstance(effect.work, DecodeWork)
    ]
    return Seen(
        hashes={seed: hashes.of(f"s{seed}") for seed in seeds},
        largest_batch=max(len(items) for items in batches),
        mixed=sum(len({item.kind for item in items}) > 1 for items in batches),
        fused=sum(is_fused(*pair) for items in batches for pair in combinations(items, 2)),
    )


class WithoutPictures:
    """A decode worker that encodes prompts and answers every block with nothing."""

    role = Role.DECODE
    device = torch.device("cpu")

    def __init__(self, text: TextEncoder) -> None:
        self._text = text

    def page(self, page: PageId) -> Tensor:
        """See workers.images.Holder."""
        raise UnknownPeer(f"a decode worker has no page {page}")

    def perform(self, message: Order) -> Iterator[Up | Detached]:
        """See workers.runner.Worker."""
        match message:
            case Stow():
                yield Detached(image=message.image, tensors=())
            case Filled(order=PrepareStream(session=session)):
                yield Prepared(session=session, header=b"", media_type="")
            case Task(order=Decode()):
                yield Done(sequence=message.sequence)
            case PrepareStream():
                yield Prepared(session=message.session, header=b"", media_type="")
            case EncodeText():
                encoded = self._text.encode(message.prompt)
                tensor = tensor_to_bytes(encoded.features_TC)
                yield Encoded(conditioning=message.conditioning, tensor=tensor, notice="")
            case Forget():
                pass
            case _:
                raise AssertionError(message)


@dataclass(frozen=True)
class Ready:
    """A worker that is made by `make` and introduces itself so."""

    introduction: Introduction
    make: Callable[[], Worker]
    meeting_point: str

    def fresh(self) -> Worker:
        """See workers.link.Loaded."""
        return self.make()


class OnePageSwapped:
    """A denoise worker in whose pool two sealed pages of one lane change places, once, before one of its ops."""

    role = Role.DENOISE
    AFTER = 20
    """Ops before that."""

    def __init__(self, worker: Worker) -> None:
        self._worker = worker
        self._left = self.AFTER

    def perform(self, message: Order) -> Iterator[Up | Detached]:
        """See workers.runner.Worker."""
        if isinstance(message, Task) and isinstance(message.order, tuple):
            self._left -= 1
            work = message.order[0].work
            sealed = [page for page in work.reads if page not in work.writes]
            if self._left <= 0 and len(sealed) > 1:
                self._swap(sealed[0], sealed[1])
                self._left = sys.maxsize
        yield from self._worker.perform(message)

    @property
    def device(self) -> torch.device:
        """See workers.images.Holder."""
        return self._worker.device

    def page(self, page: PageId) -> Tensor:
        """See workers.images.Holder."""
        return self._worker.page(page)

    def _swap(self, one: PageId, other: PageId) -> None:
        kept = self.page(one).clone()
        self.page(one).copy_(self.page(other))
        self.page(other).copy_(kept)


def loaded_workers(layout: Layout, model: Path, device: str, meeting_point: str) -> list[Loaded]:
    """The layout's workers; a batch limit is set, not measured, so that every size is tried."""
    info = weights.load_info(model)
    sessions = layout.together * (2 if layout.fused else 1)  # room for spare blocks
    specs = in_process_workers(
        model, info.recipe, denoise=layout.workers, sessions=sessions, device=device, max_batch=1
    )
    made: list[Loaded] = []
    for spec in (replace(spec, meeting_point=meeting_point) for spec in specs):
        made.append(_denoiser(spec, layout) if spec.role is Role.DENOISE else _texts(spec))
    return made


def _denoiser(spec: WorkerSpec, layout: Layout) -> Ready:
    loaded = load_worker(spec)
    introduction = replace(
        loaded.introduction, batch_limit=layout.batch_limit, mixes_kinds=layout.batch_limit > 1, forward_s=0.0
    )
    if not layout.broken:
        return Ready(introduction, loaded.fresh, spec.meeting_point)

    return Ready(introduction, lambda: OnePageSwapped(loaded.fresh()), spec.meeting_point)


def _texts(spec: WorkerSpec) -> Ready:
    info = weights.load_info(spec.model)
    text = text_encoder(info.text_kind, info.dit.text_dim)
    introduction = Introduction(worker=spec.worker, role=spec.role, capacity=spec.capacity, model_digest="")
    return Ready(introduction, partial(WithoutPictures, text), spec.meeting_point)


@contextlib.asynccontextmanager
async def running(layout: Layout, model: Path, device: str, hashes: Hashes) -> AsyncIterator[Engine]:
    """An engine with the layout's workers as threads."""
    info = weights.load_info(model)
    engine = Engine(Scheduler(info.recipe, info.geometry, Limits(fused_passes=layout.fused)), hashes)
    loop = asyncio.create_task(engine.run())
    meeting_point, ports = MeetingPoint(), []
    for loaded in await asyncio.to_thread(loaded_workers, layout, model, device, meeting_point.address):
        port = ThreadPort(loaded, Chains(engine))
        port.runner.start()
        engine.join(port.introduction, port)
        ports.append(port)
    try:
        yield engine
        engine.scheduler.check()
    finally:
        for port in ports:
            port.send(Shutdown())
            await asyncio.to_thread(port.runner.join, 10.0)
        loop.cancel()


async def one_session(engine: Engine, seed: int, blocks: int, pictures: int) -> None:
    """A session from its beginning to its end."""
    session, outbox = SessionId(f"s{seed}"), Outbox()
    engine.attach(session, outbox)
    prompt = PROMPTS[seed % len(PROMPTS)]
    engine.submit(open_event(engine, session, prompt, seed=seed, picture_limit=pictures))
    while True:
        match await outbox.get():
            case SegmentOut(emit=emit):
                engine.submit(Ack(now_s=engine.now_s(), session=session, segment=emit.block))
            case Closed(ending=ending, reason=reason):
                assert ending is Ending.COMPLETED, reason
                return
            case Refused(error=error):
                raise error
            case _:
                pass


async def served(layout: Layout, model: Path, device: str, seeds: Sequence[int], blocks: int) -> Seen:
    """All sessions, one for each seed, as this layout runs them."""
    info = weights.load_info(model)
    hashes = Hashes(info.recipe.step_count)
    async with running(layout, model, device, hashes) as engine:
        gate = asyncio.Semaphore(layout.together)

        async def admitted(seed: int) -> None:
            async with gate:
                await one_session(engine, seed, blocks, info.geometry.first_picture(blocks))

        async with asyncio.TaskGroup() as group:
            for seed in seeds:
                group.create_task(admitted(seed))
    return _seen(hashes, seeds)


def by_hand(model: Path, seed: int, blocks: int) -> list[str]:
    """Hashes of the simulated model's x0."""
    latents = expected_latents(weights.load_info(model), PROMPTS[seed % len(PROMPTS)], seed)
    return [sha256(block).hexdigest() for block in islice(latents, blocks)]


def expected(model: Path, device: str, seeds: Sequence[int], blocks: int) -> dict[int, list[str]]:
    """What every layout must leave: by the sequential oracle, or by hand."""
    if device == SIMULATED:
        return {seed: by_hand(model, seed, blocks) for seed in seeds}
    prompts: Callable[[int], dict[int, str]] = lambda seed: {0: PROMPTS[seed % len(PROMPTS)]}  # noqa: E731
    return {seed: expected_hashes(model, prompts(seed), seed, blocks) for seed in seeds}


def wrong_blocks(found: Mapping[int, Sequence[str]], right: Mapping[int, Sequence[str]]) -> int:
    """Blocks that are missing, too many or other ones."""
    return sum(
        sum(one != other for one, other in zip(found[seed], right[seed], strict=False))
        + abs(len(found[seed]) - len(right[seed]))
        for seed in right
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One layout against what is right."""

    layout: Layout
    seen: Seen
    blocks: int
    wrong: int
    took_s: float

    def __str__(self) -> str:
        verdict = f"{self.wrong} of {self.blocks} blocks differ" if self.wrong else f"{self.blocks} blocks equal"
        return f"{self.layout.name:28s} {self.took_s:7.1f} s  {verdict}; {self.seen}"


def matrix(layouts: Sequence[Layout], model: Path, device: str, seeds: Sequence[int], blocks: int) -> Iterator[Row]:
    """A row for each layout as it is done."""
    right = expected(model, device, seeds, blocks)
    for layout in layouts:
        began_s = time.perf_counter()
        seen = asyncio.run(served(layout, model, device, seeds, blocks))
        yield Row(
            layout=layout,
            seen=seen,
            blocks=len(seeds) * blocks,
            wrong=wrong_blocks(seen.hashes, right),
            took_s=time.perf_counter() - began_s,
        )


@click.command()
@click.option("--seeds", default=20, show_default=True)
@click.option("--blocks", default=60, show_default=True)
@click.option("--break", "broken", is_flag=True, help="Swap two pages once: then every layout must differ.")
def main(*, seeds: int, blocks: int, broken: bool) -> None:
    """Compare all layouts with the sequential oracle; exit 1 unless all are equal (with --break: all differ)."""
    torch.set_num_threads(1)
    layouts = [replace(layout, broken=broken) for layout in LAYOUTS]
    wrong = 0
    with tempfile.TemporaryDirectory() as name:
        folder, pocket = Path(name), model_path(POCKET)
        weights.save_info(folder, small_pictures(weights.load_info(pocket)))
        for model, device in ((folder, SIMULATED), (pocket, "cpu")):
            click.echo(f"{'by hand' if device == SIMULATED else 'pocket'}: {seeds} seeds, {blocks} blocks")
            for row in matrix(layouts, model, device, range(seeds), blocks):
                click.echo(row)
                wrong += bool(row.wrong) is not broken
    sys.exit(1 if wrong else 0)


if __name__ == "__main__":
    main()
