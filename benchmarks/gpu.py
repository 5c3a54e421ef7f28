"""A first look at real size: one device, random weights, a full window; what a forward, a decode and a swap take.

python -m benchmarks.gpu --json                                  # Wan2.1-1.3B at 480x832 on a CUDA device in bfloat16
python -m benchmarks.gpu --model DIR --device cpu --dtype float32 --matmul 256 --repeat 3

Only model.json of the model directory is read. Times are medians after a warm-up, with the device waited for. Tensor
shape suffixes as in workers.models.api (B item, F latent frame, C channel, H, W, T text row), P page, M matrix side.
"""

from __future__ import annotations

import json
import statistics
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import click
import torch
from torch import nn
from tqdm import tqdm

from longtake.core.errors import InvalidField
from workers.denoise.attention import ItemPages, SdpaBackend
from workers.denoise.kv import PageMemory
from workers.models import weights
from workers.models.api import Conditioning, Inputs
from workers.models.weights import ModelInfo

WAN_1_3B = Path(__file__).parent / "wan2.1-1.3b"
_TERA = 1e12
_GIGA = 1e9


@dataclass(frozen=True, slots=True, kw_only=True)
class ForwardRow:
    """Forwards of `batch` sessions in one."""

    batch: int
    denoise_s: float
    commit_s: float
    gain: float
    """batch t(1) / t(batch), denoise and commit together."""
    denoise_peak_share: float
    """Of the device's measured matrix product rate."""
    commit_peak_share: float
    frames_per_s: float
    """Pictures a second of all batched sessions together, if the device did nothing but their forwards."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """Everything about one model on one device."""

    model: str
    device: str
    dtype: str
    forward_tflop: float
    """Of one denoise forward with a full window, by the formula of `forward_flop`."""
    matmul_tflop_per_s: float
    forwards: tuple[ForwardRow, ...]
    decode_s: float
    """Decoding one block of one session, not its first."""
    session_frames_per_s: float
    """Pictures a second of one session when decoding shares the device: pictures / (steps (D + C) + decode)."""
    page_bytes: int
    page_out_gb_per_s: float
    """Copies of pages, one by one, to host memory (pinned beside CUDA)."""
    page_in_gb_per_s: float
    """Copies of the pages back to the device."""
    device_gb: float
    """Most memory of a CUDA device that was allocated at once; 0 on a CPU."""


def forward_flop(info: ModelInfo, *, layers_only_stored: int = 0) -> float:
    """Floating-point operations of one forward of a block with a full window; a multiplication and addition are two.

    Per layer, with q own tokens, kv attended ones, T text rows, width d and feed-forward width f:
    2 q (4 d^2 + 2 d^2 + 2 d f) for the products with weights (self q, k, v, o; cross q, o; feed-forward) and 4 q d
    (kv + T) for the two attentions. A layer whose K/V are only stored, as a commit's last, does 2 q 2 d^2. Embeddings,
    norms, and the text's own K/V are left out.
    """
    dit, geometry, recipe = info.dit, info.geometry, info.recipe
    own = geometry.tokens_per_frame * recipe.blocks.frames
    attended = geometry.tokens_per_frame * recipe.page_count
    layer = 2 * own * (6 * dit.dim**2 + 2 * dit.dim * dit.ffn_dim) + 4 * own * dit.dim * (attended + dit.text_len)
    stored = 2 * own * 2 * dit.dim**2
    return float((dit.num_layers - layers_only_stored) * layer + layers_only_stored * stored)


class Bench:
    """Random weights of one model on one device, and the stopwatch."""

    def __init__(self, info: ModelInfo, device: torch.device, dtype: torch.dtype, repeat: int) -> None:
        self.info, self.device, self.dtype, self.repeat = info, device, dtype, repeat
        torch.manual_seed(0)

    def made(self, module: nn.Module) -> nn.Module:
        """A module ready to serve, in type and place of this bench."""
        return module.to(device=self.device, dtype=self.dtype).eval().requires_grad_(False)

    def wait(self) -> None:
        """Until the device has done everything."""
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)

    def seconds(self, call: Callable[[], object]) -> float:
        """Median time of a call, the first two not counted."""
        times = []
        with torch.inference_mode():
            for _ in range(2 + self.repeat):
                self.wait()
                began_s = time.perf_counter()
                call()
                self.wait()
                times.append(time.perf_counter() - began_s)
        return statistics.median(times[2:])

    def matmul_flop_per_s(self, side: int) -> float:
        """Rate of a square matrix product."""
        a_MM = torch.randn(side, side, device=self.device, dtype=self.dtype)
        b_MM = torch.randn(side, side, device=self.device, dtype=self.dtype)
        return 2 * side**3 / self.seconds(lambda: a_MM @ b_MM)


class Forwards:
    """The transformer and pages for up to `sessions` sessions whose windows are full."""

    def __init__(self, bench: Bench, sessions: int) -> None:
        info = bench.info
        with bench.device:
            self._model = weights.new_denoiser(info)
        bench.made(self._model)
        self._bench = bench
        shape = self._model.page_shape(info.geometry.tokens_per_frame)
        self.memory = PageMemory(shape, sessions * info.recipe.page_count, device=bench.device, dtype=bench.dtype)
        self.memory.kv_YUPLND.normal_()
        text_BTC = torch.randn(1, *self._model.text_shape, device=bench.device)
        with torch.inference_mode():
            self._steering = Conditioning(text=self._model.encode_text(text_BTC))

    def seconds(self, batch: int) -> tuple[float, float]:
        """Times of the denoise and of the commit forward of the newest block of `batch` sessions."""
        info, device = self._bench.info, self._bench.device
        window, own = info.recipe.page_count, info.recipe.blocks.frames
        items = []
        for item in range(batch):
            reads = tuple(range(item * window, (item + 1) * window))
            items.append(ItemPages(reads=reads, writes=reads[-own:]))
        inputs = Inputs(
            x_BFCHW=torch.randn(batch, *info.geometry.block_shape, device=device),
            timestep_BF=torch.full((batch, own), info.recipe.timesteps[0], device=device),
            position_BF=torch.arange(window - own, window, device=device).expand(batch, own),
            conditioning=Conditioning.batch([self._steering] * batch),
            attention=SdpaBackend().plan(self.memory, items),
        )
        denoise_s = self._bench.seconds(lambda: self._model.denoise(inputs))
        commit_s = self._bench.seconds(lambda: self._model.commit(inputs))
        return denoise_s, commit_s


def decode_seconds(bench: Bench) -> float:
    """Time of decoding one block of one session, not its first."""
    info = bench.info
    with bench.device:
        decoder = weights.new_decoder(info)
    bench.made(decoder)
    frames, channels, rows, columns = info.geometry.block_shape
    z_BCFHW = torch.randn(1, channels, frames, rows, columns, device=bench.device, dtype=bench.dtype)
    with torch.inference_mode():
        state = decoder.initial_state(1, rows, columns)
        decoder.decode(z_BCFHW, state)
    return bench.seconds(lambda: decoder.decode(z_BCFHW, state))


def swap_rates(bench: Bench, memory: PageMemory) -> tuple[float, float]:
    """Bytes a second of a page to host memory and back; RuntimeError if it comes back changed."""
    page_bytes = memory.shape.size_bytes(bench.dtype)
    before = memory.export([0])
    pinned = bench.device.type == "cuda"
    host = torch.empty(before.shape, dtype=bench.dtype, pin_memory=pinned)
    out_s = bench.seconds(lambda: host.copy_(memory.export([0]), non_blocking=True))
    memory.kv_YUPLND[:, :, 0].zero_()
    in_s = bench.seconds(lambda: memory.restore([0], host.to(bench.device, non_blocking=True)))
    if not torch.equal(memory.export([0]), before):
        raise RuntimeError("a page came back changed")
    return page_bytes / out_s, page_bytes / in_s


def measure(
    info: ModelInfo, *, device: torch.device, dtype: torch.dtype, batches: tuple[int, ...], matmul: int, repeat: int
) -> Report:
    """Every figure of the report; `batches` must begin with 1, `matmul` is the side of the matrices of the peak."""
    if batches[0] != 1:
        raise InvalidField("batch", list(batches), "1 first: gains are against it")
    bench = Bench(info, device, dtype, repeat)
    steps = info.recipe.step_count
    pictures = info.geometry.pictures(1)
    with tqdm(total=len(batches) + 3, desc=info.name, leave=False) as bar:
        peak = bench.matmul_flop_per_s(matmul)
        bar.update()
        forwards = Forwards(bench, max(batches))
        rows: list[ForwardRow] = []
        for batch in batches:
            denoise_s, commit_s = forwards.seconds(batch)
            alone_s = rows[0].denoise_s + rows[0].commit_s if rows else denoise_s + commit_s
            rows.append(
                ForwardRow(
                    batch=batch,
                    denoise_s=denoise_s,
                    commit_s=commit_s,
                    gain=batch * alone_s / (denoise_s + commit_s),
                    denoise_peak_share=batch * forward_flop(info) / denoise_s / peak,
                    commit_peak_share=batch * forward_flop(info, layers_only_stored=1) / commit_s / peak,
                    frames_per_s=batch * pictures / (steps * (denoise_s + commit_s)),
                )
            )
            bar.update()
        out_rate, in_rate = swap_rates(bench, forwards.memory)
        bar.update()
        decode_s = decode_seconds(bench)
        bar.update()
    one = rows[0]
    return Report(
        model=info.name,
        device=torch.cuda.get_device_name(device) if device.type == "cuda" else device.type,
        dtype=str(dtype).removeprefix("torch."),
        forward_tflop=forward_flop(info) / _TERA,
        matmul_tflop_per_s=peak / _TERA,
        forwards=tuple(rows),
        decode_s=decode_s,
        session_frames_per_s=pictures / (steps * (one.denoise_s + one.commit_s) + decode_s),
        page_bytes=forwards.memory.shape.size_bytes(dtype),
        page_out_gb_per_s=out_rate / _GIGA,
        page_in_gb_per_s=in_rate / _GIGA,
        device_gb=torch.cuda.max_memory_allocated(device) / _GIGA if device.type == "cuda" else 0.0,
    )


def table(report: Report) -> str:
    """The report for people."""
    lines = [
        f"{report.model} on {report.device}, {report.dtype}",
        f"a full-window forward has {report.forward_tflop:.4g} TFLOP",
        f"a matrix product reaches {report.matmul_tflop_per_s:.4g} TFLOP/s",
        "batch  denoise (s)  share of peak  commit (s)  share of peak   gain  pictures/s",
    ]
    lines += [
        f"{row.batch:5d}  {row.denoise_s:11.4f}  {row.denoise_peak_share:13.1%}  {row.commit_s:10.4f}"
        f"  {row.commit_peak_share:13.1%}  {row.gain:5.2f}  {row.frames_per_s:10.2f}"
        for row in report.forwards
    ]
    lines += [
        f"decoding a block {report.decode_s:.4f} s; one session {report.session_frames_per_s:.2f} pictures/s with it",
        f"page of {report.page_bytes} bytes to host memory: {report.page_out_gb_per_s:.2f} GB/s",
        f"and back: {report.page_in_gb_per_s:.2f} GB/s",
        f"most device memory {report.device_gb:.1f} GB",
    ]
    return "\n".join(lines)


@click.command()
@click.option("--model", type=click.Path(path_type=Path), default=WAN_1_3B, help="Directory with a model.json.")
@click.option("--device", default="cuda", show_default=True)
@click.option("--dtype", type=click.Choice(["bfloat16", "float32"]), default="bfloat16", show_default=True)
@click.option("--batch", "batches", multiple=True, type=click.IntRange(1), default=(1, 2, 4, 8), show_default=True)
@click.option("--matmul", default=8192, show_default=True, help="Side of the matrices that tell the device's peak.")
@click.option("--repeat", default=10, show_default=True, type=click.IntRange(1))
@click.option("--json", "as_json", is_flag=True)
def main(
    model: Path, device: str, dtype: str, batches: tuple[int, ...], matmul: int, repeat: int, as_json: bool
) -> None:
    """Measure one model with random weights on one device."""
    if device.startswith("cuda") and not torch.cuda.is_available():
        raise click.UsageError("no CUDA device is here; see --device cpu with a small --model")
    if device == "cpu":
        torch.set_num_threads(1)
    report = measure(
        weights.load_info(model),
        device=torch.device(device),
        dtype=torch.bfloat16 if dtype == "bfloat16" else torch.float32,
        batches=batches,
        matmul=matmul,
        repeat=repeat,
    )
    click.echo(json.dumps(asdict(report)) if as_json else table(report))


if __name__ == "__main__":
    main()
