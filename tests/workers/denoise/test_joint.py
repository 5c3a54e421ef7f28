"""Ops that read what others of their batch write: one thing with them, done and failed together."""

from __future__ import annotations

import pytest

from longtake.core.errors import UnknownPeer
from longtake.core.recipe.ops import Kind
from longtake.core.work import (
    ConditioningRef,
    DispatchNumber,
    ForwardWork,
    FromLane,
    FromLatent,
    LatentRef,
    PageId,
    SessionId,
)
from tests.workers.orders import SESSION, batch, done, task, work
from workers.denoise.apart import apart
from workers.denoise.worker import DenoiseWorker
from workers.messages import Failed, Forward

PAGES = tuple(PageId(page) for page in range(8))
OTHER = ConditioningRef(session=SessionId("other"), version=0)


def block(number: int, reads: tuple[PageId, ...]) -> ForwardWork:
    """The first op of one of two blocks of a stream that step together."""
    own = PAGES[2 * number : 2 * number + 2]
    return work(block=number, positions=(2 * number, 2 * number + 1), reads=reads, writes=own)


def alone() -> ForwardWork:
    """An op of another stream."""
    return work(session=SessionId("other"), conditioning=OTHER, reads=PAGES[4:6], writes=PAGES[4:6])


def test_a_batch_has_as_many_parts_as_read_nothing_of_one_another() -> None:
    causal, both = (block(0, PAGES[:2]), block(1, PAGES[:4])), (block(0, PAGES[:4]), block(1, PAGES[:4]))
    for pair in (causal, both, causal[::-1]):
        assert apart([Forward(work=each) for each in (pair[0], alone(), pair[1])]) == [[1], [0, 2]]
    assert apart([Forward(work=each) for each in (block(0, PAGES[:2]), block(1, PAGES[2:4]))]) == [[0], [1]]


def test_of_blocks_that_step_together_all_fail_or_none_and_others_do_not_notice(
    denoiser: DenoiseWorker, text: bytes
) -> None:
    (good,) = done(denoiser.perform(task(alone(), text=text))).outputs
    older, newer = block(0, PAGES[:2]), block(1, PAGES[:4])
    broken = work(
        block=1, step=1, positions=newer.positions, reads=newer.pages.reads, writes=newer.pages.writes,
        input=FromLatent(LatentRef(session=SESSION, block=1, step=1)),
    )  # fmt: skip
    items = (Forward(work=older, conditioning=text), Forward(work=alone()), Forward(work=broken, latents=b"short"))
    (report,) = denoiser.perform(batch(*items, number=3))
    assert isinstance(report, Failed)
    assert (report.sessions, report.sequence) == ((SESSION,), DispatchNumber(3))
    assert report.outputs == (b"", good, b""), "one that could have been done is not done without the other"


def test_causally_a_joint_op_is_what_its_ops_are_one_after_the_other(denoiser: DenoiseWorker, text: bytes) -> None:
    works = (block(0, PAGES[:2]), block(1, PAGES[:4]))
    together = done(denoiser.perform(batch(*(Forward(work=each, conditioning=text) for each in works)))).outputs
    assert together == tuple(done(denoiser.perform(task(each))).outputs[0] for each in works)
    both = done(denoiser.perform(batch(Forward(work=block(0, PAGES[:4])), Forward(work=works[1])))).outputs
    assert both[0] != together[0], "the older block sees the newer one"


def test_each_block_starts_from_its_own_output_until_it_is_committed(denoiser: DenoiseWorker, text: bytes) -> None:
    works = (block(0, PAGES[:2]), block(1, PAGES[:4]))
    done(denoiser.perform(batch(*(Forward(work=each, conditioning=text) for each in works))))
    commit = work(Kind.COMMIT, timestep=0.0, input=FromLane())
    later = work(
        block=1, step=1, positions=(2, 3), reads=PAGES[:4], writes=PAGES[2:4], timestep=937.5, sigma=0.9375,
        next_sigma=None, input=FromLane(),
    )  # fmt: skip
    done(denoiser.perform(batch(Forward(work=commit), Forward(work=later))))
    with pytest.raises(UnknownPeer, match="no output of block 0"):  # what is committed is not kept
        done(denoiser.perform(task(commit)))
