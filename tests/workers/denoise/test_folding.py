"""Folds in the worker that serves: the bits of an oracle that compresses as the paper does, and what mistakes show."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.nn import functional as F

from longtake.core.errors import InvalidField
from longtake.core.recipe.context import Level
from longtake.core.recipe.geometry import Geometry
from longtake.core.recipe.recipe import Recipe
from longtake.core.work import FoldWork, ForwardWork, FromLatent, PageId
from tests.core.support.folded import folding
from tests.workers.model_dir import model_info, write_model
from tests.workers.oracle import generate
from tests.workers.oracle_memory import FoldingLanes, compressed
from tests.workers.orders import PROMPT, batch, done, work
from tests.workers.simulated.stream import SEED, forwards_of, task
from workers.denoise.attention import SdpaBackend
from workers.denoise.noise import normal
from workers.denoise.worker import DenoiseWorker, tensor_from_bytes, tensor_to_bytes
from workers.messages import Failed, Forward
from workers.models.api import Compute, sdpa
from workers.models.rotary import Rotation, rotate
from workers.models.text import PocketText
from workers.models.wan.dit import WanModel, turns
from workers.models.wan.folding import weights_of
from workers.models.weights import check_weights, load_denoiser

INFO = model_info()
BLOCKS = 9
RECIPES = {
    "input": folding(sinks=1, memory=2, k=2, window=7, frames=2, first=1),
    "output": folding(Level.OUTPUT, sinks=0, memory=1, k=4, window=6, frames=3),
    "clean": folding(Level.CLEAN, sinks=1, memory=1, k=4, window=9, frames=3),
}


def own_weights(model: WanModel, layer: int) -> tuple[Tensor | None, Tensor | None]:
    """Those of the memory's keys and values in a layer."""
    return weights_of(model.get_submodule(f"blocks.{layer}.self_attn"))


def geometry(recipe: Recipe) -> Geometry:
    return INFO.geometry.divided(recipe.blocks)


def network(kernel: int = 0) -> WanModel:
    """With a kernel, its memory has weights; they are those of the mean, but for a little."""
    torch.manual_seed(0)
    model: WanModel = WanModel(replace(INFO.dit, num_layers=3)).requires_grad_(False)
    if kernel:
        model.suit(lambda name: (INFO.dit.dim, 1, kernel) if "memory_proj" in name else None)
        for layer in model.layers:
            for weight in own_weights(model, layer):
                assert weight is not None
                weight.data = 1 / kernel + 0.2 * torch.randn_like(weight)
    return model.requires_grad_(False)


TEXT = PocketText(INFO.dit.text_dim).encode(PROMPT).features_TC


def served(recipe: Recipe, model: WanModel, works: Sequence[ForwardWork] | None = None) -> list[Tensor]:
    """The x0 of all blocks, by the worker."""
    pages = recipe.page_count * recipe.lane_count
    worker = DenoiseWorker(model, geometry(recipe), SdpaBackend(), pages=pages)
    journal: dict[tuple[int, int], bytes] = {}
    for each in orders(recipe) if works is None else works:
        given = journal[each.input.ref.block, each.input.ref.step] if isinstance(each.input, FromLatent) else b""
        for output in done(worker.perform(task(each, latents=given, conditioning=tensor_to_bytes(TEXT)))).outputs:
            journal[each.block, each.enters] = output
    return [
        tensor_from_bytes(journal[block, recipe.step_count], geometry(recipe).shape_of(block))
        for block in range(BLOCKS)
    ]


def orders(recipe: Recipe) -> list[ForwardWork]:
    return list(forwards_of(recipe, geometry(recipe), BLOCKS))


def by_oracle(recipe: Recipe, model: WanModel, **changes: object) -> list[Tensor]:
    lanes = replace(FoldingLanes.of(model, recipe, sdpa), **changes)  # type: ignore[arg-type]

    def noise(block: int, draw: int) -> Tensor:
        return normal(SEED, block, draw, geometry(recipe).shape_of(block)).unsqueeze(0)

    return [x[0] for x in generate(model, recipe, TEXT.unsqueeze(0), noise, BLOCKS, lanes)]


def equal(some: Sequence[Tensor], others: Sequence[Tensor]) -> bool:
    return all(torch.equal(one, other) for one, other in zip(some, others, strict=True))


@pytest.mark.parametrize("kernel", [False, True])
@pytest.mark.parametrize("name", RECIPES)
def test_the_worker_is_the_oracle_to_the_bit_with_the_mean_and_with_weights(name: str, kernel: bool) -> None:
    recipe = RECIPES[name]
    k = recipe.memory.fold_frames if kernel else 0
    right = by_oracle(recipe, model := network(k), weights=lambda layer: own_weights(model, layer) if k else None)
    assert equal(served(recipe, network(k)), right)
    if kernel:
        assert not equal(right, by_oracle(recipe, network())), "they are not those of the mean"


