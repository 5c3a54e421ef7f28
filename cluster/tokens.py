"""Tokens: 256 random bits each, of which the server keeps only a hash.

A plain SHA-256 is right for them. Slow hashes such as scrypt make guessing dear where secrets are few, as passwords
are; nobody guesses one of 2^256, and a slow hash would give every stranger a way to burn the server's time.
"""

from __future__ import annotations

from hashlib import sha256
from secrets import token_urlsafe

PREFIX = "lt_"
"""So that a token is recognised where it should not be: in a repository, in a log."""
_RANDOM_BYTES = 32


def new_token() -> str:
    """A token that nobody has or will guess."""
    return PREFIX + token_urlsafe(_RANDOM_BYTES)


def hash_of(token: str) -> str:
    """What stands in the tenants file for a token."""
    return f"sha256:{sha256(token.encode()).hexdigest()}"
