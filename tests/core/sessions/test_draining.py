"""The way down: who goes on until when, who is told, and that nothing begins after the deadline, whatever happens."""

from __future__ import annotations

import pytest

from longtake.core.effects import DropJournal, Notice, Refused
from longtake.core.endings import AtDeadline, Ending, Remains
from longtake.core.errors import Fault
from longtake.core.events import Attach, Cue, CueRequest, Drain, Pause, Play
from longtake.core.flow import Pace
from longtake.core.limits import Limits
from longtake.core.openings import AttachRefused
from longtake.core.recipe.ops import Kind
from longtake.core.sessions.draining import KEPT, REASON
from longtake.core.sessions.life import State
from longtake.core.work import ConnectionNumber, CueId, SessionId
from tests.core.support.image_cell import ImageCell
from tests.core.support.parts import geometry, recipe
from tests.core.support.storm import Storm
from tests.core.support.world import Cell, effects_of

TEXT = "the server is shutting down: this stream ends in {} s"


def drain(cell: Cell, grace_s: float) -> None:
    cell.send(Drain(now_s=cell.now_s, grace_s=grace_s))


def notices(cell: Cell) -> list[tuple[str, str]]:
    return [(notice.session, notice.text) for notice in effects_of(cell, Notice)]


def begun(cell: Cell) -> dict[SessionId, int]:
    return {view.session: view.blocks_begun for view in cell.scheduler.sessions()}


def test_open_streams_go_on_for_the_grace_and_then_what_was_begun_is_delivered() -> None:
    cell = Cell(recipe(), now_s=100.0)
    session = cell.open("s", window=2)
    cell.answer()
    drain(cell, 60.0)
    assert notices(cell) == [("s", TEXT.format(60))]
    cell.steps(60)
    cell.send(Cue(now_s=cell.now_s, session=session, request=CueRequest(cue=CueId("c"), prompt="q")))
    cell.answer()
    blocks = len(cell.segments[session])
    assert blocks > 2
    cell.later(59.9)
    cell.steps(60)
    assert len(cell.segments[session]) > blocks and not cell.closed
    cell.later(0.1)
    assert cell.scheduler.sessions()[0].state is State.FINISHING
    last = begun(cell)[session]
    cell.run()
    assert cell.closed[session].ending is Ending.DRAINED
    assert cell.segments[session] == list(range(last))
    assert cell.scheduler.sessions() == ()


@pytest.mark.parametrize("pace", list(Pace))
def test_nothing_is_opened_from_the_first_drain_on(pace: Pace) -> None:
    cell = Cell(recipe())
    cell.open("s")
    drain(cell, 3600.0)
    cell.open("later", pace=pace)
    problem = effects_of(cell, Refused)[-1].problem
    assert problem.kind is Fault.DRAINING and "shutting down" in problem.message
    assert [view.session for view in cell.scheduler.sessions()] == ["s"]


def test_a_stream_that_ends_within_the_grace_is_complete() -> None:
    cell = Cell(recipe())
    session = cell.open("s", pictures=geometry().first_picture(3))
    drain(cell, 3600.0)
    cell.run()
    assert cell.closed[session].ending is Ending.COMPLETED
    assert cell.scheduler.sessions() == ()


def test_a_later_drain_shortens_the_grace_and_never_lengthens_it() -> None:
    cell = Cell(recipe())
    session = cell.open("s", window=1)
    cell.answer()
    drain(cell, 100.0)
    drain(cell, 500.0)
    assert cell.scheduler.draining.deadline_s == 100.0 and len(notices(cell)) == 1
    cell.later(40.0)
    drain(cell, 20.0)
    assert cell.scheduler.draining.deadline_s == 60.0 and notices(cell)[-1] == ("s", TEXT.format(20))
    drain(cell, 0.0)
    assert cell.scheduler.sessions()[0].state is State.FINISHING and len(notices(cell)) == 2
    cell.run()
    assert cell.closed[session].ending is Ending.DRAINED


def test_queued_sessions_end_at_once_and_parked_ones_at_the_deadline() -> None:
    cell = ImageCell(recipe(), denoisers=1, pages=4 * 9, slots=2, limits=Limits(park_after_s=1.0))
    parked = cell.open("parked", window=2)
    cell.settle(acknowledge=False)
    cell.send(Pause(now_s=cell.now_s, session=parked))
    cell.acknowledge(parked)
    cell.later(1.5)
    cell.settle(acknowledge=False)
    running = cell.open("running", window=1)
    queued = cell.open("queued")
    cell.settle(acknowledge=False)
    drain(cell, 10.0)
    assert {view.session: view.state for view in cell.scheduler.sessions()} == {
        parked: State.PARKED, running: State.RUNNING,
    }  # fmt: skip
    assert cell.ended_with(queued, Ending.DRAINED)
    cell.send(Play(now_s=cell.now_s, session=parked))
    cell.later(9.9)
    assert not {parked, running} & cell.closed.keys()
    cell.later(0.2)
    cell.settle()
    assert cell.ended_with(parked, Ending.DRAINED) and cell.ended_with(running, Ending.DRAINED)
    cell.check_empty()


