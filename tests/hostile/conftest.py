"""The server that all attacks are on: it must survive every one of them."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.hostile.cell import Cell, running


@pytest.fixture(scope="package")
def cell(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cell]:
    """One for all tests of this folder."""
    with running(tmp_path_factory.mktemp("hostile")) as made:
        yield made
