"""Pages: where keys and values lie must not matter, what they hold and in which order must."""

import random
from collections.abc import Sequence
from dataclasses import dataclass, replace

import pytest
import torch
from torch import Tensor

from longtake.core.recipe.blocks import BlockPlan
from longtake.core.recipe.context import Context, Level
from longtake.core.recipe.recipe import Recipe
from longtake.core.recipe.steps import StepPlan
from tests.core.support.recipes import APART
from tests.workers.oracle import ContiguousLanes, explicit_attention, generate
from tests.workers.paged import PagedLanes, Work
from workers.denoise.attention import ItemPages, PagedAttention
from workers.denoise.kv import PageMemory
from workers.denoise.noise import normal
from workers.models.api import PageShape, TextKV, sdpa
from workers.models.wan.config import WanConfig
from workers.models.wan.dit import WanModel

CONFIG = WanConfig(
    dim=48, ffn_dim=96, num_heads=2, num_layers=3, in_dim=4, out_dim=4, freq_dim=16, text_dim=12, text_len=5
)
POCKET = WanConfig(
    dim=128,
    ffn_dim=512,
    num_heads=4,
    num_layers=4,
    in_dim=16,
    out_dim=16,
    freq_dim=64,
    text_dim=64,
    text_len=8,
)
LATENT = (2, 4, 4, 6)  # F, C, H, W: not square, 6 tokens per frame
WINDOW, SINKS, SESSIONS, BLOCKS = 5, 1, 2, 7


def random_model(config: WanConfig) -> WanModel:
    torch.manual_seed(3)
    return WanModel(config).eval().requires_grad_(False)


def recipe(level: Level, frames: int = LATENT[0], window: int = WINDOW, sinks: int = SINKS) -> Recipe:
    return Recipe(
        steps=StepPlan(ladder=(1000, 700, 400), shift=3.0),
        blocks=BlockPlan(frames=frames),
        context=Context(level=level, window_frames=window, sink_frames=sinks),
    )


def noise(block: int, draw: int) -> Tensor:
    return torch.stack([normal(seed, block, draw, LATENT) for seed in range(SESSIONS)])


@pytest.fixture(scope="module")
def model() -> WanModel:
    return random_model(CONFIG)


@pytest.fixture(scope="module")
def text() -> Tensor:
    return torch.randn(SESSIONS, CONFIG.text_len, CONFIG.text_dim, generator=torch.Generator().manual_seed(4))


def paged(model: WanModel, seed: int | None = 7) -> PagedLanes:
    """Lanes whose page ids are shuffled with `seed`, or in one run each (None)."""
    lanes = PagedLanes(model, 6, recipe(Level.OUTPUT), pages=80)
    lanes.free.sort(reverse=True)  # pages are taken from the end
    if seed is not None:
        random.Random(seed).shuffle(lanes.free)
    return lanes


@pytest.mark.parametrize("level", APART)
def test_paged_equals_contiguous(level: Level, model: WanModel, text: Tensor) -> None:
    plan = recipe(level)
    served = torch.cat(generate(model, plan, text, noise, BLOCKS, paged(model)), 1)
    same_kernel = ContiguousLanes(model, WINDOW, SINKS, attention=sdpa)
    assert torch.equal(served, torch.cat(generate(model, plan, text, noise, BLOCKS, same_kernel), 1))
    torch.testing.assert_close(served, torch.cat(generate(model, plan, text, noise, BLOCKS), 1), rtol=0, atol=2e-6)


@pytest.mark.parametrize(("window", "sinks"), [(4, 1), (6, 1), (5, 0), (5, 2)])
def test_window_and_sinks_matter(window: int, sinks: int, model: WanModel, text: Tensor) -> None:
    plan = recipe(Level.OUTPUT)
    served = torch.cat(generate(model, plan, text, noise, BLOCKS, paged(model)), 1)
    other = torch.cat(generate(model, plan, text, noise, BLOCKS, ContiguousLanes(model, window, sinks)), 1)
    assert (served - other).abs().max() > 1e-3


