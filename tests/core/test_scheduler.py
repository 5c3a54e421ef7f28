"""Any mix of sessions, workers and completion orders: ops in order, segments gapless, pages never shared or leaked."""

from __future__ import annotations

import dataclasses

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from longtake.core.dispatch import dispatcher
from longtake.core.effects import (
    CueAccepted,
    CueApplied,
    CueSuperseded,
    Dispatch,
    DropJournal,
    Forget,
    Opened,
    Refused,
    RequestRefused,
)
from longtake.core.errors import InvalidField, NoCapacity, TooLate, Unavailable, UnknownSession, WrongState
from longtake.core.events import Ack, Close, Cue, Drain, Ending, OpFailed, Pause, Play, Tick, WorkerLost
from longtake.core.flow import Pace
from longtake.core.limits import Limits
from longtake.core.recipe import graph
from longtake.core.recipe.graph import Kind, Op
from longtake.core.recipe.recipe import Level, Recipe
from longtake.core.work import DecodeWork, Role, SessionId, WorkerId
from tests.core.support.world import Cell, cue, effects_of, forwards_of, geometry, recipe, works_of

LEVELS = st.sampled_from(list(Level))
BLOCKS_4 = geometry().first_picture(4)


@settings(max_examples=60, deadline=None)
@given(
    data=st.data(), level=LEVELS, denoisers=st.integers(1, 5), steps=st.integers(1, 4), sinks=st.integers(0, 3),
    batch_limit=st.integers(1, 8), chain_length=st.integers(1, 4),
)  # fmt: skip
def test_any_mix_of_sessions_runs_in_order_and_leaks_nothing(
    data: st.DataObject, level: Level, denoisers: int, steps: int, sinks: int, batch_limit: int, chain_length: int
) -> None:
    cell = Cell(
        recipe(level, sinks=sinks, steps=steps), denoisers=denoisers, batch_limit=batch_limit, chain_length=chain_length
    )
    names = [SessionId(f"s{number}") for number in range(data.draw(st.integers(1, 4)))]
    lengths = {}
    for name in names:
        lengths[name] = data.draw(st.integers(1, 90), label="pictures")
        cell.open(name, pictures=lengths[name], window=data.draw(st.integers(1, 5)))
    acknowledged = dict.fromkeys(names, -1)
    for _ in range(5000):
        choices = ["finish"] * bool(cell.busy) + ["answer"] * bool(cell.answers)
        owing = [n for n in names if n not in cell.closed and len(cell.segments.get(n, [])) > acknowledged[n] + 1]
        choices += ["ack"] * bool(owing)
        if not choices:
            break
        match data.draw(st.sampled_from(choices)):
            case "finish":
                cell.finish(data.draw(st.sampled_from(cell.busy)))
            case "answer":
                cell.send(cell.answers.popleft())
            case "ack":
                name = data.draw(st.sampled_from(owing))
                acknowledged[name] = len(cell.segments[name]) - 1
                cell.send(Ack(now_s=0.0, session=SessionId(name), segment=acknowledged[name]))
    for name in names:
        blocks = geometry().blocks_for(lengths[name])
        assert cell.segments[SessionId(name)] == list(range(blocks))
        assert cell.closed[SessionId(name)].ending is Ending.COMPLETED
    assert cell.scheduler.sessions() == ()
    assert all(worker.free == worker.capacity for worker in cell.scheduler.workers())
    assert len(effects_of(cell, DropJournal)) == len(names)


def test_the_cell_fails_when_an_edge_of_the_op_order_is_dropped(monkeypatch: pytest.MonkeyPatch) -> None:
    def without_earlier_steps(op: Op, made_for: Recipe) -> tuple[Op, ...]:
        return tuple(need for need in graph.needs(op, made_for) if need.kind is not Kind.DENOISE)

    monkeypatch.setattr(dispatcher, "needs", without_earlier_steps)
    cell = Cell(recipe(), denoisers=4)
    cell.open("s", pictures=BLOCKS_4)
    with pytest.raises(AssertionError, match="was dispatched before"):
        cell.run()


def test_the_cell_fails_when_two_lanes_share_a_page() -> None:
    cell = Cell(recipe(), denoisers=1)
    cell.open("s", pictures=BLOCKS_4)
    cell.answer()
    session = cell.session("s")
    session.place = dataclasses.replace(session.place, tables=(session.place.tables[0],) * 4)
    with pytest.raises(Exception, match="pages are mapped"):
        cell.run()


