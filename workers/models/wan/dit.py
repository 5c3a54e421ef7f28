"""The Wan2.1 diffusion transformer with one timestep and position per latent frame; its caller holds the K/V.

Shape suffixes:
    B batch item      F latent frame       L token of the item's frames (frame-major, then row, then column)
    C latent channel  H, W latent height, width
    E model width     N attention head     D channel of one head      S attended key
    T text row
Attribute names are those of Wan2.1's checkpoints; there, and only there, a layer is called a block.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from workers.models.api import Inputs, PageShape, SelfAttention, TextKV, sdpa
from workers.models.rotary import Rotation, axis, ladder, rotate
from workers.models.wan.config import WanConfig
from workers.models.wan.folding import fold_pages, make_room, weights_of

_FEW_ROWS = 16
"""Products of fewer rows than this are padded: kernels for a handful of rows (CPU: below 4) round differently,
so an item's bits would depend on its batch mates."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerInputs:
    """What every layer of one forward is given beside hidden states."""

    e_BFE: Tensor
    """Time embedding of each frame."""
    e0_BF6E: Tensor
    """The same as shifts, scales and gates of a layer."""
    query_turn: Rotation
    """By how much the queries of each token are turned, [B, L, 1, D]."""
    key_turn: Rotation
    """The same of its keys, as they are stored."""
    grid: tuple[int, int]
    """Rows and columns of patches of a frame."""
    text: TextKV
    attention: SelfAttention


