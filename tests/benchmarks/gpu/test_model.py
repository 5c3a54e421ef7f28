"""The model that is measured: its directory, and its operations against the published figure and against a count."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.gpu import pages
from benchmarks.gpu.__main__ import WAN_1_3B
from benchmarks.gpu.bench import Bench, Setting
from benchmarks.gpu.lines import read
from benchmarks.gpu.model import Streams, folder_for, forward_flop, model_folder
from longtake.core.recipe.published import PUBLISHED
from tests.workers.model_dir import model_info
from workers.images.host_memory import HostMemory
from workers.models.api import Compute
from workers.models.weights import load_decoder, load_denoiser, load_info, new_denoiser

INFO = model_info()


def bench(folder: Path) -> Bench:
    setting = Setting(facts=str(folder / "facts.jsonl"), scratch=str(folder), model="", device="cpu", seconds=60)
    return Bench("tried", setting)


def test_a_full_window_forward_of_wan_is_what_the_literature_says() -> None:
    info = load_info(WAN_1_3B)
    assert forward_flop(info) == pytest.approx(40.41e12, rel=1e-3)
    assert forward_flop(info, info.recipe.blocks.frames) == pytest.approx(16.18e12, rel=1e-3)
    assert forward_flop(info, layers_only_stored=1) < forward_flop(info)


@pytest.mark.parametrize("only_stored", [0, 1])
def test_the_formula_agrees_with_counted_operations(tmp_path: Path, only_stored: int) -> None:
    """One layer more costs what the formula says; a commit's last layer cancels out."""
    made = bench(tmp_path)
    made.info = INFO

    def counted(layers: int) -> int:
        model = new_denoiser(replace(INFO, dit=replace(INFO.dit, num_layers=layers)))
        inputs = Streams(made, model, made.compute, 1).inputs(range(1))
        # The CPU's fused attention is not counted, its definition is.
        with FlopCounterMode(display=False) as counter, sdpa_kernel(SDPBackend.MATH):
            (model.commit if only_stored else model.denoise)(inputs)
        return int(counter.get_total_flops())

    two = replace(INFO, dit=replace(INFO.dit, num_layers=2))
    one = replace(INFO, dit=replace(INFO.dit, num_layers=1))
    layer = forward_flop(two, layers_only_stored=only_stored) - forward_flop(one, layers_only_stored=only_stored)
    with torch.no_grad():
        assert counted(2) - counted(1) == pytest.approx(layer, rel=1e-6)


def test_the_model_directory_is_loaded_as_a_server_does_and_made_once(tmp_path: Path) -> None:
    made = bench(tmp_path)
    folder = model_folder(made)
    written_ns = (folder / "dit.safetensors").stat().st_mtime_ns
    assert (model_folder(made) / "dit.safetensors").stat().st_mtime_ns == written_ns
    compute = Compute(dtype="bfloat16")
    assert load_denoiser(folder, load_info(folder), compute).dtype is torch.bfloat16
    assert load_decoder(folder, load_info(folder), compute).dtype is torch.bfloat16


def test_one_cut_short_is_made_again(tmp_path: Path) -> None:
    (tmp_path / "making").mkdir()
    (tmp_path / "making" / "dit.safetensors").write_bytes(b"half")
    assert load_info(model_folder(bench(tmp_path))).name == "tiny"


def test_another_recipe_shares_the_weights(tmp_path: Path) -> None:
    made, recipe = bench(tmp_path), PUBLISHED["wan-self-forcing"].recipe
    folder = folder_for(made, "other", recipe)
    assert load_info(folder).recipe == recipe != made.info.recipe
    assert (folder / "dit.safetensors").samefile(model_folder(made) / "dit.safetensors")


def test_a_page_that_comes_back_changed_is_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = bench(tmp_path)
    pages.run(made)
    monkeypatch.setattr(HostMemory, "fill", lambda *args: None)
    pages.run(made)
    first, *rest = read(tmp_path / "facts.jsonl")
    assert first["equal"] is True
    assert any("changed" in str(fact.get("error")) for fact in rest)
