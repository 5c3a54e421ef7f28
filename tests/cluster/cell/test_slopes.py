"""Streams whose attention minds distance, through the real engine over small random weights.

Each is the oracle's, bit for bit, and every mistake is seen. The oracle is a network over contiguous keys
(tests/workers/oracle_courses.py) with the distances of benchmarks/places.py.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import cache
from hashlib import sha256
from itertools import islice
from pathlib import Path

import pytest
import torch

from longtake.core.effects import Dispatch
from longtake.core.recipe.blocks import BlockPlan
from longtake.core.recipe.context import Context, Level
from longtake.core.recipe.cues import CueChange, CuePolicy, CueRule
from longtake.core.recipe.positions import NO_BIAS, Bias, Numbering, Places, Positions
from longtake.core.recipe.recipe import Recipe
from longtake.core.recipe.window import Window
from longtake.core.work import DecodeWork
from tests.cluster.cell.all_at_once import PROMPTS, all_at_once, cued
from tests.cluster.cell.world import Hashes, expected_hashes
from tests.core.support.recipes import altered
from tests.workers.model_dir import model_info, write_model
from tests.workers.oracle import generate
from tests.workers.oracle_courses import KnownTensors, Network, texts_of
from tests.workers.oracle_slope import SlopedLanes
from workers.denoise.noise import normal
from workers.denoise.worker import tensor_to_bytes
from workers.models import weights
from workers.models.api import Compute
from workers.models.text import load_text_encoder
from workers.models.wan.dit import WanModel

BLOCKS, TURN, SLOPE = 7, 4, 0.5
Break = Callable[[pytest.MonkeyPatch], None]


def made(level: Level = Level.CLEAN, *, slope: float = SLOPE, **changes: object) -> Recipe:
    """Blocks of 2 frames in a window of 6, which is soon full."""
    plan, context = BlockPlan(frames=2), Context(level=level, window_frames=6)
    return altered(replace(model_info().recipe, blocks=plan, context=context), slope=slope, **changes)


LISTED = Positions(stream=Numbering.LISTED)
ROWS: dict[str, Recipe] = {
    "clean": made(),
    "steeper": made(slope=2.0),
    "output": made(Level.OUTPUT),
    "input": made(Level.INPUT),
    "listed": made(sink_frames=2, positions=LISTED),
    "listed, output": made(Level.OUTPUT, sink_frames=1, positions=LISTED),
    "noise in the context": made(commit_step=50, commit_label=0.0),
    "a clean start": made(Level.OUTPUT, start_blocks=2),
    "window, recached": made(cues=CuePolicy(change=CueRule.WINDOW)),
    "joint, listed": made(sink_frames=2, cues=CuePolicy(change=CueRule.JOINT, keep_sinks=False), positions=LISTED),
    "step together": altered(made(), level=Level.STAGGERED, lag=1),
    "two steps apart": altered(made(), level=Level.STAGGERED, lag=2, window_frames=7),
}
PLAIN = {"plain": made(slope=0.0), "plain, output": made(Level.OUTPUT, slope=0.0)}
"""The same without a slope; they share forwards with those above."""


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("model")
    write_model(folder)
    return folder


@cache
def right(model: Path, recipe: Recipe) -> list[str]:
    """SHA-256 of the blocks by the oracle."""
    torch.set_num_threads(1)
    info = replace(weights.load_info(model), recipe=recipe)
    denoiser, encoder = weights.load_denoiser(model, info, Compute()), load_text_encoder(model, info, Compute())
    assert isinstance(denoiser, WanModel)
    features = {block: encoder.encode(PROMPTS[turn]).features_TC for turn, block in enumerate((0, TURN))}
    changes = {} if recipe.cues.change is CueRule.SWAP else {TURN: CueChange.RECACHE}
    course = KnownTensors(number=7, texts=texts_of(denoiser, features), changes=changes, blocks=BLOCKS)
    latents = Network.of(denoiser, info.geometry.divided(recipe.blocks), recipe).latents(recipe, course)
    return [sha256(tensor_to_bytes(each_BFCHW[0])).hexdigest() for each_BFCHW in islice(latents, BLOCKS)]


async def served(model: Path, recipes: Mapping[str, Recipe], denoise: int = 1) -> Hashes:
    """A stream by each recipe, all at once."""
    return await all_at_once(model, recipes, cued([TURN], {}), blocks=BLOCKS, denoise=denoise)


@pytest.mark.parametrize("denoise", [1, pytest.param(3, marks=pytest.mark.slow)])
async def test_every_row_is_the_oracles_and_those_without_are_what_they_were(model: Path, denoise: int) -> None:
    hashes = await served(model, ROWS | PLAIN, denoise)
    for name, recipe in (ROWS | PLAIN).items():
        assert hashes.of(name) == right(model, recipe), name
    assert len({tuple(hashes.of(name)) for name in ROWS | PLAIN}) == len(ROWS | PLAIN), "no two do the same"
    for name, recipe in PLAIN.items():
        assert hashes.of(name) == expected_hashes(model, {0: PROMPTS[0], TURN: PROMPTS[1]}, 7, BLOCKS, recipe)
    works = [
        work
        for effect in hashes.effects
        if isinstance(effect, Dispatch) and not isinstance(effect.work, DecodeWork)
        for work in effect.work
    ]
    assert all((work.bias == NO_BIAS) is (work.session in PLAIN) for work in works)
    if denoise == 1:
        batches = [
            {work.bias == NO_BIAS for work in effect.work}
            for effect in hashes.effects
            if isinstance(effect, Dispatch) and not isinstance(effect.work, DecodeWork)
        ]
        assert {True, False} in batches, "some share a forward with others that have no slope"


@pytest.mark.parametrize("level", [Level.CLEAN, Level.OUTPUT, Level.INPUT])
def test_two_oracles_say_the_same(model: Path, level: Level) -> None:
    """The one of courses, and the plain loop that was held against the goldens, each with its own distances."""
    torch.set_num_threads(1)
    recipe = made(level)
    info = replace(weights.load_info(model), recipe=recipe)
    denoiser, encoder = weights.load_denoiser(model, info, Compute()), load_text_encoder(model, info, Compute())
    shape = info.geometry.divided(recipe.blocks).block_shape
    text = {block: encoder.encode(PROMPTS[turn]).features_TC[None] for turn, block in enumerate((0, TURN))}
    latents = generate(
        denoiser, recipe, text, lambda block, draw: normal(7, block, draw, shape)[None], BLOCKS,
        SlopedLanes.of(denoiser, recipe),
    )  # fmt: skip
    assert [sha256(tensor_to_bytes(each_BFCHW[0])).hexdigest() for each_BFCHW in latents] == right(model, recipe)


def _rows(changed: Callable[[Bias, tuple[int, ...]], tuple[Bias, tuple[int, ...]]]) -> Break:
    def broken(patch: pytest.MonkeyPatch) -> None:
        usual = Bias.rows
        patch.setattr(Bias, "rows", lambda bias, queries: usual(*changed(bias, queries)))

    return broken


def _seen(changed: Callable[[tuple[int, ...]], tuple[int, ...]]) -> Break:
    def broken(patch: pytest.MonkeyPatch) -> None:
        usual = Positions.of

        def of(positions: Positions, window: Window, block: int, frames: tuple[int, ...] = ()) -> Places:
            places = usual(positions, window, block, frames)
            return places._replace(seen=changed(places.seen))

        patch.setattr(Positions, "of", of)

    return broken


BREAKS: dict[str, Break] = {
    "the other sign": _rows(lambda bias, queries: (bias._replace(slope=-bias.slope), queries)),
    "without the place of the query": _rows(lambda bias, queries: (bias, (0,) * len(queries))),
    "by the first query alone": _rows(lambda bias, queries: (bias, queries[:1] * len(queries))),
    "in the order of time": _seen(lambda seen: tuple(sorted(seen))),
    "one place off": _seen(lambda seen: tuple(place + 1 for place in seen)),
    "of the other slots": _seen(lambda seen: (*seen[1:], *seen[:1])),
}
"""What could be wrong with a slope."""


@pytest.mark.parametrize("name", BREAKS)
async def test_a_mistake_is_seen(model: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    rows = {each: ROWS[each] for each in ("clean", "output", "listed")}
    expected = {each: right(model, recipe) for each, recipe in rows.items()}
    with monkeypatch.context() as patch:
        BREAKS[name](patch)
        hashes = await served(model, rows)
    for each in rows:
        assert len(hashes.of(each)) == BLOCKS and hashes.of(each) != expected[each], each
