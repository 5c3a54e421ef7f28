"""Attention that minds distance: by a formula, whatever shares its forward and wherever its pages lie."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator

import pytest
import torch
from torch import Tensor

from longtake.core.recipe.positions import Bias
from tests.workers.oracle_slope import masked
from workers.denoise.attention import ItemPages, PagedAttention
from workers.denoise.kv import PageMemory
from workers.models.api import PageShape, sdpa

TOKENS, HEADS, DIM, FRAMES = 3, 2, 12, 2
SHAPE = PageShape(layers=range(1), tokens_per_frame=TOKENS, num_heads=HEADS, head_dim=DIM, time_pairs=2)
SLOPE = 0.3


def item(
    first: int, count: int, places: tuple[int, ...] = (), *, shuffled: bool = False, turned: bool = False
) -> ItemPages:
    """It reads `count` pages from `first` on and writes the last ones, whose frames are the newest."""
    reads = list(range(first, first + count))
    if shuffled:
        random.Random(first).shuffle(reads)
    pages, turns = tuple(reads), tuple(range(count)) if turned else ()
    bias = Bias(SLOPE, places).rows(places[-FRAMES:]) if places else ()
    return ItemPages(reads=pages, writes=pages[-FRAMES:], turns=turns, bias=bias)


def memory(dtype: torch.dtype = torch.float32) -> PageMemory:
    made = PageMemory(SHAPE, 40, device=torch.device("cpu"), dtype=dtype)
    made.kv_YUPLND.copy_(torch.randn(made.kv_YUPLND.shape, generator=torch.manual_seed(1)))
    return made


def given(items: int, dtype: torch.dtype) -> tuple[Tensor, Tensor, Tensor]:
    """Queries, keys and values [B, L, N, D]."""
    shape = (3, items, FRAMES * TOKENS, HEADS, DIM)
    return torch.randn(shape, generator=torch.manual_seed(2)).to(dtype).unbind()  # type: ignore[return-value]


def attended(items: list[ItemPages], dtype: torch.dtype = torch.float32, *numbers: int) -> Tensor:
    """What they see in one forward; of those of `given` they are the items with these numbers, by default the first."""
    chosen = list(numbers) or list(range(len(items)))
    q_BLND, k_BLND, v_BLND = (each[chosen] for each in given(8, dtype))
    return PagedAttention(memory(dtype), items).attend(0, q_BLND, k_BLND, v_BLND)


MIXED = [
    item(0, 5, (9, 5, 6, 7, 8)),
    item(5, 5),
    item(10, 5, (0, 1, 2, 3, 4), turned=True),
    item(15, 7, (3, 9, 4, 5, 6, 7, 8), shuffled=True),
    item(22, 7, turned=True),
    item(29, 5, (2**40, 2**40 + 1, 2**40 + 2, 2**40 + 3, 2**40 + 4), shuffled=True),
]
"""With and without a bias, of equal and of other lengths, turned and not, in a row and not."""


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_each_has_the_bits_that_it_has_alone(dtype: torch.dtype) -> None:
    together = attended(MIXED, dtype)
    for number, one in enumerate(MIXED):
        assert torch.equal(together[number : number + 1], attended([one], dtype, number)), number


def test_it_is_the_formula() -> None:
    """softmax(q k / sqrt(D) + slope (j - i)) v, written out in float64."""
    places = (9, 5, 6, 7, 8)
    q_LND, k_LND, v_LND = (each[0].double() for each in given(8, torch.float32))
    held_UPLND = memory().of_layer(0)[:, :5].double()
    held_UPLND[0, 3:], held_UPLND[1, 3:] = k_LND.view(2, TOKENS, HEADS, DIM), v_LND.view(2, TOKENS, HEADS, DIM)
    k_SND, v_SND = held_UPLND.flatten(1, 2).unbind()
    score_NLS = torch.einsum("lnd,snd->nls", q_LND, k_SND) / DIM**0.5
    key_S, query_L = (torch.tensor(each).repeat_interleave(TOKENS).double() for each in (places, places[-FRAMES:]))
    score_NLS += SLOPE * (key_S[None, :] - query_L[:, None])
    right_LND = torch.einsum("nls,snd->lnd", score_NLS.softmax(-1), v_SND)
    found_LND = attended([item(0, 5, places)])[0].double()
    torch.testing.assert_close(found_LND, right_LND, atol=1e-6, rtol=0)
    without_LND = attended([item(0, 5)])[0].double()
    assert (without_LND - right_LND).abs().max() > 0.05, "and it matters"


def test_where_pages_lie_changes_no_bit() -> None:
    places, orders = (4, 0, 1, 2, 3), ((0, 1, 2, 3, 4), (30, 7, 19, 2, 11))
    q_BLND, k_BLND, v_BLND = (each[:1] for each in given(8, torch.float32))
    seen = []
    for pages in orders:
        held = memory()
        held.kv_YUPLND[:, :, list(pages)] = memory().kv_YUPLND[:, :, :5]
        one = ItemPages(reads=pages, writes=pages[-FRAMES:], bias=Bias(SLOPE, places).rows(places[-FRAMES:]))
        seen.append(PagedAttention(held, [one]).attend(0, q_BLND, k_BLND, v_BLND))
    held = memory()
    PagedAttention(held, [item(0, 5)]).store(0, k_BLND, v_BLND)
    k_BSND, v_BSND = (each.flatten(0, 1)[None] for each in held.of_layer(0)[:, :5])
    weights = [[SLOPE * (j - i) for j in places] for i in places[-FRAMES:]]
    contiguous = sdpa(q_BLND, k_BSND, v_BSND, masked(weights, TOKENS))
    assert torch.equal(seen[0], seen[1]) and torch.equal(seen[0], contiguous)


@pytest.fixture
def masks(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Tensor | None]]:
    """What was added to logits, call by call."""
    found: list[Tensor | None] = []
    usual: Callable[..., Tensor] = torch.nn.functional.scaled_dot_product_attention

    def spied(*inputs: Tensor, attn_mask: Tensor | None = None) -> Tensor:
        found.append(attn_mask)
        return usual(*inputs, attn_mask=attn_mask)

    monkeypatch.setattr("workers.models.api.F.scaled_dot_product_attention", spied)
    yield found


def test_without_a_slope_there_is_no_mask_also_beside_items_that_have_one(masks: list[Tensor | None]) -> None:
    attended([item(0, 5), item(5, 5), item(10, 7)])
    assert masks == [None, None]
    masks.clear()
    attended([item(0, 5), item(5, 5, (0, 1, 2, 3, 4))])
    assert [mask is None for mask in masks] == [True, False]
    assert masks[1] is not None and masks[1].shape == (1, 1, FRAMES * TOKENS, 5 * TOKENS)


def test_it_is_rounded_once_to_float32(masks: list[Tensor | None]) -> None:
    attended([item(0, 5, (0, 1, 2, 3, 7))])
    (mask,) = masks
    assert mask is not None
    rows = [[SLOPE * (key - query) for key in (0, 1, 2, 3, 7)] for query in (3, 7)]
    assert torch.equal(mask, masked(rows, TOKENS)) and mask[0, 0, 0, 0].item() == torch.tensor(-0.9).item()


def test_more_or_fewer_weights_than_pages_are_refused() -> None:
    one = item(0, 5, (0, 1, 2, 3, 4))
    short = ItemPages(reads=one.reads, writes=one.writes, bias=tuple(row[1:] for row in one.bias))
    with pytest.raises(ValueError, match="weighs 4 pages and reads 5"):
        PagedAttention(memory(), [short])
