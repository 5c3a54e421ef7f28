"""Forks of the past: what comes before is computed again, bit for bit, as far back as what it needs is kept."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest

from longtake.core.effects import Dispatch, Inherit, Notice, Parked, PrepareStream, Recovered, Refused, Restored
from longtake.core.endings import Ending
from longtake.core.errors import Fault, Lack
from longtake.core.events import Attach, Close, Detach, Drain, Pause, Play
from longtake.core.limits import Limits
from longtake.core.openings import Opened
from longtake.core.recipe.context import Level
from longtake.core.sessions.life import State
from longtake.core.sessions.retention import Retention
from longtake.core.sessions.session import Session
from longtake.core.work import FIRST_CONNECTION, ConnectionNumber, Continuity, SessionId, WorkerId
from tests.core.support.image_cell import ImageCell
from tests.core.support.past import LAST, REWIND, P, complete, is_kept, parked, picture, reach, refusal, running
from tests.core.support.recipes import APART
from tests.core.support.world import effects_of
from tests.samples import covering, first

# --- where ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("level", "emitted"), covering(APART, [2, 5, 9, 14], together=1))
def test_a_running_stream_can_be_forked_at_every_block_that_a_rebuild_finds_all_of(level: Level, emitted: int) -> None:
    cell = running(level, emitted)
    parent = cell.session(P)
    newest = min(parent.progress.done)
    possible = [block for block in range(1, newest + 1) if is_kept(cell, parent, block)]
    accepted = [
        block for block in range(1, newest + 1) if cell.fork(f"f{block}", P, at=block, pictures=picture(LAST)) > 0
    ]
    assert accepted == possible and len(possible) >= min(newest, REWIND - 1), "the first lane may be a block ahead"
    complete(cell)
    for block in accepted:
        assert cell.segments[SessionId(f"f{block}")] == list(range(block, LAST))
    assert cell.segments[P] == list(range(LAST))


@pytest.mark.parametrize(("level", "sinks"), covering(APART, [0, 3], together=1))
def test_a_parked_stream_can_be_forked_so_many_blocks_back_as_are_kept_and_not_one_more(
    level: Level, sinks: int
) -> None:
    cell, boundary = parked(level, sinks=sinks)
    oldest = boundary - REWIND
    assert oldest - reach(cell) > 1, "more than sinks has been dropped"
    assert cell.fork("x", P, at=oldest - 1) == -1
    problem = refusal(cell)
    assert problem.kind is Fault.OUT_OF_RANGE and f"block {oldest} is the oldest" in problem.message
    for block in range(oldest, boundary + 1):
        assert cell.fork(f"f{block}", P, at=block, pictures=picture(LAST)) == block
    assert cell.fork("x", P, at=boundary + 1) == -1
    problem = refusal(cell)
    assert problem.kind is Fault.INVALID
    assert f"allowed: {oldest} to {boundary}, or {boundary}, which the session begins next" in problem.message
    assert cell.session(P).state is State.PARKED, "it is not disturbed"
    cell.settle()
    for block in range(oldest, boundary + 1):
        assert cell.segments[SessionId(f"f{block}")] == list(range(block, LAST))
    complete(cell)


def test_without_rewind_blocks_a_stream_at_rest_can_be_forked_where_it_is_and_a_short_one_anywhere() -> None:
    limits = Limits(park_after_s=1.0)
    cell = running(limits=limits)
    cell.send(Pause(now_s=0.0, session=P))
    cell.settle()
    cell.later(1.0)
    cell.settle()
    boundary = cell.session(P).next_block
    assert cell.fork("x", P, at=boundary - 1) == -1 and refusal(cell).kind is Fault.OUT_OF_RANGE
    assert cell.fork("y", P, at=boundary, pictures=picture(LAST)) == boundary
    complete(cell)
    short = running(emitted=1, limits=limits)
    made = min(short.session(P).progress.done)
    assert 1 <= made <= reach(short)
    for block in range(made + 1):
        assert short.fork(f"f{block}", P, at=block, pictures=picture(6)) == block
    complete(short)


def test_what_is_begun_and_not_made_is_no_past_yet() -> None:
    cell = running(denoisers=4)
    record = cell.session(P)
    cell.stuck.add(record.place.lanes[-1])
    cell.settle()
    made, begun = record.progress.done[record.graph.last], record.next_block
    assert made + 1 < begun
    for block in (made + 1, begun - 1, begun + 1):
        assert cell.fork("x", P, at=block) == -1 and refusal(cell).kind is Fault.INVALID
        assert f" to {made}, or {begun}, which" in refusal(cell).message


def test_a_fork_has_no_more_of_the_past_than_its_parent_had() -> None:
    cell, boundary = parked()
    oldest = boundary - REWIND
    assert cell.fork("child", P, at=oldest, pictures=picture(LAST)) == oldest
    cell.answer()
    assert cell.fork("x", SessionId("child"), at=oldest - 1) == -1 and refusal(cell).kind is Fault.OUT_OF_RANGE
    assert cell.fork("again", SessionId("child"), at=oldest, pictures=picture(LAST)) == oldest
    complete(cell)


def test_at_the_block_that_begins_next_pages_are_shared() -> None:
    cell = running()
    block = cell.session(P).next_block
    assert cell.fork("child", P, at=block, pictures=picture(LAST)) == block
    assert cell.session("child").kin.depends
    complete(cell)


# --- when -------------------------------------------------------------------------------------------------------------


def test_nothing_is_asked_of_the_parent_and_nothing_is_told_that_did_not_happen() -> None:
    cell = running()
    before = len(cell.effects)
    block = min(cell.session(P).progress.done) - 2
    cell.fork("child", P, at=block, pictures=picture(LAST))
    child = cell.session("child")
    assert (child.state, child.kin.first_block, child.kin.depends) == (State.RESTORING, block, False)
    assert not [effect for effect in cell.effects[before:] if isinstance(effect, Dispatch) and P in str(effect)]
    cell.settle()
    (opened,) = [effect for effect in effects_of(cell, Opened) if effect.session == "child"]
    assert (opened.segment, opened.continuity) == (block, Continuity.EXACT)
    untold = (Parked, Restored, Recovered, Notice)
    assert not [effect for effect in cell.effects if isinstance(effect, untold) and effect.session == "child"]
    complete(cell)


@pytest.mark.parametrize("pause", [False, True])
def test_a_stream_whose_client_is_away_can_be_forked(pause: bool) -> None:
    cell = running()
    if pause:
        cell.send(Pause(now_s=0.0, session=P))
    cell.send(Detach(now_s=0.0, session=P, connection=FIRST_CONNECTION))
    cell.settle(acknowledge=False)
    block = cell.session(P).next_block - 3
    cell.fork("child", P, at=block, pictures=picture(LAST))
    cell.settle()
    assert cell.segments[SessionId("child")] == list(range(block, LAST))
    last = cell.segments[P][-1]
    cell.send(Attach(now_s=cell.now_s, session=P, connection=ConnectionNumber(3), cursor=last, held_from=0))
    complete(cell)


def test_what_a_client_has_sent_again_does_not_make_more_of_the_past_there_than_is() -> None:
    """Its decodes go back, and with them what would be kept; what was dropped stays away."""
    cell = running()
    record = cell.session(P)
    retention = cell.scheduler.cell.fleet.retention(record.graph)
    cell.struck.add(P)
    cell.send(Detach(now_s=0.0, session=P, connection=FIRST_CONNECTION))
    cell.settle(acknowledge=False)
    oldest, segment = retention.oldest_fork(record.kept), retention.oldest_segment(record.kept)
    assert segment + 1 < record.emitted
    cell.segments[P] = cell.segments[P][: segment + 1]
    cell.send(Attach(now_s=0.0, session=P, connection=ConnectionNumber(3), cursor=segment, held_from=None))
    assert record.progress.done[record.graph.decodes] == segment + 1
    kept = record.kept
    record.trim(retention)
    assert record.kept == kept and retention.oldest_segment(kept) == segment
    assert cell.fork("x", P, at=oldest - 1) == -1 and refusal(cell).kind is Fault.OUT_OF_RANGE


@pytest.mark.parametrize("victim", ["denoise-1", "decode-0"])
@pytest.mark.parametrize("room", [True, False])
def test_a_stream_that_has_just_lost_a_worker_can_be_forked(victim: str, room: bool) -> None:
    cell = running(decoders=2 if room else 1, denoisers=3)
    view = next(view for view in cell.scheduler.workers() if view.worker == victim)
    block = min(cell.session(P).progress.done) - 1
    cell.lose(WorkerId(victim))
    if not room:
        cell.join(WorkerId(victim), view.role, view.ability.capacity)
    assert cell.fork("child", P, at=block, pictures=picture(LAST)) == block
    cell.settle()
    assert cell.segments[SessionId("child")] == list(range(block, LAST))
    complete(cell)


@pytest.mark.parametrize("victim", ["denoise-0", "denoise-1", "denoise-2", "decode-0"])
def test_a_fork_whose_worker_is_lost_before_it_has_begun_begins_later(victim: str) -> None:
    cell = running()
    block = min(cell.session(P).progress.done) - 1
    cell.fork("child", P, at=block, pictures=picture(LAST))
    view = next(view for view in cell.scheduler.workers() if view.worker == victim)
    cell.lose(WorkerId(victim))
    cell.join(WorkerId(victim), view.role, view.ability.capacity)
    cell.settle()
    assert cell.segments[SessionId("child")] == list(range(block, LAST))
    complete(cell)


@pytest.mark.parametrize("moment", ["at once", "while it is rebuilt"])
def test_the_parent_may_end_right_after(moment: str) -> None:
    cell = running()
    block = min(cell.session(P).progress.done) - 1
    cell.fork("child", P, at=block, pictures=picture(LAST))
    if moment != "at once":
        cell.answer()
        assert not cell.session("child").progress.is_whole
    cell.send(Close(now_s=0.0, session=P, ending=Ending.CLIENT))
    cell.settle()
    assert cell.segments[SessionId("child")] == list(range(block, LAST))
    assert cell.closed[SessionId("child")].ending is Ending.COMPLETED
    cell.check_empty()


def test_the_fork_may_end_before_it_begins() -> None:
    cell = running()
    cell.fork("child", P, at=min(cell.session(P).progress.done), pictures=picture(LAST))
    cell.send(Close(now_s=0.0, session=SessionId("child"), ending=Ending.CLIENT))
    complete_but(cell, "child")


def complete_but(cell: ImageCell, name: str) -> None:
    cell.settle()
    assert cell.closed.pop(SessionId(name)).ending is Ending.CLIENT
    complete(cell)


# --- what it is made of -----------------------------------------------------------------------------------------------


def test_seeds_and_prompts_before_it_are_those_of_whoever_made_the_block() -> None:
    """A fork at 8 of a stream, a fork of that at 11, and one at 7: before where its parent begins."""
    cell = running(limits=Limits(rewind_blocks=30))
    assert cell.fork("a", P, at=8, seed=2, pictures=picture(LAST)) == 8
    while min(cell.session("a").progress.done) < 11:
        cell.answer()
        cell.steps(1)
    assert cell.fork("b", SessionId("a"), at=11, seed=3, pictures=picture(LAST)) == 11
    assert cell.fork("c", SessionId("a"), at=7, seed=4, pictures=picture(LAST)) == 7
    seeds = {name: [cell.session(name).seed_at(block) for block in range(12)] for name in ("a", "b", "c")}
    assert seeds == {"a": [1] * 8 + [2] * 4, "b": [1] * 8 + [2] * 3 + [3], "c": [1] * 7 + [4] * 5}
    texts = {}
    for name in ("a", "b", "c"):
        record = cell.session(name)
        prompts = record.prompt_texts()
        texts[name] = [prompts[record.prompts.turn_at(block).version] for block in range(3, 13)]
    early = ["q2"] * 4
    assert texts["a"] == [*early, "q2", *["f"] * 5]
    assert texts["b"] == [*early, "q2", *["f"] * 5]
    assert texts["c"] == [*early, *["f"] * 6]
    complete(cell)


def test_of_two_streams_with_one_past_the_latents_are_the_same_bytes() -> None:
    cell, boundary = parked()
    cell.fork("child", P, at=boundary - 2, pictures=picture(LAST))
    (inherited,) = [effect for effect in effects_of(cell, Inherit) if effect.session == "child"]
    assert inherited.before == boundary - 2
    shared = [(block, step) for session, block, step in cell.kept.latents if session == "child"]
    assert len(shared) == 4 * (reach(cell) + REWIND - 2), "of what its parent keeps"
    for block, step in shared:
        assert cell.kept.latents[SessionId("child"), block, step] is cell.kept.latents[P, block, step]
    complete(cell)


def test_a_parked_parent_has_no_texts_so_those_of_the_past_are_encoded_anew() -> None:
    cell, boundary = parked()
    assert not cell.session(P).prompts.encoded
    cell.fork("child", P, at=boundary - 2, pictures=picture(LAST))
    child = cell.session("child")
    assert not child.prompts.encoded and len(child.prompts.turns) > 1
    cell.answer()
    assert child.prompts.are_known
    complete(cell)


# --- what is refused --------------------------------------------------------------------------------------------------


def test_what_cannot_be_is_refused_with_the_reason_and_leaves_nothing() -> None:
    cell = running(pages=4 * 9)
    made = min(cell.session(P).progress.done)
    assert cell.fork("x", SessionId("nobody"), at=0) == -1 and refusal(cell).kind is Fault.UNKNOWN_SESSION
    assert cell.fork("x", P, at=made - 1, pictures=picture(made - 1)) == -1
    assert refusal(cell).kind is Fault.INVALID and "where the fork begins" in refusal(cell).message
    assert cell.fork("a", P, at=made - 1, pictures=picture(LAST)) == made - 1
    cell.fork("b", P, at=made - 1, pictures=picture(LAST))
    while not isinstance(effects_of(cell, Refused)[-1].problem.kind, Lack):
        cell.fork("c", P, at=made - 1, pictures=picture(LAST))
    assert not effects_of(cell, Notice), "it is not queued"
    assert not [effect for effect in effects_of(cell, Inherit) if effect.session == "c"]
    complete(cell)


def test_a_stream_that_has_not_begun_or_is_finishing_has_no_past_to_fork() -> None:
    cell = running()
    made = min(cell.session(P).progress.done)
    opening = cell.open("opening")
    assert cell.fork("x", opening, at=0) == -1 and refusal(cell).kind is Fault.WRONG_STATE
    cell.send(Drain(now_s=0.0))
    assert cell.fork("x", P, at=made) == -1 and refusal(cell).kind is Fault.DRAINING


def test_a_fork_that_waits_for_its_parent_has_no_past_yet() -> None:
    cell = running(denoisers=4)
    at = cell.fork("child", P)
    while cell.session("child").state is not State.RUNNING:
        cell.answer()
        cell.finish_and_acknowledge(cell.busy[-1])
    assert cell.session("child").kin.depends
    assert cell.fork("x", SessionId("child"), at=at - 1) == -1
    assert refusal(cell).kind is Lack.TURN and "its own past" in refusal(cell).message


def test_its_journal_is_counted_when_it_is_let_in() -> None:
    cell = running()
    bytes_each = cell.session(P).journal_bytes
    made = min(cell.session(P).progress.done)
    cell.scheduler.cell.limits = replace(cell.scheduler.cell.limits, journal_bytes=2 * bytes_each)
    assert cell.fork("x", P, at=made, window=20) == -1 and refusal(cell).kind is Lack.JOURNAL
    assert cell.fork("y", P, at=made, window=3) == made
    assert cell.scheduler.cell.journal_bytes == 2 * bytes_each


# --- proof that the cell would see it ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("what", "match"), [("lane_blocks", "should read|missing"), ("slot_blocks", "does not hold|missing")]
)
def test_a_fork_from_one_block_less_is_noticed(what: str, match: str, monkeypatch: pytest.MonkeyPatch) -> None:
    cell, boundary = parked()
    right = getattr(Retention, what).func
    monkeypatch.setattr(Retention, what, property(lambda retention: right(retention) - 1))
    cell.fork("child", P, at=boundary - 2, pictures=picture(LAST))
    with pytest.raises(AssertionError, match=match):
        cell.settle()


def test_a_fork_that_begins_before_what_is_kept_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    cell, boundary = parked()
    oldest = Retention.oldest_fork
    monkeypatch.setattr(Retention, "oldest_fork", lambda retention, kept: oldest(retention, kept) - 1)
    with pytest.raises(AssertionError, match="missing"):
        cell.fork("child", P, at=boundary - REWIND - 1, pictures=picture(LAST))
        cell.settle()


def test_a_fork_of_another_seed_or_prompt_before_its_block_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    cell = running(Level.INPUT, 4)
    made = min(cell.session(P).progress.done)
    monkeypatch.setattr(Session, "seeds_before", lambda session, block: ((block, 99),))
    cell.fork("child", P, at=made, pictures=picture(LAST), seed=1)
    with pytest.raises(AssertionError, match="should read"):
        cell.settle()


# --- at any moment ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", first(2, range(6)))
def test_forks_of_the_past_at_any_moment_read_what_they_must(seed: int) -> None:
    draw = random.Random(seed)
    level, sinks = draw.choice(APART), draw.choice([0, 2, 3])
    limits = Limits(rewind_blocks=draw.choice([0, 2, 8]), park_after_s=0.5)
    cell = running(
        level, 1, sinks=sinks, denoisers=draw.randrange(1, 4), limits=limits, batch_limit=draw.choice([1, 4])
    )
    forks = 0
    for number in range(400):
        names = [name for name in cell.there if name not in cell.closed]
        if not names:
            break
        name = draw.choice(names)
        choices = ["finish"] * 8 * bool(cell.busy) + ["answer"] * 3 * bool(cell.answers)
        choices += ["acknowledge"] * 2 * bool(cell.owing()) + ["carry out"] * 2 * bool(cell.images.ready)
        match draw.choice([*choices, "later", "pause", "play", *["fork"] * (forks < 12)]):
            case "finish":
                cell.finish(draw.choice(cell.busy))
            case "answer":
                cell.send(cell.answers.popleft())
            case "acknowledge":
                cell.acknowledge(draw.choice(cell.owing()))
            case "carry out":
                cell.carry_out(draw.choice(cell.images.ready))
            case "later":
                cell.later(0.2)
            case "pause":
                cell.send(Pause(now_s=cell.now_s, session=name))
            case "play":
                cell.send(Play(now_s=cell.now_s, session=name))
            case "fork":
                at = draw.randrange(min(cell.session(name).progress.done) + 1)
                forks += cell.fork(f"f{number}", name, at=at, pictures=picture(LAST)) >= 0
    assert forks > 3
    complete(cell)
    assert len(effects_of(cell, PrepareStream)) > forks
