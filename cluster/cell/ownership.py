"""What is known of a session beside the core: whose it is, and what resumes it."""

from __future__ import annotations

import hmac
from dataclasses import dataclass, replace
from hashlib import sha256
from typing import Self


def hash_of_token(token: bytes) -> bytes:
    """SHA-256: right for tokens of 256 random bits, see cluster/access/callers.py."""
    return sha256(token).digest()


@dataclass(frozen=True, slots=True, kw_only=True)
class Ownership:
    """Whose a session is, and the hashes of the tokens that resume it: of the tokens themselves nothing is kept."""

    tenant: str
    offered: bytes
    """The token that its client was told last; the answer that bore it may have been lost."""
    held: bytes | None = None
    """The one before, which therefore holds as well; None if the last one is known to have arrived."""
    cursor: int = -1
    """The last one has arrived once a segment after this is acknowledged."""

    @property
    def hashes(self) -> tuple[bytes, ...]:
        """The hashes of all tokens that resume the session."""
        return (self.offered,) if self.held is None else (self.held, self.offered)

    def is_resumed_by(self, token_hash: bytes) -> bool:
        """Whether a token of this hash resumes the session; takes the same time whatever differs."""
        return any([hmac.compare_digest(known, token_hash) for known in self.hashes])

    def renewed(self, shown: bytes, offered: bytes, cursor: int | None) -> Self:
        """After a client that showed one token is told another, with `cursor` the last segment it has consumed."""
        return replace(self, held=shown, offered=offered, cursor=-1 if cursor is None else cursor)

    def acknowledged(self, segment: int) -> Self:
        """After an acknowledgement: if it is of a segment that followed the last token, only that one holds."""
        return replace(self, held=None) if segment > self.cursor else self
