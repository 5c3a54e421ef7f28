"""The reference's tensors, twice: through the oracle and through the paged primitives that serve.

Every tensor of out, trace, cache, unit and sched must be known here and match. Goldens lie where reference.py
looks for them.
"""

import json
from collections.abc import Callable
from dataclasses import replace
from functools import cache

import pytest
import torch
from torch import Tensor

from longtake.core.errors import Contradiction
from longtake.core.recipe.context import Level
from tests.workers.golden_pair import ABSENT
from tests.workers.oracle import ContiguousLanes, Lanes, clean
from tests.workers.paged import PagedLanes
from tests.workers.reference import (
    GOLDENS,
    Golden,
    Orders,
    Plan,
    Recorder,
    generated,
    joined,
    outcome,
)
from workers.models.api import TextKV
from workers.models.wan.dit import time_features

if not GOLDENS:
    pytest.skip(ABSENT, allow_module_level=True)

ATOL = 2e-5
RTOL_OF_FLOAT32 = 3e-7  # for schedules only: they reach 1000, where neighbouring float32 numbers are 6e-5 apart
INPUTS = ("in.", "weights.")
MODES = ("oracle", "paged")


@cache
def run(golden_name: str, mode: str, name: str) -> tuple[Tensor, Recorder]:
    """One run of the reference and what its lanes saw; `_global` runs have no window."""
    golden = Golden.load(golden_name)
    order = name.removesuffix("_global")
    plan = golden.plan if order == name else replace(golden.plan, window_frames=None, sink_frames=0)
    recorder = Recorder(golden.lanes(mode, plan))
    with torch.inference_mode():
        return outcome(golden, order, plan, recorder), recorder


def held(lanes: Lanes, lane: str, layer: int, frames: list[int], batch: int) -> Tensor:
    """Keys and values [2, B, S, N, D] of frames of a lane."""
    match lanes:
        case ContiguousLanes():
            return lanes.contents(lane, layer, frames)
        case PagedLanes():
            return lanes.contents(lane, layer, frames, batch)
        case _:
            raise TypeError(lanes)


def traced(golden_name: str, mode: str, name: str, what: str) -> Tensor:
    golden = Golden.load(golden_name)
    recorder = run(golden_name, mode, name)[1]
    frames = golden.plan.blocks.frames
    steps = []
    for timestep, sigma in zip(golden.plan.timesteps, golden.plan.sigmas, strict=True):
        pairs = [recorder.seen[timestep, block * frames] for block in range(golden.block_count)]
        steps.append(joined([x if what == "x_in" else clean(x, flow, sigma) for x, flow in pairs]))
    return torch.stack(steps)


def cached(golden_name: str, mode: str, lane_name: str, layer: int) -> Tensor:
    golden = Golden.load(golden_name)
    plan = golden.plan
    name, lane = {
        "block_first": ("block_first", "clean"),
        "timestep_first_last_stage": ("timestep_first", f"step {len(plan.sigmas) - 1}"),
    }[lane_name]
    lanes = run(golden_name, mode, name)[1].inner
    total = golden.block_count * plan.blocks.frames
    window = plan.window_frames or total
    frames = [g for g in range(total) if g < plan.sink_frames or g >= total - (window - plan.sink_frames)]
    return held(lanes, lane, layer, frames, golden.batch)


@cache
def unit(golden_name: str, mode: str) -> dict[str, Tensor]:
    """One forward of block 1 at the first step over block 0 committed at the second step's timestep."""
    golden = Golden.load(golden_name)
    model, plan = golden.model, golden.plan
    x = golden.noise(1, 0)
    frames = plan.blocks.frames
    lanes = golden.lanes(mode, plan)
    hidden: dict[int, Tensor] = {}

    def keep(layer: int) -> Callable[[torch.nn.Module, object, Tensor], None]:
        return lambda _module, _inputs, output: hidden.update({layer: output})

    with torch.inference_mode():
        text = golden.text
        lanes.commit("unit", 0, golden.noise(0, 0), plan.timesteps[1], text)
        hooks = [model.blocks[str(layer)].register_forward_hook(keep(layer)) for layer in model.layers]
        flow = lanes.denoise("unit", frames, x, plan.timesteps[0], text)
        for hook in hooks:
            hook.remove()
        inputs = ContiguousLanes(model, None).inputs("unit", 0, x, plan.timesteps[0], text)
        shared = model.layer_inputs(inputs)
        values = {
            "x": x,
            "x0": clean(x, flow, plan.sigmas[0]),
            "flow": flow,
            "text_context": model.text_embedding(golden.tensors["in.prompt_embeds"]),
            "time_e": shared.e_BFE.flatten(0, 1),
            "time_e0": shared.e0_BF6E.flatten(2).flatten(0, 1),
            "time_sinusoid": time_features(inputs.timestep_BF, model.config.freq_dim).flatten(0, 1),
            "tokens_after_patch_embed": model.embed(x),
        }
        values |= {f"hidden_after_block{layer}": h[: golden.batch] for layer, h in hidden.items()}
        for layer in model.layers:
            both = held(lanes, "unit", layer, list(range(2 * frames)), golden.batch)
            values |= {f"cache.layer{layer}.{which}": both[number] for number, which in enumerate("kv")}
    return values


