"""A lane that was lost is built again by its last ops: by as many blocks as history and layers say, not by one less."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from itertools import compress
from pathlib import Path

import pytest
import torch
from torch import Tensor

from longtake.core.recipe.context import Level
from longtake.core.recipe.graph import Graph
from longtake.core.recipe.ops import Returns
from longtake.core.recipe.positions import Numbering, Positions
from longtake.core.recipe.recipe import Recipe
from longtake.core.work import ConditioningRef, ForwardWork, FromLatent, FromNoise, LatentRef, PageId, SessionId
from tests.core.support.recipes import APART, altered
from tests.workers.model_dir import DIT
from tests.workers.orders import PROMPT, done
from tests.workers.simulated.stream import forwards_of, task
from workers.denoise import parted
from workers.denoise.attention import AttentionKernel, SdpaBackend
from workers.denoise.parted import PartedAttention
from workers.denoise.worker import DenoiseWorker, tensor_to_bytes
from workers.models import weights
from workers.models.api import Compute, Denoiser, sdpa
from workers.models.text import PocketText
from workers.models.weights import ModelInfo, new_denoiser

POCKET = Path(weights.__file__).parents[2] / "pocket" / "weights"
B = SessionId("b")
"""The session that takes over from A in other pages."""
BEYOND = 2
"""Blocks that are made after the loss."""
Model = tuple[ModelInfo, Denoiser]


@cache
def pocket() -> Model:
    """The real weights."""
    info = weights.load_info(POCKET)
    return info, weights.load_denoiser(POCKET, info, Compute())


@cache
def small() -> Model:
    """Three layers of random weights, with the latents and texts of pocket at a quarter of its size."""
    info, _ = pocket()
    dit = replace(DIT, num_layers=3, in_dim=8, out_dim=8, text_dim=info.text_width, text_len=info.text_rows)
    info = replace(info, dit=dit, geometry=replace(info.geometry, width=32, height=32))
    torch.manual_seed(0)
    return info, new_denoiser(info).requires_grad_(False)


@dataclass
class Stream:
    """One stream up to `boundary` and a little beyond, and a second time in other pages of the same worker."""

    info: ModelInfo
    denoiser: Denoiser
    recipe: Recipe
    boundary: int
    kernel: AttentionKernel = sdpa
    journal: dict[tuple[int, int], bytes] = field(default_factory=dict)
    """Latents by block and the step that they enter."""
    kept: list[Tensor] = field(default_factory=list)
    """What the lanes held at the boundary, page by page."""

    def __post_init__(self) -> None:
        self.graph, self.window = Graph(self.recipe), self.recipe.window
        self.offset = self.recipe.page_count * self.recipe.lane_count
        """Between a page and the one that takes its place."""
        self.worker = DenoiseWorker(self.denoiser, self.info.geometry, SdpaBackend(self.kernel), pages=2 * self.offset)
        self.text = tensor_to_bytes(PocketText(self.info.text_width).encode(PROMPT).features_TC)
        works = list(forwards_of(self.recipe, self.info.geometry, self.boundary + BEYOND))
        self.past = [work for work in works if work.block < self.boundary]
        self.coming = [work for work in works if work.block >= self.boundary]
        self.grow(self.past)
        self.kept = [self.worker.page(page).clone() for page in self.kept_pages()]
        self.after = self.grow(self.coming)

    @property
    def needed(self) -> int:
        """The blocks that the pages at the boundary depend on: what a worker of this model says of itself."""
        return self.recipe.history_blocks * self.info.num_layers

    def perform(self, work: ForwardWork) -> tuple[bytes, ...]:
        ref = work.input.ref if isinstance(work.input, FromLatent) else None
        latents = b"" if ref is None else self.journal[ref.block, ref.step]
        return done(self.worker.perform(task(work, latents=latents, conditioning=self.text))).outputs

    def grow(self, works: Sequence[ForwardWork]) -> list[tuple[bytes, ...]]:
        """Do them as they stand; what comes out, which the journal keeps."""
        made = []
        for work in works:
            made.append(self.perform(work))
            for output in made[-1]:
                self.journal[work.block, work.enters] = output
        return made

    def kept_pages(self) -> list[PageId]:
        """The state of all lanes at the boundary."""
        reads = {work.lane: work.pages.reads for work in self.coming if work.block == self.boundary}
        return [reads[lane][slot] for lane in sorted(reads) for slot in self.window.kept_slots(self.boundary)]

    def rebuild(self, blocks: int) -> None:
        """Seal the pages of the sinks and of the last `blocks` blocks before the boundary again, in the other pages.

        Whoever reads one of these before it is written again will notice.
        """
        for page in range(self.offset, 2 * self.offset):
            self.worker.page(PageId(page)).fill_(torch.nan)
        sinks = -(-self.recipe.sink_frames // self.recipe.blocks.frames)
        again = {*range(sinks), *range(max(0, self.boundary - blocks), self.boundary)}
        held: dict[tuple[int, int], int] = {}
        """The frame that was written last since the rebuild began, by lane and slot."""
        for work in self.past:
            if work.block in again and work.op == self.graph.sealing_op(work.lane, work.block):
                for frame in self.recipe.blocks.own(work.block):
                    held[work.lane, self.window.slot(frame)] = frame
                assert self.perform(self.moved(self.replayed(work, held))) == ()

    def replayed(self, work: ForwardWork, held: dict[tuple[int, int], int]) -> ForwardWork:
        """From its latents, over what is there again of its window in canonical order; nobody wants its output."""
        frames = sorted(self.window.frames(work.block), key=self.window.slot)
        there = [held.get((work.lane, self.window.slot(frame))) == frame for frame in frames]
        reads = tuple(compress(work.pages.reads, there))
        entered = self.graph.chain_of(work.op).entered_step
        ref = LatentRef(session=work.session, block=work.block, step=entered)
        return replace(
            work,
            pages=replace(work.pages, reads=reads),
            read_turns=tuple(compress(work.read_turns, there)),
            bias=work.bias._replace(places=tuple(compress(work.bias.places, there))),
            input=work.input if isinstance(work.input, FromNoise) else FromLatent(ref),
            returns=Returns.NOTHING,
        )

    def moved(self, work: ForwardWork) -> ForwardWork:
        """The same work for the other session in its pages."""
        reads, writes = (
            tuple(PageId(page + self.offset) for page in pages) for pages in (work.pages.reads, work.pages.writes)
        )
        text = ConditioningRef(session=B, version=work.conditioning.version)
        return replace(work, session=B, pages=replace(work.pages, reads=reads, writes=writes), conditioning=text)

    def pages_are_back(self) -> bool:
        """Whether the lanes hold what they held at the boundary, bit for bit."""
        there = [self.worker.page(PageId(page + self.offset)) for page in self.kept_pages()]
        return all(torch.equal(page, before) for page, before in zip(there, self.kept, strict=True))

    def goes_on_as_before(self) -> bool:
        """Whether the blocks beyond the boundary are what they were, bit for bit."""
        return [self.perform(self.moved(work)) for work in self.coming] == self.after


def stream(
    model: Model,
    level: Level,
    window: int,
    sinks: int,
    boundary: int | None = None,
    positions: Numbering = Numbering.ABSOLUTE,
    slope: float = 0.0,
) -> Stream:
    info, denoiser = model
    placed = Positions(stream=positions, slope=slope)
    recipe = altered(info.recipe, level=level, window_frames=window, sink_frames=sinks, positions=placed)
    far = recipe.history_blocks * info.num_layers + -(-sinks // recipe.blocks.frames) + 2
    return Stream(info, denoiser, recipe, far if boundary is None else boundary)


LANES = [
    (pocket, Level.OUTPUT, 9, 0),
    pytest.param(pocket, Level.CLEAN, 9, 0, marks=pytest.mark.slow),
    pytest.param(pocket, Level.INPUT, 9, 0, marks=pytest.mark.slow),
    pytest.param(pocket, Level.OUTPUT, 12, 3, marks=pytest.mark.slow),
    (small, Level.OUTPUT, 21, 0),
    (small, Level.CLEAN, 8, 0),  # of the oldest block, only two frames are read
    (small, Level.OUTPUT, 11, 2),  # a sink block whose third frame leaves the window
    (small, Level.CLEAN, 13, 4),
    (small, Level.INPUT, 12, 3),
]


@pytest.mark.parametrize(("model", "level", "window", "sinks"), LANES)
def test_a_lane_is_exact_again_after_as_many_blocks_as_history_and_layers_say_and_not_after_one_less(
    model: Callable[[], Model], level: Level, window: int, sinks: int
) -> None:
    """OUTPUT and CLEAN by commits, CLEAN from x0 alone, INPUT by denoise ops whose output nobody wants.

    It need not see what was not written again: that would be out of reach by the end, even if it were NaN.
    """
    grown = stream(model(), level, window, sinks)
    seen = {}
    for blocks in (grown.needed - 1, grown.needed, grown.needed + 1):
        grown.rebuild(blocks)
        seen[blocks - grown.needed] = grown.pages_are_back(), grown.goes_on_as_before()
    assert seen == {-1: (False, False), 0: (True, True), 1: (True, True)}


@pytest.mark.parametrize(("level", "window", "sinks"), [(Level.CLEAN, 9, 3), (Level.OUTPUT, 11, 2)])
def test_pages_whose_keys_have_no_time_are_built_again_as_any_are(level: Level, window: int, sinks: int) -> None:
    grown = stream(small(), level, window, sinks, positions=Numbering.LISTED)
    assert all(work.read_turns and not any(work.key_positions) for work in grown.past)
    seen = {}
    for blocks in (grown.needed - 1, grown.needed):
        grown.rebuild(blocks)
        seen[blocks - grown.needed] = grown.pages_are_back(), grown.goes_on_as_before()
    assert seen == {-1: (False, False), 0: (True, True)}


@pytest.mark.parametrize(
    ("level", "window", "sinks", "places"),
    [(Level.CLEAN, 9, 3, "listed"), (Level.OUTPUT, 11, 0, "absolute"), (Level.INPUT, 9, 0, "absolute")],
)
def test_a_lane_whose_reads_mind_distance_is_built_again_as_any_is(
    level: Level, window: int, sinks: int, places: str
) -> None:
    grown = stream(small(), level, window, sinks, positions=Numbering(places), slope=0.1)
    assert all(len(work.bias.places) == len(work.pages.reads) for work in grown.past)
    seen = {}
    for blocks in (grown.needed - 1, grown.needed):
        grown.rebuild(blocks)
        seen[blocks - grown.needed] = grown.pages_are_back(), grown.goes_on_as_before()
    assert seen == {-1: (False, False), 0: (True, True)}


@pytest.mark.parametrize("level", APART)
def test_from_what_the_window_shows_alone_it_goes_on_alike_and_not_the_same(level: Level) -> None:
    """`cluster.recover = "fast"`: of pocket's next x0 a few hundredths are others."""
    grown = stream(pocket(), level, 9, 0)
    grown.rebuild(grown.recipe.history_blocks)
    again = [grown.perform(grown.moved(work)) for work in grown.coming]
    first = grown.after[[bool(made) for made in grown.after].index(True)]
    assert len(again) == len(grown.after) and again != grown.after
    for made, expected in zip(again, grown.after, strict=True):
        for one, other in zip(made, expected, strict=True):
            one_N, other_N = (torch.frombuffer(bytearray(data), dtype=torch.float32) for data in (one, other))
            assert (one_N - other_N).norm() < 0.1 * other_N.norm()
    assert first


