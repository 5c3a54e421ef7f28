"""The layouts of the identity matrix: how sessions are spread over workers, and what befalls them."""

from __future__ import annotations

from dataclasses import dataclass

from longtake.core.flow import Pace
from longtake.core.limits import Limits, MoveRules


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """How sessions are spread and run."""

    name: str
    workers: int = 1
    batch_limit: int = 1
    together: int = 1
    """Sessions open at once."""
    packed: bool = False
    """All lanes of a session are on one worker."""
    fused: bool = False
    """A commit and the next block's denoise op of its lane may be one forward."""
    swapped: bool = False
    """Sessions are paused, parked and played again all the time."""
    moved: bool = False
    """Lanes move to another worker all the time."""
    split: int = 1
    """Workers that one replica's layers are shared out to."""
    forked: bool = False
    """Half of the sessions are forks of the others, of the same prompt and seed, from some block on."""
    given: bool = False
    """Streams begin with latents that are given."""
    recipe: str = ""
    """The name of one of tests.identity.streams.recipes, by which the streams are made; empty: the model's own."""
    broken: bool = False
    """Two pages change places once, in every worker: what is compared must not be equal."""

    @property
    def limits(self) -> Limits:
        """What the scheduler is told: every tick moves whatever lane may move, worth while or not; or none ever."""
        worth = -1e9 if self.moved else 1e9
        return Limits(
            park_after_s=0.0 if self.swapped else 3600.0,
            packed=frozenset({Pace.FAST}) if self.packed else frozenset(),
            moves=MoveRules(worth=worth, worth_of_slow=worth, rest_s=0.0, blocks_left=1),
            fused_passes=self.fused,
        )


LAYOUTS = (
    Layout(name="sequential"),
    Layout(name="step pipeline", workers=4),
    Layout(name="data parallel", workers=2, together=4, packed=True),
    Layout(name="paired", batch_limit=2, together=2),
    Layout(name="fused, step pipeline", workers=4, batch_limit=8, together=4, fused=True),
    Layout(name="fused, batched 16", batch_limit=16, together=8, fused=True),
    Layout(name="layer split 2", split=2, together=2),
    Layout(name="layer split 4", split=4, together=4),
    Layout(name="steps x layers x replicas", workers=2, split=2, batch_limit=4, together=4),
    Layout(name="swapped", workers=2, together=4, swapped=True),
    Layout(name="swapped, layer split 2", split=2, batch_limit=4, together=4, swapped=True),
    Layout(name="moved", workers=3, together=4, moved=True),
    Layout(name="moved, fused, layer split 2", workers=2, split=2, batch_limit=4, together=4, moved=True, fused=True),
    Layout(name="forked", workers=2, together=4, forked=True),
    Layout(name="forked, fused, batched 8", batch_limit=8, together=4, forked=True, fused=True),
    Layout(name="given, step pipeline", workers=4, together=2, given=True),
    Layout(name="given, swapped", workers=2, batch_limit=4, together=4, given=True, swapped=True),
    Layout(name="given, moved", workers=3, together=4, given=True, moved=True),
    *(Layout(name=f"batched {size}", batch_limit=size, together=8) for size in range(2, 9)),
    Layout(name="step pipeline, batched 4", workers=4, batch_limit=4, together=8),
)
