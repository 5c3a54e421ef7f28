"""HiAR's conditioning as it is trained: one sequence [context copies | noisy copies], attended as a server attends it.

A context copy is a block as later blocks see it (noised to what lane s keeps: t_{s+1}; at the levels CLEAN and INPUT 0
and t_s); a noisy copy is the same block as step s denoises it. Both are called *units*. They are folded into the batch,
so that each has its own text; attention unfolds them again.

Shapes: B sequence, U unit, F latent frame of a block, L token of a unit, N head, D head channel, S key, K unit of a
        query's window; C latent channel, H, W latent height, width, V text.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import torch
from torch import Tensor
from torch.nn import functional as F

from longtake.core.recipe.context import Level
from pocket.config import FRAMES_PER_BLOCK, WINDOW_FRAMES
from workers.models.api import Conditioning, Inputs, TextKV
from workers.models.wan.dit import WanModel

SIGMAS: Final = (1.0, 0.9375, 5 / 6, 0.625)


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """Which blocks of a sequence appear as units: context copies of all but the last, then noisy copies of all."""

    blocks: int
    past_blocks: int

    @property
    def units(self) -> int:
        """Units of one sequence."""
        return 2 * self.blocks - 1

    def unit_blocks(self) -> list[int]:
        """The number of each unit's block."""
        return [*range(self.blocks - 1), *range(self.blocks)]

    def windows(self) -> list[list[int]]:
        """For each unit the units it reads, oldest first and itself last; -1 where the stream has no such block."""
        contexts = self.blocks - 1
        return [
            [*(past if past >= 0 else -1 for past in range(block - self.past_blocks, block)), unit]
            for unit, block in zip(range(self.units), [*range(contexts), *range(self.blocks)], strict=True)
        ]


class UnitAttention:
    """The self-attention of folded units: each attends to the context copies in its window and to itself."""

    def __init__(self, layout: Layout, tokens: int, device: torch.device) -> None:
        windows_UK = torch.tensor(layout.windows(), device=device)
        self._units = layout.units
        self._index = windows_UK.clamp(min=0).flatten()
        bias_UK = torch.zeros(windows_UK.shape, device=device).masked_fill(windows_UK < 0, float("-inf"))
        self._bias_U11S = bias_UK.repeat_interleave(tokens, dim=1)[:, None, None]

    def _window(self, x_BULND: Tensor) -> Tensor:
        seen = x_BULND.index_select(1, self._index)
        return seen.reshape(len(x_BULND) * self._units, -1, *x_BULND.shape[3:])

    def attend(self, layer: int, q_BLND: Tensor, k_BLND: Tensor, v_BLND: Tensor) -> Tensor:
        """Attention output [B U, L, N, D] of folded queries, keys and values; `layer` does not matter here."""
        del layer
        sequences = len(q_BLND) // self._units
        unfolded = (sequences, self._units, *k_BLND.shape[1:])
        k = self._window(k_BLND.reshape(unfolded)).transpose(1, 2)
        v = self._window(v_BLND.reshape(unfolded)).transpose(1, 2)
        bias = self._bias_U11S.expand(-1, -1, q_BLND.shape[1], -1).repeat(sequences, 1, 1, 1)
        return F.scaled_dot_product_attention(q_BLND.transpose(1, 2), k, v, attn_mask=bias).transpose(1, 2)

    def store(self, layer: int, k_BLND: Tensor, v_BLND: Tensor) -> None:
        """Training keeps nothing between forwards."""
        raise NotImplementedError("training has no commit")


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingBatch:
    """Sequences to train on.

    latent: normalised, [B, blocks, F, C, H, W]; texts: [V, rows, channels]; text_of_block: text index [B, blocks].
    """

    latent: Tensor
    texts: Tensor
    text_of_block: Tensor

    def to(self, device: torch.device) -> "TrainingBatch":
        """The same on another device."""
        return TrainingBatch(
            latent=self.latent.to(device), texts=self.texts.to(device), text_of_block=self.text_of_block.to(device)
        )


def take_texts(text_kv: TextKV, index: Tensor) -> TextKV:
    """One text per batch item, by index."""
    return TextKV(
        k_BTND={layer: k.index_select(0, index) for layer, k in text_kv.k_BTND.items()},
        v_BTND={layer: v.index_select(0, index) for layer, v in text_kv.v_BTND.items()},
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Sigmas:
    """Noise levels of each sequence: of its noisy copies, and of the context copies they read, [B] each."""

    own_B: Tensor
    past_B: Tensor

    @staticmethod
    def at(step_B: Tensor, levels: Sequence[Level]) -> "Sigmas":
        """t_s, and what a level keeps of a block for step s: t_{s+1} (t_S = 0), 0 or t_s."""
        sigma = torch.tensor([*SIGMAS, 0.0], device=step_B.device)
        shift_B = torch.tensor([0 if level is Level.INPUT else 1 for level in levels], device=step_B.device)
        clean_B = torch.tensor([level is Level.CLEAN for level in levels], device=step_B.device)
        return Sigmas(own_B=sigma[step_B], past_B=sigma[step_B + shift_B].masked_fill(clean_B, 0.0))


def noised(x: Tensor, sigma: Tensor, noise: Tensor) -> Tensor:
    """(1 - sigma) x + sigma noise."""
    return (1 - sigma) * x + sigma * noise


def predict_flow(model: WanModel, batch: TrainingBatch, sigmas: Sigmas, context: Tensor, noisy: Tensor) -> Tensor:
    """Flow of the noisy copies [B, blocks, F, C, H, W].

    `context` are the context copies [B, blocks - 1, ...] at `sigmas.past_B`, `noisy` the noisy ones at `sigmas.own_B`.
    """
    sequences, blocks, frames, _, rows, columns = noisy.shape
    layout = Layout(blocks=blocks, past_blocks=WINDOW_FRAMES // FRAMES_PER_BLOCK - 1)
    tokens = frames * model.config.tokens_per_frame(rows, columns)
    past_BU = sigmas.past_B[:, None].expand(-1, blocks - 1)
    sigma_BU = torch.cat([past_BU, sigmas.own_B[:, None].expand(-1, blocks)], 1)
    timestep = (1000 * sigma_BU)[:, :, None].expand(-1, -1, frames).flatten(0, 1)
    block_U = torch.tensor(layout.unit_blocks(), device=noisy.device)
    position_UF = block_U[:, None] * frames + torch.arange(frames, device=noisy.device)
    text_kv = take_texts(model.encode_text(batch.texts), batch.text_of_block[:, block_U].flatten())
    flow = model.denoise(
        Inputs(
            x_BFCHW=torch.cat([context, noisy], 1).flatten(0, 1),
            timestep_BF=timestep,
            position_BF=position_UF.repeat(sequences, 1),
            conditioning=Conditioning(text=text_kv),
            attention=UnitAttention(layout, tokens, noisy.device),
        )
    )
    return flow.reshape(sequences, layout.units, *flow.shape[1:])[:, blocks - 1 :]
