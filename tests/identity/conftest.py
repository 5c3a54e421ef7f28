"""What the identity tests compute on: a model with as many layers as any layout shares out, and little in each."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.identity.layouts import LAYOUTS
from tests.workers.model_dir import write_model


@pytest.fixture(scope="package")
def small_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Random weights: its streams cost a fraction of the pocket model's."""
    folder = tmp_path_factory.mktemp("small")
    write_model(folder, layers=max(layout.split for layout in LAYOUTS))
    return folder
