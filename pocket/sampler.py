"""A local sampler of the pocket model: depth first with contiguous keys and values, many sequences at once.

It is how training looks at itself; what is served runs through the engine and its pages instead.
Shapes: B sequence, F latent frame, C channel, H, W height and width, L token, N head, D head channel.
"""

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from longtake.core.recipe.context import Level
from pocket.conditioning import SIGMAS, noised
from pocket.config import FRAMES_PER_BLOCK, WINDOW_FRAMES
from pocket.data import Scale
from workers.models import pocket_text
from workers.models.api import Conditioning, Inputs, sdpa
from workers.models.pocket_text import Scene
from workers.models.wan.dit import WanModel
from workers.models.wan.vae import WanDecoder


class LaneCache:
    """Keys and values of the past blocks of one lane, per layer, oldest first."""

    def __init__(self, layers: int, past_blocks: int) -> None:
        self._past_blocks = past_blocks
        self._kv: list[list[tuple[Tensor, Tensor]]] = [[] for _ in range(layers)]
        self.keep = False

    def attend(self, layer: int, q_BLND: Tensor, k_BLND: Tensor, v_BLND: Tensor) -> Tensor:
        """Attention over the kept blocks and the own one, which is kept too when `keep` is set."""
        past = self._kv[layer]
        k = torch.cat([*(pair[0] for pair in past), k_BLND], 1)
        v = torch.cat([*(pair[1] for pair in past), v_BLND], 1)
        out = sdpa(q_BLND, k, v)
        if self.keep:
            self.store(layer, k_BLND, v_BLND)
        return out

    def store(self, layer: int, k_BLND: Tensor, v_BLND: Tensor) -> None:
        """Keeps a block and forgets the one that leaves the window."""
        self._kv[layer] = [*self._kv[layer], (k_BLND, v_BLND)][-self._past_blocks :]


class Sampler:
    """Streams of several prompts in step: `next_block` yields the next block's latents of all of them."""

    def __init__(self, model: WanModel, scenes: Sequence[Scene], seed: int, level: Level = Level.OUTPUT) -> None:
        self._model = model
        self._level = level
        self._random = torch.Generator().manual_seed(seed)
        past = WINDOW_FRAMES // FRAMES_PER_BLOCK - 1
        lanes = 1 if level is Level.CLEAN else len(SIGMAS)
        self._lanes = [LaneCache(model.config.num_layers, past) for _ in range(lanes)]
        self._block = 0
        self.cue(scenes)

    @torch.no_grad()
    def cue(self, scenes: Sequence[Scene]) -> None:
        """New prompts, from the next block on."""
        rows = np.stack([pocket_text.encode(scene, self._model.config.text_dim) for scene in scenes])
        self._steering = Conditioning(text=self._model.encode_text(torch.from_numpy(rows)))
        self._streams = len(scenes)

    @torch.no_grad()
    def next_block(self) -> Tensor:
        """Normalised latents [B, F, C, H, W] of the next block."""
        shape = (self._streams, FRAMES_PER_BLOCK, self._model.config.in_dim, 8, 8)
        x = torch.randn(shape, generator=self._random)
        for step, (sigma, after) in enumerate(pairwise([*SIGMAS, 0.0])):
            lane = self._lanes[step % len(self._lanes)]
            lane.keep = self._level is Level.INPUT
            x = x - sigma * self._model(self._inputs(x, sigma, lane))
            if after > 0:
                x = noised(x, torch.tensor(after), torch.randn(shape, generator=self._random))
            if self._level is Level.OUTPUT or (self._level is Level.CLEAN and after == 0):
                lane.keep = True
                self._model.commit(self._inputs(x, after, lane))
        self._block += 1
        return x

    def _inputs(self, x: Tensor, sigma: float, lane: LaneCache) -> Inputs:
        shape = x.shape[:2]
        return Inputs(
            x_BFCHW=x,
            timestep_BF=torch.full(shape, 1000 * sigma),
            position_BF=(self._block * FRAMES_PER_BLOCK + torch.arange(FRAMES_PER_BLOCK)).expand(shape),
            conditioning=self._steering,
            attention=lane,
        )


class PictureDecoder:
    """Decodes the blocks of several streams, one after the other."""

    def __init__(self, decoder: WanDecoder, scale: Scale, streams: int) -> None:
        self._decoder = decoder
        self._scale = scale
        self._state = decoder.initial_state(streams, 8, 8)

    @torch.no_grad()
    def decode(self, latents_BFCHW: Tensor) -> NDArray[np.uint8]:
        """Pictures [B, T, H, W, 3] of the next block."""
        pixels = self._decoder.decode(self._scale.restore(latents_BFCHW).transpose(1, 2), self._state)
        bytes_BTHWC = ((pixels.clamp(-1, 1) + 1) * 127.5).round().permute(0, 2, 3, 4, 1)
        return bytes_BTHWC.numpy().astype(np.uint8)
