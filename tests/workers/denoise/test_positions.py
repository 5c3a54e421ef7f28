"""Keys that are turned when they are read, in the worker that serves: the bits of an oracle that turns them whole."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from functools import cache, partial

import pytest
import torch
from torch import Tensor

from longtake.core.recipe.blocks import BlockPlan
from longtake.core.recipe.context import Level
from longtake.core.recipe.geometry import Geometry
from longtake.core.recipe.ops import Returns
from longtake.core.recipe.positions import Cyclic, Numbering, Positions
from longtake.core.recipe.recipe import Recipe
from longtake.core.work import ForwardWork, FromLatent, NoiseKey, PageId, SessionId
from tests.core.support.recipes import APART, altered
from tests.workers.model_dir import model_info
from tests.workers.oracle import ContiguousLanes, Lanes, generate
from tests.workers.orders import PROMPT, done
from tests.workers.simulated.stream import SEED, forwards_of, task
from tests.workers.unturned import Placing, UnturnedLanes, absolute, placing_of, shifted
from workers.denoise.attention import SdpaBackend
from workers.denoise.noise import normal
from workers.denoise.worker import DenoiseWorker, tensor_from_bytes, tensor_to_bytes
from workers.models.api import sdpa
from workers.models.text import PocketText
from workers.models.wan.dit import WanModel

INFO = model_info()
LISTED, ABSOLUTE = Positions(stream=Numbering.LISTED), Positions()
BLOCKS = 9
"""More than two laps of every window here."""
FAR = 10**6
Change = Callable[[ForwardWork], ForwardWork]


def cyclic(period: int) -> Positions:
    return Positions(stream=Cyclic(cyclic=period))


def recipe(positions: Positions, level: Level = Level.CLEAN, *, window: int = 7, sinks: int = 0) -> Recipe:
    """Two steps, two frames a block; the window is not made of whole blocks."""
    return altered(
        INFO.recipe, level=level, ladder=(1000, 500), window_frames=window, sink_frames=sinks, positions=positions
    )


RECIPES = {
    "listed, sinks": recipe(LISTED, sinks=2),
    "listed, one sink": recipe(LISTED, sinks=1),
    "listed, output": recipe(LISTED, Level.OUTPUT),
    "listed, input, sinks": recipe(LISTED, Level.INPUT, sinks=2),
    "cyclic, as long as the window": recipe(cyclic(7)),
    "cyclic, longer": recipe(cyclic(10), Level.OUTPUT),
    "absolute, sinks": recipe(ABSOLUTE, sinks=2),
}


@cache
def network() -> WanModel:
    torch.manual_seed(0)
    model: WanModel = WanModel(replace(INFO.dit, num_layers=3)).requires_grad_(False)
    return model


@cache
def text() -> Tensor:
    return PocketText(INFO.dit.text_dim).encode(PROMPT).features_TC


GEOMETRY: Geometry = INFO.geometry.divided(BlockPlan(frames=2))


def stream(made: Recipe, change: Change = lambda work: work, blocks: int = BLOCKS) -> dict[tuple[int, int], bytes]:
    """The latents that leave each step of each block, by the worker; `change` makes other orders of the core's."""
    pages = made.page_count * made.lane_count
    return perform(DenoiseWorker(network(), GEOMETRY, SdpaBackend(), pages=pages), map(change, orders(made, blocks)))


def orders(made: Recipe, blocks: int) -> Iterable[ForwardWork]:
    return forwards_of(made, GEOMETRY, blocks)


def perform(worker: DenoiseWorker, works: Iterable[ForwardWork]) -> dict[tuple[int, int], bytes]:
    journal: dict[tuple[int, int], bytes] = {}
    for work in works:
        given = journal[work.input.ref.block, work.input.ref.step] if isinstance(work.input, FromLatent) else b""
        order = task(work, latents=given, conditioning=tensor_to_bytes(text()))
        for output in done(worker.perform(order)).outputs:
            journal[work.block, work.step + 1] = output
    return journal


