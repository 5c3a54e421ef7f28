"""Snapshots: what of a session goes on elsewhere, and what of its latents counts there."""

from __future__ import annotations

from cluster.cell.engine import Engine
from cluster.cell.snapshot import Snapshot, brought
from longtake.core.adoption import PlacedCue
from longtake.core.limits import Limits
from longtake.core.scheduler import Scheduler
from longtake.core.work import CueId
from tests.cluster.frontend.toy import GEOMETRY, RECIPE
from tests.cluster.journal.world import A, record

LATENTS = bytes(GEOMETRY.latent_bytes)


def adopted(*cues: tuple[int, int], versions: dict[int, int]) -> tuple[tuple[tuple[int, int], ...], ...]:
    """Of which blocks latents count, in a session with cues (block, version) and latents of these versions by block."""
    engine = Engine(Scheduler(RECIPE, GEOMETRY, Limits()))
    keys = {(block, step): version for block, version in versions.items() for step in (1, 2)}
    placed = tuple(
        PlacedCue(block=block, version=version, cue=CueId(f"c{version}"), prompt="p") for block, version in cues
    )
    snapshot = Snapshot(
        record=record(A), cues=placed, acknowledged=3, latents=dict.fromkeys(keys, LATENTS), versions=keys
    )
    event = brought(snapshot, engine)
    assert engine.journal.latents_of(A).keys() == keys.keys() and event.cues == placed
    return event.latents


def test_latents_that_were_made_before_a_cue_took_their_block_do_not_count() -> None:
    plain = dict.fromkeys(range(4, 9), 0)
    assert adopted(versions=plain) == (((4, 9),),) * 2
    assert adopted((7, 1), versions=plain) == (((4, 7),),) * 2, "they show what was to be shown before"
    assert adopted((7, 1), versions=plain | {7: 1, 8: 1}) == (((4, 9),),) * 2
    assert adopted((5, 1), (5, 2), versions=plain | dict.fromkeys(range(5, 9), 2)) == (((4, 9),),) * 2, "the later cue"
    assert adopted((5, 1), (5, 2), versions=plain | dict.fromkeys(range(5, 9), 1)) == (((4, 5),),) * 2