def test_page_ids_do_not_matter(model: WanModel, text: Tensor) -> None:
    plan = recipe(Level.OUTPUT)
    runs = [generate(model, plan, text, noise, BLOCKS, paged(model, seed)) for seed in (None, 1, 2)]
    for other in runs[1:]:
        assert all(torch.equal(a, b) for a, b in zip(runs[0], other, strict=True))


@dataclass(frozen=True)
class Scene:
    """Four sessions' lanes in pages: one past its window, one at its second block, and two between."""

    lanes: PagedLanes
    text: TextKV
    old: Work
    young: Work
    others: tuple[Work, ...]


@pytest.fixture(params=["small", "pocket"])
def scene(request: pytest.FixtureRequest) -> Scene:
    config, latent = {"small": (CONFIG, LATENT), "pocket": (POCKET, (3, 16, 8, 8))}[request.param]
    model = random_model(config)
    frames = latent[0]
    per_frame = config.tokens_per_frame(*latent[2:])
    plan = recipe(Level.OUTPUT, frames, 3 * frames, sinks=0 if request.param == "pocket" else 1)
    lanes = PagedLanes(model, per_frame, plan, pages=40)
    text = model.encode_text(torch.randn(1, config.text_len, config.text_dim))

    def work(session: int, block: int, timestep: float) -> Work:
        x = normal(session, block, 0, latent)
        return Work(lane="a", session=session, first_frame=block * frames, x_FCHW=x, timestep=timestep)

    for session, blocks in enumerate((5, 1, 3, 0)):
        for block in range(blocks):
            lanes.forward([work(session, block, 300.0)], text)
    return Scene(lanes, text, work(0, 5, 900.0), work(1, 1, 700.0), (work(2, 3, 1000.0), work(3, 0, 500.0)))


def alone(scene: Scene, work: Work) -> Tensor:
    return scene.lanes.forward([work], scene.text)


def test_batch_mates_do_not_matter(scene: Scene) -> None:
    works = [scene.young, *scene.others, scene.old]
    separate = torch.cat([alone(scene, work) for work in works])
    assert torch.equal(scene.lanes.forward(works, scene.text), separate)
    assert len({len(scene.lanes.item(work).reads) for work in works}) == 3


def test_commit_fused_with_the_next_block_equals_one_after_the_other(scene: Scene) -> None:
    frames = len(scene.old.x_FCHW)
    after = Work(
        lane="a",
        session=0,
        first_frame=scene.old.first_frame + frames,
        x_FCHW=scene.young.x_FCHW,
        timestep=1000.0,
    )
    before = scene.lanes.pool.kv_YUPLND.clone()
    alone(scene, scene.old)
    expected = alone(scene, after)
    scene.lanes.pool.kv_YUPLND.copy_(before)
    # The ring is full: the next block would write where its predecessor still reads, and in one forward all
    # writes come first. One more block of pages makes room.
    item, last = scene.lanes.item(after), scene.lanes.item(scene.old)
    spare = tuple(scene.lanes.free[:frames])
    moved = dict(zip(item.writes, spare, strict=True))
    item = ItemPages(reads=tuple(moved.get(page, page) for page in item.reads), writes=spare)
    inputs = scene.lanes.inputs([scene.old, after], scene.text)
    fused = scene.lanes.model.denoise(replace(inputs, attention=PagedAttention(scene.lanes.pool, [last, item])))
    assert torch.equal(fused[1:], expected)


def test_pages_moved_elsewhere_serve_the_same_bits(scene: Scene) -> None:
    lanes = scene.lanes
    expected = alone(scene, scene.old)
    old = lanes.tables.pop(("a", 0))
    parked = lanes.pool.export(old.pages)
    lanes.pool.kv_YUPLND[:, :, list(old.pages)] = torch.nan
    lanes.pool.restore(lanes.table("a", 0).pages, parked)
    assert not set(lanes.table("a", 0).pages) & set(old.pages)
    assert torch.equal(alone(scene, scene.old), expected)


