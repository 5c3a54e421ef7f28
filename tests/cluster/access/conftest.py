"""What the tests of the door share."""

from __future__ import annotations

from pathlib import Path

import pytest

from cluster.access import guard
from tests.cluster.access.doors import House


@pytest.fixture
def house(tmp_path: Path) -> House:
    return House(tmp_path)


@pytest.fixture(autouse=True)
def quick_sweeps(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(guard, "SWEEP_S", 0.05)
