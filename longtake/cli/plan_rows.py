"""The rows of `longtake plan`: each a name and what it is, with where a figure comes from."""

from __future__ import annotations

from longtake.core.flow import Pace
from longtake.core.plan.figures import Figure, PlanTimes
from longtake.core.plan.measured import CORE, MEASURED
from longtake.core.plan.memory import footprint
from longtake.core.plan.model import Model
from longtake.core.plan.plan import Devices, Plan, Shed
from longtake.core.plan.sharing import Shared
from longtake.core.plan.text_encoder import DeviceRates, TextEncoderShape
from longtake.core.recipe.graph import Graph
from longtake.core.work import Role

_GB = 1_000_000_000
_MB = 1_000_000
_USUAL_TOKENS = 100
"""Of a prompt as models of this kind are trained with: some sentences."""
_Row = tuple[str, str]


def rows(model: Model, devices: Devices, made: Plan, times: PlanTimes, beside: Shared | None) -> list[_Row]:
    """All rows, in order. `beside`: what the devices hold if decoders share them; None if that is not known."""
    return [
        ("model", made.model),
        ("recipe", _recipe(model)),
        ("measured on", str(MEASURED)),
        *_times(times),
        *_streams(devices, made),
        *_decoders(made, times, beside),
        *_memory(model, devices, made, beside),
        *_text(model.text, devices),
        *_session(made),
    ]


def _recipe(model: Model) -> str:
    of, forwards = model.recipe, Graph(model.recipe).forwards_per_block
    window = "everything" if of.window_frames is None else f"{of.window_frames} latent frames"
    return (
        f"level {of.level.value}, {of.step_count} steps, {forwards} forwards a block of {of.blocks.frames} latent "
        f"frames ({model.geometry.block_s:.2f} s), window {window}, {of.sink_frames} sinks"
        + (f", {of.context.reference_frames} references" if of.context.reference_frames else "")
    )


def _times(times: PlanTimes) -> list[_Row]:
    return [
        ("one forward", _ms(times.forward)),
        ("decoding a block", "not known: give --decode" if times.decode is None else _ms(times.decode)),
        ("encoding a block", f"{_ms(times.encode)} of a core"),
    ]


def _ms(figure: Figure) -> str:
    return f"{1000 * figure.value:.1f} ms ({figure})"


def _streams(devices: Devices, made: Plan) -> list[_Row]:
    by_rate = "no rate is reserved" if made.streams_by_rate is None else str(made.streams_by_rate)
    soonest_s, latest_s = made.prompt_to_screen_s
    split = f" in chains of {devices.layer_split}" if devices.layer_split > 1 else ""
    alone = f"{made.stream_rate:.2f} x real time, {made.speed_up:.2f} x one device"
    streams = f"{made.streams} (by rate: {by_rate}; by memory: {made.streams_by_memory})"
    if made.pace == Pace.REALTIME.value and made.stream_rate < 1:
        alone += ": no realtime stream keeps up"
        streams += ", which would be admitted and be late" if made.streams else ""
    return [
        ("devices", f"{made.devices}{split}"),
        ("pace", f"{made.pace}, {made.window} blocks ahead at most"),
        ("placement of a stream's lanes", " ".join(made.placement)),
        ("streams", streams),
        ("load", f"{made.load:.1%}"),
        ("all streams together", f"at most {made.limit_blocks_per_s:.2f} blocks/s can be denoised"),
        *(_shed(load, shed) for load, shed in enumerate(made.shed, start=1)),
        ("one stream alone", alone),
        ("block latency", f"{made.block_latency_s:.3f} s from noise to finished latents, nothing else waiting"),
        ("prompt to screen", f"{soonest_s:.2f} s with empty buffers, {latest_s:.2f} s with full ones"),
        ("between workers", f"{made.between_workers_bytes / _MB:.2f} MB a block"),
        ("to the decoder", f"{made.to_decoder_bytes / _MB:.2f} MB a block"),
    ]


def _shed(load: int, shed: Shed) -> _Row:
    """What a load that sheds steps leaves room for."""
    streams = "" if shed.streams_by_rate is None else f", {shed.streams_by_rate} streams by rate"
    streams += " (let in with limits.admit_at = shed)" * (load == 1 and bool(streams))
    steps = ", ".join(map(str, shed.steps))
    blocks = f"{shed.forwards_per_block} forwards a block, at most {shed.limit_blocks_per_s:.2f} blocks/s"
    return f"… under load {load}", f"steps {steps}: {blocks}{streams}"


