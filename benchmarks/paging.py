"""What pages cost: attention over a view, over gathered pages, and with a buffer that is rolled; swaps and moves.

python -m benchmarks.paging --json                                                  # the pocket model
python -m benchmarks.paging --model benchmarks/wan2.1-1.3b --layers 2 --tokens 96   # a larger one, cut to the machine
python -m benchmarks.paging --model benchmarks/wan2.1-1.3b --device cuda --dtype bfloat16

Theory of operation. Only the self-attention of one forward with a full window is run, over all layers, after the own
keys and values were written; the three ways take turns, and each figure is a median (CPU time of the thread, or the
device waited for).
    view      the lane's pages lie in one run: attention reads the pool in place
    gather    they are scattered: copied together first, page by page
    memmove   no pages: one contiguous buffer, which each new block moves down by its own length (HiAR's way)
All three must give the same bits. Swaps and moves are those of the server, made by workers.images: `swap` is Stow and
LoadImage of one lane's pages, `move` is Give by one process and Take and LoadImage by another, with their meeting.
Tensor shape suffixes as in workers.kv, S attended key.
"""

from __future__ import annotations

import json
import multiprocessing
import queue
import statistics
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from multiprocessing.connection import Connection
from pathlib import Path

import click
import torch
from torch import Tensor
from tqdm import tqdm

from cluster.launch.plan import POCKET, model_path
from longtake.core.effects import Give, LoadImage, Stow, Take
from longtake.core.work import ImageId, PageId, SessionId, WorkerId
from workers.denoise.attention import ItemPages, SdpaBackend
from workers.denoise.kv import PageMemory
from workers.images.thread import ImagesBroken, ImageThread
from workers.messages import ImageGone, ImageLoaded, ImageStowed, Up
from workers.models import weights
from workers.models.api import PageShape, SelfAttention, sdpa
from workers.models.weights import ModelInfo
from workers.orders import Filled
from workers.peers import MeetingPoint

_GIGA = 1e9
_SESSION = SessionId("measured")
_GIVER, _TAKER = WorkerId("giver"), WorkerId("taker")
_WAIT_S = 120.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Size:
    """The lane that is measured."""

    name: str
    shape: PageShape
    window: int
    """Pages of a lane."""
    own: int
    """Pages of a block."""
    device: str
    dtype: torch.dtype

    @property
    def lane_bytes(self) -> int:
        return self.window * self.shape.size_bytes(self.dtype)


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """Everything about one size."""

    model: str
    device: str
    dtype: str
    layers: int
    tokens_per_frame: int
    window_pages: int
    page_bytes: int
    lane_bytes: int
    view_s: float
    """Attention of one forward, all layers, over pages in one run, of which it takes a view."""
    gather_s: float
    memmove_s: float
    gather_ratio: float
    """The time of `gather_s` over that of `view_s`."""
    memmove_ratio: float
    stow_gb_per_s: float
    load_gb_per_s: float
    swap_gb_per_s: float
    """Bytes of a lane a second, out and back in."""
    swap_s: float
    move_gb_per_s: float
    """From host memory of one process into pages of another."""
    move_s: float


def size_of(info: ModelInfo, *, layers: int, tokens: int, device: str, dtype: torch.dtype) -> Size:
    """The model's own size, or with that many layers and tokens of a latent frame; 0: the model's."""
    with torch.device("meta"):
        shape = weights.new_denoiser(info).page_shape(tokens or info.geometry.tokens_per_frame)
    recipe = info.recipe
    return Size(
        name=info.name,
        shape=replace(shape, layers=range(layers)) if layers else shape,
        window=recipe.page_count,
        own=recipe.blocks.frames,
        device=device,
        dtype=dtype,
    )


