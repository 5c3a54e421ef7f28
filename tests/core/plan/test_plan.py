"""The plan's numbers against published ones, against the model's own code, and against what the server admits."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import click
import pytest
import torch
from click.testing import CliRunner

from benchmarks.synthetic_checkpoint import WAN_1_3B
from longtake.cli.main import cli
from longtake.cli.plan import model_of
from longtake.core.effects import Refused
from longtake.core.errors import InvalidField, NoCapacity
from longtake.core.events import Open, WorkerJoined
from longtake.core.flow import Pace
from longtake.core.limits import AdmitAt, Limits
from longtake.core.plan.measured import MEASURED
from longtake.core.plan.model import Model, SessionBytes
from longtake.core.plan.model import session_bytes as sizes_of
from longtake.core.plan.plan import Devices, Plan, plan
from longtake.core.plan.presets import PRESETS
from longtake.core.recipe.context import Level
from longtake.core.scheduler import Scheduler
from longtake.core.work import Ability, Role, SegmentSettings, SessionId, WorkerId
from tests.core.support.recipes import altered
from tests.workers.convert.published_info import WAN_14B
from tests.workers.model_dir import write_model, write_model_that_encodes
from workers.models.wan.config import WanVAEConfig
from workers.models.wan.dit import WanModel
from workers.models.wan.vae import WanDecoder, WanEncoder
from workers.models.weights import load_info

WAN = PRESETS["wan2.1-1.3b-480p"]
POCKET = Path(__file__).parents[3] / "pocket" / "weights"
H100_S = 0.091


def devices(
    count: int = 4, *, gigabytes: int = 80, forward_s: float = H100_S, decode_s: float = 0.0, layer_split: int = 1
) -> Devices:
    return Devices(
        count=count, memory_bytes=gigabytes * 10**9, forward_s=forward_s, decode_s=decode_s, latent_value_bytes=2,
        layer_split=layer_split, max_batch=2,
    )  # fmt: skip


def session_bytes(model: Model, given: Devices) -> SessionBytes:
    return sizes_of(model, value_bytes=given.value_bytes, latent_value_bytes=given.latent_value_bytes)


def test_sizes_of_a_session_are_those_of_the_cost_model() -> None:
    sizes = session_bytes(WAN, devices())
    assert sizes.page == 1560 * 1536 * 2 * 2 * 30  # 287.5 MB
    assert sizes.kv_past == pytest.approx(20.70e9, rel=0.001)
    assert sizes.kv_reserved == pytest.approx(24.15e9, rel=0.001)
    assert sizes.text_kv == pytest.approx(94.4e6, rel=0.001)
    assert sizes.decoder_state == pytest.approx(1.89e9, rel=0.002)
    assert sizes.latent == 599_040
    assert sizes.journal == 4 * 180 * sizes.latent  # 431 MB in bfloat16


@pytest.mark.parametrize(
    ("level", "sinks", "latents"),
    [
        (Level.OUTPUT, 0, 4 * 180),
        (Level.CLEAN, 0, 180),  # x0 alone
        (Level.INPUT, 0, 3 * 180 + 13),  # the first lane starts from noise, and only the decoder from x0
        (Level.OUTPUT, 3, 4 * (180 - 30 + 1)),  # one block less of past, and that of the sinks
    ],
)
def test_the_journal_holds_what_rebuilding_takes_whatever_the_level(level: Level, sinks: int, latents: int) -> None:
    recipe = altered(WAN.recipe, level=level, sink_frames=sinks)
    sizes = sizes_of(replace(WAN, recipe=recipe), value_bytes=2)
    assert sizes.latent == 1_198_080
    assert sizes.journal == latents * sizes.latent


@pytest.mark.parametrize(("preset", "gigabytes"), [("wan2.1-1.3b-720p", 47.8), ("wan2.1-14b-480p", 92.0)])
def test_sizes_of_larger_models_too(preset: str, gigabytes: float) -> None:
    assert session_bytes(PRESETS[preset], devices()).kv_past == pytest.approx(gigabytes * 1e9, rel=0.002)


def test_decoder_state_at_720p() -> None:
    assert session_bytes(PRESETS["wan2.1-1.3b-720p"], devices()).decoder_state == pytest.approx(4.36e9, rel=0.002)


def test_work_and_weights_are_those_of_the_cost_model() -> None:
    made = plan(WAN, devices(), Pace.REALTIME)
    assert made.forward_tflop == pytest.approx(40.41, rel=0.001)
    assert made.weights_bytes == pytest.approx(2.84e9, rel=0.002)


@pytest.mark.parametrize(("height", "width"), [(60, 104), (90, 160)])
def test_the_decoders_state_is_what_the_decoder_says(height: int, width: int) -> None:
    with torch.device("meta"):
        decoder = WanDecoder(WanVAEConfig())
    values = sum(torch.Size(shape).numel() for shape in decoder.state_shapes(1, height, width))
    preset = PRESETS["wan2.1-1.3b-480p" if height == 60 else "wan2.1-1.3b-720p"]
    assert preset.decoder.state_values(preset.geometry) == values
    assert preset.decoder.receptive_frames == decoder.receptive_frames == 38


def test_weights_and_decoder_state_of_a_model_directory_are_what_its_modules_hold() -> None:
    info, model = load_info(POCKET), model_of(str(POCKET))
    with torch.device("meta"):
        denoiser, decoder = WanModel(info.dit), WanDecoder(info.vae)
    held = sum(parameter.numel() for parameter in denoiser.parameters())
    assert model.transformer.weights(info.geometry.latent_channels) == held
    shapes = decoder.state_shapes(1, info.geometry.latent_height, info.geometry.latent_width)
    assert model.decoder.state_values(info.geometry) == sum(torch.Size(shape).numel() for shape in shapes)
    held = sum(parameter.numel() for parameter in decoder.parameters())
    assert model.decoder.weights(info.geometry.latent_channels) == held
    assert model.decoder.receptive_frames == decoder.receptive_frames == 30


@pytest.mark.parametrize("preset", ["wan2.1-1.3b-480p", "wan2.1-1.3b-720p"])
def test_weights_and_state_of_the_encoder_are_what_its_module_holds(preset: str) -> None:
    encoder_agrees(PRESETS[preset], WanVAEConfig())


def test_so_they_are_of_a_model_directory_whose_encoder_may_be_missing(tmp_path: Path) -> None:
    sizes = write_model_that_encodes(tmp_path).vae
    encoder_agrees(model_of(str(tmp_path)), sizes)
    bare = tmp_path / "bare"
    write_model(bare)
    assert model_of(str(bare)).encoder is None
    (bare / "vae.safetensors").unlink()
    assert model_of(str(bare)).encoder is not None, "what is not there yet is taken to be whole"


def encoder_agrees(model: Model, sizes: WanVAEConfig) -> None:
    geometry = model.geometry
    assert model.encoder is not None
    with torch.device("meta"):
        encoder = WanEncoder(sizes)
        state = encoder.initial_state(1, geometry.height, geometry.width)
    held = sum(parameter.numel() for parameter in encoder.parameters())
    assert model.encoder.weights(geometry.latent_channels) == held
    assert model.encoder.state_values(geometry) == sum(each.numel() for each in state.history_BFHWC)


def test_weights_of_published_sizes_are_what_the_modules_hold() -> None:
    with torch.device("meta"):
        decoder = WanDecoder(WanVAEConfig())
        held = {base: WanModel(config) for base, config in (("1.3b", WAN_1_3B), ("14b", WAN_14B))}
    assert WAN.decoder.weights(16) == sum(parameter.numel() for parameter in decoder.parameters())
    for base, denoiser in held.items():
        counted = PRESETS[f"wan2.1-{base}-480p"].transformer.weights(16)
        assert counted == sum(parameter.numel() for parameter in denoiser.parameters())
    assert counted == pytest.approx(14.29e9, rel=0.001)


@pytest.mark.parametrize(
    ("count", "gigabytes", "past_only", "reserved"), [(1, 80, 3, 2), (4, 80, 12, 11), (1, 141, 5, 5), (4, 141, 23, 20)]
)  # fmt: skip
def test_streams_that_fit_by_memory(count: int, gigabytes: int, past_only: int, reserved: int) -> None:
    """The cost model's figures count past frames alone; the server also reserves the pages of the block in flight."""
    made = plan(WAN, devices(count, gigabytes=gigabytes), Pace.FAST)
    per_device = made.pages_per_worker * made.bytes_per_session.page
    assert count * per_device // made.bytes_per_session.kv_past == past_only
    assert made.streams_by_memory == reserved
    assert (made.streams, made.streams_by_rate) == (made.streams_by_memory, None)


