"""The start-up probe: how many ops one forward may serve, because it gives the same bits and is worth it.

Whether a batched kernel rounds as the single one does depends on library, device and shape, so it is measured on the
very weights, device and shapes that will be served. First the times of forwards over the full window, t(1), t(2), t(4),
…: the limit grows as long as the time per op, t(b) / b, falls by MIN_GAIN. Then every batch size up to that limit, with
every number of pages that a block can read, must give bit for bit what its items give alone, output and K/V alike; the
first size that does not ends the range. A forward that holds a commit beside a denoise op is such a batch too, in which
the commit goes on to an output that nobody wants; so kinds may mix if a commit alone, which stops earlier, writes the
same K/V as a forward does. In a fused pass the denoise op reads what the commit beside it writes; that is tried too.
Where a recipe has keys turned as they are read, every second item of a batch has keys that were turned when written:
so both kinds are tried, alone and beside one another. Where a recipe adds to the logits of attention, which is another
kernel, two of four items do.

Shape suffixes: B batch item, F latent frame, C channel, H row, W column; those of K/V are workers.denoise.kv's.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from longtake.core.recipe.geometry import Geometry
from longtake.core.recipe.positions import Bias
from longtake.core.recipe.recipe import Recipe
from workers.decode.encode import Encoder
from workers.decode.slots import DecoderSlots
from workers.denoise.attention import AttentionBackend, ItemPages
from workers.denoise.kv import PageMemory
from workers.models.api import Conditioning, Denoiser, Inputs, TextKV
from workers.start.seeded import Purpose, digest_of, fill, seeded

MIN_GAIN = 0.05
"""The share by which the time per op must fall for a larger batch to be used."""
_ROUNDS = 3
"""Each time is the least of this many measurements: whatever disturbs one makes it longer."""
_LONG_S = 5.0
"""What takes longer is measured once more, not thrice: little disturbs it, and a start has to end."""
_WITH_BIAS = 2
"""Of four items in a row by a recipe with a slope so many have a bias: all that go into the smallest batch."""
_SPREAD = 7
"""Blocks between the items, so that their positions differ."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchProfile:
    """What the probe found."""

    forward_s: dict[int, float]
    """Seconds of one full-window forward by batch size: always for one op, for more as far as they were worth
    measuring."""
    limit: int
    """The most ops that one forward may serve; 1 means no batching."""
    inexact: int | None = None
    """The batch size that paid but gave other bits than its items alone; None if there was none."""
    mixes_kinds: bool = False
    """Whether commits and denoise ops give the same bits in one forward as apart, even if one reads the other's K/V."""

    def __str__(self) -> str:
        times = ", ".join(f"t({size}) = {seconds * 1e3:.2f} ms" for size, seconds in self.forward_s.items())
        exact = "equal bits" if self.inexact is None else f"a batch of {self.inexact} gives other bits"
        mixed = "commits beside denoise ops and fused with them" if self.mixes_kinds else "commits alone"
        return f"batch limit {self.limit}: {times}; {exact}, {mixed}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """What is measured: the parts that a worker's forwards are made of, and the shapes that it will serve."""

    denoiser: Denoiser
    attention: AttentionBackend
    geometry: Geometry
    recipe: Recipe

    def by(self, recipe: Recipe) -> Subject:
        """The same parts with the shapes of another recipe."""
        return replace(self, recipe=recipe, geometry=self.geometry.divided(recipe.blocks))