class Attentions:
    """One forward's attention in the three ways, over equal contents."""

    def __init__(self, size: Size) -> None:
        torch.manual_seed(0)
        shape, window, own = size.shape, size.window, size.own
        self._layers = shape.layers
        device = torch.device(size.device)
        self._memory = PageMemory(shape, 2 * window, device=device, dtype=size.dtype)
        run = list(range(window))
        scattered = [window + (5 * page) % window if window % 5 else 2 * window - 1 - page for page in run]
        self._memory.kv_YUPLND[:, :, :window].normal_()
        self._memory.kv_YUPLND[:, :, scattered] = self._memory.kv_YUPLND[:, :, :window]
        self._view, self._gathered = (
            SdpaBackend().plan(self._memory, [ItemPages(reads=tuple(pages), writes=tuple(pages[-own:]))])
            for pages in (run, scattered)
        )
        heads = (shape.num_heads, shape.head_dim)
        self._own_tokens = own * shape.tokens_per_frame
        self._q_BLND, self._k_BLND, self._v_BLND = (
            torch.randn(1, self._own_tokens, *heads, device=device, dtype=size.dtype) for _ in range(3)
        )
        # The past of the window lies where the next roll brings it to the front.
        lane_YUSND = self._memory.kv_YUPLND[:, :, :window].flatten(2, 3)
        self._buffer_YUSND = torch.empty_like(lane_YUSND, memory_format=torch.contiguous_format)
        self._lane_YUSND = lane_YUSND
        self.refill()

    def refill(self) -> None:
        """Put the buffer back to before its first roll."""
        self._buffer_YUSND[:, :, self._own_tokens :] = self._lane_YUSND[:, :, : -self._own_tokens]

    def view(self) -> Tensor:
        """The last layer's result [B, L, N, D], as those below."""
        return self._paged(self._view)

    def gather(self) -> Tensor:
        return self._paged(self._gathered)

    def memmove(self) -> Tensor:
        own = self._own_tokens
        for kv_USND in self._buffer_YUSND:
            kv_USND[:, :-own] = kv_USND[:, own:].clone()  # source and target overlap
            kv_USND[0, -own:] = self._k_BLND[0]
            kv_USND[1, -own:] = self._v_BLND[0]
            out_BLND = sdpa(self._q_BLND, kv_USND[0][None], kv_USND[1][None])
        return out_BLND

    def _paged(self, attention: SelfAttention) -> Tensor:
        for layer in self._layers:
            out_BLND = attention.attend(layer, self._q_BLND, self._k_BLND, self._v_BLND)
        return out_BLND


def attention_seconds(size: Size, repeat: int) -> tuple[float, float, float]:
    """Medians of view, gather and memmove, which take turns; RuntimeError if they differ in a bit."""
    on_cuda = size.device.startswith("cuda")
    clock = time.perf_counter if on_cuda else time.thread_time
    times: list[list[float]] = [[], [], []]
    with torch.inference_mode():
        made = Attentions(size)
        first, *others = made.view(), made.gather(), made.memmove()
        if not all(torch.equal(first, other) for other in others):
            raise RuntimeError("the three ways differ")
        for _ in range(repeat):
            for taken, call in zip(times, (made.view, made.gather, made.memmove), strict=True):
                if on_cuda:
                    torch.cuda.synchronize()
                began_s = clock()
                call()
                if on_cuda:
                    torch.cuda.synchronize()
                taken.append(clock() - began_s)
    view_s, gather_s, memmove_s = (statistics.median(taken) for taken in times)
    return view_s, gather_s, memmove_s