def _decoders(made: Plan, times: PlanTimes, beside: Shared | None) -> list[_Row]:
    if beside is None or made.decode_workers is None:
        return [("decode workers", "not known without the time of a decode")]
    most = f"at most {beside.blocks_per_s:.2f} blocks/s, {beside.decode_share:.0%} of a block's time for its decoding"
    return [
        ("decoders on devices of their own", f"{made.decode_workers} for {_decoded(made)}"),
        ("decoders on the same devices", beside.verdict),
        ("… streams", f"{beside.streams} (by memory: {beside.streams_by_memory}), {most}"),
        ("cores that encode", f"{times.encode.value * made.limit_blocks_per_s:.1f} for all that can be denoised"),
    ]


def _decoded(made: Plan) -> str:
    """What so many decode workers can keep up with."""
    return f"{made.streams} streams" if made.pace == Pace.REALTIME.value else "all that can be denoised"


def _memory(model: Model, devices: Devices, made: Plan, beside: Shared | None) -> list[_Row]:
    page = made.pages_bytes / made.pages_per_worker
    decoder = footprint(model, devices.occupant(Role.DECODE), lane_pages=model.recipe.page_count)
    memory = [
        (
            "memory of a device that denoises",
            f"{made.weights_bytes / _GB:.2f} GB weights, {made.workspace_bytes / _GB:.2f} GB workspace, "
            f"{made.pages_bytes / _GB:.1f} GB for {made.pages_per_worker} pages of {page / _MB:.1f} MB",
        ),
        (
            "memory of a decoder",
            f"{decoder.weights_bytes / _GB:.2f} GB weights, {decoder.workspace_bytes / _GB:.2f} GB workspace, "
            f"{decoder.slot_bytes / _GB:.3f} GB a slot",
        ),
    ]
    if beside is not None:
        memory.append(
            ("memory of a device that does both", f"{beside.device_bytes / _GB:.1f} GB beside pages and slots")
        )
    return [*memory, ("forward", f"{made.forward_tflop:.2f} TFLOP")]


def _text(text: TextEncoderShape | None, devices: Devices) -> list[_Row]:
    if text is None:
        return [("text workers", "none: decode workers encode prompts")]
    size = text.weights * devices.value_bytes
    return [
        ("memory of a text worker", f"{size / _GB:.2f} GB weights ({text.weights / 1e9:.2f} B parameters)"),
        ("a text worker on a GPU", _prompts(text, devices, MEASURED.rates)),
        ("a text worker on one core", _prompts(text, devices, CORE)),
    ]


def _prompts(text: TextEncoderShape, devices: Devices, rates: DeviceRates) -> str:
    told = []
    for tokens in (_USUAL_TOKENS, text.max_tokens):
        seconds = text.encode_s(tokens, rates, devices.value_bytes)
        told.append(f"{float(f'{60 / seconds:.2g}'):,.0f} a minute of {tokens} tokens, {_short(seconds)} each")
    return f"prompts: {'; '.join(told)} (modelled: weights are read once a prompt, then multiplied)"


def _short(seconds: float) -> str:
    return f"{seconds:.1f} s" if seconds >= 1 else f"{1000 * seconds:.1f} ms"


def _megabytes(size_bytes: int) -> str:
    return f"{size_bytes / _MB:.{0 if size_bytes >= 10 * _MB else 2}f} MB"


def _session(made: Plan) -> list[_Row]:
    sizes = made.bytes_per_session
    return [
        ("session: K/V of its past", f"{sizes.kv_past / _GB:.2f} GB"),
        ("session: pages reserved", f"{sizes.kv_reserved / _GB:.2f} GB"),
        ("session: K/V of a prompt", f"{sizes.text_kv / _MB:.1f} MB on each worker that has a lane"),
        ("session: decoder state", f"{sizes.decoder_state / _GB:.3f} GB"),
        ("session: journal", f"{_megabytes(sizes.journal)} of the server's memory, for exact recovery"),
        ("memory of the server", f"{made.streams * sizes.journal / _GB:.3g} GB for the journals of all streams"),
    ]