def test_to_turn_keys_and_back_is_rounding_and_no_more() -> None:
    recipe = RECIPES["input"]
    bare = by_oracle(recipe, network(), touch=lambda k, _: k)
    assert all((one - other).abs().max() < 1e-5 for one, other in zip(bare, served(recipe, network()), strict=True))


def test_pages_become_what_a_convolution_makes_of_their_keys_before_any_rotation() -> None:
    pages, tokens, grid = 4, 4, (2, 2)
    for kernel in (0, pages):
        model = network(kernel)
        heads, channels = INFO.dit.num_heads, INFO.dit.dim // INFO.dit.num_heads
        bare = torch.randn(2, pages, tokens, heads, channels)
        turn = turns(torch.zeros(1, 1, dtype=torch.int64), grid, INFO.dit)
        stored = torch.stack((rotate(bare[0], turn), bare[1]))
        made = model.fold(1, stored, grid)
        for unit, weight in enumerate(own_weights(model, 1)):
            row_1ET = bare[unit].double().flatten(0, 1).flatten(1).t().unsqueeze(0)
            kernel_E1K = torch.full((INFO.dit.dim, 1, pages), 1 / pages) if weight is None else weight
            right = F.conv1d(row_1ET, kernel_E1K.double(), stride=pages, groups=INFO.dit.dim)[0].t().contiguous()
            right_LND = right.reshape(tokens, heads, channels)
            if unit == 0:
                right_LND = rotate(right_LND.float().unsqueeze(0), turn)[0].double()
            assert (made[unit].double() - right_LND).abs().max() < 2e-6
            if weight is None:
                mean = bare[unit].double().flatten(0, 1).view(tokens, pages, heads, channels).mean(1)
                assert unit == 0 or (made[unit].double() - mean).abs().max() < 2e-6


def test_a_fold_by_one_over_k_is_the_mean_of_k_neighbours() -> None:
    frames = [torch.randn(1, 8, 2, 6) for _ in range(4)]
    made = compressed(frames, torch.full((12, 1, 4), 0.25))
    assert torch.equal(made, compressed(frames, None))
    assert torch.allclose(made, torch.cat(frames, 1).view(1, 8, 4, 2, 6).mean(2), atol=1e-6)


# --- mistakes ---------------------------------------------------------------------------------------------------------


def of_two_devices(frames: Sequence[int], k: int) -> list[list[int]]:
    """The groups of another layout: every second frame, as where two devices share a sequence."""
    count = len(frames) // k
    return [list(frames[start::count]) for start in range(count)]


def test_groups_of_another_layout_show() -> None:
    recipe = RECIPES["input"]
    assert not equal(served(recipe, network()), by_oracle(recipe, network(), grouping=of_two_devices))


def test_a_fold_of_keys_that_have_their_places_shows(monkeypatch: pytest.MonkeyPatch) -> None:
    recipe, model = RECIPES["clean"], network()
    right = by_oracle(recipe, model)
    monkeypatch.setattr("workers.models.wan.folding.rotate", lambda x, turn: x)
    assert not equal(served(recipe, model), right), "rows and columns"
    monkeypatch.undo()
    turned = [replace(each, key_positions=each.positions) for each in orders(recipe)]
    assert not equal(served(recipe, model, turned), right), "time"


@pytest.mark.parametrize("name", ["clean", "output"])
def test_a_fold_before_the_commit_that_must_come_first_shows(name: str) -> None:
    recipe, model = RECIPES[name], network()
    early = orders(recipe)
    for number, each in enumerate(early):
        if each.folds:
            lane = [at for at in range(number) if early[at].lane == each.lane and early[at].block == each.block - 1]
            early[lane[-1]] = replace(early[lane[-1]], folds=each.folds)
            early[number] = replace(each, folds=())
    assert not equal(served(recipe, model, early), by_oracle(recipe, model))


@pytest.mark.parametrize("name", RECIPES)
def test_a_page_of_memory_that_is_listed_twice_shows(name: str) -> None:
    recipe, model, wrong = RECIPES[name], network(), list[ForwardWork]()
    for each in orders(recipe):
        reads, turns_ = each.pages.reads, each.read_turns
        if len(reads) == recipe.page_count:
            memory = reads[recipe.sink_frames]
            place = next(at for at, page in enumerate(reads) if page not in (memory, *each.pages.writes))
            reads = tuple(memory if at == place else page for at, page in enumerate(reads))
        wrong.append(replace(each, pages=replace(each.pages, reads=reads), read_turns=turns_))
    assert not equal(served(recipe, model, wrong), by_oracle(recipe, model))