def scheduled(golden: Golden, name: str) -> Tensor:
    shift = golden.steps.shift
    level = 1 - torch.arange(1000, dtype=torch.float64) / 1000
    sigmas: Tensor = (shift * level / (1 + (shift - 1) * level)).float()
    known = {
        "denoising_step_list": torch.tensor(golden.plan.timesteps),
        "sigmas": sigmas,
        "timesteps": sigmas * 1000,
    }
    return known[name]


def ours(golden_name: str, mode: str, tensor: str) -> Tensor:
    """Our value of one tensor of a golden; LookupError if we have none."""
    family, _, name = tensor.partition(".")
    match family, name.rsplit(".", 2):
        case "out", [run_name]:
            return run(golden_name, mode, run_name)[0]
        case "trace", [run_name, "x_in" | "x0" as what]:
            return traced(golden_name, mode, run_name, what)
        case "cache", [lane, layer, "k" | "v" as which]:
            both = cached(golden_name, mode, lane, int(layer.removeprefix("layer")))
            return both["kv".index(which)]
        case "unit", _:
            return unit(golden_name, mode)[name]
        case "sched", _:
            return scheduled(Golden.load(golden_name), name)
        case _:
            raise LookupError(f"{tensor} is a tensor this test does not know")


def listed() -> list[tuple[str, str]]:
    names = []
    for golden_name, path in GOLDENS.items():
        tensors = json.loads(path.read_text())["tensors"]
        names += [(golden_name, tensor) for tensor in tensors if not tensor.startswith(INPUTS)]
    return names


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(("golden_name", "tensor"), listed())
def test_tensor_equals_the_references(golden_name: str, tensor: str, mode: str) -> None:
    value, expected = (
        ours(golden_name, mode, tensor).float(),
        Golden.load(golden_name).tensors[tensor].float(),
    )
    if tensor.startswith("cache."):
        expected = expected[:, : value.shape[1]]  # a stream shorter than the window leaves the rest unused
    rtol = RTOL_OF_FLOAT32 if tensor.startswith("sched.") else 0
    torch.testing.assert_close(value, expected, rtol=rtol, atol=ATOL)


@pytest.mark.parametrize("tensor", ["out.sideways_first", "trace.block_first.y", "cache.x.layer0.k", "unit.z"])
def test_an_unknown_tensor_is_an_error(tensor: str) -> None:
    with pytest.raises(LookupError):
        ours(next(iter(GOLDENS)), "oracle", tensor)


def _rounded(plan: Plan) -> Plan:
    return replace(plan, timesteps=tuple(float(int(timestep)) for timestep in plan.timesteps))


def _shifted(plan: Plan, frames: int) -> Plan:
    assert plan.window_frames is not None
    return replace(plan, window_frames=plan.window_frames + frames)


WRONG: dict[str, Callable[[Plan], Plan]] = {
    "input level": lambda plan: replace(plan, level=Level.INPUT),
    "clean level": lambda plan: replace(plan, level=Level.CLEAN),
    "window one frame short": lambda plan: _shifted(plan, -1),
    "window one frame long": lambda plan: _shifted(plan, 1),
    "one sink more": lambda plan: replace(plan, sink_frames=plan.sink_frames + 1),
    "whole-number timesteps": _rounded,
}


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("mistake", WRONG)
@pytest.mark.parametrize("golden_name", GOLDENS)
def test_the_goldens_tell_a_mistake(golden_name: str, mistake: str, mode: str) -> None:
    golden = Golden.load(golden_name)
    window, total = golden.plan.window_frames, golden.block_count * golden.plan.blocks.frames
    if mistake.startswith(("window", "one sink")) and (window is None or total <= window + 1):
        pytest.skip("this stream never leaves its window")
    plan = WRONG[mistake](golden.plan)
    try:
        lanes = golden.lanes(mode, plan)
    except Contradiction:
        return  # the recipe itself refuses it
    wrong = generated(golden, plan, lanes)
    assert (wrong - golden.tensors["out.timestep_first"]).abs().max() > 100 * ATOL


@pytest.mark.parametrize("golden_name", GOLDENS)
def test_the_goldens_tell_masked_text_padding(golden_name: str) -> None:
    golden = Golden.load(golden_name)
    rows = min(golden.config["text_valid"])
    assert rows < golden.model.config.text_len
    text = golden.text
    masked = TextKV(
        k_BTND={layer: k[:, :rows] for layer, k in text.k_BTND.items()},
        v_BTND={layer: v[:, :rows] for layer, v in text.v_BTND.items()},
    )
    orders = Orders(golden, golden.plan, golden.lanes("oracle", golden.plan))
    orders.text = masked
    wrong = joined(orders.diagonal(orders.starts(range(golden.block_count))))
    assert (wrong - golden.tensors["out.timestep_first"]).abs().max() > 100 * ATOL