@pytest.mark.parametrize("level", list(Level))
@pytest.mark.parametrize("denoisers", [1, 2, 4])
def test_latents_travel_only_where_the_lane_does_not_hold_them(level: Level, denoisers: int) -> None:
    cell = Cell(recipe(level), denoisers=denoisers)
    cell.open("s", pictures=BLOCKS_4)
    cell.run()
    kinds = {(work.kind, work.step): type(work.input).__name__ for work in forwards_of(cell)}
    denoise = [kinds[Kind.DENOISE, step] for step in range(4)]
    later = "FromLane" if level is Level.CLEAN else "FromLatent"
    assert denoise == ["FromNoise", later, later, later]
    assert {name for (kind, _), name in kinds.items() if kind is Kind.COMMIT} == (
        set() if level is Level.INPUT else {"FromLane"}
    )


def test_a_worker_that_denoises_sends_before_it_commits() -> None:
    cell = Cell(recipe(), denoisers=1)
    cell.open("s", pictures=BLOCKS_4)
    cell.run()
    order = [(work.kind, work.step) for work in forwards_of(cell) if work.block == 0]
    assert order.index((Kind.DENOISE, 0)) < order.index((Kind.COMMIT, 0))


def test_without_credit_a_session_stops_after_its_window_and_others_go_on() -> None:
    cell = Cell(recipe())
    silent = cell.open("silent", window=3)
    other = cell.open("other", pictures=BLOCKS_4, window=3)
    for _ in range(2000):
        cell.answer()
        if not cell.busy:
            break
        done = cell.finish(cell.busy[0])
        if isinstance(done.work, DecodeWork) and done.work.session == other and other not in cell.closed:
            cell.send(Ack(now_s=0.0, session=other, segment=done.work.block))
    assert cell.segments[silent] == [0, 1, 2]
    assert cell.segments[other] == [0, 1, 2, 3]
    cell.send(Ack(now_s=0.0, session=silent, segment=0))
    while cell.busy:
        cell.finish(cell.busy[0])
    assert cell.segments[silent] == [0, 1, 2, 3]


@pytest.mark.parametrize("segment", [-1, 3, 10**9])
def test_an_acknowledgement_of_the_future_is_refused_and_grants_nothing(segment: int) -> None:
    cell = Cell(recipe())
    session = cell.open("s", window=3)
    cell.run(acknowledge=False)
    cell.send(Ack(now_s=0.0, session=session, segment=segment))
    assert isinstance(effects_of(cell, RequestRefused)[-1].error, InvalidField)
    assert not cell.busy


def test_after_its_end_a_session_answers_requests_but_not_late_acknowledgements() -> None:
    cell = Cell(recipe())
    session = cell.open("s", pictures=BLOCKS_4)
    cell.run()
    assert cell.send(Ack(now_s=0.0, session=session, segment=3)) == []
    (refused,) = cell.send(Pause(now_s=0.0, session=session))
    assert isinstance(refused, RequestRefused)
    assert isinstance(refused.error, UnknownSession)


def test_equal_sessions_share_the_workers_equally() -> None:
    cell = Cell(recipe(), denoisers=2)
    names = [cell.open(f"s{number}", window=30) for number in range(3)]
    cell.answer()
    cell.steps(600)
    late = cell.open("late", window=30)
    cell.answer()
    before = {name: cell.session(name).virtual_time for name in names}
    cell.steps(400)
    served = {name: cell.session(name).virtual_time - before[name] for name in names}
    late_served = sum(1 for _, op in cell.done if _ == late and op.kind is not Kind.DECODE)
    assert max(served.values()) - min(served.values()) <= 4
    assert abs(late_served - min(served.values())) <= 8


def test_a_cue_takes_the_block_it_names_and_every_step_of_it() -> None:
    cell = Cell(recipe(), denoisers=3)
    session = cell.open("s", pictures=geometry().first_picture(8), cues=(cue("c", block=3), cue("d", picture=60)))
    cell.run()
    assert [(e.cue, e.block) for e in effects_of(cell, CueAccepted)] == [("c", 3), ("d", 6)]
    assert [(e.cue, e.block) for e in effects_of(cell, CueApplied)] == [("c", 3), ("d", 6)]
    assert [cell.versions[session, block] for block in range(8)] == [{0}, {0}, {0}, {1}, {1}, {1}, {2}, {2}]