class Trial:
    """Made-up ops of a subject, `size` of them, to be run together or alone over pages of their own."""

    def __init__(self, subject: Subject, *, size: int) -> None:
        denoiser, geometry, recipe = subject.denoiser, subject.geometry, subject.recipe
        self._denoiser = denoiser
        self._attention = subject.attention
        self._recipe = recipe
        self._device = denoiser.device
        shape = denoiser.page_shape(geometry.tokens_per_frame)
        self._memory = PageMemory(shape, size * recipe.window.size, device=denoiser.device, dtype=denoiser.dtype)
        fill(self._memory)
        texts = (seeded(item, Purpose.TEXT, denoiser.text_shape) for item in range(size))
        self._texts = [denoiser.encode_text(text_TC[None].to(self._device)) for text_TC in texts]
        x_FCHW = [
            seeded(item, Purpose.LATENTS, (recipe.blocks.most, *geometry.block_shape[1:])) for item in range(size)
        ]
        self._x_BFCHW = torch.stack(x_FCHW).to(self._device)

    def run(self, items: range, pages: int, frames: int | None = None) -> Tensor:
        """Flow [B, F, C, H, W] of one forward over `items`, each of which reads `pages` pages of its own.

        Each has `frames` latent frames, by default those of a usual block.
        """
        return self._denoiser.denoise(self._inputs(items, pages, frames))

    def _inputs(self, items: range, pages: int, frames: int | None = None) -> Inputs:
        return self._over(items, [self._pages(item, pages, frames) for item in items])

    def _over(self, items: range, pages: list[ItemPages]) -> Inputs:
        frames, steps = len(pages[0].writes), self._recipe.timesteps
        first = [_SPREAD * frames * item for item in items]
        positions = [
            given.turns[-frames:] or range(start, start + frames) for given, start in zip(pages, first, strict=True)
        ]
        stored = [[0] * frames if given.turns else own for given, own in zip(pages, positions, strict=True)]
        return Inputs(
            x_BFCHW=self._x_BFCHW[items.start : items.stop, :frames],
            timestep_BF=torch.tensor([[steps[item % len(steps)]] * frames for item in items], device=self._device),
            position_BF=torch.tensor(positions, device=self._device),
            conditioning=Conditioning(text=TextKV.batch([self._texts[item] for item in items])),
            attention=self._attention.plan(self._memory, pages),
            key_position_BF=torch.tensor(stored, device=self._device) if stored != positions else None,
        )

    def result(self, items: range, pages: int, frames: int | None = None) -> tuple[Tensor, Tensor]:
        """Flow of one forward, and the K/V that it left in the pages of its items, which held nothing before."""
        own = self._cleared(items, pages, frames)
        return self.run(items, pages, frames), self._memory.export(own)

    def digest(self) -> str:
        """Digest of flow and K/V of one forward over a full window.

        What goes in is the same on every device, so what comes out differs only if something rounds differently.
        """
        return digest_of(*self.result(range(1), self._recipe.window.size))

    def committed(self, items: range, pages: int, frames: int | None = None) -> Tensor:
        """The K/V that the same items leave if all are commits."""
        own = self._cleared(items, pages, frames)
        self._denoiser.commit(self._inputs(items, pages, frames))
        return self._memory.export(own)

    def _cleared(self, items: range, pages: int, frames: int | None = None) -> list[int]:
        own = [page for item in items for page in self._pages(item, pages, frames).writes]
        self._memory.restore(own, torch.full_like(self._memory.export(own), torch.nan))
        return own

    def forward_s(self, size: int) -> float:
        """Seconds of one forward over the first `size` items with a full window."""
        return seconds_of(lambda: self.run(range(size), self._recipe.window.size), self._device)

    def _shapes(self) -> list[tuple[int, int]]:
        """How many pages the blocks of a stream read, and how many frames each makes."""
        window = self._recipe.window
        blocks = range(window.blocks.block_of(window.size - 1) + 1)
        return sorted({(window.count(block), window.blocks.made(block)) for block in blocks})

    def commits_like_a_forward(self, items: int) -> bool:
        """Whether each of so many items writes the same K/V alone as a commit as it does in a forward."""
        return all(
            torch.equal(self.committed(one, pages, frames), self.result(one, pages, frames)[1])
            for pages, frames in self._shapes()
            for one in (range(item, item + 1) for item in range(items))
        )

    def fused_like_apart(self) -> bool:
        """Whether a commit and the op that reads what it writes give the same in one forward as one after the other."""
        commit = self._pages(0, self._recipe.window.size)
        own = self._pages(1, self._recipe.window.size).writes
        denoise = ItemPages(reads=(*commit.reads[len(own) :], *own), writes=own, turns=commit.turns, bias=commit.bias)
        written = [*commit.writes, *own]
        blank_YUPLND = torch.full_like(self._memory.export(written), torch.nan)
        self._memory.restore(written, blank_YUPLND)
        self._denoiser.commit(self._over(range(1), [commit]))
        apart = self._denoiser.denoise(self._over(range(1, 2), [denoise]))
        left_YUPLND = self._memory.export(written)
        self._memory.restore(written, blank_YUPLND)
        fused = self._denoiser.denoise(self._over(range(2), [commit, denoise]))
        return torch.equal(fused[1:], apart) and torch.equal(self._memory.export(written), left_YUPLND)

    def inexact_size(self, limit: int) -> int | None:
        """The smallest batch size up to `limit` that changes a bit in some shape; None if there is none."""
        found: set[int] = set()
        for shape in self._shapes():
            ones = [range(item, item + 1) for item in range(limit)]
            alone = [(*self.result(one, *shape), self.committed(one, *shape)) for one in ones]
            for size in range(2, limit + 1):
                made = (*self.result(range(size), *shape), self.committed(range(size), *shape))
                flows, written, committed = zip(*alone[:size], strict=True)
                expected = (torch.cat(flows), torch.cat(written, dim=2), torch.cat(committed, dim=2))
                if not all(torch.equal(got, wanted) for got, wanted in zip(made, expected, strict=True)):
                    found.add(size)
                    break
        return min(found, default=None)

    def _pages(self, item: int, pages: int, frames: int | None = None) -> ItemPages:
        first = item * self._recipe.window.size
        reads = tuple(range(first, first + pages))
        places, positions = tuple(range(pages)), self._recipe.positions
        turns = places if positions.turn_reads and item % 2 == 0 else ()
        own = -(frames or self._recipe.blocks.frames)
        bias = Bias(positions.slope, places).rows(places[own:]) if item % 4 < _WITH_BIAS else ()
        return ItemPages(reads=reads, writes=reads[own:], turns=turns, bias=bias)