def time_features(timestep_BF: Tensor, freq_dim: int) -> Tensor:
    """Sinusoids [B, F, freq_dim] in float64 of timesteps (0..1000): all cosines, then all sines."""
    angle = timestep_BF.to(torch.float64).unsqueeze(-1) * ladder(freq_dim // 2, timestep_BF.device)
    return torch.cat([angle.cos(), angle.sin()], dim=-1)


def turns(position_BF: Tensor, grid: tuple[int, int], config: WanConfig) -> Rotation:
    """By how much the channels of each token are turned, [B, L, 1, D].

    The pairs of a head serve time, then rows, then columns, each axis with its own ladder of frequencies.
    """
    device, (batch, frames), (rows, columns) = position_BF.device, position_BF.shape, grid
    shape = (2, batch, frames, rows, columns, -1)
    time = axis(position_BF, config.time_pairs)[:, :, :, None, None].expand(shape)
    row = axis(torch.arange(rows, device=device), config.space_pairs)[:, None, None, :, None].expand(shape)
    column = axis(torch.arange(columns, device=device), config.space_pairs)[:, None, None, None].expand(shape)
    return Rotation(*torch.cat([time, row, column], -1).view(2, batch, frames * rows * columns, 1, -1))


def _by_frame(x_BLE: Tensor, frames: int) -> Tensor:
    return x_BLE.view(x_BLE.shape[0], frames, -1, x_BLE.shape[-1])


def modulated(h_BLE: Tensor, shift_BF1E: Tensor, scale_BF1E: Tensor, eps: float) -> Tensor:
    """Normed hidden states, scaled by 1 + scale and shifted, frame by frame."""
    normed = _by_frame(F.layer_norm(h_BLE, h_BLE.shape[-1:], eps=eps), shift_BF1E.shape[1])
    return torch.addcmul(shift_BF1E, normed, scale_BF1E + 1).flatten(1, 2)


def gated(h_BLE: Tensor, gate_BF1E: Tensor, update_BLE: Tensor) -> Tensor:
    """Hidden states and what a part of a layer adds to them, weighted frame by frame."""
    frames = gate_BF1E.shape[1]
    return torch.addcmul(_by_frame(h_BLE, frames), gate_BF1E, _by_frame(update_BLE, frames)).flatten(1, 2)


def _mlp(width_in: int, width: int, width_out: int, activation: nn.Module) -> nn.Sequential:
    return nn.Sequential(nn.Linear(width_in, width), activation, nn.Linear(width, width_out))


def _modulation(rows: int, width: int) -> nn.Parameter:
    # Not torch.randn, which on the meta device imports the whole compiler.
    return nn.Parameter(nn.init.trunc_normal_(torch.empty(1, rows, width), std=width**-0.5))


class WanAttention(nn.Module):
    """Projections of one attention; q, k are RMS-normed over the whole width, before the heads split."""

    def __init__(self, config: WanConfig) -> None:
        super().__init__()
        self.num_heads = config.num_heads
        self.q = nn.Linear(config.dim, config.dim)
        self.k = nn.Linear(config.dim, config.dim)
        self.v = nn.Linear(config.dim, config.dim)
        self.o = nn.Linear(config.dim, config.dim)
        self.norm_q = nn.RMSNorm(config.dim, eps=config.eps)
        self.norm_k = nn.RMSNorm(config.dim, eps=config.eps)

    def _heads(self, x_BLE: Tensor) -> Tensor:
        return x_BLE.view(*x_BLE.shape[:-1], self.num_heads, -1)

    def queries(self, x_BLE: Tensor) -> Tensor:
        """Normed queries [B, L, N, D]."""
        return self._heads(self.norm_q(self.q(x_BLE)))

    def keys_values(self, x_BLE: Tensor) -> tuple[Tensor, Tensor]:
        """Normed keys and raw values [B, L, N, D]."""
        return self._heads(self.norm_k(self.k(x_BLE))), self._heads(self.v(x_BLE))

    def project(self, out_BLND: Tensor) -> Tensor:
        """Output projection [B, L, E] of the joined heads."""
        out: Tensor = self.o(out_BLND.flatten(2))
        return out


class WanLayer(nn.Module):
    """One transformer layer: self-attention, cross-attention to the text, feed-forward."""

    def __init__(self, config: WanConfig) -> None:
        super().__init__()
        self.eps = config.eps
        self.self_attn = WanAttention(config)
        self.norm3 = nn.LayerNorm(config.dim, eps=config.eps)
        self.cross_attn = WanAttention(config)
        self.ffn = _mlp(config.dim, config.ffn_dim, config.dim, nn.GELU(approximate="tanh"))
        self.modulation = _modulation(6, config.dim)

    def _self_keys_values(self, a_BLE: Tensor, given: LayerInputs) -> tuple[Tensor, Tensor]:
        k_BLND, v_BLND = self.self_attn.keys_values(a_BLE)
        return rotate(k_BLND, given.key_turn), v_BLND

    def modulations(self, e0_BF6E: Tensor) -> tuple[Tensor, ...]:
        """Shift, scale and gate of self-attention, then those of the feed-forward, [B, F, 1, E] each."""
        return (self.modulation + e0_BF6E).unsqueeze(3).unbind(2)

    def forward(self, layer: int, h_BLE: Tensor, given: LayerInputs) -> Tensor:
        """Hidden states after this layer, whose number is `layer`."""
        shift1, scale1, gate1, shift2, scale2, gate2 = self.modulations(given.e0_BF6E)
        a_BLE = modulated(h_BLE, shift1, scale1, self.eps)
        q_BLND = rotate(self.self_attn.queries(a_BLE), given.query_turn)
        k_BLND, v_BLND = self._self_keys_values(a_BLE, given)
        seen_BLND = given.attention.attend(layer, q_BLND, k_BLND, v_BLND)
        h_BLE = gated(h_BLE, gate1, self.self_attn.project(seen_BLND))

        q_BLND = self.cross_attn.queries(self.norm3(h_BLE))
        k_BTND, v_BTND = given.text.k_BTND[layer], given.text.v_BTND[layer]
        if k_BTND.shape[0] != q_BLND.shape[0]:
            shape = (q_BLND.shape[0], -1, -1, -1)
            k_BTND, v_BTND = k_BTND.expand(shape), v_BTND.expand(shape)
        h_BLE = h_BLE + self.cross_attn.project(sdpa(q_BLND, k_BTND, v_BTND))

        return gated(h_BLE, gate2, self.ffn(modulated(h_BLE, shift2, scale2, self.eps)))

    def store(self, layer: int, h_BLE: Tensor, given: LayerInputs) -> None:
        """Compute and store self-attention K/V only: all that a commit needs of the last layer."""
        shift, scale = self.modulations(given.e0_BF6E)[:2]
        k_BLND, v_BLND = self._self_keys_values(modulated(h_BLE, shift, scale, self.eps), given)
        given.attention.store(layer, k_BLND, v_BLND)


class WanHead(nn.Module):
    """Last norm, modulation by the plain time embedding, projection to patches."""

    def __init__(self, config: WanConfig) -> None:
        super().__init__()
        self.eps = config.eps
        _, rows, columns = config.patch_size
        self.head = nn.Linear(config.dim, rows * columns * config.out_dim)
        self.modulation = _modulation(2, config.dim)

    def forward(self, h_BLE: Tensor, e_BFE: Tensor) -> Tensor:
        """Patches [B, L, rows * columns * out_dim], channels fastest."""
        shift, scale = (self.modulation + e_BFE.unsqueeze(2)).unsqueeze(3).unbind(2)
        patches: Tensor = self.head(modulated(h_BLE, shift, scale, self.eps))
        return patches


class WanModel(nn.Module):
    """Wan2.1's transformer as a causal block denoiser (Denoiser); with `layers`, a part of it (layer split).

    A part has the same parameter names as the whole and loads its share of a checkpoint.
    """

    def __init__(self, config: WanConfig, layers: range | None = None) -> None:
        super().__init__()
        self.config = config
        self.layers = range(config.num_layers) if layers is None else layers
        self.run_layer: Callable[[WanLayer, int, Tensor, LayerInputs], Tensor] = WanLayer.__call__
        self.patch_embedding = nn.Conv3d(config.in_dim, config.dim, config.patch_size, config.patch_size)
        self.text_embedding = _mlp(config.text_dim, config.dim, config.dim, nn.GELU(approximate="tanh"))
        self.time_embedding = _mlp(config.freq_dim, config.dim, config.dim, nn.SiLU())
        self.time_projection = nn.Sequential(nn.SiLU(), nn.Linear(config.dim, 6 * config.dim))
        self.blocks = nn.ModuleDict({str(layer): WanLayer(config) for layer in self.layers})
        self.head = WanHead(config)

    @property
    def device(self) -> torch.device:
        """See Denoiser."""
        return self.patch_embedding.weight.device

    @property
    def dtype(self) -> torch.dtype:
        """See Denoiser."""
        return self.patch_embedding.weight.dtype

    @property
    def text_shape(self) -> tuple[int, int]:
        """See Denoiser."""
        return self.config.text_len, self.config.text_dim

    def takes(self, name: str) -> bool:
        """Whether a tensor of the whole model's checkpoint may be for this part of it."""
        absent = (layer for layer in range(self.config.num_layers) if layer not in self.layers)
        return not any(name.startswith(f"blocks.{layer}.") for layer in absent)

    def page_shape(self, tokens_per_frame: int) -> PageShape:
        """See Denoiser."""
        return PageShape(
            layers=self.layers,
            tokens_per_frame=tokens_per_frame,
            num_heads=self.config.num_heads,
            head_dim=self.config.head_dim,
            time_pairs=self.config.time_pairs,
        )

    def encode_text(self, text_BTC: Tensor) -> TextKV:
        """See Denoiser. Texts are padded with zero rows, which are attended."""
        missing = self.config.text_len - text_BTC.shape[1]
        if missing < 0:
            raise ValueError(f"text has {text_BTC.shape[1]} rows, the model takes {self.config.text_len}")
        text_BTE = self.text_embedding(F.pad(text_BTC.to(self.dtype), (0, 0, 0, missing)))
        pairs = {layer: self._layer(layer).cross_attn.keys_values(text_BTE) for layer in self.layers}
        return TextKV(
            k_BTND={layer: pair[0] for layer, pair in pairs.items()},
            v_BTND={layer: pair[1] for layer, pair in pairs.items()},
        )

    def fold(self, layer: int, kv_UPLND: Tensor, grid: tuple[int, int]) -> Tensor:
        """See Denoiser."""
        place_BF = torch.zeros(1, 1, dtype=torch.int64, device=kv_UPLND.device)
        return fold_pages(kv_UPLND, weights_of(self._layer(layer).self_attn), turns(place_BF, grid, self.config))

    def suit(self, shape_of: Callable[[str], tuple[int, ...] | None]) -> None:
        """Have room for what not every checkpoint holds; `shape_of` knows the shapes of one by the names there."""
        make_room({layer: self._layer(layer).self_attn for layer in self.layers}, shape_of)

    def denoise(self, inputs: Inputs) -> Tensor:
        """See Denoiser."""
        flow: Tensor = self(inputs)
        return flow

    def commit(self, inputs: Inputs) -> None:
        """See Denoiser. The last layer stops once its K/V are stored."""
        begun = self.begin(inputs)
        begun.commit(begun.enter())

    def begin(self, inputs: Inputs) -> WanPass:
        """See Denoiser."""
        return WanPass(self, inputs)

    def forward(self, inputs: Inputs) -> Tensor:
        """As `denoise`; it can be trained through."""
        begun = self.begin(inputs)
        return begun.leave(begun.run(begun.enter()))

    # --- the parts of a forward -------------------------------------------------------------------------------------

    def embed(self, x_BFCHW: Tensor) -> Tensor:
        """Tokens [B, L, E] of a latent; input patches are flattened (channel, row, column)."""
        _, rows, columns = self.config.patch_size
        batch, frames, channels, height, width = x_BFCHW.shape
        split = (batch, frames, channels, height // rows, rows, width // columns, columns)
        patches = x_BFCHW.to(self.dtype).reshape(split).permute(0, 1, 3, 5, 2, 4, 6).flatten(4).flatten(1, 3)
        return F.linear(patches, self.patch_embedding.weight.flatten(1), self.patch_embedding.bias)

    def layer_inputs(self, inputs: Inputs) -> LayerInputs:
        """What the layers share; ValueError if the latents do not divide into patches."""
        height, width = inputs.x_BFCHW.shape[-2:]
        self.config.tokens_per_frame(height, width)
        grid = (height // self.config.patch_size[1], width // self.config.patch_size[2])
        batch, frames = inputs.timestep_BF.shape
        rows = batch * frames
        features = time_features(inputs.timestep_BF, self.config.freq_dim).to(self.dtype).flatten(0, 1)
        query_turn, key_turn = self._turns(inputs, grid)
        e = self.time_embedding(F.pad(features, (0, 0, 0, max(0, _FEW_ROWS - rows))))
        return LayerInputs(
            e_BFE=e[:rows].view(batch, frames, -1),
            e0_BF6E=self.time_projection(e)[:rows].view(batch, frames, 6, -1),
            query_turn=query_turn,
            key_turn=key_turn,
            grid=grid,
            text=inputs.conditioning.text,
            attention=inputs.attention,
        )

    def _turns(self, inputs: Inputs, grid: tuple[int, int]) -> tuple[Rotation, Rotation]:
        """By how much queries and keys are turned."""
        if inputs.key_position_BF is None:
            both = turns(inputs.position_BF, grid, self.config)
            return both, both
        both = turns(torch.cat([inputs.position_BF, inputs.key_position_BF]), grid, self.config)
        (cos_q, cos_k), (sin_q, sin_k) = (part.chunk(2) for part in both)
        return Rotation(cos_q, sin_q), Rotation(cos_k, sin_k)

    def run(self, h_BLE: Tensor, given: LayerInputs) -> Tensor:
        """Hidden states after the held layers."""
        for layer in self.layers:
            h_BLE = self.run_layer(self._layer(layer), layer, h_BLE, given)
        return h_BLE

    def run_commit(self, h_BLE: Tensor, given: LayerInputs) -> None:
        """The held layers, of which the last only stores its K/V: the tail of a commit."""
        *before, last = self.layers
        for layer in before:
            h_BLE = self.run_layer(self._layer(layer), layer, h_BLE, given)
        self._layer(last).store(last, h_BLE, given)

    def head_out(self, h_BLE: Tensor, given: LayerInputs) -> Tensor:
        """Flow [B, F, C, H, W] of the last hidden states; patches are (row, column, channel)."""
        _, rows, columns = self.config.patch_size
        patches: Tensor = self.head(h_BLE, given.e_BFE)
        frames = given.e_BFE.shape[1]
        shaped = patches.view(patches.shape[0], frames, *given.grid, rows, columns, self.config.out_dim)
        return shaped.permute(0, 1, 6, 2, 4, 3, 5).flatten(5, 6).flatten(3, 4)

    def _layer(self, layer: int) -> WanLayer:
        module = self.blocks[str(layer)]
        assert isinstance(module, WanLayer)
        return module


class WanPass:
    """A forward on its way through a model, or a part of one (LayerPass)."""

    def __init__(self, model: WanModel, inputs: Inputs) -> None:
        self._model = model
        self._x_BFCHW = inputs.x_BFCHW
        self._given = model.layer_inputs(inputs)

    @property
    def shape(self) -> tuple[int, ...]:
        """See LayerPass."""
        return (*self._given.query_turn.cos.shape[:2], self._model.config.dim)

    def enter(self) -> Tensor:
        """See LayerPass."""
        return self._model.embed(self._x_BFCHW)

    def run(self, h_BLE: Tensor) -> Tensor:
        """See LayerPass."""
        return self._model.run(h_BLE, self._given)

    def commit(self, h_BLE: Tensor) -> None:
        """See LayerPass. The last held layer stops once its K/V are stored."""
        self._model.run_commit(h_BLE, self._given)

    def leave(self, h_BLE: Tensor) -> Tensor:
        """See LayerPass."""
        return self._model.head_out(h_BLE, self._given)