def test_a_forward_touches_only_the_pages_it_writes(scene: Scene) -> None:
    pool = scene.lanes.pool
    before = pool.kv_YUPLND.clone()
    alone(scene, scene.young)
    written = set(scene.lanes.item(scene.young).writes)
    for page in range(pool.pages):
        same = torch.equal(before[:, :, page].nan_to_num(9), pool.kv_YUPLND[:, :, page].nan_to_num(9))
        assert same == (page not in written)


def test_commit_writes_what_a_forward_writes(scene: Scene) -> None:
    alone(scene, scene.old)
    expected = scene.lanes.pool.kv_YUPLND.clone()
    inputs = scene.lanes.inputs([scene.old], scene.text)
    scene.lanes.pool.kv_YUPLND[:, :, list(scene.lanes.item(scene.old).writes)] = torch.nan
    scene.lanes.model.commit(inputs)
    assert torch.equal(scene.lanes.pool.kv_YUPLND.nan_to_num(9), expected.nan_to_num(9))


def small_pool(pages: int = 8) -> PageMemory:
    shape = PageShape(layers=range(2, 4), tokens_per_frame=3, num_heads=2, head_dim=4, time_pairs=1)
    return PageMemory(shape, pages, device=torch.device("cpu"), dtype=torch.float32)


@pytest.mark.parametrize("order", [(1, 2, 3), (5, 0, 7), (3, 2, 1)])
def test_attention_over_pages_is_attention_over_their_contents(order: Sequence[int]) -> None:
    pool = small_pool()
    pool.kv_YUPLND.normal_()
    q, k, v = torch.randn(3, 1, 3, 2, 4)
    attention = PagedAttention(pool, [ItemPages(reads=tuple(order), writes=(order[-1],))])
    out = attention.attend(3, q, k, v)
    past_k, past_v = (pool.of_layer(3)[unit, list(order[:-1])].flatten(0, 1)[None] for unit in range(2))
    expected = explicit_attention(q, torch.cat([past_k, k], 1), torch.cat([past_v, v], 1))
    torch.testing.assert_close(out, expected, rtol=0, atol=1e-6)


def test_writes_go_to_frames_in_order() -> None:
    pool = small_pool()
    k, v = torch.randn(2, 1, 6, 2, 4)
    PagedAttention(pool, [ItemPages(reads=(6, 1), writes=(6, 1))]).store(2, k, v)
    assert torch.equal(pool.of_layer(2)[0, [6, 1]].flatten(0, 1), k[0])
    assert torch.equal(pool.of_layer(2)[1, [6, 1]].flatten(0, 1), v[0])
    assert not pool.of_layer(3).any()


def test_an_item_must_read_its_own_pages() -> None:
    with pytest.raises(ValueError, match="item 1 writes"):
        PagedAttention(small_pool(), [ItemPages(reads=(0, 1), writes=(1,)), ItemPages(reads=(2,), writes=(3,))])


@pytest.mark.parametrize("page", [-1, 8])
def test_a_page_outside_the_pool_is_refused(page: int) -> None:
    pool = small_pool(8)
    with pytest.raises(IndexError, match="not in a pool of 8"):
        PagedAttention(pool, [ItemPages(reads=(page,), writes=(page,))])
    with pytest.raises(IndexError, match="not in a pool of 8"):
        pool.export([0, page])


def test_a_page_of_wan_has_the_published_size() -> None:
    shape = PageShape(layers=range(30), tokens_per_frame=1560, num_heads=12, head_dim=128, time_pairs=22)
    assert shape.size_bytes(torch.bfloat16) == 287_539_200


def test_a_pool_has_the_size_it_says() -> None:
    pool = small_pool(8)
    assert pool.size_bytes() == pool.kv_YUPLND.numel() * 4 == 8 * 2 * 2 * 3 * 2 * 4 * 4
