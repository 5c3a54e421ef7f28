"""Batches: who comes along, in what order, who must not be overtaken, and what a failure takes down."""

from __future__ import annotations

import math

import pytest

from longtake.core.effects import Dispatch
from longtake.core.endings import Ending
from longtake.core.events import Ack, Close, Play
from longtake.core.fleet.ready import Urgency
from longtake.core.flow import Pace
from longtake.core.recipe.context import Level
from longtake.core.recipe.graph import Graph
from longtake.core.recipe.ops import Kind, Op
from longtake.core.sessions.life import State
from longtake.core.sessions.place import NOWHERE
from longtake.core.work import DecodeWork, SessionId, Ticket, WorkerId
from tests.core.support.parts import geometry, op_of, recipe, works_of
from tests.core.support.recipes import APART
from tests.core.support.world import Cell, effects_of

WORKER = WorkerId("denoise-0")
D00, C00 = Op(Kind.DENOISE, 0, 0), Op(Kind.COMMIT, 0, 0)
BLOCKS_4 = geometry().first_picture(4)
BLOCKS_20 = geometry().first_picture(20)


def cell_of(
    sessions: int, *, level: Level = Level.OUTPUT, limit: int = 8, pictures: int = BLOCKS_4, mixes: bool = True
) -> Cell:
    """One denoise worker and this many sessions, opened but not begun."""
    cell = Cell(recipe(level), denoisers=1, batch_limit=limit, mixes_kinds=mixes)
    for number in range(sessions):
        cell.open(f"s{number}", pictures=pictures)
    return cell


def sizes(cell: Cell) -> list[int]:
    """Sizes of all forwards, in order."""
    return [len(d.work) for d in effects_of(cell, Dispatch) if not isinstance(d.work, DecodeWork)]


@pytest.mark.parametrize("level", APART)
def test_sessions_that_start_one_by_one_soon_share_their_forwards(level: Level) -> None:
    cell = cell_of(8, level=level, pictures=BLOCKS_20)
    cell.run()
    assert len(cell.closed) == 8
    assert max(sizes(cell)) == 8
    assert sum(sizes(cell)) / len(sizes(cell)) >= 4


def test_one_session_shares_forwards_among_its_own_steps() -> None:
    cell = cell_of(1, pictures=BLOCKS_20)
    cell.run()
    mixed = [
        {(item.block, item.step) for item in d.work}
        for d in effects_of(cell, Dispatch)
        if not isinstance(d.work, DecodeWork) and len(d.work) > 1
    ]
    assert mixed
    assert all(len({step for _, step in items}) == len(items) for items in mixed)


def test_without_a_batch_limit_every_op_is_alone_and_decodes_always_are() -> None:
    cell = cell_of(4, limit=1)
    cell.run()
    assert set(sizes(cell)) == {1}
    batched = cell_of(4)
    batched.run()
    assert sum(sizes(batched)) == sum(sizes(cell))
    assert [view.ability.batch_limit for view in batched.scheduler.workers()] == [1, 8], "a decode worker has none"


def test_an_idle_worker_waits_for_nobody_and_a_busy_one_gathers() -> None:
    """By hand: D(0,0) of s0 runs alone; C(0,0) of s0 and D(0,0) of the others gather, at last D(1,0) of s0."""
    cell = cell_of(3)
    cell.answer()
    (first,) = cell.queues[WORKER]
    assert [(work.session, op_of(work)) for work in works_of(first)] == [("s0", D00)]
    cell.finish(WORKER)
    (second,) = cell.queues[WORKER]
    assert {(work.session, op_of(work)) for work in works_of(second)} == {
        ("s0", C00), ("s0", Op(Kind.DENOISE, 1, 0)), ("s1", D00), ("s2", D00)
    }  # fmt: skip


def test_a_full_batch_is_queued_behind_a_running_one() -> None:
    """By hand: two more openings and the first one's commit make 3, the limit: there is nothing to wait for."""
    cell = cell_of(4, limit=3)
    cell.answer()
    first, queued = cell.queues[WORKER]
    assert [(work.session, op_of(work)) for work in works_of(first)] == [("s0", D00)]
    assert [(work.session, op_of(work)) for work in works_of(queued)] == [("s1", D00), ("s2", D00), ("s0", C00)]


