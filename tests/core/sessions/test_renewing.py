"""Renewals: lanes commit their windows anew where a prompt changes, and whatever happens nobody reads a mixed one."""

from __future__ import annotations

import pytest

from tests.core.support.recaching import EVERY, CueStorm


@pytest.mark.parametrize("name", EVERY)
@pytest.mark.parametrize("seed", range(3))
def test_whatever_happens_to_streams_that_recache_they_read_what_they_must(name: str, seed: int) -> None:
    CueStorm(seed, EVERY[name]).run()
