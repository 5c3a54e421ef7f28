"""`longtake plan`: how many streams a cell of devices will hold, before there is one."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import click

from longtake.core.errors import InvalidField
from longtake.core.plan.plan import DecoderShape, Devices, Model, Plan, ServiceClass, TransformerShape, plan
from longtake.core.plan.presets import PRESETS

_GB = 1_000_000_000
_MB = 1_000_000
_VALUE_BYTES = {"bfloat16": 2, "float32": 4}


@click.command("plan")
@click.argument("model", default="wan2.1-1.3b-480p")
@click.option("--devices", "count", type=click.IntRange(min=1), default=4, show_default=True, help="Denoise devices.")
@click.option("--memory", type=float, default=80.0, show_default=True, help="GB of each.")
@click.option("--forward", "forward_s", type=float, help="Seconds of one forward with a full window.")
@click.option("--tflops", type=float, help="TFLOP/s that a device reaches, instead of --forward: t is then modelled.")
@click.option("--decode", "decode_s", type=float, default=0.0, help="Seconds to decode and encode one block.")
@click.option("--class", "service", default="interactive", show_default=True,
              type=click.Choice([service.value for service in ServiceClass]))  # fmt: skip
@click.option("--dtype", default="bfloat16", show_default=True, type=click.Choice(list(_VALUE_BYTES)))
@click.option("--latents", default="float32", show_default=True, type=click.Choice(list(_VALUE_BYTES)),
              help="What latents are sent and kept as.")  # fmt: skip
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def plan_command(*, model: str, count: int, memory: float, decode_s: float, as_json: bool, **given: object) -> None:
    """What a cell holds of MODEL: a preset or a model directory."""
    numbers = model_of(model)
    forward_s, tflops = given["forward_s"], given["tflops"]
    if (forward_s is None) == (tflops is None):
        raise InvalidField("plan", "--forward and --tflops", "exactly one of the two")
    if isinstance(tflops, float):
        if tflops <= 0:
            raise InvalidField("tflops", tflops, "a number above 0")
        forward_s = numbers.forward_flop / (tflops * 1e12)
    assert isinstance(forward_s, float)
    devices = Devices(
        count=count,
        memory_bytes=int(memory * _GB),
        forward_s=forward_s,
        decode_s=decode_s,
        value_bytes=_VALUE_BYTES[str(given["dtype"])],
        latent_value_bytes=_VALUE_BYTES[str(given["latents"])],
    )
    made = plan(numbers, devices, ServiceClass(given["service"]))
    if as_json:
        click.echo(json.dumps(asdict(made) | {"forward_s": forward_s, "forward_modelled": tflops is not None}))
        return
    rows = _rows(made, forward_s, modelled=tflops is not None)
    width = max(len(name) for name, _ in rows)
    for name, value in rows:
        click.echo(f"{name.ljust(width)}  {value}")


def model_of(name: str) -> Model:
    """A preset, or what the model.json of a directory says; InvalidField if it is neither."""
    if name in PRESETS:
        return PRESETS[name]
    if not Path(name).is_dir():
        raise InvalidField("model", name, f"a model directory or one of {', '.join(PRESETS)}")
    from workers.models.weights import load_info

    info = load_info(Path(name))
    return Model(
        name=info.name,
        recipe=info.recipe,
        geometry=info.geometry,
        transformer=TransformerShape(
            dim=info.dit.dim,
            ffn_dim=info.dit.ffn_dim,
            layers=info.dit.num_layers,
            text_tokens=info.dit.text_len,
            text_dim=info.dit.text_dim,
            freq_dim=info.dit.freq_dim,
            patch_values=info.dit.patch_size[1] * info.dit.patch_size[2],
        ),
        decoder=DecoderShape(
            dim=info.vae.dim,
            dim_mult=info.vae.dim_mult,
            num_res_blocks=info.vae.num_res_blocks,
            temporal_upsample=tuple(reversed(info.vae.temporal_downsample)),
        ),
    )


def _rows(made: Plan, forward_s: float, *, modelled: bool) -> list[tuple[str, str]]:
    sizes = made.bytes_per_session
    by_rate = "no rate is reserved" if made.streams_by_rate is None else str(made.streams_by_rate)
    soonest_s, latest_s = made.prompt_to_screen_s
    decoders = "give --decode to know" if made.decode_workers is None else str(made.decode_workers)
    return [
        ("model", made.model),
        ("devices", f"{made.devices}, one forward {1000 * forward_s:.1f} ms ({'modelled' if modelled else 'given'})"),
        ("class", made.service),
        ("placement of a stream's lanes", " ".join(made.placement)),
        ("streams", f"{made.streams} (by rate: {by_rate}; by memory: {made.streams_by_memory})"),
        ("load", f"{made.load:.1%}"),
        ("all streams together", f"at most {made.limit_blocks_per_s:.2f} blocks/s"),
        ("one stream alone", f"{made.stream_rate:.2f} x real time, {made.speed_up:.2f} x one device"),
        ("block latency", f"{made.block_latency_s:.3f} s from noise to finished latents, nothing else waiting"),
        ("prompt to screen", f"{soonest_s:.2f} s with empty buffers, {latest_s:.2f} s with full ones"),
        ("between workers", f"{made.between_workers_bytes / _MB:.2f} MB a block"),
        ("to the decoder", f"{made.to_decoder_bytes / _MB:.2f} MB a block"),
        ("decode workers", decoders),
        ("weights", f"{made.weights_bytes / _GB:.2f} GB a device"),
        ("pages", f"{made.pages_per_worker} a device, of {sizes.page / _MB:.1f} MB"),
        ("forward", f"{made.forward_tflop:.2f} TFLOP"),
        ("session: K/V of its past", f"{sizes.kv_past / _GB:.2f} GB"),
        ("session: pages reserved", f"{sizes.kv_reserved / _GB:.2f} GB"),
        ("session: K/V of a prompt", f"{sizes.text_kv / _MB:.1f} MB on each worker that has a lane"),
        ("session: decoder state", f"{sizes.decoder_state / _GB:.3f} GB"),
        ("session: journal", f"{sizes.journal / _MB:.0f} MB for exact recovery"),
    ]
