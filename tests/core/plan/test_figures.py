"""Where the figures of a plan come from: the table of what was measured, and what is modelled from it."""

from __future__ import annotations

from dataclasses import fields, replace

import pytest

from longtake.core.flow import Pace
from longtake.core.plan.figures import Basis, decode_s, encode_s, forward_at, forward_s
from longtake.core.plan.measured import CORE, MEASURED
from longtake.core.plan.memory import CONTEXT_BYTES
from longtake.core.plan.model import Model
from longtake.core.plan.plan import Devices, plan
from longtake.core.plan.presets import PRESETS, UMT5
from longtake.core.plan.sharing import Shared, shared
from tests.core.support.recipes import altered

WAN, LONGLIVE, LARGE = (PRESETS[name] for name in ("wan2.1-1.3b-480p", "wan-longlive-480p", "wan-14b-krea-480p"))
TABLE = replace(
    MEASURED, denoise_s={12: 0.06, 21: 0.08}, commit_s={12: 0.05, 21: 0.07}, host_s=0.001, decode_s=0.2, encode_s=0.1,
    slower_denoise=2.0, slower_decode=3.0,
)  # fmt: skip


def test_the_table_is_of_a_model_that_there_is_and_holds_its_full_window() -> None:
    assert MEASURED.denoise_s.keys() == MEASURED.commit_s.keys()
    assert max(MEASURED.denoise_s) == PRESETS[MEASURED.preset].recipe.page_count
    for times_s in (MEASURED.denoise_s, MEASURED.commit_s):
        assert sorted(times_s.values()) == [times_s[frames] for frames in sorted(times_s)]
    named = [field.name for field in fields(MEASURED) if not getattr(MEASURED, field.name)]
    assert named == [], "nothing in it is left empty"


@pytest.mark.parametrize(("model", "expected_s"), [(WAN, (4 * 0.08 + 4 * 0.07) / 8), (LONGLIVE, (4 * 0.06 + 0.05) / 5)])
def test_a_measured_window_has_the_mean_of_its_ops(model: Model, expected_s: float) -> None:
    found = forward_s(model, TABLE)
    assert found.value == pytest.approx(expected_s + 0.001)
    assert found.basis is Basis.MEASURED


@pytest.mark.parametrize(
    "model",
    [LARGE, PRESETS["wan2.1-1.3b-720p"], replace(WAN, recipe=altered(WAN.recipe, window_frames=15))],
    ids=["larger", "more pixels", "another window"],
)
def test_what_was_not_measured_is_modelled_by_its_work(model: Model) -> None:
    found = forward_s(model, TABLE)
    assert found.basis is Basis.MODELLED
    assert found.value == pytest.approx(0.08 * model.forward_flop / WAN.forward_flop + 0.001)
    assert f"{model.forward_flop / 1e12:.3g} TFLOP at 505 TFLOP/s" in found.how


def test_a_rate_that_is_given_models_too() -> None:
    found = forward_at(WAN, 400e12)
    assert found.value == pytest.approx(WAN.forward_flop / 400e12)
    assert found.basis is Basis.MODELLED


def test_decoding_and_encoding_go_by_pixels_and_an_unlike_decoder_is_not_known() -> None:
    for model, basis, factor in ((LARGE, Basis.MEASURED, 1.0), (PRESETS["wan2.1-1.3b-720p"], Basis.MODELLED, 2.3077)):
        decode, encode = decode_s(model, TABLE), encode_s(model, TABLE)
        assert decode is not None
        assert [decode.value, encode.value] == pytest.approx([0.2 * factor, 0.1 * factor], rel=1e-4)
        assert decode.basis is encode.basis is basis
    assert decode_s(replace(WAN, decoder=replace(WAN.decoder, dim=64)), TABLE) is None


# --- decoders on the same devices -------------------------------------------------------------------------------------


def on(count: int, *, forward_s: float, decode_s: float = 0.2, pace: Pace = Pace.REALTIME) -> Shared:
    given = Devices(count=count, memory_bytes=80 * 10**9, forward_s=forward_s, decode_s=decode_s, max_batch=2)
    found = shared(WAN, given, plan(WAN, given, pace), TABLE)
    assert found is not None
    return found


