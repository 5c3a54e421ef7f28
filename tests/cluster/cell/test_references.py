"""Streams with a reference through the real engine: the oracle's latents, bit for bit, and every mistake is seen."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path

import pytest
import torch
from torch import Tensor

from cluster.cell.journal import GivenPictures
from longtake.core.events import CueRequest
from longtake.core.pages import PageTable
from longtake.core.recipe.context import Level
from longtake.core.recipe.graph import Graph
from longtake.core.recipe.positions import Numbering, Places, Positions
from longtake.core.recipe.recipe import Recipe
from longtake.core.recipe.references import REFERENCE
from longtake.core.recipe.window import Window
from longtake.core.work import CueId, PageId
from longtake.recipes import shipped
from tests.cluster.cell.all_at_once import PROMPTS, alone
from tests.cluster.cell.world import Hashes
from tests.core.support.recipes import altered
from tests.workers.given_pictures import encoded, moving_ball
from tests.workers.model_dir import write_model_that_encodes
from tests.workers.oracle import ContiguousLanes, generate
from tests.workers.oracle_reference import generate_with, running_ahead
from workers.decode.giving import PictureEncoder
from workers.decode.slots import LatentFormat
from workers.denoise.noise import normal
from workers.denoise.worker import tensor_to_bytes
from workers.models import weights
from workers.models.api import Compute, Inputs, TextKV, sdpa
from workers.models.text import load_text_encoder

Break = Callable[[pytest.MonkeyPatch], None]
"""Makes one thing wrong."""

PROMPT, OTHER, _ = PROMPTS
IMAGES = [encoded(picture) for picture in moving_ball(12, 48)[::11]]
BLOCKS = 6
SHIPPED = shipped()["reference"].recipe
SMALL = altered(SHIPPED, ladder=(1000, 500), window_frames=5, frames=2)
"""Two steps and a window that is soon full."""
ROWS: dict[str, Recipe] = {
    "shipped": SHIPPED,
    "output": altered(SMALL, level=Level.OUTPUT),
    "input": altered(SMALL, level=Level.INPUT),
    "sinks": altered(SMALL, sink_frames=2, window_frames=7),
    "listed": altered(SMALL, positions=Positions(stream=Numbering.LISTED)),
    "two": altered(SMALL, reference_frames=2, window_frames=6),
    "ahead": altered(SMALL, reference_lead=8, reference_stride=4),
    "two ahead, sinks, output": altered(
        SMALL, level=Level.OUTPUT, reference_frames=2, sink_frames=2, window_frames=8, reference_lead=3,
        reference_stride=5,
    ),
    "short first block": altered(SMALL, first_frames=1, reference_lead=8, reference_stride=4),
}  # fmt: skip


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("model")
    write_model_that_encodes(folder)
    return folder


def reference(model: Path, count: int) -> Tensor:
    """The images' latents [1, F, C, H, W], each encoded as a stream of its own."""
    torch.set_num_threads(1)
    info = weights.load_info(model)
    encoder = weights.load_encoder(model, info, Compute())
    assert encoder is not None
    giving = PictureEncoder(encoder, LatentFormat.of(info), info.geometry)
    return torch.cat([giving.frame([image], giving.begin()) for image in IMAGES[:count]])[None]


def right(model: Path, recipe: Recipe, cues: dict[int, str] | None = None, blocks: int = BLOCKS) -> list[str]:
    """SHA-256 of the blocks by the oracle."""
    torch.set_num_threads(1)
    info = weights.load_info(model)
    geometry = info.geometry.divided(recipe.blocks)
    denoiser, encoder = weights.load_denoiser(model, info, Compute()), load_text_encoder(model, info, Compute())
    made = generate_with(
        denoiser,
        recipe,
        {block: encoder.encode(text).features_TC[None] for block, text in ({0: PROMPT} | (cues or {})).items()},
        lambda block, draw: normal(7, block, draw, geometry.shape_of(block))[None],
        blocks,
        reference(model, recipe.context.reference_frames),
    )
    return [sha256(tensor_to_bytes(x0_BFCHW[0])).hexdigest() for x0_BFCHW in made]


async def served(model: Path, recipe: Recipe, cues: dict[int, str] | None = None) -> Hashes:
    """A stream by the recipe."""
    pictures = weights.load_info(model).geometry.divided(recipe.blocks).first_picture(BLOCKS)
    given = GivenPictures(references=tuple(IMAGES[: recipe.context.reference_frames]))
    asked = tuple(CueRequest(cue=CueId(f"c{block}"), prompt=text, block=block) for block, text in (cues or {}).items())
    return await alone(model, recipe, pictures, denoise=2, given=given, cues=asked)


@pytest.mark.parametrize("name", ROWS)
async def test_every_row_is_the_oracles(model: Path, name: str) -> None:
    hashes = await served(model, ROWS[name])
    assert hashes.of("s") == right(model, ROWS[name])


async def test_a_cue_changes_what_follows_and_not_the_reference(model: Path) -> None:
    made = ROWS["output"]
    hashes = await served(model, made, {3: OTHER})
    assert hashes.of("s") == right(model, made, {3: OTHER}) != right(model, made)


