"""The ops of a dispatch, and what no dispatch may be, whoever makes it."""

from __future__ import annotations

from collections.abc import Sequence

from longtake.core.effects import Dispatch, LoadImage, Stow
from longtake.core.recipe.ops import Kind, Op
from longtake.core.work import Batch, DecodeWork, ForwardWork
from tests.core.support.images import Order


def works_of(dispatch: Dispatch) -> tuple[ForwardWork, ...] | tuple[DecodeWork]:
    """The ops of a dispatch."""
    return (dispatch.work,) if isinstance(dispatch.work, DecodeWork) else dispatch.work


def op_of(work: ForwardWork | DecodeWork) -> Op:
    """As the graph knows it."""
    if isinstance(work, DecodeWork):
        return Op(Kind.DECODE, 0, work.block)
    return Op(work.kind, work.step, work.block)


def check_batch(items: Batch, *, mixes_kinds: bool, fused_passes: bool) -> None:
    """Ops of one forward are alike, and none depends on another but in a fused pass."""
    assert items
    if is_joint(items):
        assert len({(item.session, item.lane, item.conditioning) for item in items}) == 1, "others read them, too"
        assert [item.block for item in items] == list(range(items[0].block, items[0].block + len(items)))
        return
    assert len({(len(item.pages.reads), len(item.positions)) for item in items}) == 1, "unequal shapes"
    assert mixes_kinds or len({item.kind for item in items}) == 1, "ops of two kinds"
    lanes = {(item.session, item.lane) for item in items}
    assert fused_passes or len(lanes) == len(items), "two ops of one lane in a batch"
    pages = [page for item in items for page in item.pages.writes]
    for number, item in enumerate(items):
        mates = (*items[:number], *items[number + 1 :])
        others = {page for mate in mates if not is_fused(mate, item) for page in mate.pages.writes}
        assert not others & set(item.pages.reads), "an item reads what its mate writes"
    assert len(set(pages)) == len(pages)


def is_joint(items: Sequence[ForwardWork | DecodeWork]) -> bool:
    """Whether ops read what later ones of the same forward write."""
    works = [item for item in items if isinstance(item, ForwardWork)]
    return any(
        not set(later.pages.writes).isdisjoint(work.pages.reads)
        for number, work in enumerate(works)
        for later in works[number + 1 :]
    )


def is_fused(commit: ForwardWork, denoise: ForwardWork) -> bool:
    """Whether they are the two halves of a fused pass: a commit, and what denoises the lane's next block."""
    same_lane = (commit.session, commit.lane) == (denoise.session, denoise.lane)
    kinds = (commit.kind, denoise.kind) == (Kind.COMMIT, Kind.DENOISE)
    return same_lane and kinds and commit.block + 1 == denoise.block


def check_quiet(order: Order, works: Sequence[ForwardWork | DecodeWork]) -> None:
    """What an order about an image copies from or to is not named by ops that are sent and not done."""
    for work in works:
        match order, work:
            case Stow(source=tuple() as pages), ForwardWork():  # others may read what they share
                quiet = set(pages).isdisjoint(work.pages.writes)
            case LoadImage(target=pages), ForwardWork():
                quiet = set(pages).isdisjoint((*work.pages.reads, *work.pages.writes))
            case Stow(source=int() as slot), DecodeWork():
                quiet = slot != work.slot
            case _:
                quiet = True
        assert quiet, f"{order} while {work} is dispatched"