def test_a_batch_of_every_lane_is_queued_though_it_is_not_full() -> None:
    """At level CLEAN a session has one lane; of two, both wait behind the running op of the first."""
    cell = cell_of(2, level=Level.CLEAN)
    cell.answer()
    first, queued = cell.queues[WORKER]
    assert [work.session for work in works_of(first)] == ["s0"]
    assert {(work.session, op_of(work).step) for work in works_of(queued)} == {("s0", 1), ("s1", 0)}


def test_one_kind_fills_a_batch_before_kinds_mix() -> None:
    cell = cell_of(12, pictures=BLOCKS_20)
    cell.run()
    full = [d.work for d in effects_of(cell, Dispatch) if isinstance(d.work, tuple) and len(d.work) == 8]
    kinds = [{item.kind for item in items} for items in full]
    assert {Kind.COMMIT} in kinds
    assert {Kind.DENOISE} in kinds


def test_kinds_mix_only_where_the_worker_has_proved_it() -> None:
    def mixed(cell: Cell) -> int:
        cell.run()
        forwards = [d.work for d in effects_of(cell, Dispatch) if isinstance(d.work, tuple)]
        return sum(len({item.kind for item in items}) > 1 for items in forwards)

    assert mixed(cell_of(3)) > 0
    assert mixed(cell_of(3, mixes=False)) == 0


def test_ops_without_a_deadline_ride_along_only_while_there_is_time() -> None:
    """By hand: an op takes 0.1 s and the live one must end within 0.35 s: two more have room, not three."""
    cell = Cell(recipe(), denoisers=1, batch_limit=8)
    live = cell.open("live", window=4, pace=Pace.REALTIME)
    bulk = [cell.open(f"bulk{number}") for number in range(3)]
    cell.answer()
    worker = cell.worker(WORKER)
    worker.timing.op_s = 0.1
    for session in (live, *bulk):
        worker.ready.drop_session(session)
    for number, session in enumerate((live, *bulk)):
        deadline_s = math.inf if number else 10.0
        worker.ready.put(Ticket(session, Op(Kind.DENOISE, 1, 5)), Urgency(deadline_s, 0.0, 5, False, number))
    cell.scheduler.cell.urgency = lambda _, ticket: worker.ready[ticket]
    batch = cell.scheduler.next_batch
    assert [ticket.session for ticket in batch(WORKER, now_s=9.65)] == ["live", "bulk0", "bulk1"]
    assert [ticket.session for ticket in batch(WORKER, now_s=9.95)] == ["live"]
    assert len(batch(WORKER, now_s=0.0)) == 4


def left_waiting(*, decode_s: float, pace: Pace = Pace.FAST) -> tuple[Cell, int]:
    """Six sessions, forwards of 1 ms, a decoder that reports nothing yet; and how many ops the idle worker keeps."""
    cell = Cell(recipe(), denoisers=1, batch_limit=8)
    for number in range(6):
        cell.open(f"s{number}", pictures=BLOCKS_20, pace=pace)
    worker, decoder = (cell.worker(name) for name in ("denoise-0", "decode-0"))
    worker.timing.op_s = worker.timing.pass_s = 0.001
    decoder.timing.op_s = decoder.timing.pass_s = decode_s
    cell.answer()
    while cell.queues[WORKER]:
        cell.finish(WORKER)
    return cell, len(worker.ready)


def test_while_the_decoders_have_a_backlog_an_idle_worker_gathers() -> None:
    cell, waiting = left_waiting(decode_s=1.0)
    assert waiting > 0
    batch = cell.scheduler.next_batch(WORKER, now_s=0.0)
    assert len(batch) < 8, "what is full goes"
    cell.run()
    assert all(closed.ending is Ending.COMPLETED for closed in cell.closed.values())
    assert len(cell.closed) == 6
    assert cell.scheduler.sessions() == ()


@pytest.mark.parametrize(("decode_s", "pace"), [(0.0, Pace.FAST), (0.0001, Pace.FAST), (1.0, Pace.REALTIME)])
def test_without_a_backlog_or_with_deadlines_it_does_not(decode_s: float, pace: Pace) -> None:
    assert left_waiting(decode_s=decode_s, pace=pace)[1] == 0


