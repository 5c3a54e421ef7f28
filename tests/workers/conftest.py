"""Settings of all tests that compute, and what many of them start from."""

from pathlib import Path

import pytest
import torch

from tests.workers.model_dir import write_model
from workers.peers import MeetingPoint

torch.set_num_threads(1)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with a small random model."""
    folder = tmp_path_factory.mktemp("model")
    write_model(folder)
    return folder


@pytest.fixture
def meeting_point() -> MeetingPoint:
    """Where workers find each other."""
    return MeetingPoint()
