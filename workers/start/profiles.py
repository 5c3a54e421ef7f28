"""Profiles: what the probe found of each shape that a worker serves, and what it can do by that."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from longtake.core.work import Ability, ShapeTime
from workers.start.probe import BatchProfile

Shapes = tuple[int, int, int, bool]
"""What tells the shapes of a recipe's blocks: frames, pages of a full window, frames of the first block, and whether
attention adds to its logits."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Profiles:
    """What the probe found of each shape that is served."""

    own: BatchProfile
    """Of the model's own recipe."""
    others: Mapping[Shapes, BatchProfile] = field(default_factory=dict)
    """Of those of other recipes."""
    joint_ops: int = 0
    """The most ops, a commit among them, that go together in a served recipe and were tried with success, if all
    smaller ones were."""

    @property
    def limit(self) -> int:
        """The most ops that one forward may serve, whatever their shape: in no shape do more change a bit."""
        return min(each.limit for each in (self.own, *self.others.values()))

    @property
    def _shape_s(self) -> tuple[ShapeTime, ...]:
        """The time of each shape but the own one, however its blocks begin and attention is computed: the longest."""
        found: dict[tuple[int, int], float] = {}
        for (frames, pages, *_), each in self.others.items():
            found[frames, pages] = max(each.forward_s[1], found.get((frames, pages), 0.0))
        return tuple(ShapeTime(*shape, seconds) for shape, seconds in found.items())

    def ability(self, pages: int, numerics: str, *, layers: int) -> Ability:
        """What a worker with so many pages, of this class, can do; `layers` are those of the whole model."""
        return Ability(
            capacity=pages,
            batch_limit=self.limit,
            mixes_kinds=self.limit > 1 and all(each.mixes_kinds for each in (self.own, *self.others.values())),
            joint_ops=self.joint_ops,
            forward_s=self.own.forward_s.get(1, 0.0),
            shape_s=self._shape_s,
            numerics=numerics,
            replay_depth=layers,
        )

    def __str__(self) -> str:
        joint = (f"commits among up to {self.joint_ops} ops of one stream",) if self.joint_ops else ()
        shapes = (f"{frames} frames over {pages} pages: {each}" for (frames, pages, *_), each in self.others.items())
        return "; ".join([str(self.own), *shapes, *joint])
