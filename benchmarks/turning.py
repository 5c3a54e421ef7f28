"""What it costs to turn keys as they are read: a forward over pages without time against one over pages that have it.

python -m benchmarks.turning --json                                                  # the pocket model
python -m benchmarks.turning --device cuda --dtype bfloat16

Theory of operation. The same forward runs in four ways that take turns: its window lies in one run of pages, or
scattered; and the keys in them have their time (written), or get it as they are read (read). Each is planned anew, as a
worker does with every op. A figure is a median (CPU time of the thread, or the device waited for). Written and read
must give the same bits, or there is no figure; where kernels are made for the device, a product and a sum of a rotation
may be rounded once instead of twice, and the same within the last bits of the type is asked for.
"""

from __future__ import annotations

import json
import statistics
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

import click
import torch
from torch import Tensor

from cluster.launch.plan import POCKET, model_path
from workers.denoise.attention import ItemPages
from workers.denoise.kv import PageMemory
from workers.models import weights
from workers.models.api import Compute, Conditioning, Denoiser, Inputs
from workers.models.rotary import rotate, time_turn
from workers.models.weights import ModelInfo
from workers.start.attention import Extent, choose

_WARM = 3
_ALIKE = 0.02
"""How far flows may be apart, in the mean and against their mean size, where kernels are made for the device."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TurningCost:
    """Medians of one forward over a full window, and their ratios: read over written."""

    model: str
    device: str
    dtype: str
    window_pages: int
    run_written_s: float
    run_read_s: float
    run_ratio: float
    scattered_written_s: float
    scattered_read_s: float
    scattered_ratio: float


class Forwards:
    """One forward in the four ways."""

    def __init__(self, info: ModelInfo, denoiser: Denoiser, compute: Compute) -> None:
        recipe, geometry = info.recipe, info.geometry
        device, window = denoiser.device, recipe.page_count
        self._denoiser = denoiser
        self._attention = choose(Extent.of(info), compute).backend
        self._own = recipe.blocks.frames
        self._window = window
        shape = denoiser.page_shape(geometry.tokens_per_frame)
        random = torch.Generator(device).manual_seed(0)

        def normal(*size: int) -> Tensor:
            return torch.randn(size, device=device, generator=random)

        self._memory = PageMemory(shape, 4 * window, device=device, dtype=denoiser.dtype)
        lane_YUPLND = self._memory.kv_YUPLND[:, :, :window]
        lane_YUPLND.copy_(normal(*lane_YUPLND.shape))
        turn = time_turn(torch.arange(window, device=device), shape.time_pairs, shape.head_dim)
        timed_YUPLND = lane_YUPLND.clone()
        for kv_UPLND in timed_YUPLND:
            kv_UPLND[0] = rotate(kv_UPLND[0], turn)
        order = [(5 * page) % window if window % 5 else window - 1 - page for page in range(window)]
        self._pages = {"run": list(range(window)), "scattered": [window + page for page in order]}
        for first, contents_YUPLND in ((0, lane_YUPLND), (2 * window, timed_YUPLND)):
            for pages in self._pages.values():
                self._memory.kv_YUPLND[:, :, [first + page for page in pages]] = contents_YUPLND
        self._x_BFCHW = normal(1, *geometry.block_shape)
        self._timestep = float(recipe.timesteps[0])
        self._text = Conditioning(text=denoiser.encode_text(normal(1, *denoiser.text_shape)))

    def forward(self, where: str, *, is_read: bool) -> Tensor:
        """Flow [1, F, C, H, W] over pages that lie in one `run` or `scattered`."""
        window, own, device = self._window, self._own, self._denoiser.device
        pages = tuple(page + 2 * window * (not is_read) for page in self._pages[where])
        item = ItemPages(reads=pages, writes=pages[-own:], turns=tuple(range(window)) if is_read else ())
        stored = torch.zeros(1, own, dtype=torch.int64, device=device) if is_read else None
        return self._denoiser.denoise(
            Inputs(
                x_BFCHW=self._x_BFCHW,
                timestep_BF=torch.full((1, own), self._timestep, device=device),
                position_BF=torch.arange(window - own, window, device=device).unsqueeze(0),
                conditioning=self._text,
                attention=self._attention.plan(self._memory, [item]),
                key_position_BF=stored,
            )
        )


def measure(info: ModelInfo, denoiser: Denoiser, compute: Compute, repeat: int) -> TurningCost:
    """The four ways by turns; RuntimeError if written and read differ."""
    on_cuda = denoiser.device.type == "cuda"
    clock = time.perf_counter if on_cuda else time.thread_time
    with torch.inference_mode():
        made = Forwards(info, denoiser, compute)
        ways = [(where, is_read) for where in ("run", "scattered") for is_read in (False, True)]
        for where in ("run", "scattered"):
            read, written = made.forward(where, is_read=True), made.forward(where, is_read=False)
            apart = float((read - written).abs().mean() / written.abs().mean())
            if apart > (_ALIKE if compute.fuses else 0.0):
                raise RuntimeError(f"over pages that lie {where}, keys turned when read give flows {apart:.2g} apart")
        times: dict[tuple[str, bool], list[float]] = {way: [] for way in ways}
        for _ in range(_WARM + repeat):
            for where, is_read in ways:
                call = partial(made.forward, where, is_read=is_read)
                times[where, is_read].append(_seconds(call, clock, on_cuda=on_cuda))
    taken = {way: statistics.median(each[_WARM:]) for way, each in times.items()}
    return TurningCost(
        model=info.name,
        device=torch.cuda.get_device_name(denoiser.device) if on_cuda else "cpu",
        dtype=compute.dtype,
        window_pages=info.recipe.page_count,
        run_written_s=taken["run", False],
        run_read_s=taken["run", True],
        run_ratio=taken["run", True] / taken["run", False],
        scattered_written_s=taken["scattered", False],
        scattered_read_s=taken["scattered", True],
        scattered_ratio=taken["scattered", True] / taken["scattered", False],
    )


def _seconds(call: Callable[[], Tensor], clock: Callable[[], float], *, on_cuda: bool) -> float:
    if on_cuda:
        torch.cuda.synchronize()
    began_s = clock()
    call()
    if on_cuda:
        torch.cuda.synchronize()
    return clock() - began_s


def table(cost: TurningCost) -> str:
    """The report for people."""
    run = f"{cost.run_written_s * 1e3:9.3f}{cost.run_read_s * 1e3:9.3f}{cost.run_ratio:8.3f}"
    scattered = f"{cost.scattered_written_s * 1e3:9.3f}{cost.scattered_read_s * 1e3:9.3f}{cost.scattered_ratio:8.3f}"
    return "\n".join(
        [
            f"{cost.model} on {cost.device}, {cost.dtype}, a window of {cost.window_pages} pages",
            "keys turned when            written     read   ratio",
            f"  pages in one run (ms)   {run}",
            f"  scattered pages (ms)    {scattered}",
        ]
    )


@click.command()
@click.option("--model", default=POCKET, show_default=True, help="pocket, or a model directory.")
@click.option("--device", default="cpu", show_default=True)
@click.option("--dtype", type=click.Choice(["bfloat16", "float32"]), default="float32", show_default=True)
@click.option("--repeat", default=300, show_default=True, type=click.IntRange(1))
@click.option("--json", "as_json", is_flag=True)
def main(model: str, device: str, dtype: str, repeat: int, as_json: bool) -> None:
    """Measure what it costs to turn keys as they are read."""
    torch.set_num_threads(1)
    folder, compute = Path(model_path(model)), Compute(device=device, dtype=dtype)
    info = weights.load_info(folder)
    cost = measure(info, weights.load_denoiser(folder, info, compute), compute, repeat)
    click.echo(json.dumps(asdict(cost)) if as_json else table(cost))


if __name__ == "__main__":
    main()
