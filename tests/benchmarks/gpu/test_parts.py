"""The parts of a phase: lines and their table, steps, classes of kernels, spans of ops, and a worker's stream."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks.gpu import lines
from benchmarks.gpu.bench import Bench, Setting
from benchmarks.gpu.host import Stream
from benchmarks.gpu.kernels import class_of, covered, profiled
from benchmarks.gpu.model import model_folder
from benchmarks.gpu.spans import Span, Spans, share_between, summary
from longtake.core.recipe.published import PUBLISHED
from longtake.core.work import Role, WorkerId
from workers.messages import Failed
from workers.models import weights
from workers.start.loading import LoadedWorker
from workers.start.spec import WorkerSpec


def bench(folder: Path, *, seconds: float = 60) -> Bench:
    setting = Setting(facts=str(folder / "facts.jsonl"), scratch=str(folder), model="", device="cpu", seconds=seconds)
    return Bench("tried", setting)


# --- lines and steps ------------------------------------------------------------------------------------------------


def test_a_line_is_json_whatever_is_in_it_and_none_is_left_out(tmp_path: Path) -> None:
    file = tmp_path / "facts.jsonl"
    lines.append(file, "a", "b", {"rate": 1 / 3, "far": math.inf, "at": {3: (1.0, True)}, "gone": None, "path": file})
    assert lines.read(file) == [
        {"phase": "a", "what": "b", "rate": 0.333333, "far": "inf", "at": {"3": [1.0, True]}, "path": str(file)}
    ]


def test_what_was_cut_short_keeps_what_it_has(tmp_path: Path) -> None:
    file = tmp_path / "facts.jsonl"
    lines.append(file, "a", "b", {"n": 1})
    with file.open("a") as half:
        half.write('{"phase": "a", "wh')
    assert [fact["n"] for fact in lines.read(file)] == [1]


def test_the_table_is_short_enough_and_shows_errors_first() -> None:
    facts: list[dict[str, object]] = [{"phase": "p", "what": f"w{n}", "kernel": "k" * 400} for n in range(120)]
    text = lines.table([*facts, {"phase": "p", "what": "last", "error": "broke"}])
    assert len(text) <= lines.TABLE_CHARACTERS
    assert text.startswith("p | last | error=broke")
    assert "w119" in text


def test_a_step_that_breaks_is_a_line_and_the_next_one_runs(tmp_path: Path) -> None:
    made, ran = bench(tmp_path), []

    def broken() -> None:
        raise ValueError("no\n  such thing")

    made.step("first", broken)
    made.step("second", lambda: ran.append(True))
    assert ran == [True]
    (fact,) = lines.read(tmp_path / "facts.jsonl")
    assert (fact["what"], fact["error"]) == ("first", "ValueError: no such thing")


def test_a_step_without_time_is_left_out(tmp_path: Path) -> None:
    bench(tmp_path, seconds=3).step("late", lambda: pytest.fail("it ran"), need_s=5)
    assert "needs about 5" in json.dumps(lines.read(tmp_path / "facts.jsonl"))


def test_a_time_is_a_median_after_two_runs_and_of_five_at_least(tmp_path: Path) -> None:
    calls: list[int] = []
    time = bench(tmp_path).timed(lambda: calls.append(sum(range(1000))))
    assert len(calls) == 2 + 1 + 5
    assert 0 < time.least_ms <= time.ms <= time.most_ms
    assert time.divided(2).ms == time.ms / 2


# --- kernels and spans ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kernel", "label"),
    [
        ("cudnn_generated_fort_native_sdpa_sm90_flash_fprop_wgmma_f16_knob_7_64x128x128_kernel0_0", "attention"),
        ("sm80_xmma_fprop_implicit_gemm_bf16bf16_bf16f32_f32_nhwckrsc_nhwc_tilesize256x32x32", "conv"),
        ("nvjet_sm90_tst_192x144_64x5_2x1_v_bz_coopB_bias_TNT", "gemm"),
        ("void at::native::(anonymous namespace)::vectorized_layer_norm_kernel<c10::BFloat16, float, true>", "norm"),
        ("Memcpy DtoD (Device -> Device)", "copy"),
        ("void at::native::vectorized_elementwise_kernel<8, at::native::GeluCUDAKernelImpl>", "elementwise"),
        ("triton_per_fused__to_copy_clamp_min_mul_pow_rsqrt_silu_sum_0", "norm"),
        ("triton_poi_fused__to_copy_cat_clamp_min_mul_rsqrt_silu_1", "elementwise"),
        ("what_nobody_knows", "other"),
    ],
)
def test_classes_of_kernels(kernel: str, label: str) -> None:
    assert class_of(kernel) == label


def test_what_overlaps_counts_once() -> None:
    assert covered([(5, 7), (0, 2), (1, 4), (1.5, 3)]) == 6
    assert covered([]) == 0


def test_the_profiler_sees_what_runs(tmp_path: Path) -> None:
    made = bench(tmp_path)
    a_MM = made.normal(32, 32)
    seen = profiled(made, lambda: a_MM @ a_MM)
    assert "aten::mm" in {kernel.name for kernel in seen.kernels}
    assert 0 < seen.by_class()["gemm"] <= seen.busy_ms * 1.001
    with pytest.raises(RuntimeError, match="saw nothing"):
        profiled(made, lambda: None)


def span(kind: str, begin_ms: float, end_ms: float) -> Span:
    return Span(kind=kind, begin_ms=begin_ms, end_ms=end_ms, host_ms=1.0)


def test_idle_time_between_ops_is_what_none_of_them_covers() -> None:
    spans = [span("D", 10, 14), span("C", 15, 18), span("V", 12, 16), span("D", 19, 20)]
    assert share_between(spans) == pytest.approx(0.1)
    assert summary(spans)["device_ms"] == {"D": 2.5, "C": 3, "V": 4}
    assert summary(spans)["idle_ms_before"] == {"D": 1}


def test_only_what_workers_load_meanwhile_is_watched(tmp_path: Path) -> None:
    spans, plain = Spans(bench(tmp_path)), weights.load_denoiser
    with spans.watching():
        assert weights.load_denoiser is not plain
    assert weights.load_denoiser is plain
    spans.start()
    with pytest.raises(RuntimeError, match="no op was seen"):
        spans.stop()


# --- a stream of a worker -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "ops"), [("wan-hiar", "DCDCDCDC"), ("wan-self-forcing", "DDDDC")])
def test_a_stream_gives_a_worker_the_ops_of_its_recipe(tmp_path: Path, name: str, ops: str) -> None:
    made = bench(tmp_path)
    recipe = PUBLISHED[name].recipe
    folder, spans = model_folder(made), Spans(made)
    made.info = replace(made.info, recipe=recipe)
    spec = WorkerSpec(worker=WorkerId("w"), role=Role.DENOISE, capacity=recipe.lane_count * 21, model=folder)
    with spans.watching():
        loaded = LoadedWorker(spec)
    stream = Stream(made, loaded)
    spans.start()
    stream.play(2)
    assert "".join(span.kind for span in spans.stop()) == 2 * ops
    stream.end()


def test_a_stream_whose_op_fails_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = bench(tmp_path)
    capacity = made.info.recipe.lane_count * made.info.recipe.page_count
    spec = WorkerSpec(worker=WorkerId("w"), role=Role.DENOISE, capacity=capacity, model=model_folder(made))
    stream = Stream(made, LoadedWorker(spec))
    monkeypatch.setattr(weights, "load_denoiser", None)
    stream.block = -1
    with pytest.raises(RuntimeError, match=Failed.__name__):
        stream.play(1)
    stream.end()
