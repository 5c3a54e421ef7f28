"""Parts: what a worker is to encode at once of the pictures that a client gave."""

from __future__ import annotations

from dataclasses import dataclass

from longtake.core.work import SessionId, WorkerId


@dataclass(frozen=True, slots=True, kw_only=True)
class EncodePictures:
    """Ask a decode worker for one latent frame of what the session's client gave; answered by PicturesEncoded."""

    worker: WorkerId
    session: SessionId
    part: int
    """Its number among the latent frames of all that was given: what the stream begins with, then its references."""
    pictures: range
    """The pictures that it is made of, numbered in what the stream begins with, or among the references."""
    is_reference: bool = False
    """Which of the two."""
    follows: bool = False
    """Whether it goes on where the part before has left the encoder; else the encoder begins anew."""
    leads: bool = False
    """Whether the next part goes on where this one leaves the encoder; else that may be dropped."""