def admitted_by_the_server(
    found: Plan, given: Devices, pace: Pace, model: Model = WAN, admit_at: AdmitAt = AdmitAt.USUAL
) -> int:
    """How many streams a real scheduler lets in on such workers."""
    limits = Limits(max_sessions=10_000, max_queued=0, admit_at=admit_at)
    scheduler = Scheduler(model.recipe, model.geometry, limits)
    length = given.layer_split  # the engine takes the slowest of a chain for all of it, and the fewest pages
    replica = Ability(
        capacity=found.pages_per_worker, forward_s=given.forward_s / length, chain_length=length
    )  # fmt: skip
    abilities = [("denoise", Role.DENOISE, replica)] * (given.count // length)
    abilities += [("decode", Role.DECODE, Ability(capacity=10_000, forward_s=given.decode_s))]
    for number, (name, role, ability) in enumerate(abilities):
        scheduler.handle(WorkerJoined(now_s=0.0, worker=WorkerId(f"{name}-{number}"), role=role, ability=ability))
    for number in range(10_000):
        asked = Open(
            now_s=0.0, session=SessionId(f"s{number}"), prompt="p", seed=1, pace=pace, window=2, picture_limit=None,
            settings=SegmentSettings(codec="raw", quality=0),
        )  # fmt: skip
        if any(isinstance(effect, Refused) for effect in scheduler.handle(asked)):
            return number
    raise AssertionError("the server never refuses")


@pytest.mark.parametrize("forward_s", [0.136, 0.091, 0.06, 0.02])
@pytest.mark.parametrize("count", [1, 3, 4, 7, 16])
def test_the_server_admits_what_the_plan_says(count: int, forward_s: float) -> None:
    given = devices(count, gigabytes=141, forward_s=forward_s)
    for pace in Pace:
        found = plan(WAN, given, pace)
        assert admitted_by_the_server(found, given, pace) == found.streams


@pytest.mark.parametrize("count", [1, 3, 4])
def test_the_server_admits_by_a_shed_list_what_the_plan_says(count: int) -> None:
    clean = altered(WAN.recipe, level=Level.CLEAN, window_frames=9)
    model = replace(WAN, recipe=altered(clean, shed=((1000, 500), (1000,))))
    given = devices(count, gigabytes=1000, forward_s=0.05)
    found = plan(model, given, Pace.REALTIME)
    assert [shed.forwards_per_block for shed in found.shed] == [3, 2]
    assert found.shed[0].limit_blocks_per_s == pytest.approx(count / (3 * 0.05))
    assert admitted_by_the_server(found, given, Pace.REALTIME, model) == found.streams_by_rate
    admitted = admitted_by_the_server(found, given, Pace.REALTIME, model, AdmitAt.SHED)
    assert admitted == found.shed[0].streams_by_rate
    assert admitted == count * 4, "0.95 / (3 * 0.05 / 0.75) streams a device, whole ones"
    assert plan(model, given, Pace.FAST).shed[0].streams_by_rate is None
    assert not plan(WAN, given, Pace.REALTIME).shed


@pytest.mark.parametrize("preset", ["wan2.1-14b-480p", "wan-14b-krea-480p"])
@pytest.mark.parametrize(("count", "length", "forward_s"), [(4, 4, 0.52), (8, 4, 0.2), (8, 8, 0.52), (6, 3, 0.3)])
def test_the_server_admits_to_chains_what_the_plan_says(preset: str, count: int, length: int, forward_s: float) -> None:
    given = devices(count, gigabytes=141, forward_s=forward_s, layer_split=length)
    for pace in Pace:
        found = plan(PRESETS[preset], given, pace)
        assert admitted_by_the_server(found, given, pace, PRESETS[preset]) == found.streams


def test_a_chain_holds_what_one_of_its_devices_could_not() -> None:
    model = PRESETS["wan-14b-krea-480p"]
    alone, chain = (plan(model, devices(4, layer_split=split), Pace.FAST) for split in (1, 4))
    assert alone.weights_bytes / 4 < chain.weights_bytes < alone.weights_bytes / 3.8
    assert (alone.streams, chain.streams) == (4, 9)
    assert chain.pages_bytes + chain.weights_bytes <= 0.92 * 80e9 - 4e9
    with pytest.raises(InvalidField, match=r"devices\.layer_split: 3 is not allowed; allowed: a divisor of 4"):
        devices(4, layer_split=3)


@pytest.mark.parametrize(("preset", "forwards"), [("wan-14b-krea-480p", 5), ("wan2.1-14b-480p", 2)])
def test_one_stream_in_a_chain_is_held_up_by_ops_that_wait_for_each_other(preset: str, forwards: int) -> None:
    """Of a lane that every step reads all five of a block; of HiAR's lanes two each, and four devices share eight."""
    made = plan(PRESETS[preset], devices(4, forward_s=0.5, layer_split=4), Pace.REALTIME)
    assert made.stream_rate == pytest.approx(0.75 / (forwards * 0.5))


def test_activations_of_a_chain_are_counted() -> None:
    made = plan(PRESETS["wan-14b-krea-480p"], devices(4, layer_split=4), Pace.FAST)
    assert made.between_workers_bytes == 5 * 3 * 4680 * 5120 * 2


def test_a_step_pipeline_is_planned_where_there_is_a_device_for_each_step() -> None:
    made = plan(WAN, devices(4, decode_s=0.1), Pace.REALTIME, window=2)
    assert made.placement == ("denoise-0", "denoise-1", "denoise-2", "denoise-3")
    assert made.speed_up == 4.0
    assert made.block_latency_s == pytest.approx(0.364)
    assert list(made.prompt_to_screen_s) == pytest.approx([0.464, 0.464 + 2 * 0.75])
    assert made.between_workers_bytes == 3 * 599_040  # 1.8 MB a block
    assert made.limit_blocks_per_s == pytest.approx(5.49, abs=0.01)
    assert made.decode_workers == 1


def test_one_device_carries_no_latents_and_no_live_stream_if_it_is_too_slow() -> None:
    made = plan(WAN, devices(1), Pace.REALTIME, window=8)
    assert made.between_workers_bytes == 0
    assert made.streams_by_rate == 0
    assert made.stream_rate == pytest.approx(0.75 / 0.728)


def test_what_does_not_fit_is_said_in_bytes() -> None:
    with pytest.raises(NoCapacity, match=r"a device of 24\.0 GB has 0\.0 GB left beside the weights \(28\.58 GB\)"):
        plan(PRESETS["wan2.1-14b-480p"], devices(gigabytes=24), Pace.FAST)
    with pytest.raises(InvalidField, match=r"devices\.forward"):
        devices(forward_s=0.0)


def printed(*arguments: str) -> dict[str, str]:
    """The rows of the table, by name."""
    output = CliRunner().invoke(cli, ["plan", *arguments], catch_exceptions=False).output
    return {name: value.strip() for name, _, value in (line.partition("  ") for line in output.splitlines())}


def test_the_command_prints_where_every_time_comes_from() -> None:
    measured = printed()
    assert measured["session: K/V of its past"] == "20.70 GB"
    assert measured["session: journal"] == "863 MB of the server's memory, for exact recovery"
    assert printed(str(POCKET), "--memory", "8")["session: journal"].startswith("0.25 MB")
    streams = int(measured["streams"].partition(" ")[0])
    assert measured["memory of the server"] == f"{streams * 0.8626:.3g} GB for the journals of all streams"
    assert measured["measured on"] == str(MEASURED)
    assert "(measured" in measured["one forward"] and "(measured" in measured["decoding a block"]
    given = printed("--forward", "0.091", "--decode", "0.1")
    assert (given["one forward"], given["decoding a block"]) == ("91.0 ms (given)", "100.0 ms (given)")
    assert printed("--tflops", "444")["one forward"] == "91.0 ms (modelled: 40.4 TFLOP at 444 TFLOP/s)"
    larger = printed("wan2.1-14b-480p", "--layer-split", "4")
    assert "(modelled: 239 TFLOP" in larger["one forward"] and "(measured)" in larger["decoding a block"]


def test_the_command_prints_the_same_as_json() -> None:
    runner = CliRunner()
    found = runner.invoke(cli, ["plan", "--tflops", "444", "--json", "--memory", "141"], catch_exceptions=False)
    values = json.loads(found.output)
    assert values["times"]["forward"]["basis"] == "modelled"
    assert values["times"]["forward"]["value"] == pytest.approx(0.091, rel=0.001)
    assert values["shared"]["streams"] == int(4 * 0.95 * 0.75 / values["shared"]["block_s"])
    assert values["bytes_per_session"]["kv_past"] == pytest.approx(20.7e9, rel=0.001)


def test_the_command_says_what_a_live_stream_would_take_where_there_is_none() -> None:
    rows = printed("wan-hiar-480p", "--devices", "1", "--forward", "0.085", "--decode", "0.19")
    assert rows["decoders on the same devices"].startswith("not one realtime stream: a block takes 0.90")
    assert "2 devices, or decoders on a device of their own, or forwards of" in rows["decoders on the same devices"]
    chain = printed("wan-14b-krea-480p", "--layer-split", "4")
    assert chain["streams"].endswith("which would be admitted and be late")
    assert "alone it is 0.34 x real time" in chain["decoders on the same devices"]
    assert printed("--pace", "fast")["decoders on the same devices"].startswith("a block takes")


def test_a_model_directory_is_planned_and_nonsense_is_refused() -> None:
    found = CliRunner().invoke(cli, ["plan", str(POCKET), "--forward", "0.01", "--memory", "8", "--json"])
    assert (json.loads(found.output)["model"], json.loads(found.output)["shared"]) == ("pocket", None)
    assert printed(str(POCKET), "--memory", "8")["decoding a block"] == "not known: give --decode"
    assert printed(str(POCKET), "--memory", "8")["text workers"].startswith("none")
    with pytest.raises(InvalidField, match="a model directory or one of"):
        model_of("no such model")
    for options, said in (
        (["--forward", "0.1", "--tflops", "400"], "--tflops: 400.0 is not allowed; allowed: one of --forward"),
        (["--tflops", "-1"], "a number above 0"),
        (["--decode", "0"], "a number above 0"),
        (["--layer-split", "3"], "a divisor of 4 devices"),
    ):
        with pytest.raises((InvalidField, click.UsageError), match=said):
            CliRunner().invoke(cli, ["plan", *options], catch_exceptions=False, standalone_mode=False)
