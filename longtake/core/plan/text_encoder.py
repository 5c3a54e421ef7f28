"""The text encoder as numbers: what umT5 takes of a worker's memory, and how long a prompt takes."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceRates:
    """What a device does in a second."""

    flop_per_s: float
    """Floating-point operations of matrix products, as they are reached."""
    bytes_per_s: float
    """Bytes read from its memory."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TextEncoderShape:
    """Sizes of an encoder of T5's kind with gated feed-forward layers (umT5, arXiv 2304.09151)."""

    vocabulary: int
    dim: int
    inner: int
    """Channels of all heads together."""
    heads: int
    ffn_dim: int
    layers: int
    buckets: int
    """Distances that a relative position is told apart by, in each layer."""
    max_tokens: int

    @property
    def _layer(self) -> int:
        products = 4 * self.dim * self.inner + 3 * self.dim * self.ffn_dim
        return products + 2 * self.dim + self.buckets * self.heads

    @property
    def weights(self) -> int:
        """Number of weights: the table of words, layers without biases, the last norm."""
        return self.vocabulary * self.dim + self.layers * self._layer + self.dim

    def encode_s(self, tokens: int, rates: DeviceRates, value_bytes: int) -> float:
        """Seconds for one prompt: all layers' weights are read once, then multiplied with each token."""
        layers = self.layers * self._layer
        flop = 2 * layers * tokens + 4 * self.layers * tokens * tokens * self.inner
        return layers * value_bytes / rates.bytes_per_s + flop / rates.flop_per_s
