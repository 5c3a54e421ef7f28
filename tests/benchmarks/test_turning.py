"""What it costs to turn keys as they are read, at tiny size; ways that differ are noticed."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner

from benchmarks import turning
from benchmarks.turning import TurningCost, main, measure, table
from tests.workers.model_dir import model_info, write_model
from workers.models.api import Compute
from workers.models.rotary import Rotation
from workers.models.weights import new_denoiser

INFO = model_info()


def cost() -> TurningCost:
    torch.set_num_threads(1)
    return measure(INFO, new_denoiser(INFO), Compute(), 2)


def test_the_ways_are_compared() -> None:
    made = cost()
    assert made.run_ratio == pytest.approx(made.run_read_s / made.run_written_s)
    assert made.scattered_ratio == pytest.approx(made.scattered_read_s / made.scattered_written_s)
    assert made.window_pages == INFO.recipe.page_count
    assert f"{made.run_ratio:.3f}" in table(made)


def test_ways_that_differ_are_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(turning, "rotate", lambda x, turn: x * Rotation(*turn).cos)
    with pytest.raises(RuntimeError, match="give flows"):
        cost()


def test_the_command_reports_in_json(tmp_path: Path) -> None:
    write_model(tmp_path)
    made = CliRunner().invoke(main, ["--model", str(tmp_path), "--repeat", "1", "--json"])
    assert made.exit_code == 0, made.output
    assert json.loads(made.output)["model"] == INFO.name