def test_a_cue_without_a_place_takes_the_first_block_not_begun() -> None:
    cell = Cell(recipe())
    session = cell.open("s", window=3)
    cell.run(acknowledge=False)
    cell.send(Cue(now_s=0.0, session=session, request=cue("now")))
    cell.answer()
    assert effects_of(cell, CueAccepted)[-1].block == 3


def test_a_cue_that_comes_too_late_is_told_the_earliest_block() -> None:
    cell = Cell(recipe())
    session = cell.open("s", window=3)
    cell.run(acknowledge=False)
    cell.send(Cue(now_s=0.0, session=session, request=cue("late", block=2)))
    error = effects_of(cell, RequestRefused)[-1].error
    assert isinstance(error, TooLate)
    assert error.earliest_block == 3


def test_of_two_cues_for_one_block_the_later_wins_and_the_earlier_is_told() -> None:
    cell = Cell(recipe())
    session = cell.open("s", window=3)
    for name in ("first", "second"):
        cell.send(Cue(now_s=0.0, session=session, request=cue(name, block=5)))
    cell.answer()
    superseded = effects_of(cell, CueSuperseded)
    assert [(e.cue, e.by, e.block) for e in superseded] == [("first", "second", 5)]


def test_a_prompt_that_nothing_reads_any_more_is_forgotten_everywhere_once() -> None:
    cell = Cell(recipe(), denoisers=2)
    session = cell.open("s", pictures=geometry().first_picture(10), cues=(cue("c", block=2), cue("d", block=5)))
    cell.run()
    for version in (0, 1):
        workers = [e.worker for e in effects_of(cell, Forget) if e.version == version]
        assert sorted(workers) == ["decode-0", "denoise-0", "denoise-1"]
    attached = [
        (d.worker, work.conditioning.version)
        for d in effects_of(cell, Dispatch)
        if not isinstance(d.work, DecodeWork)
        for work, attach in zip(d.work, d.attach_conditioning, strict=True)
        if attach
    ]
    assert len(attached) == len(set(attached)) == 6
    assert session in cell.closed


def test_cues_waiting_are_bounded() -> None:
    cell = Cell(recipe(), limits=Limits(max_pending_cues=3))
    session = cell.open("s", window=1)
    for number in range(5):
        cell.send(Cue(now_s=0.0, session=session, request=cue(f"c{number}", block=100 + number)))
    assert len(effects_of(cell, RequestRefused)) == 2


def test_pause_finishes_what_has_begun_and_play_goes_on() -> None:
    cell = Cell(recipe())
    session = cell.open("s", window=2)
    cell.answer()
    cell.send(Pause(now_s=0.0, session=session))
    cell.run()
    begun = len(cell.segments[session])
    assert 1 <= begun <= 2
    assert cell.scheduler.sessions()[0].blocks_begun == begun
    cell.send(Play(now_s=0.0, session=session))
    cell.run(acknowledge=False)
    assert len(cell.segments[session]) > begun


def test_a_stream_paused_before_it_is_open_begins_no_block_until_play() -> None:
    cell = Cell(recipe())
    session = cell.open("s", pictures=BLOCKS_4)
    cell.send(Pause(now_s=0.0, session=session))
    cell.run()
    assert effects_of(cell, Opened) and not effects_of(cell, Dispatch)
    cell.send(Play(now_s=0.0, session=session))
    cell.run()
    assert cell.segments[session] == [0, 1, 2, 3]


def test_a_block_that_waits_for_its_worker_does_not_begin_after_a_pause() -> None:
    cell = Cell(recipe(), denoisers=1)
    cell.open("first", window=30)
    cell.answer()
    session = cell.open("s", pictures=BLOCKS_4)
    cell.answer()
    assert cell.scheduler.workers()[1].ready
    cell.send(Pause(now_s=0.0, session=session))
    cell.send(Close(now_s=0.0, session=SessionId("first"), ending=Ending.CLIENT))
    cell.run()
    assert session not in cell.segments
    cell.send(Play(now_s=0.0, session=session))
    cell.run()
    assert cell.segments[session] == [0, 1, 2, 3]


