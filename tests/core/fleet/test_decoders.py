"""Sessions choose their decoder: what each takes of a decode worker, and that nothing ever fills another one's slot."""

from __future__ import annotations

from collections import deque
from itertools import cycle

import pytest

from longtake.core.effects import Dispatch, PrepareStream, Refused
from longtake.core.endings import Ending
from longtake.core.events import Close, Open, Pause, Play, WorkerJoined
from longtake.core.fleet.timing import Timing
from longtake.core.flow import Pace
from longtake.core.limits import Limits
from longtake.core.openings import Opened
from longtake.core.work import Ability, DecoderKind, DecodeWork, Fork, Role, SegmentSettings, SessionId, WorkerId
from tests.core.support.image_cell import ImageCell
from tests.core.support.parts import geometry, recipe
from tests.core.support.timed import decoding_cell
from tests.core.support.world import Cell, effects_of

TINY = SegmentSettings(codec="raw", quality=0, decoder=DecoderKind.TINY)
FULL = SegmentSettings(codec="raw", quality=0)
DECODER = WorkerId("decode-0")


def opened(cell: Cell, name: str, settings: SegmentSettings, fork: str | None = None, **options: Pace) -> SessionId:
    session = SessionId(name)
    cell.send(
        Open(now_s=cell.now_s, session=session, prompt="p", seed=1, pace=options.get("pace", Pace.REALTIME), window=4,
             picture_limit=geometry().first_picture(12), settings=settings,
             fork=None if fork is None else Fork(session=SessionId(fork)))
    )  # fmt: skip
    return session


def admitted(cell: Cell, count: int, *settings: SegmentSettings) -> int:
    before = len(effects_of(cell, Refused))
    for number, chosen in zip(range(count), cycle(settings), strict=False):
        opened(cell, f"s{number}", chosen)
    return count - len(effects_of(cell, Refused)) + before


def test_a_tiny_decoder_takes_its_own_time_and_the_full_one_its_own() -> None:
    """0.75 s a block, of which 95 % may be reserved: 0.7125 s."""
    assert admitted(decoding_cell(0.3, 0.03), 40, FULL) == 2
    assert admitted(decoding_cell(0.3, 0.03), 40, TINY) == 23
    mixed = decoding_cell(0.3, 0.03)
    assert admitted(mixed, 4, FULL, TINY) == 4
    assert admitted(decoding_cell(0.3, 0.0), 40, TINY) == 2, "nobody has measured it: as the full one"
    assert admitted(decoding_cell(0.0, 0.0), 40, TINY) == 40, "of no time nothing is reserved"


def test_what_a_session_took_is_what_it_gives_back_though_another_worker_measures_otherwise() -> None:
    cell = decoding_cell(0.3, 0.03)
    names = [opened(cell, name, settings) for name, settings in (("a", TINY), ("b", FULL), ("c", TINY))]
    late = WorkerId("decode-1")
    cell.queues[late] = deque()
    ability = Ability(capacity=400, forward_s=0.3, tiny_s=0.2)
    cell.send(WorkerJoined(now_s=0.0, worker=late, role=Role.DECODE, ability=ability))
    for name in names:
        cell.send(Close(now_s=0.0, session=name, ending=Ending.CLIENT))
    cell.answer()
    cell.scheduler.check()
    assert cell.worker(DECODER).load.time(realtime=True) == 0.0
    assert cell.worker(DECODER).load.total == 0


@pytest.mark.parametrize("share", [0.0, 0.25, 0.5, 1.0])
def test_the_average_times_are_right_whatever_the_mixture(share: float) -> None:
    """A tiny decode costs a tenth by the probe, but both take 50 ms more than it saw."""
    timing = Timing(0.3)
    costs = [0.1 if number % 4 < 4 * share else 1.0 for number in range(4000)]
    for cost in costs:
        timing.fold(0.3 * cost + 0.05, cost=cost)
    spent_s = sum(0.3 * cost + 0.05 for cost in costs) / len(costs)
    assert timing.op_s * sum(costs) / len(costs) == pytest.approx(spent_s, rel=0.02)


def test_a_slow_worker_is_known_by_tiny_decodes_as_well() -> None:
    timing = Timing(0.0)
    for _ in range(5):
        timing.fold(0.06, cost=0.1, usual_s=0.03)
        assert 1.0 <= timing.slowness <= 2.0
    assert timing.slowness == pytest.approx(2.0)


def test_tiny_decodes_make_no_worker_look_fast_or_slow() -> None:
    cell = decoding_cell(0.3, 0.03)
    worker = cell.worker(DECODER)
    for number in range(200):
        kind = DecoderKind.TINY if number % 2 else DecoderKind.FULL
        cell.scheduler.cell.fleet.measured(worker, 0.08 if number % 2 else 0.3, 1, kind)
    assert worker.timing.slowness == pytest.approx(1.0, rel=0.05)


def prepared(cell: Cell, session: SessionId) -> list[PrepareStream]:
    return [effect for effect in effects_of(cell, PrepareStream) if effect.session == session]


def decoded(cell: Cell, session: SessionId) -> set[DecoderKind]:
    works = [effect.work for effect in effects_of(cell, Dispatch) if isinstance(effect.work, DecodeWork)]
    return {work.settings.decoder for work in works if work.session == session}


@pytest.mark.parametrize("settings", [FULL, TINY])
def test_a_fork_has_the_decoder_of_its_parent(settings: SegmentSettings) -> None:
    cell = ImageCell(recipe(), denoisers=2)
    parent = opened(cell, "parent", settings, pace=Pace.FAST)
    cell.answer()
    cell.steps(25)
    child = SessionId("child")
    block = cell.session(parent).next_block
    cell.contents.parents[child] = (parent, block)
    cell.images.shares_pages = True
    cell.done |= {(child, cell.graph.op(chain.number, block - 1)) for chain in cell.graph.chains}
    opened(cell, "child", FULL if settings is TINY else TINY, fork="parent", pace=Pace.FAST)
    cell.settle()
    for session in (parent, child):
        assert {order.settings.decoder for order in prepared(cell, session)} == {settings.decoder}
        assert decoded(cell, session) == {settings.decoder}
    assert {told.decoder for told in effects_of(cell, Opened)} == {settings.decoder}


def test_a_parked_session_comes_back_with_its_decoder() -> None:
    cell = ImageCell(recipe(), denoisers=1, limits=Limits(park_after_s=1.0))
    session = opened(cell, "a", TINY, pace=Pace.FAST)
    cell.answer()
    cell.steps(40)
    cell.send(Pause(now_s=cell.now_s, session=session))
    cell.settle()
    cell.later(2.0)
    cell.settle()
    cell.send(Play(now_s=cell.now_s, session=session))
    cell.settle()
    orders = prepared(cell, session)
    assert len(orders) == 2 and orders[1].image is not None, "it was parked"
    assert {order.settings.decoder for order in orders} == {DecoderKind.TINY}
