"""Adoption: a stream goes on in another cell, from its record, its cues and the latents that are there, bit for bit."""

from __future__ import annotations

import random
from dataclasses import dataclass

import pytest

from longtake.core.adoption import Adopted, AdoptFailed, MadeBy, PlacedCue, runs_of
from longtake.core.effects import CueAccepted, Emit
from longtake.core.endings import Ending
from longtake.core.events import Ack, Adopt, Attach, Cue, CueRequest, Open
from longtake.core.limits import Limits
from longtake.core.openings import AttachRefused, Resumed
from longtake.core.recipe.context import Level
from longtake.core.recipe.recipe import Recipe
from longtake.core.sessions.life import State
from longtake.core.work import ConditioningRef, ConnectionNumber, CueId, SessionId
from tests.core.support.image_cell import ImageCell
from tests.core.support.parts import cue, geometry, recipe
from tests.core.support.world import effects_of
from tests.samples import covering, first

S = SessionId("s")
LAST = 40
LONG = geometry().first_picture(LAST)
CUES = tuple(
    PlacedCue(block=block, version=version, cue=CueId(f"c{version}"), prompt=f"q{version}")
    for version, block in enumerate((3, 9, 17), start=1)
)
PARKS = Limits(park_after_s=1.0)


@dataclass
class Stopped:
    """A stream with three cues whose server ended, and what it would have been without that."""

    cell: ImageCell
    """In which it went on to its end."""
    request: Open
    latents: dict[tuple[SessionId, int, int], bytes]
    acknowledged: int
    emitted: int
    done: int
    """Blocks that were done to the last op."""


def stopped(made: Recipe, steps: int) -> Stopped:
    cell = ImageCell(made, limits=PARKS)
    cell.open("s", pictures=LONG, cues=tuple(cue(c.cue or "", block=c.block, prompt=c.prompt) for c in CUES))
    cell.answer()
    cell.steps(steps)
    record = cell.session("s")
    kept = Stopped(
        cell,
        record.request,
        dict(cell.kept.latents),
        record.flow.acknowledged,
        record.emitted,
        min(record.progress.done),
    )
    cell.run()
    return kept


def runs(before: Stopped, gone: frozenset[int]) -> tuple[tuple[tuple[int, int], ...], ...]:
    """Of which blocks the latents that enter each step are there, but for blocks that are gone."""
    found = []
    for step in range(1, before.cell.graph.step_count + 1):
        blocks = {block for _, block, entered in before.latents if entered == step} - gone
        found.append(runs_of(blocks))
    return tuple(found)


def adopted(before: Stopped, gone: frozenset[int] = frozenset()) -> ImageCell:
    """Another cell that has taken the stream over; whatever it puts out again must be what it was."""
    cell, undisturbed = ImageCell(before.cell.recipe, limits=PARKS), before.cell
    cell.struck.add(S)
    cell.kept.made = undisturbed.kept.made
    cell.contents.sealed, cell.contents.states = undisturbed.contents.sealed, undisturbed.contents.states
    cell.contents.left = dict(undisturbed.contents.left)
    cell.kept.latents = {key: latents for key, latents in before.latents.items() if key[1] not in gone}
    cell.done = {(S, cell.graph.op(chain.number, block)) for chain in cell.graph.chains for block in range(LAST)}
    cell.send(
        Adopt(
            now_s=0.0,
            request=before.request,
            made_by=MadeBy(lanes="", decoder=""),
            header=b"header;",
            media_type="video",
            cues=CUES,
            latents=runs(before, gone),
            acknowledged=before.acknowledged,
        )
    )
    return cell


def attach(cell: ImageCell, cursor: int | None) -> None:
    cell.send(Attach(now_s=cell.now_s, session=S, connection=ConnectionNumber(7), cursor=cursor))


def run_to_the_end(cell: ImageCell, first: int) -> None:
    """The client consumes what it is sent; it is everything from `first` on."""
    cell.segments[S] = list(range(first))
    for _ in range(40):
        cell.run(acknowledge=False)
        if cell.segments.get(S) and S in cell.there:
            cell.send(Ack(now_s=cell.now_s, session=S, segment=cell.segments[S][-1]))
    assert cell.closed[S].ending is Ending.COMPLETED
    assert [emit.block for emit in effects_of(cell, Emit)] == list(range(first, LAST))
    cell.check_empty()