@pytest.mark.parametrize(("denoisers", "decode_s"), [(1, 0.005), (2, 0.005), (1, 0.05), (2, 0.05)])
def test_batches_fill_while_eight_sessions_run_on_a_clock(denoisers: int, decode_s: float) -> None:
    """Forwards take 2 + b ms, messages nothing; the decoder is far from busy, or the one that all wait for."""
    cell = Cell(recipe(), denoisers=denoisers, pages=8 * 36, batch_limit=8)
    for number in range(8):
        cell.open(f"s{number}", pictures=BLOCKS_20)
    cell.answer()
    ends: dict[WorkerId, tuple[float, float]] = {}
    while cell.busy:
        for worker in cell.busy:
            work = cell.queues[worker][0].work
            takes_s = decode_s if isinstance(work, DecodeWork) else 0.002 + 0.001 * len(work)
            ends.setdefault(worker, (cell.now_s + takes_s, takes_s))
        worker = min(cell.busy, key=lambda busy: ends[busy])
        cell.now_s, takes_s = ends.pop(worker)
        work = cell.finish(worker, seconds=takes_s).work
        if isinstance(work, DecodeWork):
            cell.send(Ack(now_s=cell.now_s, session=work.session, segment=work.block))
    assert len(cell.closed) == 8
    made = sizes(cell)
    assert sum(made) / len(made) >= 6.5


def test_mates_come_in_the_order_of_their_urgency_up_to_the_limit() -> None:
    cell = cell_of(8, limit=3)
    cell.answer()
    assert [len(works_of(dispatch)) for dispatch in cell.queues[WORKER]] == [1, 3]
    for number, session in enumerate(cell.records):
        session.virtual_time = float(-number)  # the last has been served least
        cell.send(Play(now_s=0.0, session=session.id))  # whatever happens to a session gives its ops their urgency
    cell.finish(WORKER)
    batch = works_of(cell.queues[WORKER][-1])
    assert [work.session for work in batch] == ["s7", "s6", "s5"]


def test_a_batch_does_not_overtake_an_op_with_a_nearer_deadline() -> None:
    """Ready: a live D, a live C due next, and bulk Ds, which may join the first only if nothing live stays behind."""

    def batches(realtime: int) -> list[list[tuple[str, Kind]]]:
        cell = Cell(recipe(), denoisers=1, batch_limit=8)
        for number in range(3):
            cell.open(f"bulk{number}", window=30)
        for number in range(realtime):
            cell.open(f"live{number}", window=4, pace=Pace.REALTIME)
        cell.answer()
        for _ in range(400):
            _check_no_overtaking(cell)
            cell.finish_and_acknowledge(cell.busy[0])
        return [
            [(item.session, item.kind) for item in d.work]
            for d in effects_of(cell, Dispatch)
            if not isinstance(d.work, DecodeWork)
        ]

    mixed = [batch for batch in batches(2) if len({name[:4] for name, _ in batch}) == 2]
    assert mixed, "bulk ops ride along where they overtake nobody"


def _check_no_overtaking(cell: Cell) -> None:
    """What the dispatcher would send now leaves nothing behind that is due before a member of the batch."""
    worker = cell.worker(WORKER)
    if not worker.ready:
        return
    batch = cell.scheduler.next_batch(WORKER, now_s=cell.now_s)
    due = {ready: cell.scheduler.cell.urgency(cell.scheduler.cell, ready).deadline_s for ready in worker.ready}
    latest_s = max(due[ready] for ready in batch)
    left = {ready: due_s for ready, due_s in due.items() if ready not in batch and due_s < latest_s}
    assert not left, f"{batch} leaves {left} behind"


def test_bulk_ops_stay_behind_while_a_live_op_of_another_shape_is_ready() -> None:
    cell = Cell(recipe(), denoisers=1, batch_limit=8, mixes_kinds=False)
    bulk = [cell.open(f"bulk{number}", window=30) for number in range(2)]
    live = [cell.open(f"live{number}", window=4, pace=Pace.REALTIME) for number in range(2)]
    cell.answer()
    worker = cell.worker(WORKER)
    for session in (*live, *bulk):
        worker.ready.drop_session(session)
        record = cell.session(session)
        record.flow = record.flow.played(0, now_s=0.0, geometry=geometry())
    shared = cell.scheduler.cell
    for session, op in (
        (live[0], Op(Kind.DENOISE, 1, 5)),
        (live[1], Op(Kind.DENOISE, 2, 6)),
        (bulk[0], Op(Kind.DENOISE, 1, 4)),
        (bulk[1], Op(Kind.DENOISE, 3, 9)),
    ):
        worker.ready.put(Ticket(session, op), shared.urgency(shared, Ticket(session, op)))
    batch = cell.scheduler.next_batch(WORKER, now_s=0.0)
    assert {ticket.session for ticket in batch} == {"live0", "live1", "bulk0", "bulk1"}
    commit = Ticket(live[1], Op(Kind.COMMIT, 0, 7))
    worker.ready.put(commit, shared.urgency(shared, commit))  # due after both live ops, before the bulk ones
    batch = cell.scheduler.next_batch(WORKER, now_s=0.0)
    assert [ticket.session for ticket in batch] == ["live0", "live1"]