def test_what_is_seen_matters(model: Path) -> None:
    """No two rows that differ in the reference make the same, and another image makes another stream."""
    plain = altered(SMALL, reference_frames=0, window_frames=4)
    info = weights.load_info(model)
    denoiser, encoder = weights.load_denoiser(model, info, Compute()), load_text_encoder(model, info, Compute())
    geometry = info.geometry.divided(plain.blocks)
    text = {0: encoder.encode(PROMPT).features_TC[None]}

    def noise(block: int, draw: int) -> Tensor:
        return normal(7, block, draw, geometry.shape_of(block))[None]

    without = [sha256(tensor_to_bytes(x0[0])).hexdigest() for x0 in generate(denoiser, plain, text, noise, 3)]
    made = [right(model, ROWS[name], blocks=3) for name in ("listed", "two", "ahead", "sinks")]
    assert len({tuple(each) for each in [*made, without]}) == 5
    other = generate_with(denoiser, SMALL, text, noise, 1, reference(model, 2)[:, 1:])
    assert sha256(tensor_to_bytes(other[0][0])).hexdigest() != right(model, SMALL, blocks=1)[0]


@dataclass
class WrittenLanes(ContiguousLanes):
    """Lanes whose keys are rotated once, when they are written: the reference is a sink that stands at `place`."""

    place: int = 0

    def visible(self, first: int, count: int) -> list[int]:
        """See ContiguousLanes."""
        return [-1] if first < 0 else [-1, *super().visible(first, count)]

    def inputs(self, lane: str, first: int, x_BFCHW: Tensor, timestep: float, text: TextKV) -> Inputs:
        """See ContiguousLanes."""
        made = super().inputs(lane, first, x_BFCHW, timestep, text)
        return replace(made, position_BF=made.position_BF.where(made.position_BF >= 0, self.place))


async def test_a_reference_that_stands_still_is_a_plain_sink(model: Path) -> None:
    """One that never moves, turned with every read, gives the bits of one that is rotated when it is written."""
    still = altered(SMALL, reference_lead=10**6)
    assert {still.positions.of(still.window, block).read[0] for block in range(1000)} == {10**6}
    info = weights.load_info(model)
    denoiser, encoder = weights.load_denoiser(model, info, Compute()), load_text_encoder(model, info, Compute())
    geometry, text = info.geometry.divided(still.blocks), encoder.encode(PROMPT).features_TC[None]
    lanes = WrittenLanes(denoiser, 4, attention=sdpa, place=10**6)
    with torch.inference_mode():
        lanes.commit("clean", -1, reference(model, 1), 0.0, denoiser.encode_text(text))
    made = generate(
        denoiser, still, text, lambda block, draw: normal(7, block, draw, geometry.shape_of(block))[None], BLOCKS, lanes
    )
    hashes = await served(model, still)
    assert hashes.of("s") == [sha256(tensor_to_bytes(x0[0])).hexdigest() for x0 in made]


def _other_reads(change: Callable[[tuple[PageId, ...]], tuple[PageId, ...]]) -> Break:
    def broken(patch: pytest.MonkeyPatch) -> None:
        usual = PageTable.reads
        patch.setattr(PageTable, "reads", lambda table, block: change(usual(table, block)))

    return broken


def _placed_elsewhere(patch: pytest.MonkeyPatch) -> None:
    usual = Positions.of

    def of(positions: Positions, window: Window, block: int, frames: Sequence[int] = ()) -> Places:
        return Places((5,), (5,), ()) if block == REFERENCE else usual(positions, window, block, frames)

    patch.setattr(Positions, "of", of)


def _committed_as_a_block(patch: pytest.MonkeyPatch) -> None:
    usual = Graph.steps_of
    noisy = Graph(altered(SMALL, commit_step=500))
    patch.setattr(
        Graph, "steps_of", lambda graph, block, load=0: noisy.usual if block == REFERENCE else usual(graph, block, load)
    )


BREAKS: dict[str, tuple[str, Break]] = {
    "not read": ("small", _other_reads(lambda pages: pages[1:] if len(pages) > 1 else pages)),
    "read twice": ("small", _other_reads(lambda pages: (pages[0], *pages) if len(pages) > 1 else pages)),
    "read last": ("small", _other_reads(lambda pages: (*pages[1:], pages[0]))),
    "at another place": ("small", _placed_elsewhere),
    "with noise": ("small", _committed_as_a_block),
    "not ahead": ("ahead", lambda patch: patch.setattr(Positions, "ahead", lambda positions, end: 8)),
    "too far ahead": ("ahead", lambda patch: patch.setattr(Positions, "ahead", lambda positions, end: end + 1)),
}
"""What could be wrong with a reference, and by which recipe that is looked for."""


@pytest.mark.parametrize("name", BREAKS)
async def test_a_mistake_is_seen(model: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    row, broken = BREAKS[name]
    recipe = SMALL if row == "small" else ROWS[row]
    expected = right(model, recipe)
    with monkeypatch.context() as patch:
        broken(patch)
        hashes = await served(model, recipe)
    assert len(hashes.of("s")) == len(expected) and hashes.of("s") != expected


def test_the_rule_of_the_paper_is_the_formula() -> None:
    for lead, stride in ((8, 4), (1, 1), (5, 7)):
        positions = Positions(reference_lead=lead, reference_stride=stride)
        assert [positions.ahead(end) for end in range(300)] == [running_ahead(lead, stride, end) for end in range(300)]
