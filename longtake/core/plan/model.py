"""A model as numbers: how many weights it has, how much work a forward is, and how large what a session needs is.

Formulas of size and work are those of the transformer itself: weights, K/V, floating-point operations of a forward with
a full window. Those of the autoencoder are in autoencoder.py.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from longtake.core.plan.autoencoder import DecoderShape, EncoderShape, TinyDecoderSize
from longtake.core.plan.text_encoder import TextEncoderShape
from longtake.core.recipe.geometry import Geometry
from longtake.core.recipe.graph import Graph
from longtake.core.recipe.recipe import Recipe
from longtake.core.sessions.progress import Progress
from longtake.core.sessions.retention import Depths, Retention


@dataclass(frozen=True, slots=True, kw_only=True)
class TransformerShape:
    """Sizes of the denoiser."""

    dim: int
    ffn_dim: int
    layers: int
    text_tokens: int
    text_dim: int
    freq_dim: int
    patch_values: int = 4
    """Latent pixels of one token."""

    def weights(self, latent_channels: int, layers: int | None = None) -> int:
        """Number of weights: attention to self and text, feed-forward, norms and modulation, embeddings and head.

        With `layers`, of a part that holds only so many, which has embeddings and head all the same.
        """
        dim = self.dim
        attention = 4 * (dim * dim + dim) + 2 * dim
        layer = 2 * attention + 2 * dim * self.ffn_dim + self.ffn_dim + dim + 6 * dim + 2 * dim
        patch = self.patch_values * latent_channels
        time = self.freq_dim * dim + dim + dim * dim + dim + 6 * dim * dim + 6 * dim
        text = self.text_dim * dim + dim + dim * dim + dim
        head = dim * patch + patch + 2 * dim
        return (self.layers if layers is None else layers) * layer + patch * dim + dim + time + text + head


@dataclass(frozen=True, slots=True, kw_only=True)
class Model:
    """A model as numbers."""

    name: str
    recipe: Recipe
    geometry: Geometry
    transformer: TransformerShape
    decoder: DecoderShape
    encoder: EncoderShape | None = None
    """None where a checkpoint has none, so that nothing can be given to a stream."""
    tiny: TinyDecoderSize | None = None
    text: TextEncoderShape | None = None
    """None where the text encoder has no weights to speak of, so that decode workers encode prompts."""

    @property
    def window_tokens(self) -> int:
        """Keys that a forward with a full window attends to."""
        return self.recipe.window.size * self.geometry.tokens_per_frame

    @property
    def block_tokens(self) -> int:
        """Queries of a forward."""
        return self.recipe.blocks.frames * self.geometry.tokens_per_frame

    @property
    def block_activations(self) -> int:
        """Numbers that a forward over one block has in memory at its widest: in the feed-forward, before and after its
        activation, beside the hidden states and what becomes of them (0.28 GB for Wan 1.3B at 480x832 in bfloat16;
        0.3 GB were measured for one op and 0.8 GB for two on an H100 with torch 2.11)."""
        return self.block_tokens * (2 * self.transformer.ffn_dim + 8 * self.transformer.dim)

    @property
    def forward_flop(self) -> float:
        """Floating-point operations of one forward with a full window: linear, self-attention, text attention."""
        shape, tokens = self.transformer, self.block_tokens
        linear = 2 * tokens * (6 * shape.dim**2 + 2 * shape.dim * shape.ffn_dim)
        attention = 4 * tokens * (self.window_tokens + shape.text_tokens) * shape.dim
        return float(shape.layers * (linear + attention))


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionBytes:
    """What one session occupies, wherever it lies."""

    page: int
    """K/V of one latent frame in one lane."""
    kv_past: int
    """K/V of past frames, all lanes: what a stream is between two blocks."""
    kv_reserved: int
    """Pages reserved for it: the past frames and the block in flight."""
    text_kv: int
    """Cross-attention K/V of one prompt, on each worker that has one of its lanes."""
    decoder_state: int
    latent: int
    """Latents of one block."""
    journal: int
    """Latents in the server's own memory, from which pages and decoder state can be computed again exactly, while its
    client is not behind. Each block that it is behind adds the latents of one."""


def session_bytes(model: Model, *, value_bytes: int, latent_value_bytes: int = 4) -> SessionBytes:
    """Sizes of everything that belongs to one session, by the bytes of a value in K/V and state, and in a latent."""
    recipe, geometry, shape = model.recipe, model.geometry, model.transformer
    page = geometry.tokens_per_frame * shape.dim * 2 * value_bytes * shape.layers
    past = max(0, recipe.page_count - recipe.blocks.frames)
    latent = math.prod(geometry.block_shape) * latent_value_bytes
    return SessionBytes(
        page=page,
        kv_past=recipe.lane_count * past * page,
        kv_reserved=recipe.lane_count * recipe.page_count * page,
        text_kv=shape.text_tokens * shape.dim * 2 * value_bytes * shape.layers,
        decoder_state=model.decoder.state_values(geometry) * value_bytes,
        latent=latent,
        journal=latents_kept(model) * latent,
    )


def retention(model: Model) -> Retention:
    """What is kept of a session of this model, so that whatever is lost of it can be computed again."""
    depths = Depths(layers=model.transformer.layers, frames=model.decoder.receptive_frames)
    return Retention(graph=Graph(model.recipe), depths=depths)


def latents_kept(model: Model) -> int:
    """How many latents of blocks the journal keeps of a long stream between two blocks, if all of it is acknowledged.

    Those of sinks are kept for ever.
    """
    kept = retention(model)
    graph, far = kept.graph, 2 * (kept.lane_blocks + kept.slot_blocks + kept.graph.lasting_blocks)
    progress = Progress(graph)
    progress.begin_at(far)
    floors = kept.floors(progress, acknowledged=far - 1)
    return sum(far - floor + graph.lasting_blocks for floor in floors.latents)
