"""Clips are encoded part by part: decodes of others go between, and whatever becomes of one is the end of it alone."""

from __future__ import annotations

from itertools import pairwise

import pytest

from longtake.core.cell import Cell as CoreCell
from longtake.core.dispatch import dispatcher
from longtake.core.effects import Dispatch, Forget, GiveUp, Refused
from longtake.core.endings import Ending
from longtake.core.errors import InternalFault
from longtake.core.events import Close, OpFailed, PicturesEncoded
from longtake.core.fleet.clips import Clips
from longtake.core.fleet.hangs import LEAST_S
from longtake.core.fleet.worker import Worker
from longtake.core.flow import Pace
from longtake.core.limits import Limits
from longtake.core.openings import Opened
from longtake.core.parts import EncodePictures
from longtake.core.work import Role, SessionId, WorkerId
from tests.core.support.clocked import Clocked
from tests.core.support.parts import recipe
from tests.core.support.recipes import altered
from tests.core.support.world import Cell, effects_of

DECODER = WorkerId("decode-0")


def parts_of(cell: Cell, session: str) -> list[EncodePictures]:
    """Those that were ordered of a session's clip."""
    return [order for order in effects_of(cell, EncodePictures) if order.session == session]


def answer_all_but(cell: Cell, kind: type[PicturesEncoded]) -> None:
    """Deliver what workers owe, but for answers of this kind."""
    kept = [answer for answer in cell.answers if isinstance(answer, kind)]
    cell.answers = type(cell.answers)(answer for answer in cell.answers if not isinstance(answer, kind))
    cell.answer()
    cell.answers.extend(kept)


def answer_one_part(cell: Cell) -> None:
    """The worker has encoded the part that it has."""
    answer_all_but(cell, PicturesEncoded)
    cell.send(cell.answers.popleft())


# --- what is ordered ------------------------------------------------------------------------------------------------


def test_the_parts_of_a_clip_are_its_latent_frames_and_then_each_image() -> None:
    window = recipe().window_frames
    assert window is not None
    cell = Cell(altered(recipe(), reference_frames=2, window_frames=window + 2))
    cell.open("s", given=3, pictures=70)
    cell.run()
    parts = parts_of(cell, "s")
    assert [part.part for part in parts] == [0, 1, 2, 3, 4]
    assert [[*part.pictures] for part in parts] == [[0], [1, 2, 3, 4], [5, 6, 7, 8], [0], [1]]
    assert [part.is_reference for part in parts] == [False, False, False, True, True]
    assert [part.follows for part in parts] == [False, True, True, False, False]
    assert [part.leads for part in parts] == [True, True, False, False, False]


def test_a_stream_begins_when_the_last_part_is_there_and_not_before() -> None:
    cell = Cell(recipe())
    cell.open("s", given=4, pictures=70)
    for part in range(4):
        (decoder,) = [view for view in cell.scheduler.workers() if view.worker == DECODER]
        assert decoder.ready == 4 - part, "and is told as work that waits"
        assert len(parts_of(cell, "s")) == part + 1, "the next one is ordered when this one is answered"
        assert not effects_of(cell, Opened)
        answer_one_part(cell)
    assert len(effects_of(cell, Opened)) == 1
    cell.run()
    assert cell.closed[SessionId("s")].ending is Ending.COMPLETED


def test_clips_of_one_worker_are_encoded_one_after_the_other() -> None:
    cell = Cell(recipe())
    for name in ("a", "b", "c"):
        cell.open(name, given=3, pictures=70)
    cell.run()
    ordered = [(part.session, part.part) for part in effects_of(cell, EncodePictures)]
    assert ordered == [(name, part) for name in ("a", "b", "c") for part in range(3)], "so one state is enough"


# --- what goes between ----------------------------------------------------------------------------------------------


def whenever_there_is_room(cell: CoreCell, worker: Worker, *, now_s: float) -> EncodePictures | None:
    """What `encoding.next_part` would be if a clip went before everything."""
    return worker.clips.order(worker.id) if worker.clips.has_turn else None


