"""The owners of sessions, and the tokens with which their clients come back."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from secrets import token_bytes

from cluster.cell.clients import MOST_ENDED, MOST_MOVED, REMEMBERED_S
from cluster.cell.ownership import Ownership, hash_of_token
from longtake.core.errors import UnknownToken
from longtake.core.work import SessionId

TOKEN_BYTES = 32


class Owners:
    """Knows of every session whose it is, from its Open until its client can no longer ask for it."""

    def __init__(self, changed: Callable[[SessionId], object] = lambda _: None) -> None:
        """`changed` is called when other tokens resume a session than before, and nobody waits for it."""
        self.changed = changed
        self._owned: dict[SessionId, Ownership] = {}
        self._sessions: dict[bytes, SessionId] = {}
        """By the hash of each token that resumes one."""
        self._gone: deque[tuple[float, SessionId]] = deque()
        """Sessions that have ended, with the time until which they are known."""
        self._moved: dict[SessionId, None] = {}
        """Sessions that go on at another server, the oldest first."""

    def __len__(self) -> int:
        return len(self._owned)

    def add(self, session: SessionId, tenant: str) -> bytes:
        """A tenant opens a session; returns the token that resumes it."""
        token = token_bytes(TOKEN_BYTES)
        self._set(session, Ownership(tenant=tenant, offered=hash_of_token(token)))
        return token

    def restore(self, session: SessionId, owned: Ownership) -> None:
        """A session comes from the server before."""
        self._set(session, owned)

    def of(self, session: SessionId) -> Ownership | None:
        """What is known of a session; None if it is not known."""
        return self._owned.get(session)

    def tenant(self, session: SessionId) -> str | None:
        """The tenant of a session; None if it is not known."""
        owned = self._owned.get(session)
        return None if owned is None else owned.tenant

    def resume(self, token: bytes, tenant: str, cursor: int | None) -> tuple[SessionId, bytes]:
        """The session that a token of this tenant resumes, and its next token; UnknownToken, whatever is wrong.

        It is looked up by its hash, of which a stranger knows nothing, so the time of that tells nothing either.
        """
        shown = hash_of_token(token)
        session = self._sessions.get(shown)
        owned = None if session is None else self._owned.get(session)
        if session is None or owned is None or owned.tenant != tenant or not owned.is_resumed_by(shown):
            raise UnknownToken
        offered = token_bytes(TOKEN_BYTES)
        self._set(session, owned.renewed(shown, hash_of_token(offered), cursor))
        return session, offered

    def acknowledged(self, session: SessionId, segment: int) -> None:
        """A client has consumed a segment: so its last token may be known to have arrived."""
        owned = self._owned.get(session)
        if owned is not None and owned.held is not None:
            after = owned.acknowledged(segment)
            self._set(session, after)
            if after != owned:
                self.changed(session)

    def moved(self, session: SessionId) -> None:
        """A session goes on at another server: what resumed it is known as long as the engine knows where."""
        self._moved[session] = None
        if len(self._moved) > MOST_MOVED:
            oldest = next(iter(self._moved))
            del self._moved[oldest]
            self.forget(oldest)

    def ended(self, session: SessionId, now_s: float) -> None:
        """A session has ended: it is forgotten as the engine forgets it."""
        if session in self._moved:
            return
        self._gone.append((now_s + REMEMBERED_S, session))
        while self._gone and (self._gone[0][0] <= now_s or len(self._gone) > MOST_ENDED):
            self.forget(self._gone.popleft()[1])

    def forget(self, session: SessionId) -> None:
        """Nothing resumes this session any more; harmless if it is not known."""
        owned = self._owned.pop(session, None)
        for token_hash in owned.hashes if owned is not None else ():
            del self._sessions[token_hash]

    def _set(self, session: SessionId, owned: Ownership) -> None:
        self.forget(session)
        self._owned[session] = owned
        for token_hash in owned.hashes:
            self._sessions[token_hash] = session
