"""Renewals: lanes commit their windows anew where a prompt changes, and whatever happens nobody reads a mixed one."""

from __future__ import annotations

from contextlib import nullcontext

import pytest

from longtake.core.effects import Refused, RequestRefused
from longtake.core.errors import InternalFault, Lack
from longtake.core.events import Pause, Play
from longtake.core.flow import Pace
from longtake.core.pages import PagePool
from longtake.core.recipe.context import Level
from longtake.core.recipe.cues import CueChange, CueRule
from longtake.core.recipe.ops import Kind
from longtake.core.sessions import renewing
from longtake.core.sessions.retention import Retention
from longtake.core.sessions.scenes import Rebuild
from longtake.core.sessions.session import Session
from longtake.core.work import FromLatent, Role, SessionId, WorkerId
from tests.core.support.image_cell import ImageCell
from tests.core.support.parts import cue, geometry
from tests.core.support.recaching import BLOCKS, EVERY, CueStorm, ask, recaching
from tests.core.support.world import effects_of, forwards_of
from tests.samples import first

S = SessionId("s")


@pytest.mark.parametrize("name", EVERY)
@pytest.mark.parametrize("seed", first(1, range(3)))
def test_whatever_happens_to_streams_that_recache_they_read_what_they_must(name: str, seed: int) -> None:
    CueStorm(seed, EVERY[name]).run()


def begun(name: str, block: int = 6, blocks: int = BLOCKS, **changes: object) -> ImageCell:
    """A stream with a cue for this block, of which everything before is acknowledged."""
    cell = ImageCell(EVERY[name], **({"denoisers": 3} | changes))  # type: ignore[arg-type]
    cell.open("s", pictures=geometry().first_picture(blocks), window=2)
    cell.answer()
    ask(cell, S, "new", block)
    cell.answer()
    return cell


def renewals(cell: ImageCell, block: int = 6) -> list[tuple[int, int]]:
    """Lane and block of what was committed anew before a block, in order."""
    works = [work for work in forwards_of(cell) if work.block < block and work.conditioning.version]
    assert all(isinstance(work.input, FromLatent) and work.session == S for work in works)
    return [(work.lane, work.block) for work in works]


def test_a_pipeline_is_renewed_lane_by_lane_as_the_block_comes_to_it() -> None:
    cell = begun("output")
    while cell.session("s").emitted < 7:
        cell.run(acknowledge=False)
        for name in cell.owing():
            cell.acknowledge(name)
    assert sorted(renewals(cell)) == [(lane, block) for lane in range(3) for block in (4, 5)]
    assert all(versions == {int(block >= 6)} for (_, block), versions in cell.versions.items())
    order = [(work.lane, work.kind, work.block) for work in forwards_of(cell)]
    for lane in range(3):
        first = order.index((lane, Kind.DENOISE, 6))
        before = [place for place, (at, kind, block) in enumerate(order) if at == lane and block == 5]
        assert max(before) < first, "before anything of the block, in each lane"


@pytest.mark.parametrize(("name", "blocks"), [("joint, kept", (3, 4, 5)), ("joint, moved", (2, 3, 4, 5))])
def test_blocks_that_read_one_another_are_one_dispatch_beside_nobody_whatever_the_batch_limit(
    name: str, blocks: tuple[int, ...]
) -> None:
    cell = begun(name, denoisers=1, batch_limit=2)
    cell.open("beside", pictures=geometry().first_picture(BLOCKS), window=2)
    cell.settle()
    assert [block for _, block in renewals(cell)] == list(blocks)


def test_a_block_whose_lane_is_being_renewed_takes_no_other_cue() -> None:
    cell = begun("window")
    cell.settle(acknowledge=False)
    while not cell.session("s").progress.again:
        cell.acknowledge(S)
        cell.settle(acknowledge=False) if cell.session("s").next_block < 4 else None
        for worker in cell.busy:
            cell.finish(worker)
    assert cell.session("s").next_block == 6
    ask(cell, S, "late", 6)
    assert "7" in effects_of(cell, RequestRefused)[-1].problem.message
    assert cell.fork("child", S) == -1
    assert effects_of(cell, Refused)[-1].problem.kind is Lack.TURN
    cell.settle()
    cell.check_empty()


def test_a_recache_that_the_recipe_does_not_know_is_refused_and_a_swap_never() -> None:
    plain = ImageCell(recaching(CueRule.SWAP), denoisers=1)
    plain.open("s", pictures=geometry().first_picture(4))
    plain.answer()
    ask(plain, S, "new", 2, CueChange.RECACHE)
    assert "cue.change" in str(effects_of(plain, RequestRefused)[-1].problem)
    cell = ImageCell(EVERY["window"], denoisers=1)
    cell.open("s", pictures=geometry().first_picture(4))
    cell.answer()
    ask(cell, S, "swap", 2, CueChange.SWAP)
    cell.settle()
    assert all(work.conditioning.version == (work.block >= 2) for work in forwards_of(cell))


