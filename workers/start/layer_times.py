"""How long embedding, one layer and head take on this device, and which layers a worker of a chain therefore holds.

The first worker of a chain measures, over a full window and with the weights of one layer alone, and the ranges that
follow are agreed on for the life of the cell: all chains of a cell have the same, and a worker that is started again
holds what it held before.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import torch

from longtake.core.errors import InvalidField
from longtake.core.recipe.layers import LayerTimes, balanced_ranges, check_length
from workers.denoise.attention import AttentionBackend, ItemPages
from workers.denoise.kv import PageMemory
from workers.messages import Seat
from workers.models import weights
from workers.models.api import Compute, Conditioning, Inputs
from workers.models.weights import ModelInfo
from workers.peers import agreed
from workers.start.probe import seconds_of

WAIT_S = 120.0
"""How long the first worker of a chain may take to measure."""
_ROUNDS = 4
"""Each time is the least of this many measurements: whatever disturbs one makes it longer."""


def held_layers(seat: Seat, info: ModelInfo, measure: Callable[[], LayerTimes], meeting_point: str) -> range:
    """The layers of the worker in `seat`; `measure` is called if nobody has said yet how they are shared out.

    InvalidField if the model has fewer layers than the chain has workers; Unavailable if the first worker of the chain
    does not come.
    """
    layers = info.num_layers
    check_length(seat.length, layers)

    def propose() -> str:
        return json.dumps([[held.start, held.stop] for held in balanced_ranges(measure(), layers, seat.length)])

    name = f"layers of {seat.length} workers"
    text = agreed(meeting_point, name, propose if seat.rank == 0 else None, timeout_s=WAIT_S)
    try:
        ranges = [range(start, stop) for start, stop in json.loads(text)]
    except (ValueError, TypeError, RecursionError):
        ranges = []
    if len(ranges) != seat.length or [layer for held in ranges for layer in held] != list(range(layers)):
        raise InvalidField(name, text, f"{seat.length} ranges that make up {layers} layers")
    return ranges[seat.rank]


def measured_times(folder: Path, info: ModelInfo, compute: Compute, attention: AttentionBackend) -> LayerTimes:
    """Seconds of one op over a full window, in the parts that a chain can be cut into."""
    torch.set_num_threads(1)  # as where the worker computes
    denoiser = weights.load_denoiser(folder, info, compute, range(1))
    recipe, geometry, device = info.recipe, info.geometry, denoiser.device
    frames, pages = recipe.blocks.frames, range(recipe.window.size)
    memory = PageMemory(denoiser.page_shape(geometry.tokens_per_frame), len(pages), device=device, dtype=denoiser.dtype)
    with torch.inference_mode():
        text = denoiser.encode_text(torch.zeros(1, *denoiser.text_shape, device=device))
        inputs = Inputs(
            x_BFCHW=torch.randn(1, *geometry.block_shape, device=device),
            timestep_BF=torch.full((1, frames), float(recipe.timesteps[0]), device=device),
            position_BF=torch.arange(frames, device=device).unsqueeze(0),
            conditioning=Conditioning(text=text),
            attention=attention.plan(memory, [ItemPages(reads=tuple(pages), writes=tuple(pages[-frames:]))]),
        )
        begun = denoiser.begin(inputs)
        h_BLE = begun.enter()
        return LayerTimes(
            embed_s=_least_s(device, begun.enter),
            layer_s=_least_s(device, lambda: begun.run(h_BLE)),
            head_s=_least_s(device, lambda: begun.leave(h_BLE)),
        )


def _least_s(device: torch.device, run: Callable[[], object]) -> float:
    return min(seconds_of(run, device) for _ in range(_ROUNDS))