def finished(journal: dict[tuple[int, int], bytes], blocks: int = BLOCKS) -> Tensor:
    """The x0 [block, F, C, H, W] of all blocks."""
    shape, last = GEOMETRY.block_shape, max(step for _, step in journal)
    return torch.stack([tensor_from_bytes(journal[block, last], shape) for block in range(blocks)])


def by_oracle(made: Recipe, placing: Placing | None, blocks: int = BLOCKS) -> Tensor:
    """The same by the oracle that turns keys as it reads them, or by the one that rotates when writing."""
    lanes: Lanes = (
        ContiguousLanes(network(), made.window_frames, made.sink_frames, attention=sdpa)
        if placing is None
        else UnturnedLanes(network(), made.window_frames, made.sink_frames, attention=sdpa, placing=placing)
    )

    def noise(block: int, draw: int) -> Tensor:
        return normal(SEED, block, draw, GEOMETRY.block_shape).unsqueeze(0)

    return torch.cat(generate(network(), made, text().unsqueeze(0), noise, blocks, lanes))


def turned_at_read(work: ForwardWork, made: Recipe, by: int = 0) -> ForwardWork:
    """The same forward of an absolute stream, with its keys stored without their time; all places are `by` further."""
    frames = sorted(made.window.frames(work.block), key=made.window.slot)
    return replace(
        work,
        positions=tuple(frame + by for frame in work.positions),
        key_positions=(0,) * len(work.positions),
        read_turns=tuple(frame + by for frame in frames),
    )


@pytest.mark.parametrize("name", RECIPES)
def test_the_worker_is_the_oracle_that_turns_each_key_whole_at_each_read(name: str) -> None:
    made = RECIPES[name]
    assert torch.equal(finished(stream(made)), by_oracle(made, placing_of(made)))


def test_no_two_of_these_recipes_make_the_same() -> None:
    ends = [finished(stream(made))[-1] for made in RECIPES.values()]
    assert all((one - other).abs().max() > 1e-4 for number, one in enumerate(ends) for other in ends[:number])


@pytest.mark.parametrize("sinks", [0, 2])
@pytest.mark.parametrize("level", APART)
def test_absolute_is_the_same_whether_turned_when_written_or_when_read(level: Level, sinks: int) -> None:
    made = recipe(ABSOLUTE, level, sinks=sinks)
    written = finished(stream(made))
    assert torch.equal(finished(stream(made, partial(turned_at_read, made=made))), written)
    assert torch.equal(by_oracle(made, absolute), written)
    assert torch.equal(by_oracle(made, None), written)


@pytest.mark.parametrize("sinks", [0, 2])
@pytest.mark.parametrize("level", APART)
def test_listed_is_absolute_until_a_frame_leaves(level: Level, sinks: int) -> None:
    made, plain = recipe(LISTED, level, sinks=sinks), recipe(ABSOLUTE, level, sinks=sinks)
    one, other = finished(stream(made)), finished(stream(plain))
    full = made.window.size // made.blocks.frames
    assert torch.equal(one[:full], other[:full])
    apart = (one[full:] - other[full:]).abs().amax((1, 2, 3, 4))
    # Without sinks all places have only moved together, which is nothing but another rounding.
    assert apart.min() > 1e-4 if sinks else 0 < apart.max() < 2e-5, apart


@pytest.mark.parametrize("name", ["listed, sinks", "listed, output"])
def test_only_differences_of_places_count(name: str) -> None:
    made = RECIPES[name]

    def far(work: ForwardWork) -> ForwardWork:
        positions, turns = (tuple(place + FAR for place in places) for places in (work.positions, work.read_turns))
        return replace(work, positions=positions, read_turns=turns)

    here, there = finished(stream(made)), finished(stream(made, far))
    torch.testing.assert_close(there, here, atol=2e-5, rtol=0)
    assert not torch.equal(there, here), "it is another rotation"
    torch.testing.assert_close(by_oracle(made, partial(shifted, placing_of(made), FAR)), here, atol=2e-5, rtol=0)


