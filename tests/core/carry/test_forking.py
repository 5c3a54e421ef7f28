"""Forks: everything before their first block is their parent's, everything after their own, and nothing is copied."""

from __future__ import annotations

import random

import pytest

from longtake.core.effects import CueApplied, Notice, PrepareStream, Refused
from longtake.core.endings import Ending
from longtake.core.errors import Fault, Lack, Problem
from longtake.core.events import Close, CueRequest, Drain, Pause, Play
from longtake.core.flow import Pace
from longtake.core.limits import Limits
from longtake.core.pages import PagePool
from longtake.core.recipe.context import Level
from longtake.core.recipe.ops import Kind, Op
from longtake.core.sessions.holds import Hold
from longtake.core.sessions.life import State
from longtake.core.sessions.place import NOWHERE
from longtake.core.sessions.progress import Progress
from longtake.core.sessions.session import Session
from longtake.core.work import CueId, SessionId, Ticket, WorkerId
from tests.core.support.image_cell import ImageCell
from tests.core.support.parts import geometry, recipe, works_of
from tests.core.support.recipes import APART
from tests.core.support.world import effects_of

PAGES = 4 * 9


def running(level: Level = Level.OUTPUT, steps: int = 25, **changes: object) -> tuple[ImageCell, SessionId]:
    """A session in the middle of several blocks."""
    cell = ImageCell(recipe(level, sinks=2), **({"denoisers": 3} | changes))  # type: ignore[arg-type]
    session = cell.open("parent", window=9, pictures=geometry().first_picture(14))
    cell.answer()
    cell.steps(steps)
    return cell, session


def refusal(cell: ImageCell) -> Problem:
    return effects_of(cell, Refused)[-1].problem


@pytest.mark.parametrize("level", APART)
@pytest.mark.parametrize("steps", [0, 9, 25])
def test_a_fork_goes_on_from_the_next_block_and_its_parent_does_not_notice(level: Level, steps: int) -> None:
    cell, parent = running(level, steps)
    block = cell.fork("child", parent, pictures=geometry().first_picture(18))
    assert block == cell.session(parent).next_block
    cell.settle()
    assert cell.segments[parent] == list(range(14))
    assert cell.segments[SessionId("child")] == list(range(block, 18))
    assert cell.closed[SessionId("child")].segments == 18 - block
    assert all(closed.ending is Ending.COMPLETED for closed in cell.closed.values())
    cell.check_empty()


def test_lanes_are_shared_one_by_one_as_the_parent_seals_them() -> None:
    cell, parent = running(steps=30, denoisers=4)
    cell.fork("child", parent)
    seen = [len(unshared(cell.session("child")))]
    while seen[-1]:
        cell.finish_and_acknowledge(cell.busy[0])
        seen.append(len(unshared(cell.session("child"))))
    assert len(set(seen)) > 2, "not all at once"
    assert seen == sorted(seen, reverse=True)


def test_nothing_is_copied_a_page_is_shared_until_one_of_both_writes_it() -> None:
    cell, parent = running(steps=60, denoisers=1)
    cell.send(Pause(now_s=0.0, session=parent))
    cell.settle()
    free = cell.scheduler.workers()[1].free
    cell.fork("child", parent)
    tables = [cell.session(name).place.tables for name in ("parent", "child")]
    shared = [len(set(one.pages) & set(two.pages)) for one, two in zip(*tables, strict=True)]
    assert shared == [6] * 4
    assert free - cell.scheduler.workers()[1].free == 4 * (9 - 2), "the sinks cost nothing"
    cell.send(Play(now_s=0.0, session=parent))
    for name in ("child", "parent"):
        cell.send(Close(now_s=0.0, session=SessionId(name), ending=Ending.CLIENT))
        cell.settle()
    cell.check_empty()


def test_forks_of_forks_run_to_their_ends() -> None:
    cell, parent = running(steps=40, denoisers=1)
    for name, origin in (("a", parent), ("b", parent), ("c", SessionId("a"))):
        assert cell.fork(name, origin, pictures=geometry().first_picture(16)) > 0
        cell.answer()
        cell.steps(16)
        cell.answer()
    cell.settle()
    assert set(cell.closed) == {"parent", "a", "b", "c"}
    assert all(closed.ending is Ending.COMPLETED for closed in cell.closed.values())
    cell.check_empty()


def test_a_parked_parent_leaves_the_shared_pages_to_its_fork() -> None:
    cell, parent = running(steps=40, limits=Limits(park_after_s=1.0))
    cell.fork("child", parent, pictures=geometry().first_picture(12), window=20)
    cell.send(Pause(now_s=0.0, session=parent))
    for _ in range(3):
        cell.answer()
        for worker in cell.busy:
            cell.finish(worker)
    cell.settle()
    cell.later(1.0)
    cell.settle()
    cell.send(Play(now_s=cell.now_s, session=parent))
    cell.settle()
    assert cell.segments[parent] == list(range(14))
    cell.check_empty()