@pytest.mark.parametrize("wrong", ["never", "twice", "other way round"])
def test_a_fold_that_is_left_out_or_done_twice_or_of_pages_in_another_order_shows(wrong: str) -> None:
    recipe, model = RECIPES["input"], network()

    def spoil(folds: tuple[FoldWork, ...]) -> tuple[FoldWork, ...]:
        match wrong:
            case "never":
                return ()
            case "twice":
                return folds * 2
            case _:
                return tuple(replace(fold, reads=fold.reads[::-1]) for fold in folds)

    works = [replace(each, folds=spoil(each.folds)) for each in orders(recipe)]
    assert not equal(served(recipe, model, works), by_oracle(recipe, model))


# --- what a worker does with orders -----------------------------------------------------------------------------------


def test_what_is_folded_before_a_batch_is_folded_once_though_the_batch_fails_and_its_ops_run_alone() -> None:
    model, shape = network(), INFO.geometry
    worker = DenoiseWorker(model, shape, SdpaBackend(), pages=6)
    for page in range(6):
        worker.page(PageId(page)).copy_(torch.randn(worker.page(PageId(page)).shape))
    fold = FoldWork(reads=(PageId(0), PageId(1)), write=PageId(0))
    before = [worker.page(PageId(page)).clone() for page in (0, 1)]
    once = [model.fold(layer, torch.stack([each[layer] for each in before], 1), (2, 2)) for layer in range(3)]
    good = replace(work(reads=tuple(map(PageId, (0, 2, 3))), writes=(PageId(2), PageId(3))), folds=(fold,))
    text = tensor_to_bytes(TEXT)
    bad = work(reads=tuple(map(PageId, (4, 5, 9))), writes=(PageId(4), PageId(5)), lane=1)
    (report,) = worker.perform(batch(Forward(work=good, conditioning=text), Forward(work=bad, conditioning=text)))
    assert isinstance(report, Failed) and report.outputs[0] and not report.outputs[1]
    assert all(torch.equal(worker.page(PageId(0))[layer], once[layer]) for layer in range(3)), "once"


def test_a_fold_that_cannot_be_done_fails_its_own_op_and_no_other() -> None:
    worker = DenoiseWorker(network(4), INFO.geometry, SdpaBackend(), pages=6)
    text = tensor_to_bytes(TEXT)
    wrong = FoldWork(reads=(PageId(0), PageId(1)), write=PageId(0))
    spoilt = replace(work(reads=(PageId(0), PageId(1)), writes=(PageId(0), PageId(1))), folds=(wrong,))
    good = work(reads=(PageId(4), PageId(5)), writes=(PageId(4), PageId(5)), lane=1)
    (report,) = worker.perform(batch(Forward(work=spoilt, conditioning=text), Forward(work=good, conditioning=text)))
    assert isinstance(report, Failed) and "folds 4 frames into one, and the recipe 2" in report.reason
    assert not report.outputs[0] and report.outputs[1]


def test_weights_of_the_memory_are_read_from_a_checkpoint_that_has_them(tmp_path: Path) -> None:
    info = write_model(tmp_path)
    file = tmp_path / "dit.safetensors"
    tensors = load_file(file)
    own = {f"blocks.{layer}.self_attn.memory_proj_k.weight": torch.randn(24, 1, 4) for layer in range(2)}
    save_file(tensors | own, file)
    check_weights(tmp_path, info)
    model = load_denoiser(tmp_path, info, Compute(), range(1, 2))
    assert isinstance(model, WanModel)
    keys, values = own_weights(model, 1)
    assert keys is not None and torch.equal(keys, own["blocks.1.self_attn.memory_proj_k.weight"]) and values is keys
    save_file(tensors | own | {"blocks.0.self_attn.memory_proj_k.weight": torch.randn(24, 4)}, file)
    with pytest.raises(InvalidField, match="memory_proj_k"):
        check_weights(tmp_path, info)


def test_a_turn_by_place_zero_leaves_the_time_of_keys_alone() -> None:
    x = torch.randn(1, 4, 2, 12)
    turn = turns(torch.zeros(1, 1, dtype=torch.int64), (2, 2), INFO.dit)
    back = Rotation(turn.cos, -turn.sin)
    pairs = 2 * INFO.dit.time_pairs
    assert torch.equal(rotate(rotate(x, turn), back)[..., :pairs], x[..., :pairs])
