"""The cost of a slope: the two ways are another forward each, and their figures are of the same things."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from pathlib import Path

import pytest
from click.testing import CliRunner

from benchmarks import slopes
from benchmarks.slopes import main, measure, table
from longtake.core.recipe.positions import Bias
from tests.core.support.recipes import altered
from tests.workers.model_dir import write_model
from workers.models import weights
from workers.models.api import Compute


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("model")
    info = write_model(folder)
    weights.save_info(folder, replace(info, recipe=altered(info.recipe, sink_frames=0)))
    return folder


def test_the_figures_are_of_one_forward_with_and_without(model: Path) -> None:
    made = CliRunner().invoke(main, ["--model", str(model), "--repeat", "2", "--ops", "2", "--json"])
    found = json.loads(made.output)
    assert (found["ops"], found["window_pages"], found["device"]) == (2, 5, "cpu")
    assert 0 < found["without_s"] < 1 and 0 < found["with_s"] < 1 and found["ratio"] > 0
    assert asdict(slopes.SlopeCost(**found)) == found and "without a slope" in table(slopes.SlopeCost(**found))


def test_a_slope_that_does_nothing_gives_no_figure(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    info, compute = weights.load_info(model), Compute()
    monkeypatch.setattr(Bias, "rows", lambda bias, queries: ())
    with pytest.raises(RuntimeError, match="nothing is different"):
        measure(info, weights.load_denoiser(model, info, compute), compute, 1, 1)