def test_what_cannot_be_forked_is_refused_with_the_reason() -> None:
    cell, parent = running(steps=10, denoisers=1, pages=2 * PAGES - 1)
    cell.fork("x", SessionId("nobody"))
    assert refusal(cell).kind is Fault.UNKNOWN_SESSION
    cell.fork("x", parent)
    assert isinstance(refusal(cell).kind, Lack)
    assert (
        "denoise-0 has 35 pages free, its 4 lanes take 36, and a fork lies where parent does" in refusal(cell).message
    )
    assert not effects_of(cell, Notice), "it is not queued"
    cell.fork("x", parent, pictures=1)
    assert refusal(cell).kind is Fault.INVALID
    opening = cell.open("opening", window=1)
    cell.fork("x", opening)
    assert refusal(cell).kind is Fault.WRONG_STATE
    cell.send(Close(now_s=0.0, session=opening, ending=Ending.CLIENT))
    cell.settle()
    assert cell.ended_with(parent, Ending.COMPLETED)
    cell.check_empty()


def test_a_fork_may_count_its_length_and_the_places_of_its_cues_from_its_own_beginning() -> None:
    """12 pictures a block: a length of 24 from block n on ends with block n + 1, and picture 12 begins block n + 1."""
    cell, parent = running(steps=25)
    cue = CueRequest(cue=CueId("c"), prompt="another", picture=12)
    block = cell.fork("child", parent, pictures=24, own_clock=True, cues=(cue,))
    assert block > 0
    child = cell.session("child")
    assert child.request.picture_limit == geometry().first_picture(block) + 24
    cell.settle()
    assert cell.segments[SessionId("child")] == [block, block + 1]
    assert [effect.block for effect in effects_of(cell, CueApplied) if effect.session == "child"] == [block + 1]
    cell.check_empty()


def test_the_last_block_cannot_be_forked_away() -> None:
    cell, parent = running(steps=0)
    while cell.session(parent).next_block < 14:
        cell.finish_and_acknowledge(cell.busy[0])
    cell.fork("x", parent)
    assert refusal(cell).kind is Fault.WRONG_STATE
    assert "the last of the session" in refusal(cell).message


def unshared(session: Session) -> set[int]:
    """Lanes that do not have their share yet."""
    return {lane for lane, hold in session.lane_holds if hold is Hold.SHARING}


class Stall:
    """A fork that is open although the first lane of its parent is not sealed, because its worker is kept busy."""

    first = WorkerId("denoise-0")
    sealing = Op(Kind.COMMIT, 0, 3)
    beginning = Op(Kind.DENOISE, 0, 4)

    def __init__(self, limits: Limits | None = None) -> None:
        self.cell, parent = running(steps=0, denoisers=4, limits=limits or Limits())
        while self.cell.session(parent).next_block < 4:
            self.cell.finish_and_acknowledge(self.cell.busy[0])
        # Its ops go first, so that the worker is handed two of them before the op that seals the lane.
        other = self.cell.open("other", pictures=geometry().first_picture(2), pace=Pace.REALTIME)
        self.cell.answer()
        assert self.cell.session(parent).place.lanes[0] == self.cell.session(other).place.lanes[0] == self.first
        while {work.session for dispatch in self.cell.queues[self.first] for work in works_of(dispatch)} != {other}:
            self.cell.finish(self.first)
        self.cell.stuck.add(self.first)
        self.cell.settle()
        self.child = SessionId("child")
        assert self.cell.fork("child", parent, pictures=geometry().first_picture(9)) == 4
        self.cell.answer()
        assert Ticket(parent, self.sealing) in self.cell.worker(self.first).ready
        assert unshared(self.session) == {0}

    @property
    def session(self) -> Session:
        return self.cell.session(self.child)

    def stands(self, state: State) -> bool:
        return self.session.state is state

    def end(self) -> None:
        """The worker goes on."""
        self.cell.stuck.clear()
        self.cell.settle()


def test_a_fork_begins_its_first_block_only_when_its_lane_is_sealed() -> None:
    stall = Stall()
    stall.cell.settle()
    assert stall.stands(State.RUNNING)
    assert stall.session.next_block == 4
    assert Ticket(stall.child, stall.beginning) not in stall.cell.worker(stall.first).ready
    stall.end()
    assert stall.cell.segments[stall.child] == list(range(4, 9))
    stall.cell.check_empty()


def test_a_fork_that_is_paused_is_not_parked_before_it_has_all_its_lanes() -> None:
    stall = Stall(limits=Limits(park_after_s=1.0))
    cell, child = stall.cell, stall.child
    cell.send(Pause(now_s=0.0, session=child))
    cell.later(1.0)
    cell.later(1.0)
    assert stall.stands(State.PAUSED)
    stall.end()
    cell.send(Pause(now_s=0.0, session=child))
    cell.later(1.0)
    cell.settle()
    assert stall.stands(State.PARKED)
    cell.send(Play(now_s=cell.now_s, session=child))
    cell.settle()
    assert cell.segments[child] == list(range(4, 9))
    cell.check_empty()


