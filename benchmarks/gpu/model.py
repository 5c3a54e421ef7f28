"""The model that is measured: a directory with random weights as a server loads it, streams over it, and what it costs.

Tensor shape suffixes as in workers.models.api (B item, F latent frame, C channel, H, W, T text row).
"""

from __future__ import annotations

import math
import shutil
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from benchmarks.gpu.bench import Bench
from longtake.core.recipe.recipe import Recipe
from workers.denoise.attention import ItemPages
from workers.denoise.kv import PageMemory
from workers.models import weights
from workers.models.api import Compute, Conditioning, Denoiser, Inputs, PageShape
from workers.models.tensor_files import write_tensors
from workers.models.weights import INFO_FILE, ModelInfo, tiny_shapes
from workers.start.attention import Extent, choose


def forward_flop(info: ModelInfo, pages: int | None = None, *, layers_only_stored: int = 0) -> float:
    """Floating-point operations of one forward of a block over `pages` latent frames, or a full window of them.

    A multiplication and an addition are two. Per layer, with q own tokens, kv attended ones, T text rows, width d and
    feed-forward width f: 2 q (4 d^2 + 2 d^2 + 2 d f) for the products with weights (self q, k, v, o; cross q, o;
    feed-forward) and 4 q d (kv + T) for the two attentions. A layer whose K/V are only stored, as a commit's last, does
    2 q 2 d^2. Embeddings, norms, and the text's own K/V are left out.
    """
    dit, geometry, recipe = info.dit, info.geometry, info.recipe
    own = geometry.tokens_per_frame * recipe.blocks.frames
    attended = geometry.tokens_per_frame * (pages or recipe.page_count)
    layer = 2 * own * (6 * dit.dim**2 + 2 * dit.dim * dit.ffn_dim) + 4 * own * dit.dim * (attended + dit.text_len)
    stored = 2 * own * 2 * dit.dim**2
    return float((dit.num_layers - layers_only_stored) * layer + layers_only_stored * stored)


def page_shape(info: ModelInfo) -> PageShape:
    """What a page of the whole model holds."""
    with torch.device("meta"):
        return weights.new_denoiser(info).page_shape(info.geometry.tokens_per_frame)


def matmul_rate(bench: Bench) -> float:
    """TFLOP/s of a square matrix product: what a device gives at most."""
    side = 128 if bench.is_tiny else 8192
    a_MM, b_MM = bench.normal(side, side), bench.normal(side, side)
    return 2 * side**3 / bench.timed(lambda: a_MM @ b_MM).ms / 1e9


# --- the model directory --------------------------------------------------------------------------------------------


def model_folder(bench: Bench) -> Path:
    """The model directory of this run, made when it is first asked for; 3 GB at the size of Wan2.1-1.3B."""
    folder = bench.scratch / "model"
    if not folder.exists():
        making = bench.scratch / "making"
        shutil.rmtree(making, ignore_errors=True)  # of a phase that was cut short
        with torch.device("meta"):
            networks = weights.new_denoiser(bench.info), weights.new_decoder(bench.info)
        dit, vae = (_random(bench, network.state_dict()) for network in networks)
        weights.save_model(making, bench.info, dit, vae)
        if bench.info.tiny is not None:
            tiny = {name: torch.empty(shape, device="meta") for name, shape in tiny_shapes(bench.info.tiny).items()}
            made = _random(bench, tiny)
            write_tensors(making, weights.TINY, {name: held.nbytes for name, held in made.items()}, made.__getitem__)
        making.rename(folder)
    return folder


def folder_for(bench: Bench, name: str, recipe: Recipe) -> Path:
    """A model directory with the same weights and another recipe; its prompts are encoded without weights."""
    first, folder = model_folder(bench), bench.scratch / name
    if not folder.exists():
        geometry = bench.info.geometry.divided(recipe.blocks)
        weights.save_info(folder, replace(bench.info, name=name, recipe=recipe, geometry=geometry, text_kind="pocket"))
        for file in first.iterdir():
            if file.name != INFO_FILE:
                (folder / file.name).hardlink_to(file)
    return folder


def _random(bench: Bench, like: dict[str, Tensor]) -> dict[str, Tensor]:
    """Numbers that keep the size of what passes through."""
    random = torch.Generator(bench.device).manual_seed(1)
    made = {}
    for name, tensor in like.items():
        mean, std = 0.0, 1 / math.sqrt(math.prod(tensor.shape[1:]))
        if name.endswith("bias"):
            std = 0.02
        elif "norm" in name or "gamma" in name:
            mean, std = 1.0, 0.1
        elif "modulation" in name:
            std = 1 / math.sqrt(tensor.shape[-1])
        made[name] = torch.empty(tensor.shape, dtype=bench.dtype, device=bench.device).normal_(
            mean, std, generator=random
        )
    return made


# --- streams --------------------------------------------------------------------------------------------------------


class Streams:
    """A denoiser, and the pages, texts and newest latents of some streams whose windows are full."""

    def __init__(self, bench: Bench, denoiser: Denoiser, compute: Compute, count: int) -> None:
        self.denoiser = denoiser
        self._attention = choose(Extent.of(bench.info), compute).backend
        self._recipe = bench.info.recipe
        random = torch.Generator(bench.device).manual_seed(2)
        self._window = self._recipe.page_count
        shape = denoiser.page_shape(bench.info.geometry.tokens_per_frame)
        self._memory = PageMemory(shape, count * self._window, device=bench.device, dtype=denoiser.dtype)

        def normal(*shape: int) -> Tensor:
            return torch.randn(shape, device=bench.device, generator=random).to(bench.dtype)

        for page in range(self._memory.pages):
            self._memory.page(page).copy_(normal(*self._memory.page(page).shape))
        self._texts = [denoiser.encode_text(normal(1, *denoiser.text_shape)) for _ in range(count)]
        self._x_BFCHW = normal(count, *bench.info.geometry.block_shape).float()

    def pages(self, item: int, count: int | None = None) -> ItemPages:
        """The pages of one stream, or the first `count`."""
        reads = tuple(range(item * self._window, item * self._window + (count or self._window)))
        return ItemPages(reads=reads, writes=reads[-self._recipe.blocks.frames :])

    def inputs(self, items: range, pages: list[ItemPages] | None = None) -> Inputs:
        """What a forward over these streams is given; `pages` of each if not its full window."""
        frames, device = self._recipe.blocks.frames, self.denoiser.device
        chosen = pages or [self.pages(item) for item in items]
        first = [len(given.reads) - frames + 10 * frames * item for item, given in zip(items, chosen, strict=True)]
        return Inputs(
            x_BFCHW=self._x_BFCHW[items.start : items.stop],
            timestep_BF=torch.tensor([[self._recipe.timesteps[0]] * frames for _ in items], device=device),
            position_BF=torch.tensor([range(start, start + frames) for start in first], device=device),
            conditioning=Conditioning.batch([Conditioning(text=self._texts[item]) for item in items]),
            attention=self._attention.plan(self._memory, chosen),
        )

    def written(self, items: range) -> Tensor:
        """The K/V in the pages that forwards over these streams write."""
        return self._memory.export([page for item in items for page in self.pages(item).writes])

    def clear(self, items: range) -> None:
        """Leave nothing in them."""
        for item in items:
            for page in self.pages(item).writes:
                self._memory.page(page).fill_(torch.nan)