def test_play_while_the_server_drains_is_refused() -> None:
    cell = Cell(recipe())
    session = cell.open("s")
    cell.answer()
    cell.send(Drain(now_s=0.0))
    cell.send(Play(now_s=0.0, session=session))
    assert isinstance(effects_of(cell, RequestRefused)[0].error, WrongState)


def test_a_worker_that_is_lost_and_comes_back_owes_nothing_to_who_still_waits_for_another() -> None:
    cell = Cell(recipe(), denoisers=2)
    session = cell.open("s", window=3)
    cell.answer()
    cell.finish(WorkerId("denoise-0"))
    assert cell.queues[WorkerId("denoise-1")]
    cell.queues[WorkerId("denoise-0")].clear()
    cell.send(WorkerLost(now_s=0.0, worker=WorkerId("denoise-0"), reason="killed"))
    assert cell.closed[session].ending is Ending.LOST
    cell.join(WorkerId("denoise-0"), Role.DENOISE, 100)
    while cell.busy:
        cell.finish(cell.busy[0])
    assert cell.scheduler.sessions() == ()
    assert all(worker.free == worker.capacity for worker in cell.scheduler.workers())


def test_realtime_runs_at_most_a_window_ahead_of_the_playback_clock() -> None:
    cell = Cell(recipe())
    session = cell.open("s", window=2, pace=Pace.REALTIME)
    cell.run()
    assert cell.segments[session] == [0, 1, 2], "block 0 on the screen and a window of two ahead of it"
    first_due = float(geometry().time_s(geometry().first_picture(1)))
    cell.now_s = first_due - 0.01
    cell.send(Tick(now_s=cell.now_s))
    assert not cell.busy
    cell.now_s = first_due + 0.01
    cell.send(Tick(now_s=cell.now_s))
    cell.run()
    assert cell.segments[session] == [0, 1, 2, 3]


def test_a_stream_with_deadlines_goes_before_one_without() -> None:
    cell = Cell(recipe(), denoisers=1)
    cell.open("bulk", window=30)
    cell.answer()
    for _ in range(40):
        cell.finish(cell.busy[0])
    live = cell.open("live", window=2, pace=Pace.REALTIME)
    cell.answer()
    order = [works_of(cell.finish(WorkerId("denoise-0")))[0].session for _ in range(10)]
    assert order[2:] == [live] * 8, "after the running and the queued dispatch"


def test_a_lost_worker_ends_its_sessions_and_no_other() -> None:
    cell = Cell(recipe(Level.CLEAN), denoisers=2)
    lost, kept = cell.open("lost"), cell.open("kept", pictures=BLOCKS_4)
    cell.answer()
    assert [s.place.lanes for s in cell.records] == [("denoise-0",), ("denoise-1",)]
    cell.queues[WorkerId("denoise-0")].clear()
    cell.send(WorkerLost(now_s=0.0, worker=WorkerId("denoise-0"), reason="killed"))
    assert cell.closed[lost].ending is Ending.LOST
    assert "denoise-0 was lost: killed" in cell.closed[lost].reason
    cell.join(WorkerId("denoise-0"), Role.DENOISE, 100)
    cell.run()
    assert cell.closed[kept].ending is Ending.COMPLETED
    assert all(worker.free == worker.capacity for worker in cell.scheduler.workers())


def test_pages_of_a_closed_session_are_reused_only_after_its_last_op_has_reported() -> None:
    cell = Cell(recipe(), denoisers=1, pages=36, limits=Limits(max_queued=0))
    first = cell.open("first")
    cell.answer()
    cell.send(Close(now_s=0.0, session=first, ending=Ending.CLIENT))
    assert first in cell.closed
    cell.open("second")
    assert isinstance(effects_of(cell, Refused)[0].error, NoCapacity)
    while cell.busy:
        cell.finish(cell.busy[0])
    cell.open("third", pictures=BLOCKS_4)
    cell.run()
    assert len(cell.segments[SessionId("third")]) == 4


