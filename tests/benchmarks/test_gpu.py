"""The look at real size, at tiny size on the CPU; its formula against the published figure for Wan2.1-1.3B."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.gpu import WAN_1_3B, Bench, Forwards, forward_flop, main, measure, swap_rates, table
from longtake.core.errors import InvalidField
from tests.workers.model_dir import model_info
from workers.denoise.attention import ItemPages, SdpaBackend
from workers.denoise.kv import PageMemory
from workers.models.api import Conditioning, Inputs
from workers.models.weights import load_info, new_denoiser, save_info

INFO = model_info()
CPU = torch.device("cpu")


def bench(repeat: int = 1) -> Bench:
    torch.set_num_threads(1)
    return Bench(INFO, CPU, torch.float32, repeat)


def test_a_full_window_forward_of_wan_is_what_the_literature_says() -> None:
    info = load_info(WAN_1_3B)
    assert forward_flop(info) == pytest.approx(40.41e12, rel=1e-3)
    alone = replace(info, recipe=replace(info.recipe, window_frames=info.recipe.blocks.frames))
    assert forward_flop(alone) == pytest.approx(16.18e12, rel=1e-3)
    assert forward_flop(info, layers_only_stored=1) < forward_flop(info)


@pytest.mark.parametrize("only_stored", [0, 1])
def test_the_formula_agrees_with_counted_operations(only_stored: int) -> None:
    """One layer more costs what the formula says; a commit's last layer cancels out."""

    def counted(layers: int) -> int:
        dit = replace(INFO.dit, num_layers=layers)
        info = replace(INFO, dit=dit)
        model = new_denoiser(info)
        made = Forwards(Bench(info, CPU, torch.float32, 1), 1)
        pages = tuple(range(INFO.recipe.page_count))
        inputs = Inputs(
            x_BFCHW=torch.randn(1, *INFO.geometry.block_shape),
            timestep_BF=torch.zeros(1, 2),
            position_BF=torch.zeros(1, 2, dtype=torch.int64),
            conditioning=Conditioning(text=model.encode_text(torch.randn(1, *model.text_shape))),
            attention=SdpaBackend().plan(made.memory, [ItemPages(reads=pages, writes=pages[-2:])]),
        )
        # The CPU's fused attention is not counted, its definition is.
        with FlopCounterMode(display=False) as counter, torch.no_grad(), sdpa_kernel(SDPBackend.MATH):
            (model.commit if only_stored else model.denoise)(inputs)
        return int(counter.get_total_flops())

    two = replace(INFO, dit=replace(INFO.dit, num_layers=2))
    one = replace(INFO, dit=replace(INFO.dit, num_layers=1))
    layer = forward_flop(two, layers_only_stored=only_stored) - forward_flop(one, layers_only_stored=only_stored)
    assert counted(2) - counted(1) == pytest.approx(layer, rel=1e-6)


def test_a_whole_report_at_tiny_size() -> None:
    report = measure(INFO, device=CPU, dtype=torch.float32, batches=(1, 2), matmul=64, repeat=2)
    one, two = report.forwards
    assert (one.batch, one.gain, two.batch) == (1, 1, 2)
    assert two.gain == pytest.approx(2 * (one.denoise_s + one.commit_s) / (two.denoise_s + two.commit_s))
    assert report.forward_tflop * 1e12 == forward_flop(INFO)
    assert one.commit_peak_share < report.forward_tflop / one.commit_s / report.matmul_tflop_per_s
    assert one.denoise_peak_share == pytest.approx(report.forward_tflop / one.denoise_s / report.matmul_tflop_per_s)
    assert one.frames_per_s == pytest.approx(8 / (3 * (one.denoise_s + one.commit_s)))
    assert report.session_frames_per_s < one.frames_per_s
    assert min(report.decode_s, report.page_out_gb_per_s, report.page_in_gb_per_s) > 0
    assert report.page_bytes == 2 * 2 * INFO.geometry.tokens_per_frame * 24 * 4
    assert "share of peak" in table(report)


def test_gains_need_a_batch_of_one() -> None:
    with pytest.raises(InvalidField, match="1 first"):
        measure(INFO, device=CPU, dtype=torch.float32, batches=(2,), matmul=64, repeat=1)


def test_a_page_that_comes_back_changed_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    pool = Forwards(bench(), 1).memory
    swap_rates(bench(), pool)
    monkeypatch.setattr(PageMemory, "restore", lambda *args: None)
    with pytest.raises(RuntimeError, match="changed"):
        swap_rates(bench(), pool)


def test_the_command_prints_one_object(tmp_path: Path) -> None:
    save_info(tmp_path, INFO)
    arguments = ["--model", str(tmp_path), "--device", "cpu", "--dtype", "float32", "--batch", "1", "--matmul", "64"]
    result = CliRunner().invoke(main, [*arguments, "--repeat", "1", "--json"])
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout.strip().splitlines()[-1])["device"] == "cpu"


@pytest.mark.skipif(torch.cuda.is_available(), reason="a CUDA device is here")
def test_without_a_gpu_the_command_says_so() -> None:
    result = CliRunner().invoke(main, [])
    assert result.exit_code == 2
    assert "--device cpu" in result.output
