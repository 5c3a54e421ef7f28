"""Names of tenants and of their credentials: the one place where it is said what they may be."""

from __future__ import annotations

import re

ALLOWED = "1 to 63 small letters (a to z) and digits, and between them also . _ and -"
_NAME = re.compile(r"[a-z0-9](?:[a-z0-9._-]{0,61}[a-z0-9])?")


def is_name(text: str) -> bool:
    """Whether this can be a name."""
    return _NAME.fullmatch(text) is not None