def test_a_failed_op_ends_its_session_with_the_reason_and_frees_its_place() -> None:
    cell = Cell(recipe(), denoisers=1)
    bad, good = cell.open("bad"), cell.open("good", pictures=BLOCKS_4)
    cell.answer()
    worker = WorkerId("denoise-0")
    dispatch = cell.queues[worker].popleft()
    assert works_of(dispatch)[0].session == bad
    cell.send(OpFailed(now_s=0.0, worker=worker, sessions=(bad,), sequence=dispatch.sequence, reason="nan"))
    cell.run()
    assert (cell.closed[bad].ending, cell.closed[bad].reason) == (Ending.FAILED, "nan")
    assert cell.closed[good].ending is Ending.COMPLETED
    assert all(worker.free == worker.capacity for worker in cell.scheduler.workers())


def test_drain_delivers_the_blocks_begun_and_refuses_new_sessions() -> None:
    cell = Cell(recipe())
    session = cell.open("s", window=3)
    cell.answer()
    begun = cell.scheduler.sessions()[0].blocks_begun
    cell.send(Drain(now_s=0.0))
    cell.run()
    assert cell.closed[session].ending is Ending.DRAINED
    assert cell.segments[session] == list(range(begun))
    cell.open("later")
    assert isinstance(effects_of(cell, Refused)[0].error, Unavailable)
    assert cell.scheduler.sessions() == ()


@pytest.mark.parametrize(
    ("change", "field"),
    [({"prompt": "  "}, "open.prompt"), ({"window": 0}, "open.window"), ({"window": 99}, "open.window"),
     ({"pictures": 0}, "open.picture_limit")],
)  # fmt: skip
def test_an_open_that_cannot_be_names_the_field_and_starts_nothing(change: dict[str, object], field: str) -> None:
    cell = Cell(recipe())
    cell.open("s", **change)  # type: ignore[arg-type]
    error = effects_of(cell, Refused)[0].error
    assert isinstance(error, InvalidField)
    assert error.field == field
    assert len(cell.effects) == 1
    assert cell.scheduler.sessions() == ()


def test_a_full_cell_says_what_is_missing_and_takes_nothing() -> None:
    cell = Cell(recipe(), denoisers=1, pages=4 * 9, slots=2, limits=Limits(max_queued=0))
    cell.open("first")
    cell.open("second")
    error = effects_of(cell, Refused)[0].error
    assert isinstance(error, NoCapacity)
    assert "4 lanes" in str(error)
    assert cell.scheduler.workers()[0].free == 1


def test_the_record_of_a_session_does_not_grow_with_its_length() -> None:
    cell = Cell(recipe(), denoisers=2)
    cell.open("s", window=4)
    cell.answer()

    def run_to(block: int) -> int:
        while len(cell.segments.get(SessionId("s"), [])) < block:
            cell.effects.clear()
            done = cell.finish(cell.busy[0])
            if isinstance(done.work, DecodeWork):
                cell.send(Ack(now_s=0.0, session=done.work.session, segment=done.work.block))
        return len(repr(cell.records)) + len(repr(cell.fleet))

    assert run_to(600) <= run_to(150) + 100  # numbers get longer, nothing else does


def test_nothing_is_kept_of_a_cue_that_has_passed() -> None:
    cell = Cell(recipe(), denoisers=2)
    session = cell.open("s", window=4)
    for number in range(20):
        cell.answer()
        cell.steps(30)
        cell.send(Cue(now_s=0.0, session=session, request=cue(f"c{number}")))
    cell.answer()
    cell.steps(200)
    record = cell.session(session)
    assert len(record.timeline.turns) == len(record.encoded) == 1
    assert {version for _, version in record.conditioned} == {20}


def test_the_same_events_give_the_same_effects() -> None:
    def once() -> list[object]:
        cell = Cell(recipe(), denoisers=3)
        for number in range(3):
            cell.open(f"s{number}", pictures=BLOCKS_4)
        cell.run()
        return list(cell.effects)

    assert once() == once()


def test_opened_comes_once_and_before_anything_else_of_the_stream() -> None:
    cell = Cell(recipe())
    cell.open("s", pictures=BLOCKS_4, cues=(cue("c", block=1),))
    cell.run()
    told = [e for e in cell.effects if isinstance(e, Opened | CueAccepted | CueApplied)]
    assert [type(e).__name__ for e in told] == ["Opened", "CueAccepted", "CueApplied"]