def test_of_a_live_stream_a_renewal_is_as_urgent_as_the_block_behind_it_and_its_own_ops() -> None:
    cell = ImageCell(EVERY["window"], denoisers=1)
    cell.open("s", pictures=geometry().first_picture(BLOCKS), window=9, pace=Pace.REALTIME)
    cell.answer()
    ask(cell, S, "new", 3)
    cell.answer()
    (worker,) = (worker for worker in cell.fleet if worker.role is Role.DENOISE)
    while not cell.session("s").progress.again:
        cell.finish(WorkerId("denoise-0"), seconds=0.1) if cell.queues[WorkerId("denoise-0")] else cell.later(0.05)
    session = cell.session("s")
    (chain,) = session.progress.again
    ticket = session.ticket(chain, session.progress.next(chain)) if not session.progress.again[chain].is_sent else None
    urgency = cell.scheduler.cell.urgency(cell.scheduler.cell, ticket or session.ticket(chain, 2))
    due_s = session.flow.due_s(3, geometry=session.geometry)
    assert urgency.deadline_s < due_s - session.progress.left_to_replay(chain) * worker.timing.op_s


@pytest.mark.parametrize("name", ["window", "joint", "output"])
def test_a_lane_that_is_lost_behind_a_renewal_goes_back_to_it_and_no_further(name: str) -> None:
    cell = begun(name, denoisers=2)
    while cell.session("s").emitted < 8:
        cell.settle(acknowledge=False)
        cell.acknowledge(S)
    cell.send(Pause(now_s=0.0, session=S))
    cell.settle(acknowledge=False)
    until = cell.session("s").progress.done[cell.graph.sealing[0]]
    place = cell.session("s").place
    before = len(forwards_of(cell))
    cell.lose(place.lanes[0])
    again = cell.session("s").progress.again[cell.graph.sealing[0]]
    renewal = cell.graph.renewing.renewal(6, 1)
    assert again.blocks == (*renewal.blocks, *range(6, until))
    cell.send(Play(now_s=0.0, session=S))
    cell.settle()
    assert len(forwards_of(cell)) > before
    cell.check_empty()


def test_what_sinks_that_have_moved_are_made_of_is_kept_for_as_long_as_they_are_read() -> None:
    cell = begun("window, moved", block=5, blocks=30, pages=4000)
    while cell.session("s").emitted < 18:
        cell.settle(acknowledge=False)
        cell.acknowledge(S)
    cell.settle(acknowledge=False)
    session = cell.session("s")
    kept = {block for owner, block, _ in cell.kept.latents if owner == "s"}
    assert session.kept.latents[-1] > 5 and 5 not in kept, "the blocks of the recache are long past"
    assert set(range(5)) <= kept, "the sinks are of block 1; block 0 is of the beginning"
    cell.lose(session.place.lanes[0])
    cell.settle()
    cell.check_empty()


def test_everything_is_made_anew_though_the_first_prompts_are_long_forgotten() -> None:
    """Where a step starts from noise nothing is kept of what was before it, but the seed."""
    cell = ImageCell(recaching(CueRule.FULL, Level.INPUT, steps=1, window=4), pages=4000)
    cell.open("s", pictures=geometry().first_picture(BLOCKS), window=2)
    ask(cell, S, "second", 2, CueChange.SWAP)
    while cell.session("s").emitted < 10:
        cell.settle(acknowledge=False)
        cell.acknowledge(S)
    assert [turn.block for turn in cell.session("s").prompts.turns] == [2]
    ask(cell, S, "third", None)
    cell.settle()
    assert [work.conditioning.version for work in forwards_of(cell) if not work.block] == [0, 2]
    cell.check_empty()


@pytest.mark.parametrize("rule", [CueRule.WINDOW, CueRule.JOINT])
@pytest.mark.parametrize("is_broken", [False, True])
def test_sinks_that_were_not_there_yet_when_the_others_were_renewed_are_made_again_as_they_were(
    rule: CueRule, is_broken: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A cue recaches before block 1, the last sinks are of block 1: later all are read, and of no recache is more."""
    if is_broken:
        plan = renewing.rebuild

        def shorter(session: Session, lane: int, retention: Retention) -> Rebuild:
            made = plan(session, lane, retention)
            return Rebuild(made.lead[:1], made.body)

        monkeypatch.setattr(renewing, "rebuild", shorter)
    cell = ImageCell(recaching(rule, sinks=6, keep=True, window=12), pages=4000)
    cell.open("s", pictures=geometry().first_picture(30))
    ask(cell, S, "early", 1)
    while cell.session("s").emitted < 18:
        cell.settle(acknowledge=False)
        cell.acknowledge(S)
    cell.lose(cell.session("s").place.lanes[0])
    with pytest.raises(InternalFault, match="read before it was written") if is_broken else nullcontext():
        cell.settle()
        cell.check_empty()


def test_a_lane_that_is_not_renewed_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("longtake.core.dispatch.offering.due", lambda *given: None)
    with pytest.raises(AssertionError, match="of the prompt before"):
        begun("window").settle()


@pytest.mark.parametrize("is_broken", [False, True])
def test_a_renewal_leaves_shared_pages_to_the_others(is_broken: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    cell = begun("joint, kept", denoisers=1, pages=4000)
    while cell.session("s").emitted < 8:
        cell.settle(acknowledge=False)
        cell.acknowledge(S)
    cell.send(Pause(now_s=0.0, session=S))
    cell.settle(acknowledge=False)
    block = cell.session("s").next_block
    if is_broken:
        monkeypatch.setattr(PagePool, "renew", lambda *given: None)
    turn = cue("turn", block=block, prompt="x")
    assert cell.fork("child", S, pictures=geometry().first_picture(BLOCKS), cues=(turn,)) == block
    with pytest.raises(AssertionError, match="should read") if is_broken else nullcontext():
        cell.settle()
        cell.send(Play(now_s=0.0, session=S))
        cell.settle()
        cell.check_empty()