def test_blocks_with_unequally_filled_windows_do_not_share_a_forward() -> None:
    cell = cell_of(4, pictures=BLOCKS_20)
    cell.run()
    reads = [
        {len(item.pages.reads) for item in d.work} for d in effects_of(cell, Dispatch) if isinstance(d.work, tuple)
    ]
    assert all(len(lengths) == 1 for lengths in reads)
    assert {length for lengths in reads for length in lengths} == {3, 6, 9}


def test_the_cell_fails_when_any_op_may_join(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Graph, "shape", lambda graph, block: (0, 0))
    cell = cell_of(4)
    with pytest.raises(AssertionError, match="unequal shapes"):
        cell.run()


@pytest.mark.parametrize("window", [None, 9, 10])
@pytest.mark.parametrize("sinks", [0, 1, 3])
def test_a_window_has_the_size_it_says(window: int | None, sinks: int) -> None:
    made = recipe(window=window, sinks=sinks)
    for block in range(8):
        assert made.window.count(block) == len(made.window.frames(block))


def batch_in_flight(cell: Cell, size: int) -> Dispatch:
    """Run until a batch of this size is the oldest dispatch of the worker."""
    cell.answer()
    while not cell.queues[WORKER] or len(works_of(cell.queues[WORKER][0])) != size:
        cell.finish_and_acknowledge(cell.busy[0])
    return cell.queues[WORKER][0]


def test_an_op_that_fails_in_a_batch_concerns_its_session_and_no_mates() -> None:
    cell = cell_of(4)
    dispatch = batch_in_flight(cell, 3)
    bad, *good = (work.session for work in works_of(dispatch))
    cell.fail(WORKER, bad)
    assert cell.session(bad).place is NOWHERE or cell.session(bad).state is State.PARKING
    assert all(cell.session(session).state is State.RUNNING for session in good)
    cell.run()
    assert all(closed.ending is Ending.COMPLETED for closed in cell.closed.values())
    assert all(worker.free == worker.ability.capacity for worker in cell.scheduler.workers())


def test_a_batch_that_fails_as_a_whole_is_tried_once_more_and_then_ends_all_its_sessions() -> None:
    cell = cell_of(4)
    dispatch = batch_in_flight(cell, 3)
    failed = {work.session: op_of(work) for work in works_of(dispatch)}
    cell.fail(WORKER, *failed)
    for _ in range(10_000):
        cell.answer()
        if not cell.busy:
            break
        works = works_of(cell.queues[WORKER][0]) if cell.queues[WORKER] else ()
        again = [
            w.session for w in works if failed.get(w.session) == op_of(w) and (w.session, op_of(w)) not in cell.void
        ]
        cell.fail(WORKER, *again) if again else cell.finish_and_acknowledge(cell.busy[0])
    cell.run()
    endings = {session: closed.ending for session, closed in cell.closed.items()}
    assert {session for session, ending in endings.items() if ending is Ending.FAILED} == set(failed)
    assert cell.scheduler.sessions() == ()


def test_a_session_that_closes_amid_a_batch_frees_its_pages_when_all_its_ops_have_reported() -> None:
    cell = cell_of(1, pictures=BLOCKS_20)
    dispatch = batch_in_flight(cell, 2)
    assert {work.session for work in works_of(dispatch)} == {"s0"}
    cell.send(Close(now_s=0.0, session=SessionId("s0"), ending=Ending.CLIENT))
    assert cell.scheduler.sessions() != ()
    while cell.busy:
        cell.finish(cell.busy[0])
    assert cell.scheduler.sessions() == ()
    assert all(worker.free == worker.ability.capacity for worker in cell.scheduler.workers())