@pytest.mark.parametrize("level", APART)
@pytest.mark.parametrize("boundary", [1, 2, 4, 6])
def test_a_stream_that_is_shorter_than_that_is_built_again_from_its_beginning(level: Level, boundary: int) -> None:
    grown = stream(small(), level, 12, 3, boundary)
    assert boundary <= grown.needed
    grown.rebuild(grown.needed)
    assert grown.pages_are_back()
    assert grown.goes_on_as_before()


def test_attention_in_parts_is_as_exact_though_it_takes_a_short_window_at_once() -> None:
    """What outlives a rebuild was made over full windows, and those are cut as they were."""
    cut: list[int] = []

    def merged(*parts: Tensor) -> Tensor:
        cut.append(len(parts[0]))
        return parted.merged(*parts)

    info, denoiser = small()
    large = replace(info, geometry=replace(info.geometry, width=352, height=352))  # 4,356 keys in a full window
    recipe = altered(info.recipe, level=Level.CLEAN)
    grown = Stream(large, denoiser, recipe, 8, PartedAttention(2, merge=merged))
    seen = []
    for blocks in (grown.needed, grown.needed - 1):
        cut.clear()
        grown.rebuild(blocks)
        # The windows of the first H blocks are short, and of a commit's last layer no attention is asked for.
        assert cut == [2] * (blocks - recipe.history_blocks) * (info.num_layers - 1)
        seen.append((grown.pages_are_back(), grown.goes_on_as_before()))
    assert seen == [(True, True), (False, False)]
