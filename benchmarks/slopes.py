"""What it costs to mind distance: a forward whose attention adds to its logits against one whose attention does not.

python -m benchmarks.slopes --json                                                   # the pocket model
python -m benchmarks.slopes --device cuda --dtype bfloat16

The two take turns, which of them comes first too, each planned anew as a worker does with every op. Their times are
medians (CPU time of the thread, or the device waited for), and the ratio is the median of the ratios of neighbours:
what disturbs both of them is not in it.
"""

from __future__ import annotations

import json
import statistics
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import click
import torch

from cluster.launch.plan import POCKET, model_path
from longtake.core.recipe.positions import Positions
from longtake.core.recipe.recipe import Recipe
from workers.models import weights
from workers.models.api import Compute, Denoiser
from workers.models.weights import ModelInfo
from workers.start.attention import Extent, choose
from workers.start.probe import Subject, Trial

SLOPE = 0.1
_WARM = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class SlopeCost:
    """Medians of one forward over a full window."""

    model: str
    device: str
    dtype: str
    window_pages: int
    ops: int
    """Of one forward; each adds to its logits, or none does."""
    without_s: float
    with_s: float
    ratio: float
    """With over without."""


def measure(info: ModelInfo, denoiser: Denoiser, compute: Compute, ops: int, repeat: int) -> SlopeCost:
    """Forwards over so many ops of the model's recipe, by turns; RuntimeError if a slope changes nothing."""
    on_cuda, attention = denoiser.device.type == "cuda", choose(Extent.of(info), compute).backend

    def trial(recipe: Recipe) -> Trial:
        made = Subject(denoiser=denoiser, attention=attention, geometry=info.geometry, recipe=recipe)
        return Trial(made, size=ops)

    window = info.recipe.window.size
    times: dict[bool, list[float]] = {False: [], True: []}
    with torch.inference_mode():
        positions = [Positions(), Positions(slope=SLOPE)]
        ways = [trial(replace(info.recipe, positions=each)) for each in positions]
        if torch.equal(*(way.run(range(ops), window) for way in ways)):
            raise RuntimeError("with a slope nothing is different")
        for number in range(_WARM + repeat):
            for is_sloped in (number % 2 == 0, number % 2 == 1):
                times[is_sloped].append(ways[is_sloped].forward_s(ops))
    without, sloped = (each[_WARM:] for each in times.values())
    return SlopeCost(
        model=info.name,
        device=torch.cuda.get_device_name(denoiser.device) if on_cuda else "cpu",
        dtype=compute.dtype,
        window_pages=window,
        ops=ops,
        without_s=statistics.median(without),
        with_s=statistics.median(sloped),
        ratio=statistics.median(one / other for one, other in zip(sloped, without, strict=True)),
    )


def table(cost: SlopeCost) -> str:
    """The report for people."""
    where = f"{cost.model} on {cost.device}, {cost.dtype}, {cost.ops} ops over windows of {cost.window_pages} pages"
    took = f"without a slope {cost.without_s * 1e3:.3f} ms, with one {cost.with_s * 1e3:.3f} ms, ratio {cost.ratio:.3f}"
    return f"{where}\n{took}"


@click.command()
@click.option("--model", default=POCKET, show_default=True, help="pocket, or a model directory.")
@click.option("--device", default="cpu", show_default=True)
@click.option("--dtype", type=click.Choice(["bfloat16", "float32"]), default="float32", show_default=True)
@click.option("--ops", default=1, show_default=True, type=click.IntRange(1, 2), help="Of one forward.")
@click.option("--repeat", default=300, show_default=True, type=click.IntRange(1))
@click.option("--json", "as_json", is_flag=True)
def main(*, model: str, device: str, dtype: str, ops: int, repeat: int, as_json: bool) -> None:
    """Measure what it costs to mind distance."""
    torch.set_num_threads(1)
    folder, compute = Path(model_path(model)), Compute(device=device, dtype=dtype)
    info = weights.load_info(folder)
    cost = measure(info, weights.load_denoiser(folder, info, compute), compute, ops, repeat)
    click.echo(json.dumps(asdict(cost)) if as_json else table(cost))


if __name__ == "__main__":
    main()