def test_ten_laps_later_a_ring_is_a_fresh_one_with_the_same_in_it() -> None:
    made = recipe(cyclic(8), window=4)
    lap, laps = 4, 10  # blocks after which places and slots are as they were: 8 frames
    works = list(orders(made, laps * lap + BLOCKS))
    now, fresh = (DenoiseWorker(network(), GEOMETRY, SdpaBackend(), pages=made.page_count) for _ in range(2))
    block = laps * lap + 5
    perform(now, [work for work in works if work.block < block])
    for page in map(PageId, range(made.page_count)):
        fresh.page(page).copy_(now.page(page))
    later = perform(now, [work for work in works if block <= work.block < block + 3])
    again = [work for work in works if block <= work.block + laps * lap < block + 3]
    seeded = [replace(work, noise=NoiseKey(seed=SEED, block=work.block + laps * lap)) for work in again]
    first = perform(fresh, seeded)
    assert {(at + laps * lap, step): made for (at, step), made in first.items()} == later
    assert all(max(work.positions) < 8 and not work.read_turns for work in works)


# --- batches ----------------------------------------------------------------------------------------------------------


def batched(works: Sequence[ForwardWork]) -> tuple[list[bytes], Tensor]:
    """What comes of some forwards in one batch, and what it leaves in all pages."""
    worker = DenoiseWorker(network(), GEOMETRY, SdpaBackend(), pages=24)
    for page in range(24):
        worker.page(PageId(page)).copy_(torch.randn(worker.page(PageId(page)).shape, generator=torch.manual_seed(page)))
    items = [task(work, conditioning=tensor_to_bytes(text())).order[0] for work in works]  # type: ignore[index]
    answered = done(worker.perform(replace(task(works[0]), order=tuple(items))))
    return list(answered.outputs), torch.stack([worker.page(PageId(page)).clone() for page in range(24)])


def shown(number: int, made: Recipe, *, shuffled: bool) -> ForwardWork:
    """The first forward of block 4 of a stream, over pages of its own."""
    work, session = next(work for work in orders(made, 5) if work.block == 4), SessionId(f"{number}")
    pages = list(range(number * made.page_count, (number + 1) * made.page_count))
    if shuffled:
        pages.reverse()
    reads, writes = (tuple(PageId(pages[page]) for page in some) for some in (work.pages.reads, work.pages.writes))
    return replace(
        work,
        session=session,
        pages=replace(work.pages, reads=reads, writes=writes),
        conditioning=replace(work.conditioning, session=session),
        noise=NoiseKey(seed=number, block=4),
        returns=Returns.SENT,
    )


@pytest.mark.parametrize("shuffled", [False, True])
def test_streams_of_both_kinds_share_a_forward(shuffled: bool) -> None:
    kinds = (RECIPES["listed, sinks"], RECIPES["absolute, sinks"], RECIPES["listed, sinks"])
    works = [shown(number, made, shuffled=shuffled) for number, made in enumerate(kinds)]
    together, left = batched(works)
    for number, work in enumerate(works):
        (alone,), pages = batched([work])
        assert together[number] == alone
        own = list(work.pages.writes)
        assert torch.equal(left[own], pages[own])
    # And what it is about: with the places of its mate, a stream would be another one.
    wrong = replace(works[0], read_turns=())
    assert batched([wrong, *works[1:]])[0][0] != together[0]


def test_more_or_fewer_turns_than_pages_are_refused() -> None:
    work = shown(0, RECIPES["listed, sinks"], shuffled=False)
    with pytest.raises(ValueError, match="turns 6 pages and reads 7"):
        batched([replace(work, read_turns=work.read_turns[1:])])