def busy(pace: Pace, streams: int, *, part_s: float, decode_s: float, denoise_s: float = 0.02) -> Clocked:
    """So many streams that keep a decoder busy; of those with due times, as many as are let in."""
    run = Clocked({Role.DENOISE: denoise_s, Role.DECODE: decode_s}, Limits())
    run.part_s = part_s
    opened = [run.open(f"s{number}", pace) for number in range(streams)]
    assert opened[0] is None and (opened[-1] is None) == (pace is Pace.FAST)
    run.run(20.0)
    run.did.clear()
    return run


def test_between_two_parts_goes_a_decode_of_another_stream() -> None:
    """Also of streams without due times, which a clip has none to be before."""
    run = busy(Pace.FAST, 3, part_s=0.5, decode_s=0.2)
    run.open("clip", Pace.FAST, given=9)
    run.run(20.0)
    kinds = [type(order) for _, order in run.did]
    until = len(kinds) - kinds[::-1].index(EncodePictures)
    assert not sum(one is EncodePictures is other for one, other in pairwise(kinds[:until]))
    assert kinds.count(EncodePictures) == 9 and kinds[:until].count(Dispatch) >= 8


@pytest.mark.parametrize("first", [False, True])
def test_streams_with_due_times_give_a_clip_no_more_than_is_never_reserved(
    first: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A decoder at its limit, and parts that take as long as several decodes."""
    if first:
        monkeypatch.setattr(dispatcher, "next_part", whenever_there_is_room)
    run = busy(Pace.REALTIME, 20, part_s=0.9, decode_s=0.2, denoise_s=0.005)
    assert not run.late and run.open("clip", Pace.FAST, given=9) is None
    late = set()
    run.run(190.0, each=lambda: late.add(run.late))
    parts = [at_s for at_s, order in run.did if isinstance(order, EncodePictures)]
    assert len(parts) == 9, "it comes to its end"
    if first:
        assert max(late) > 0, "what this test would see of a clip that goes before everything"
        return
    assert late == {0}
    assert min(later - sooner for sooner, later in pairwise(parts)) > 2 * run.part_s, "others go between"


def test_an_idle_decoder_encodes_at_once() -> None:
    run = Clocked({Role.DENOISE: 0.02, Role.DECODE: 0.2}, Limits())
    run.part_s = 0.5
    run.open("clip", Pace.FAST, given=9)
    run.run(9 * 0.5 + 0.1)
    assert [order.part for _, order in run.did if isinstance(order, EncodePictures)] == [*range(9)]


# --- what becomes of it ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("done", range(4))
@pytest.mark.parametrize("victim", ["decode-0", "denoise-0"])
def test_a_clip_whose_worker_is_lost_halfway_begins_anew_elsewhere(done: int, victim: str) -> None:
    cell = Cell(recipe(), decoders=2, denoisers=1 if victim == "denoise-0" else 2)
    session = cell.open("s", given=4, pictures=100)
    for _ in range(done):
        answer_one_part(cell)
    before = len(parts_of(cell, "s"))
    cell.run_with_a_loss(victim, 0)
    later = parts_of(cell, "s")[before:]
    assert [part.part for part in later] == [0, 1, 2, 3] and not later[0].follows
    assert {part.worker for part in later} == {cell.worker("decode-0").id if victim != "decode-0" else "decode-1"}
    assert cell.closed[session].ending is Ending.COMPLETED
    assert not any(len(worker.clips) for worker in cell.fleet)


@pytest.mark.parametrize("done", range(3))
def test_a_stream_that_is_closed_halfway_leaves_nothing_and_the_next_clip_goes_on(done: int) -> None:
    cell = Cell(recipe(), slots=2)
    cell.open("a", given=3, pictures=70)
    cell.open("b", given=3, pictures=70)
    for _ in range(done):
        answer_one_part(cell)
    cell.send(Close(now_s=cell.now_s, session=SessionId("a"), ending=Ending.CLIENT))
    assert Forget(worker=DECODER, session=SessionId("a"), version=None) in effects_of(cell, Forget)
    assert not parts_of(cell, "b"), "the worker is still at a part of the other"
    assert cell.worker(DECODER).clips.parts == 3
    cell.run()
    assert [part.part for part in parts_of(cell, "a")] == [*range(done + 1)]
    assert [part.part for part in parts_of(cell, "b")] == [0, 1, 2]
    assert cell.closed[SessionId("b")].ending is Ending.COMPLETED
    assert cell.worker(DECODER).clips.out is None and not cell.scheduler.cell.encoding


def test_a_picture_that_cannot_be_decoded_ends_its_stream_and_no_other() -> None:
    cell = Cell(recipe())
    cell.open("bad", given=3, pictures=70)
    cell.open("good", given=3, pictures=70)
    answer_one_part(cell)
    answer_all_but(cell, PicturesEncoded)
    cell.answers.clear()
    cell.send(
        PicturesEncoded(now_s=0.0, worker=DECODER, session=SessionId("bad"), part=1, unfit="open.given[3]: 9 bytes")
    )
    (refused,) = effects_of(cell, Refused)
    assert refused.session == "bad" and "open.given[3]: 9 bytes" in refused.problem.message
    cell.run()
    assert [part.part for part in parts_of(cell, "bad")] == [0, 1]
    assert cell.closed[SessionId("good")].ending is Ending.COMPLETED


def test_a_part_that_fails_ends_its_stream_and_the_next_clip_goes_on() -> None:
    cell = Cell(recipe())
    cell.open("bad", given=3, pictures=70)
    cell.open("good", given=3, pictures=70)
    answer_all_but(cell, PicturesEncoded)
    cell.answers.clear()
    failed = OpFailed(now_s=0.0, worker=DECODER, sessions=(SessionId("bad"),), sequence=None, reason="no memory")
    cell.send(failed)
    cell.run()
    assert cell.closed[SessionId("bad")].ending is Ending.FAILED
    assert cell.closed[SessionId("good")].ending is Ending.COMPLETED


def test_an_answer_that_was_meant_for_an_earlier_beginning_is_none() -> None:
    """A stream that loses its place and gets it back at the same worker begins its clip anew, behind the old part."""
    cell = Cell(recipe(), denoisers=1)
    session = cell.open("s", given=1, pictures=70)
    cell.lose(WorkerId("denoise-0"))
    cell.join(WorkerId("denoise-0"), Role.DENOISE, 400)
    old = [answer for answer in cell.answers if isinstance(answer, PicturesEncoded)]
    assert len(old) == 1 and len(parts_of(cell, "s")) == 1
    cell.answers.clear()
    cell.send(old[0])
    assert len(parts_of(cell, "s")) == 2 and cell.session(session).is_to_encode
    cell.run()


def test_a_long_clip_is_no_hang_where_each_of_its_parts_takes_what_parts_take() -> None:
    """Many streams are prepared in no time, so that a whole clip in one order would be taken for a hang."""
    run = Clocked({Role.DENOISE: 0.01, Role.DECODE: 0.02}, Limits())
    for number in range(5):
        run.open(f"s{number}", Pace.FAST)
    run.part_s = 0.9 * LEAST_S
    run.open("clip", Pace.FAST, given=9)
    run.run(12 * LEAST_S)
    assert "clip" in {emit.session for _, emit in run.emitted}
    assert not [told for told in run.told if isinstance(told, GiveUp)]


def test_a_clip_that_is_nowhere_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    cell = Cell(recipe())
    monkeypatch.setattr(Clips, "put", lambda self, session: None)
    with pytest.raises(InternalFault, match=r"clips of \[\] wait to be encoded"):
        cell.open("s", given=1, pictures=70)