@pytest.mark.parametrize(("level", "steps", "sinks"), covering(Level, [5, 40, 90, 130, 171], [0, 3, 4]))
def test_a_stream_goes_on_from_wherever_the_server_stopped(level: Level, steps: int, sinks: int) -> None:
    fewer = level is Level.STAGGERED  # its ops go together, so it comes to its end sooner
    before = stopped(recipe(level, sinks=sinks), steps * 2 // 5 if fewer else steps)
    emitted = before.emitted
    cell = adopted(before)
    (told,) = effects_of(cell, Adopted)
    assert before.done <= told.frontier <= before.done + 5 or (before.done < 5 and not told.frontier)
    assert cell.session("s").state is State.PARKED and not cell.busy, "nobody looks at it"
    attach(cell, emitted - 1 if emitted else None)
    (answer,) = effects_of(cell, Resumed)
    assert (answer.opened.segment, answer.opened.header) == (emitted, b"header;")
    run_to_the_end(cell, emitted)


@pytest.mark.parametrize("seed", first(5, range(12)))
def test_latents_that_are_missing_cost_time_and_no_bit(seed: int) -> None:
    draw = random.Random(seed)
    level = draw.choice(list(Level))
    steps = draw.randrange(24, 68) if level is Level.STAGGERED else draw.randrange(60, 170)
    before = stopped(recipe(level, sinks=draw.choice([0, 3])), steps)
    blocks = sorted({block for _, block, _ in before.latents})
    gone = frozenset(draw.sample(blocks, min(len(blocks), draw.choice([1, 2, len(blocks)]))))
    emitted = before.emitted
    cell = adopted(before, gone)
    (told,) = effects_of(cell, Adopted)
    assert told.frontier == 0 or told.frontier not in gone
    attach(cell, emitted - 1 if emitted else None)
    run_to_the_end(cell, emitted)


def test_a_frontier_needs_all_that_a_rebuild_starts_from() -> None:
    cell = ImageCell(recipe(Level.OUTPUT, sinks=3))
    kept = cell.scheduler.cell.fleet.retention(cell.graph)
    full = ((0, 1), (5, 12))
    reach = max(kept.lane_blocks, kept.slot_blocks)
    even = {12: (12,) * 9, 1: (1,) * 9, 0: (0,) * 9}
    assert kept.frontier((full,) * 4, acknowledged=11) == even[12]
    assert kept.frontier((((5, 12),),) * 4, acknowledged=11) == even[0], "a sink is missing"
    assert kept.frontier(((*full[:1], (12 - reach, 12)),) * 4, acknowledged=11) == even[12]
    assert kept.frontier(((*full[:1], (13 - reach, 12)),) * 4, acknowledged=11) == even[1], "one block too few"
    slower = kept.frontier((full, full, full, ((0, 1), (5, 11))), acknowledged=11)
    assert slower == (12, 12, 12, 11, 12, 12, 12, 11, 11), "the last step has one block to go"


def test_a_cursor_before_what_is_kept_is_refused_with_the_oldest() -> None:
    before = stopped(recipe(), 170)
    cell = adopted(before)
    record = cell.session("s")
    oldest = cell.scheduler.cell.fleet.retention(record.graph).oldest_segment(record.kept)
    attach(cell, 0)
    (refused,) = effects_of(cell, AttachRefused)
    assert oldest > 1 and f"segment {oldest} is the oldest" in refused.problem.message
    assert record.presence.is_away
    attach(cell, oldest - 1)
    run_to_the_end(cell, oldest)


@pytest.mark.parametrize("steps", [None, 0, 20, 40, 60])
def test_a_client_may_have_less_than_it_had_acknowledged_while_all_is_computed_again(steps: int | None) -> None:
    """Nothing but record and cues has outlived the server. Before that, another call may have been further."""
    before = stopped(recipe(), 170)
    cell = adopted(before, frozenset(range(LAST)))
    wanted = before.acknowledged - 5
    if steps is not None:
        attach(cell, before.acknowledged)
        cell.answer()
        cell.steps(steps)
        record = cell.session("s")
        assert record.state is State.RUNNING and record.emitted <= before.acknowledged
    attach(cell, wanted - 1)
    assert [answer.opened.segment for answer in effects_of(cell, Resumed)][-1] == wanted
    run_to_the_end(cell, wanted)


def test_what_cannot_be_adopted_is_named() -> None:
    before = stopped(recipe(), 20)
    cell = adopted(before)
    request = before.request
    event = Adopt(now_s=0.0, request=request, made_by=MadeBy(lanes="", decoder=""), header=b"", media_type="",
                  cues=(), latents=((),) * 4, acknowledged=-1)  # fmt: skip
    cell.send(event)
    assert "not in use" in effects_of(cell, AdoptFailed)[0].problem.message
    assert ConditioningRef(session=S, version=0) not in cell.kept.inherited


def test_a_cue_that_was_accepted_before_is_accepted_again_at_its_block_and_changes_nothing() -> None:
    before = stopped(recipe(), 40)
    cell = adopted(before)
    attach(cell, before.emitted - 1)
    to_come = [cue.block for cue in CUES if cue.block >= before.emitted]
    assert [told.block for told in effects_of(cell, CueAccepted)] == to_come, "it may not have been heard"
    request = CueRequest(cue=CUES[2].cue or CueId(""), prompt=CUES[2].prompt)
    cell.send(Cue(now_s=cell.now_s, session=S, request=request))
    assert [told.block for told in effects_of(cell, CueAccepted)] == [*to_come, CUES[2].block]
    run_to_the_end(cell, before.emitted)


def test_a_new_cue_leaves_alone_what_the_client_may_have_seen() -> None:
    before = stopped(recipe(), 40)
    cell = adopted(before, frozenset(range(LAST)))
    cell.segments[S] = list(range(before.emitted))
    attach(cell, before.emitted - 1)
    cell.run(acknowledge=False)
    cell.send(Cue(now_s=cell.now_s, session=S, request=CueRequest(cue=CueId("new"), prompt="n")))
    cell.answer()
    assert all(told.block >= before.emitted for told in effects_of(cell, CueAccepted)) and effects_of(cell, CueAccepted)