def test_a_decode_beside_forwards_costs_its_own_time_and_what_it_slows_them() -> None:
    """While it lasts three times as long, forwards go on at half speed: they lose half of that."""
    found = on(1, forward_s=0.05)
    assert found.block_s == pytest.approx(8 * 0.05 + 0.2 * 3 / 2)
    assert found.decode_share == pytest.approx(0.3 / 0.7)
    assert found.blocks_per_s == pytest.approx(1 / 0.7)
    assert found.streams == 1 and found.verdict.startswith("1 realtime by time")


def test_where_no_live_stream_fits_it_says_what_would_make_room() -> None:
    found = on(1, forward_s=0.08)
    assert found.streams == 0
    assert found.verdict.endswith(
        "it would take 2 devices, or decoders on a device of their own, or forwards of 51.6 ms, now 80.0"
    )
    assert on(1, forward_s=(0.95 * 0.75 - 0.3) / 8 - 1e-6).streams == 1, "forwards of that time are enough"
    assert on(2, forward_s=0.08).streams == 1, "two devices are enough"
    assert "own" not in on(1, forward_s=0.1).verdict, "the forwards alone are too many"
    assert "forwards of" not in on(1, forward_s=0.1, decode_s=0.6).verdict, "decoding alone is too much"
    assert on(1, forward_s=0.5, decode_s=0.6).verdict.endswith("it would take another card"), "lanes are too few"


def test_more_devices_do_not_help_a_stream_whose_forwards_wait_for_each_other() -> None:
    given = Devices(count=8, memory_bytes=80 * 10**9, forward_s=0.2, decode_s=0.1)
    clean = PRESETS["wan-self-forcing-480p"]
    found = shared(clean, given, plan(clean, given, Pace.REALTIME), TABLE)
    assert found is not None and found.streams == 0
    assert found.verdict.endswith("its forwards wait for each other, alone it is 0.75 x real time")
    assert on(8, forward_s=0.2).streams > 0, "of lanes that are spread they wait for fewer"


def test_memory_of_both_on_one_device() -> None:
    found = on(1, forward_s=0.02, pace=Pace.FAST)
    denoiser, decoder, encoder = 2.84e9 + 1.44e9, 0.147e9 + 7.27e9, 0.107e9 + 1.12e9
    assert found.device_bytes == pytest.approx(denoiser + decoder + encoder + 2 * CONTEXT_BYTES, rel=0.01)
    assert found.streams == found.streams_by_memory == 2  # of 24.15 GB pages and 1.89 GB state in 60 GB
    assert on(4, forward_s=0.02, pace=Pace.FAST).streams == 8


def test_without_the_time_of_a_decode_nothing_is_said() -> None:
    given = Devices(count=1, memory_bytes=80 * 10**9, forward_s=0.08)
    assert shared(WAN, given, plan(WAN, given, Pace.FAST)) is None


# --- the text encoder -------------------------------------------------------------------------------------------------


def test_umt5_has_the_size_that_is_published() -> None:
    transformers = pytest.importorskip("transformers")
    torch = pytest.importorskip("torch")
    config = transformers.UMT5Config(
        vocab_size=256384, d_model=4096, d_kv=64, d_ff=10240, num_layers=24, num_heads=64,
        relative_attention_num_buckets=32, feed_forward_proj="gated-gelu",
    )  # fmt: skip
    with torch.device("meta"):
        encoder = transformers.UMT5EncoderModel(config)
    assert UMT5.weights == sum(parameter.numel() for parameter in encoder.parameters())
    assert pytest.approx(11.36e9, rel=0.001) == 2 * UMT5.weights


def test_a_prompt_takes_one_reading_of_the_weights_and_their_products() -> None:
    read_s = UMT5.encode_s(0, MEASURED.rates, 2)
    assert read_s == pytest.approx(9.26e9 / 3e12, rel=0.001)
    assert UMT5.encode_s(512, MEASURED.rates, 2) == pytest.approx(read_s + 4.84e12 / 790e12, rel=0.01)


@pytest.mark.parametrize(("tokens", "seconds"), [(30, 2.0), (512, 31.0)])
def test_on_a_core_it_is_what_was_extrapolated_from_two_layers(tokens: int, seconds: float) -> None:
    assert UMT5.encode_s(tokens, CORE, 2) == pytest.approx(seconds, rel=0.05)