class Lane:
    """Pages of one lane, twice, and the thread that makes and uses images of them."""

    def __init__(self, size: Size, meeting_point: str = "") -> None:
        self.device = torch.device(size.device)
        self.window = size.window
        self._memory = PageMemory(size.shape, 2 * size.window, device=self.device, dtype=size.dtype)
        self._told: queue.SimpleQueue[Up | Filled | ImagesBroken] = queue.SimpleQueue()
        self.images = ImageThread(self, meeting_point=meeting_point, report=self._told.put, hand_over=self._told.put)
        self.images.start()

    def page(self, page: PageId) -> Tensor:
        """See workers.images.Holder."""
        return self._memory.page(page)

    @property
    def here(self) -> tuple[PageId, ...]:
        return tuple(PageId(page) for page in range(self.window))

    @property
    def there(self) -> tuple[PageId, ...]:
        """Other pages, in another order."""
        return tuple(PageId(page) for page in reversed(range(self.window, 2 * self.window)))

    def fill(self) -> None:
        """Different numbers in every page."""
        self._memory.kv_YUPLND.copy_(torch.randn(self._memory.kv_YUPLND.shape))

    def done(self, kind: type[ImageStowed] | type[ImageLoaded]) -> None:
        """Wait for a report; RuntimeError if it is another."""
        report = self._told.get(timeout=_WAIT_S)
        if not isinstance(report, kind):
            raise RuntimeError(report.reason if isinstance(report, ImageGone) else str(report))

    def stow(self, image: int) -> None:
        self.images.put(Stow(worker=_GIVER, session=_SESSION, image=ImageId(image), source=self.here))
        self.done(ImageStowed)

    def load(self, image: int) -> None:
        self.images.put(LoadImage(worker=_GIVER, session=_SESSION, image=ImageId(image), target=self.there))
        self.done(ImageLoaded)

    def fingerprint(self, pages: tuple[PageId, ...]) -> list[float]:
        """Sum of each page, in order."""
        return [float(self.page(page).double().sum()) for page in pages]


def swap_seconds(size: Size, repeat: int) -> tuple[float, float]:
    """Medians of Stow and of LoadImage of a lane, not counting the first; RuntimeError if it comes back changed."""
    lane = Lane(size)
    lane.fill()
    stows, loads = [], []
    for image in range(repeat + 1):
        began_s = time.perf_counter()
        lane.stow(image)
        stowed_s = time.perf_counter()
        lane.load(image)
        stows.append(stowed_s - began_s)
        loads.append(time.perf_counter() - stowed_s)
    if not all(torch.equal(lane.page(a), lane.page(b)) for a, b in zip(lane.here, lane.there, strict=True)):
        raise RuntimeError("a page came back changed")
    lane.images.stop(_WAIT_S)
    return statistics.median(stows[1:]), statistics.median(loads[1:])


def move_seconds(size: Size, repeat: int) -> float:
    """Median of moving a stowed lane into another process, not counting the first; RuntimeError if it changes."""
    meeting_point = MeetingPoint()
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    taker = context.Process(target=_taker, args=(size, meeting_point.address, theirs), daemon=True)
    taker.start()
    theirs.close()
    try:
        lane = Lane(size, meeting_point.address)
        lane.fill()
        expected = lane.fingerprint(lane.here)
        _answer(ours)
        times = []
        for image in range(repeat + 1):
            lane.stow(image)
            began_s = time.perf_counter()
            ours.send(image)
            lane.images.put(Give(worker=_GIVER, session=_SESSION, image=ImageId(image), to=_TAKER))
            _answer(ours)
            times.append(time.perf_counter() - began_s)
        ours.send(None)
        if _answer(ours) != expected:
            raise RuntimeError("a lane arrived changed")
        lane.images.stop(_WAIT_S)
    finally:
        taker.join(5)
        if taker.is_alive():
            taker.kill()
    return statistics.median(times[1:])


def _taker(size: Size, meeting_point: str, pipe: Connection) -> None:
    """The other process: takes each image it is told of; at the end says what it has."""
    torch.set_num_threads(1)
    lane = Lane(size, meeting_point)
    pipe.send([])
    while (image := pipe.recv()) is not None:
        lane.images.put(Take(worker=_TAKER, session=_SESSION, image=ImageId(image), origin=_GIVER))
        lane.load(image)
        pipe.send([])
    pipe.send(lane.fingerprint(lane.there))
    lane.images.stop(_WAIT_S)


def _answer(pipe: Connection) -> list[float]:
    """RuntimeError if the other process is gone, or too slow."""
    if not pipe.poll(_WAIT_S):
        raise RuntimeError("the other process does not answer")
    try:
        answer: list[float] = pipe.recv()
    except EOFError:
        raise RuntimeError("the other process ended") from None
    return answer


