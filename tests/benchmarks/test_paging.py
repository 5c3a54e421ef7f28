"""What pages cost, at tiny size; a page that comes back or arrives changed is noticed."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner

from benchmarks import paging
from benchmarks.paging import Size, attention_seconds, main, measure, move_seconds, size_of, swap_seconds, table
from tests.workers.model_dir import model_info
from workers.denoise.attention import ItemPages
from workers.images.host_memory import HostMemory
from workers.models.weights import save_info
from workers.peers import Pair

INFO = model_info()


def size(layers: int = 0, tokens: int = 0) -> Size:
    torch.set_num_threads(1)
    return size_of(INFO, layers=layers, tokens=tokens, device="cpu", dtype=torch.float32)


def test_a_whole_report_at_tiny_size() -> None:
    report = measure(size(), 2, lambda: None)
    assert (report.layers, report.window_pages) == (INFO.dit.num_layers, INFO.recipe.page_count)
    assert report.page_bytes == 2 * 2 * INFO.geometry.tokens_per_frame * 24 * 4
    assert report.lane_bytes == report.window_pages * report.page_bytes
    assert report.gather_ratio == pytest.approx(report.gather_s / report.view_s)
    assert report.memmove_ratio == pytest.approx(report.memmove_s / report.view_s)
    assert report.swap_gb_per_s == pytest.approx(report.lane_bytes / report.swap_s / 1e9)
    assert 1 / report.swap_gb_per_s == pytest.approx(1 / report.stow_gb_per_s + 1 / report.load_gb_per_s, rel=1e-3)
    assert report.move_gb_per_s == pytest.approx(report.lane_bytes / report.move_s / 1e9)
    assert "against view" in table(report)


def test_a_size_can_be_chosen() -> None:
    chosen = size(layers=5, tokens=3)
    assert chosen.lane_bytes == INFO.recipe.page_count * 5 * 2 * 3 * INFO.dit.dim * 4


def test_ways_that_differ_are_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    attention_seconds(size(), 1)

    def one_twice(reads: tuple[int, ...], writes: tuple[int, ...]) -> ItemPages:
        is_run = reads == tuple(range(reads[0], reads[0] + len(reads)))
        return ItemPages(reads=reads if is_run else (reads[1], *reads[1:]), writes=writes)

    monkeypatch.setattr(paging, "ItemPages", one_twice)
    with pytest.raises(RuntimeError, match="differ"):
        attention_seconds(size(), 1)


def test_a_lane_that_comes_back_changed_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    swap_seconds(size(), 1)
    fill = HostMemory.fill
    monkeypatch.setattr(HostMemory, "fill", lambda self, targets, sources: fill(self, targets, sources[::-1]))
    swap_seconds(size(), 1)  # turned round twice
    monkeypatch.setattr(HostMemory, "fill", lambda self, targets, sources: fill(self, targets[1:], sources[1:]))
    with pytest.raises(RuntimeError, match="came back changed"):
        swap_seconds(size(), 1)


def test_a_lane_that_arrives_changed_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    send_all = Pair.send_all
    monkeypatch.setattr(Pair, "send_all", lambda self, tensors: send_all(self, tensors[::-1]))
    with pytest.raises(RuntimeError, match="arrived changed"):
        move_seconds(size(), 1)


def test_the_command_prints_one_object(tmp_path: Path) -> None:
    save_info(tmp_path, INFO)
    result = CliRunner().invoke(main, ["--model", str(tmp_path), "--repeat", "1", "--layers", "1", "--json"])
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout.strip().splitlines()[-1])["layers"] == 1


@pytest.mark.skipif(torch.cuda.is_available(), reason="a CUDA device is here")
def test_without_a_gpu_the_command_says_so() -> None:
    result = CliRunner().invoke(main, ["--device", "cuda"])
    assert result.exit_code == 2
    assert "--device cpu" in result.output