def seconds_of(run: Callable[[], object], device: torch.device) -> float:
    """How long `run` takes.

    On a CPU, of this thread: while several workers start on one machine, they disturb each other.
    """
    on_cpu = device.type == "cpu"
    clock = time.thread_time if on_cpu else time.perf_counter
    began_s = clock()
    run()
    if not on_cpu:
        torch.cuda.synchronize(device)
    return clock() - began_s


def peak_bytes(run: Callable[[], object], device: torch.device) -> int:
    """The memory that `run` takes at most beside what is held already; 0 on a CPU, where torch does not count it."""
    if device.type != "cuda":
        return 0
    torch.cuda.synchronize(device)
    held = torch.cuda.memory_allocated(device)
    torch.cuda.reset_peak_memory_stats(device)
    run()
    torch.cuda.synchronize(device)
    return torch.cuda.max_memory_allocated(device) - held


def forward_peak_bytes(subject: Subject, size: int) -> int:
    """`peak_bytes` of a forward over `size` ops with a full window."""
    if subject.denoiser.device.type != "cuda":
        return 0
    with torch.inference_mode():
        trial = Trial(subject, size=size)
        return peak_bytes(lambda: trial.run(range(size), subject.recipe.window.size), subject.denoiser.device)


def least_s(measure: Callable[[], tuple[float, ...]]) -> tuple[float, ...]:
    """The least of each of the times that `measure` takes, over several rounds behind one that warms up.

    The first may take long because it makes kernels, so how long it took says nothing.
    """
    measure()
    rounds = [measure()]
    while len(rounds) < _ROUNDS and sum(rounds[0]) <= _LONG_S:
        rounds.append(measure())
    return tuple(map(min, zip(*rounds, strict=True)))


