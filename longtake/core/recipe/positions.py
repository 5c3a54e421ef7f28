"""Positions: the places on the time axis by which queries and keys are rotated."""

from __future__ import annotations

from enum import Enum


class Positions(Enum):
    """How K is rotated."""

    ABSOLUTE = "absolute"
    """Rotated once, at write, by the absolute number of its latent frame."""

    def of(self, frames: range) -> tuple[int, ...]:
        """The numbers by which queries and keys of these latent frames are rotated."""
        match self:
            case Positions.ABSOLUTE:
                return tuple(frames)
