"""Snapshots: all that a session can go on from, wherever it was kept, and how an engine takes it in."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from cluster.cell.engine import Engine
from cluster.journal.facts import SessionRecord
from longtake.core.adoption import MadeBy, PlacedCue, runs_of
from longtake.core.events import Adopt, Open
from longtake.core.recipe.given import plan_with
from longtake.core.sessions.prompts import Prompts
from longtake.core.sessions.session import Session
from longtake.core.work import Fork


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """A session at one moment: its truth, and the latents from which it need not be made from the beginning."""

    record: SessionRecord
    cues: tuple[PlacedCue, ...]
    """In the order in which they were accepted; of two for one block the later counts."""
    acknowledged: int
    """The last segment that its client is known to have consumed; -1 if none."""
    latents: Mapping[tuple[int, int], bytes]
    """By block and the step that they enter; little-endian float32."""
    versions: Mapping[tuple[int, int], int]
    """Of the conditioning that each of them was made with."""
    loads: tuple[tuple[int, int], ...] = ()
    """From which blocks on which load held, in ascending order."""
    loads_known_from: int = 0
    """The loads of blocks before this one are not known."""


def taken(engine: Engine, session: Session, record: SessionRecord) -> Snapshot:
    """An open session as it is now. Nothing is copied but references."""
    prompts, latents = session.prompts, engine.journal.latents_of(session.id)
    versions = {(block, step): prompts.turn_at(block).version for block, step in latents}
    return Snapshot(
        record=replace(record, known_from=max(session.kin.known_from, prompts.known_from)),
        cues=tuple(_placed(prompts)),
        acknowledged=session.flow.acknowledged,
        latents=latents,
        versions=versions | engine.journal.found_in(session.id),
        loads=tuple(session.loads.changes),
        loads_known_from=session.loads.known_from,
    )


def _placed(prompts: Prompts) -> Iterable[PlacedCue]:
    """The cues that are known: first those that count no more, so that of two for one block the right one wins."""
    counting = [turn for turn in prompts.turns if turn.version]
    past = [turn for turn in prompts.answered.values() if turn not in counting]
    for turn in (*past, *counting):
        yield PlacedCue(block=turn.block, version=turn.version, cue=turn.cue, prompt=turn.prompt)


def brought(snapshot: Snapshot, engine: Engine, *, promised: bool = True) -> Adopt:
    """Put the latents of a session into the engine's journal; returns the event by which the core takes it in.

    If that fails the engine drops them again.
    """
    record, now_s = snapshot.record, engine.now_s()
    engine.journal.adopt(record.session, snapshot.latents, snapshot.versions)
    graphs = engine.scheduler.cell.graphs
    graph = graphs.get(record.recipe) or graphs[""]  # one that is not served the core refuses
    given = plan_with(graph.blocks, record.given_frames).block_of(record.given_frames - 1) + 1
    there = _as_prompted(snapshot, given if record.given_frames else 0)
    steps = range(1, graph.step_count + 1)
    return Adopt(
        now_s=now_s,
        request=Open(
            now_s=now_s,
            session=record.session,
            prompt=record.prompt,
            seed=record.seed,
            pace=record.pace,
            window=record.window,
            picture_limit=record.picture_limit,
            settings=record.settings,
            recipe=record.recipe,
            given_frames=record.given_frames,
            fork=None if record.fork is None else Fork(session=record.fork.parent, block=record.fork.block),
        ),
        made_by=MadeBy(lanes=record.denoise_numerics, decoder=record.decode_numerics),
        header=record.header,
        media_type=record.media_type,
        cues=snapshot.cues,
        latents=tuple(runs_of(block for block, entered in there if entered == step) for step in steps),
        has_reference=(0, graph.step_count + 1) in snapshot.latents,
        acknowledged=snapshot.acknowledged,
        first_block=_first_block(record),
        seeds=record.seeds,
        known_from=record.known_from,
        loads=snapshot.loads,
        loads_known_from=snapshot.loads_known_from,
        playing=record.playing,
        promised=promised,
    )


def _first_block(record: SessionRecord) -> int:
    return 0 if record.fork is None else record.fork.block


def _as_prompted(snapshot: Snapshot, given_blocks: int) -> list[tuple[int, int]]:
    """The latents that were made with the prompts that their blocks have: a cue may have come between.

    What was given is of no prompt.
    """
    versions = {_first_block(snapshot.record): 0} | {cue.block: cue.version for cue in snapshot.cues}
    blocks = sorted(versions)

    def version_at(block: int) -> int:
        return versions[blocks[max(0, bisect_right(blocks, block) - 1)]]

    return [key for key in snapshot.latents if key[0] < given_blocks or snapshot.versions[key] == version_at(key[0])]
