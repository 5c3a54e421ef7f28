"""`longtake plan`: how many streams a cell of devices will hold, before there is one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, replace
from functools import partial
from importlib.resources import files
from pathlib import Path

import click

from longtake.cli import values
from longtake.cli.json_lines import json_option, show_json
from longtake.cli.plan_rows import rows
from longtake.core.errors import InvalidField
from longtake.core.flow import Pace
from longtake.core.limits import Limits
from longtake.core.plan import figures
from longtake.core.plan.cost import under
from longtake.core.plan.figures import Basis, Figure, PlanTimes
from longtake.core.plan.measured import MEASURED
from longtake.core.plan.model import Model
from longtake.core.plan.plan import Devices, plan
from longtake.core.plan.presets import PRESETS
from longtake.core.plan.sharing import shared
from longtake.recipes import find_recipe

_GB = 1_000_000_000
_VALUE_BYTES = {"bfloat16": 2, "float32": 4}


_OPTIONS = {
    "model.path": "MODEL",
    "recipe": "--recipe",
    "devices.count": "--devices",
    "devices.memory_bytes": "--memory",
    "devices.forward_s": "--forward",
    "devices.decode_s": "--decode",
    "devices.layer_split": "--layer-split",
}
"""The options by the fields that they set."""
_MOST_DEVICES = 10_000
_MOST_OPS = 1_000_000


_positive = partial(click.option, type=float, callback=values.positive)


@click.command("plan")
@click.argument("model", callback=values.model, default="wan2.1-1.3b-480p")
@click.option(
    "--devices", "count", type=values.Whole(1, _MOST_DEVICES), default=4, show_default=True, help="Denoise devices."
)
@click.option("--recipe", metavar="NAME|FILE", help="A recipe that ships, or a file, in place of the model's own.")
@click.option("--layer-split", type=values.Whole(1, _MOST_DEVICES), default=1, show_default=True,
              help="Devices that hold one model together.")  # fmt: skip
@_positive("--memory", default=80.0, show_default=True, help="GB of each.")
@_positive("--forward", "forward_s", help="Seconds of one forward with a full window.")
@_positive("--tflops", help="TFLOP/s that a device reaches: the forward is modelled by it.")
@_positive("--decode", "decode_s", help="Seconds of a device to decode one block.")
@click.option("--pace", default=Pace.REALTIME.value, show_default=True,
              type=click.Choice([pace.value for pace in Pace]), help="Of the streams.")  # fmt: skip
@click.option("--window", type=values.Whole(1, _MOST_OPS), default=Limits().default_window, show_default=True,
              help="Blocks that a stream may run ahead of its client.")  # fmt: skip
@click.option("--max-batch", type=values.Whole(1, _MOST_OPS), default=8, show_default=True,
              help="Ops that one forward may serve: memory is kept for so many (cluster.max_batch).")  # fmt: skip
@click.option("--dtype", default="bfloat16", show_default=True, type=click.Choice(list(_VALUE_BYTES)),
              help="Number format of weights and K/V.")  # fmt: skip
@click.option("--latents", default="float32", show_default=True, type=click.Choice(list(_VALUE_BYTES)),
              help="What latents are sent and kept as.")  # fmt: skip
@json_option
def plan_command(
    *,
    model: str,
    count: int,
    layer_split: int,
    memory: float,
    max_batch: int,
    pace: str,
    window: int,
    as_json: bool,
    **given: object,
) -> None:
    """What a cell holds of MODEL: a preset or a model directory.

    Times that are not given are those that were measured on a GPU, or modelled from them; the plan says which.
    """
    with values.in_words_of(_OPTIONS):
        numbers = _made_by(model_of(model), given["recipe"])
        times = _times(numbers, given)
        devices = Devices(
            count=count,
            memory_bytes=int(memory * _GB),
            forward_s=times.forward.value,
            decode_s=times.decode.value if times.decode else 0.0,
            value_bytes=_VALUE_BYTES[str(given["dtype"])],
            latent_value_bytes=_VALUE_BYTES[str(given["latents"])],
            layer_split=layer_split,
            max_batch=max_batch,
        )
        made = plan(numbers, devices, Pace(pace), window=window)
    beside = shared(numbers, devices, made)
    if as_json:
        told = {"recipe": numbers.recipe.plain(), "times": times, "measured": str(MEASURED), "shared": beside}
        show_json(asdict(made) | told)
        return
    lines = rows(numbers, devices, made, times, beside)
    width = max(len(name) for name, _ in lines)
    for name, value in lines:
        click.echo(f"{name.ljust(width)}  {value}")


def model_of(name: str) -> Model:
    """A preset, or what the model.json of a directory says; InvalidField if it is neither.

    "pocket" is the model that ships.
    """
    if name in PRESETS:
        return PRESETS[name]
    if name == "pocket":
        name = str(files("pocket") / "weights")
    if not Path(name).is_dir():
        raise InvalidField("MODEL", name, f"a model directory or one of pocket, {', '.join(PRESETS)}")
    from workers.models.numbers import numbers_of
    from workers.models.weights import load_info

    return numbers_of(load_info(Path(name)), Path(name))


def _made_by(model: Model, recipe: object) -> Model:
    """The model by a recipe that ships, or that of a file; by its own if there is none."""
    return under(model, find_recipe(recipe, field="recipe")) if isinstance(recipe, str) else model


def _times(model: Model, given: Mapping[str, object]) -> PlanTimes:
    forward_s, tflops, decode_s = given["forward_s"], given["tflops"], given["decode_s"]
    if forward_s is not None and tflops is not None:
        raise click.UsageError(f"--tflops: {tflops} is not allowed; allowed: one of --forward and --tflops, or neither")
    times = figures.times(model)
    if isinstance(tflops, float):
        times = replace(times, forward=figures.forward_at(model, tflops * 1e12))
    if isinstance(forward_s, float):
        times = replace(times, forward=Figure(forward_s, Basis.GIVEN))
    if isinstance(decode_s, float):
        times = replace(times, decode=Figure(decode_s, Basis.GIVEN))
    return times