def test_a_block_that_could_begin_and_has_not_when_the_grace_ends_never_begins() -> None:
    cell = Cell(recipe(), denoisers=4)
    names = [cell.open(f"s{number}") for number in range(4)]
    cell.answer()
    cell.steps(12)
    worker = cell.worker("denoise-0")
    waiting = {ticket.session for ticket in worker.ready if ticket.op[:2] == (Kind.DENOISE, 0)}
    before = begun(cell)
    assert any(before[session] for session in waiting), "a next block waits for the worker, which is busy"
    drain(cell, 0.0)
    cell.run()
    assert {name: len(cell.segments.get(name, ())) for name in names} == before
    for name in names:
        assert {op.block for session, op in cell.sent if session == name} == set(range(before[name]))


class Sinking(Storm):
    """A storm in which somebody drains the server."""

    haste = 0.01
    """How often."""

    def __init__(self, seed: int) -> None:
        super().__init__(seed)
        self.deadline_s = float("inf")
        self.at_deadline: dict[SessionId, int] | None = None
        """Blocks begun by the sessions that could go on until then."""

    def step(self) -> None:
        cell = self.cell
        count = len(cell.scheduler.sessions())
        super().step()
        if self.deadline_s < float("inf"):
            assert len(cell.scheduler.sessions()) <= count
        if self.draw.random() < self.haste:
            grace_s = self.draw.choice([0.0, 2.0, 40.0])
            self.deadline_s = min(self.deadline_s, cell.now_s + grace_s)
            drain(cell, grace_s)
        assert cell.scheduler.draining.deadline_s == self.deadline_s
        if self.at_deadline is None and cell.now_s >= self.deadline_s:
            cell.later(0.0)
            states = {view.state for view in cell.scheduler.sessions()}
            assert states <= {State.FINISHING, State.CLOSING}
            self.at_deadline = {view.session: view.blocks_begun for view in cell.scheduler.sessions()
                                if view.state is State.FINISHING}  # fmt: skip

    def sink(self) -> None:
        """The grace ends, if it has not, and everything comes to rest."""
        drain(self.cell, 0.0)
        self.cell.check_empty()
        for name, blocks in (self.at_deadline or {}).items():
            if self.cell.closed[name].ending is Ending.DRAINED:
                assert len(self.cell.segments.get(name, ())) == blocks


@pytest.mark.parametrize("seed", range(10))
def test_whatever_happens_on_the_way_down_nothing_begins_after_the_deadline(seed: int) -> None:
    sinking = Sinking(seed)
    for _ in range(500):
        sinking.step()
    sinking.sink()


def test_the_sinking_storms_meet_sessions_in_many_states() -> None:
    met: set[State] = set()
    for seed in range(20, 50):
        sinking = Sinking(seed)
        for _ in range(500):
            met |= {view.state for view in sinking.cell.scheduler.sessions()}
            sinking.step()
            if sinking.at_deadline is not None:
                break
    assert met >= {State.OPENING, State.RUNNING, State.PAUSED, State.QUEUED, State.PARKING, State.CLOSING}


def test_where_streams_are_kept_they_stop_at_the_deadline_and_nothing_of_them_is_dropped_on_disk() -> None:
    cell = Cell(recipe(), now_s=100.0)
    kept = cell.open("kept", window=2)
    cell.answer()
    cell.steps(30)
    cell.send(Drain(now_s=cell.now_s, grace_s=60.0, streams=AtDeadline.KEEP))
    assert notices(cell) == [(kept, f"{REASON}: this stream stops, until the server is back, in 60 s")]
    cell.later(59.9)
    cell.steps(30)
    assert not cell.closed
    sent = len(cell.segments[kept])
    cell.later(0.2)
    assert cell.closed[kept].ending is Ending.KEPT and cell.closed[kept].reason == KEPT
    cell.run()
    assert len(cell.segments[kept]) == sent, "what was under way is dropped"
    assert [drop.remains for drop in effects_of(cell, DropJournal)] == [Remains.ALL]
    assert cell.scheduler.draining.is_done
    cell.send(Attach(now_s=cell.now_s, session=kept, connection=ConnectionNumber(9), cursor=None))
    assert effects_of(cell, AttachRefused)[-1].problem.kind is Fault.DRAINING, "who comes back now is to try again"


def test_a_stream_that_was_never_opened_is_not_kept() -> None:
    cell = Cell(recipe())
    session = cell.open("s")
    cell.send(Drain(now_s=cell.now_s, streams=AtDeadline.KEEP))
    cell.run()
    assert cell.closed[session].ending is Ending.DRAINED
    assert [drop.remains for drop in effects_of(cell, DropJournal)] == [Remains.NOTHING]


@pytest.mark.parametrize("first", list(AtDeadline))
def test_of_two_drains_the_one_counts_that_ends_streams(first: AtDeadline) -> None:
    cell = Cell(recipe())
    session = cell.open("s", window=2)
    cell.answer()
    cell.steps(20)
    (other,) = set(AtDeadline) - {first}
    cell.send(Drain(now_s=cell.now_s, grace_s=10.0, streams=first))
    cell.send(Drain(now_s=cell.now_s, grace_s=5.0, streams=other))
    cell.later(5.1)
    cell.run()
    assert cell.closed[session].ending is Ending.DRAINED