def measure(size: Size, repeat: int, progress: Callable[[], object]) -> Report:
    """Every figure of one size."""
    view_s, gather_s, memmove_s = attention_seconds(size, repeat)
    progress()
    stow_s, load_s = swap_seconds(size, repeat)
    progress()
    move_s = move_seconds(size, repeat)
    progress()
    return Report(
        model=size.name,
        device=torch.cuda.get_device_name(size.device) if size.device.startswith("cuda") else size.device,
        dtype=str(size.dtype).removeprefix("torch."),
        layers=len(size.shape.layers),
        tokens_per_frame=size.shape.tokens_per_frame,
        window_pages=size.window,
        page_bytes=size.shape.size_bytes(size.dtype),
        lane_bytes=size.lane_bytes,
        view_s=view_s,
        gather_s=gather_s,
        memmove_s=memmove_s,
        gather_ratio=gather_s / view_s,
        memmove_ratio=memmove_s / view_s,
        stow_gb_per_s=size.lane_bytes / stow_s / _GIGA,
        load_gb_per_s=size.lane_bytes / load_s / _GIGA,
        swap_gb_per_s=size.lane_bytes / (stow_s + load_s) / _GIGA,
        swap_s=stow_s + load_s,
        move_gb_per_s=size.lane_bytes / move_s / _GIGA,
        move_s=move_s,
    )


def table(report: Report) -> str:
    """The report for people."""
    return "\n".join(
        [
            f"{report.model} on {report.device}, {report.dtype}: {report.layers} layers, "
            f"{report.tokens_per_frame} tokens a latent frame, "
            f"{report.window_pages} pages of {report.page_bytes} bytes a lane",
            "attention of one forward       ms   against view",
            f"  view                    {report.view_s * 1e3:9.3f}",
            f"  gather                  {report.gather_s * 1e3:9.3f}   {report.gather_ratio:12.3f}",
            f"  memmove                 {report.memmove_s * 1e3:9.3f}   {report.memmove_ratio:12.3f}",
            f"lane of {report.lane_bytes / 1e6:.2f} MB          ms           GB/s",
            f"  swap (stow and load)    {report.swap_s * 1e3:9.3f}   {report.swap_gb_per_s:12.2f}"
            f"   (stow {report.stow_gb_per_s:.2f}, load {report.load_gb_per_s:.2f})",
            f"  move to another process {report.move_s * 1e3:9.3f}   {report.move_gb_per_s:12.2f}",
        ]
    )


@click.command()
@click.option("--model", default=POCKET, show_default=True, help="pocket, or a directory with a model.json.")
@click.option("--layers", default=0, type=click.IntRange(0), help="Instead of the model's.")
@click.option("--tokens", default=0, type=click.IntRange(0), help="Of a latent frame, instead of the model's.")
@click.option("--device", default="cpu", show_default=True)
@click.option("--dtype", type=click.Choice(["bfloat16", "float32"]), default="float32", show_default=True)
@click.option("--repeat", default=20, show_default=True, type=click.IntRange(1))
@click.option("--json", "as_json", is_flag=True)
def main(model: str, layers: int, tokens: int, device: str, dtype: str, repeat: int, as_json: bool) -> None:
    """Measure what pages cost at one size."""
    if device.startswith("cuda") and not torch.cuda.is_available():
        raise click.UsageError("no CUDA device is here; see --device cpu")
    torch.set_num_threads(1)
    size = size_of(
        weights.load_info(Path(model_path(model))),
        layers=layers,
        tokens=tokens,
        device=device,
        dtype=torch.bfloat16 if dtype == "bfloat16" else torch.float32,
    )
    with tqdm(total=3, desc=size.name, leave=False) as bar:
        report = measure(size, repeat, bar.update)
    click.echo(json.dumps(asdict(report)) if as_json else table(report))


if __name__ == "__main__":
    main()