def segment_s(slots: DecoderSlots, encoder: Encoder, geometry: Geometry) -> tuple[float, float]:
    """Seconds that decoding one block and encoding its pictures take, not the first of its stream, one at a time.

    More than one in a pass is not tried: the passes are long, and measured on CPUs two streams together save 2 %.
    """
    torch.set_num_threads(1)  # as where the worker computes
    latents_FCHW = seeded(0, Purpose.LATENTS, geometry.block_shape)
    pictures = range(geometry.pictures(1))

    def measure() -> tuple[float, float]:
        decoding = slots.decode(0, latents_FCHW, pictures)
        shown_FHWC = decoding.pictures()
        began_s = time.perf_counter()
        encoder.encode(shown_FHWC, 0)
        return decoding.work.wait(), time.perf_counter() - began_s

    slots.open(0)
    slots.decode(0, latents_FCHW, pictures).pictures()  # the first block of a stream has other shapes
    decode_s, encode_s = least_s(measure)
    slots.close(0)
    return decode_s, encode_s


def decode_peak_bytes(slots: DecoderSlots, geometry: Geometry) -> int:
    """`peak_bytes` of decoding a block, not the first of its stream."""
    if slots.device.type != "cuda":
        return 0
    latents_FCHW, pictures = torch.zeros(geometry.block_shape), range(geometry.pictures(1))
    slots.open(0)
    slots.decode(0, latents_FCHW, pictures).pictures()
    taken = peak_bytes(lambda: slots.decode(0, latents_FCHW, pictures).pictures(), slots.device)
    slots.close(0)
    return taken


def probe(subject: Subject, *, pages: int, max_batch: int) -> BatchProfile:
    """How many ops one forward may serve: at most `max_batch`, in at most `pages` pages.

    Takes seconds where forwards do, because then batches pay little and the first comparison ends it.
    """
    torch.set_num_threads(1)  # as where the worker computes: times and bits depend on it
    max_batch = min(max_batch, pages // subject.recipe.window.size)
    with torch.inference_mode():
        forward_s, limit = _worthwhile(subject, max_batch)
        if limit == 1:
            return BatchProfile(forward_s=forward_s, limit=1)
        trial = Trial(subject, size=limit)
        inexact = trial.inexact_size(limit)
        exact = limit if inexact is None else inexact - 1
        mixes = exact > 1 and trial.commits_like_a_forward(exact) and trial.fused_like_apart()
    return BatchProfile(forward_s=forward_s, limit=exact, inexact=inexact, mixes_kinds=mixes)


def _worthwhile(subject: Subject, max_batch: int) -> tuple[dict[int, float], int]:
    """Times by batch size, doubled until it does not pay any more, and the last size that did."""
    if max_batch < 2:
        one = Trial(subject, size=1)
        return {1: least_s(lambda: (one.forward_s(1),))[0]}, 1
    forward_s: dict[int, float] = {}
    limit = 1
    while limit < max_batch:
        larger = min(2 * limit, max_batch)
        try:
            smaller_s, larger_s = _compared(Trial(subject, size=larger), limit, larger)
        except torch.OutOfMemoryError:
            break
        forward_s.setdefault(limit, smaller_s)
        forward_s[larger] = larger_s
        if larger_s / larger > (1 - MIN_GAIN) * smaller_s / limit:
            break
        limit = larger
    return forward_s, limit


def _compared(trial: Trial, smaller: int, larger: int) -> tuple[float, float]:
    """Times of forwards of two sizes, measured by turns."""
    smaller_s, larger_s = least_s(lambda: (trial.forward_s(smaller), trial.forward_s(larger)))
    return smaller_s, larger_s