@pytest.mark.parametrize("end", ["close", "drain", "lose", "fail", "close the fork"])
def test_an_end_in_the_middle_of_a_fork_leaves_nothing_behind(end: str) -> None:
    cell, parent = running(steps=30, denoisers=4)
    cell.fork("child", parent)
    child = SessionId("child")
    assert unshared(cell.session(child))
    match end:
        case "close":
            cell.send(Close(now_s=0.0, session=parent, ending=Ending.CLIENT))
            why = "the session it was forked from ended before block 5 was reached: its client has left"
            assert (cell.closed[child].ending, cell.closed[child].reason) == (Ending.ORPHANED, why), "nothing failed"
        case "close the fork":
            cell.send(Close(now_s=0.0, session=child, ending=Ending.CLIENT))
            cell.settle()
            assert cell.ended_with(parent, Ending.COMPLETED)
        case "drain":
            cell.send(Drain(now_s=0.0))
        case "lose":
            cell.lose(WorkerId("denoise-2"))
            assert cell.session(child).place is NOWHERE, "it begins again when its parent has come to it"
            cell.answer()
            for _ in range(200):
                cell.finish_and_acknowledge(cell.busy[0])
                cell.answer()
            assert len(cell.segments[parent]) > 9 and len(cell.segments[child]) > 3
        case "fail":
            for _ in range(2):
                cell.fail(cell.busy[0], parent)
                assert cell.session(child).place is NOWHERE, "its parent is tried once more, and then it begins again"
                cell.answer()
                while parent not in {work.session for work in works_of(cell.queues[cell.busy[0]][0])}:
                    cell.finish(cell.busy[0])
            assert child in cell.there
    cell.send(Drain(now_s=0.0))
    cell.check_empty()


def test_a_lane_that_is_shared_too_early_is_noticed() -> None:
    cell, parent = running(steps=30, denoisers=4)
    graph = cell.scheduler.cell.graphs[""]
    graph.sealing = (graph.first,) * graph.lane_count
    cell.fork("child", parent)
    with pytest.raises(AssertionError, match="should read"):
        cell.settle()


def test_a_slot_is_copied_behind_the_block_before_and_too_early_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    cell, parent = running(steps=30, denoisers=4)
    cell.fork("child", parent)
    assert not [effect for effect in effects_of(cell, PrepareStream) if effect.session == "child"]
    is_sent = Progress.is_sent
    monkeypatch.setattr(Progress, "is_sent", lambda progress, op: op.kind is Kind.DECODE or is_sent(progress, op))
    with pytest.raises(AssertionError, match="when it is copied"):
        cell.settle()


def test_a_pool_without_copy_on_write_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    cell, parent = running(steps=60, denoisers=1)
    monkeypatch.setattr(PagePool, "claim", lambda *given: ())
    cell.fork("child", parent)
    with pytest.raises(AssertionError, match="should read"):
        cell.settle()


def random_event(cell: ImageCell, draw: random.Random, names: list[SessionId], number: int) -> None:
    """Something that may happen to one of the sessions `names`."""
    choices = ["finish"] * 8 * bool(cell.busy) + ["answer"] * 3 * bool(cell.answers)
    choices += ["acknowledge"] * 2 * bool(cell.owing()) + ["carry out"] * 2 * bool(cell.images.ready)
    choices += ["later", "pause", "play"] + ["fork"] * (len(cell.contents.parents) < 6)
    match draw.choice(choices):
        case "finish":
            cell.finish(draw.choice(cell.busy))
        case "answer":
            cell.send(cell.answers.popleft())
        case "carry out":
            cell.carry_out(draw.choice(cell.images.ready))
        case "acknowledge":
            cell.acknowledge(draw.choice(cell.owing()))
        case "fork":
            cell.fork(f"f{number}", draw.choice(names), pictures=geometry().first_picture(14))
        case "later":
            cell.later(0.2)
        case "pause":
            cell.send(Pause(now_s=cell.now_s, session=draw.choice(names)))
        case "play":
            cell.send(Play(now_s=cell.now_s, session=draw.choice(names)))


@pytest.mark.parametrize("seed", range(6))
def test_forks_at_any_moment_read_what_they_must(seed: int) -> None:
    draw = random.Random(seed)
    level = draw.choice(APART)
    made = recipe(level, sinks=draw.randrange(4), steps=draw.randrange(1, 5))
    cell = ImageCell(
        made, denoisers=draw.randrange(1, 5), pages=60 * made.lane_count, batch_limit=draw.choice([1, 4]),
        limits=Limits(park_after_s=0.5),
    )  # fmt: skip
    cell.open("s0", pictures=geometry().first_picture(12))
    for number in range(1, 300):
        names = [name for name in cell.there if name not in cell.closed]
        if names:
            random_event(cell, draw, names, number)
    for _ in range(30):
        for name in [name for name in cell.there if name not in cell.closed]:
            cell.send(Play(now_s=cell.now_s, session=name))
        cell.settle()
    assert all(closed.ending is Ending.COMPLETED for closed in cell.closed.values())
    cell.check_empty()
