"""Shots: lanes see what the story says of its shots, whatever happens, and nobody else's pages."""

from __future__ import annotations

import pytest

from tests.core.support.shooting import EVERY, ShotStorm


@pytest.mark.parametrize("name", EVERY)
@pytest.mark.parametrize("seed", range(3))
def test_whatever_happens_to_stories_they_see_what_they_must(name: str, seed: int) -> None:
    ShotStorm(seed, EVERY[name]).run()
