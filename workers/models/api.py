"""What Longtake asks of a model: the protocols that every family of networks keeps, and the data that they pass.

Nothing outside a family's own folder knows more of a network than stands here. Shape suffixes:
    B batch item      F latent frame       L token of the item's frames (frame-major, then row, then column)
    C channel         H, W latent height, width
    E model width     N attention head     D channel of one head      S attended key      T text row
    U 0 for keys, 1 for values             P page
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor
from torch.nn import functional as F

from longtake.core.errors import InvalidField
from longtake.core.work import ForwardWork

_DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}


@dataclass(frozen=True, slots=True, kw_only=True)
class Compute:
    """The device and the number format in which a worker computes; bits and times depend on them."""

    device: str = "cpu"
    """A torch device, or one that only takes its time (workers.simulated.device)."""
    dtype: str = "float32"
    compile: bool | None = None
    """Whether small operations are fused into kernels made at start (seconds on a GPU); None: on a GPU."""

    def __post_init__(self) -> None:
        if self.dtype not in _DTYPES:
            raise InvalidField("model.dtype", self.dtype, " or ".join(_DTYPES))

    @property
    def torch_device(self) -> torch.device:
        """The device; InvalidField if it is none of torch's."""
        try:
            return torch.device(self.device)
        except RuntimeError:
            raise InvalidField("model.device", self.device, "cpu, cuda or a numbered one such as cuda:1") from None

    @property
    def fuses(self) -> bool:
        """Whether small operations are fused; torch's own attention and products stay what they are."""
        return self.torch_device.type == "cuda" if self.compile is None else self.compile

    @property
    def torch_dtype(self) -> torch.dtype:
        """The type of weights, K/V and activations."""
        return _DTYPES[self.dtype]


# --- denoising ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class PageShape:
    """What one page holds: the keys and values of one latent frame in `layers`."""

    layers: range
    tokens_per_frame: int
    num_heads: int
    head_dim: int
    time_pairs: int
    """How many pairs of channels of a head, the first ones, are turned by the place of its frame on the time axis."""

    def size_bytes(self, dtype: torch.dtype) -> int:
        """Memory of one page in bytes."""
        elements = 2 * len(self.layers) * self.tokens_per_frame * self.num_heads * self.head_dim
        return elements * dtype.itemsize


class SelfAttention(Protocol):
    """Where keys and values live: pages when serving, plain tensors in the oracle, a mask when training."""

    def attend(self, layer: int, q_BLND: Tensor, k_BLND: Tensor, v_BLND: Tensor) -> Tensor:
        """Attention [B, L, N, D] over the item's context and its own k, v; q, k come normed and rotated.

        Keys that came without their time are turned by it as they are read.
        """
        ...

    def store(self, layer: int, k_BLND: Tensor, v_BLND: Tensor) -> None:
        """Keep k, v (k normed and rotated) of the item's own frames; nobody asks for an output."""
        ...


def sdpa(q_BLND: Tensor, k_BSND: Tensor, v_BSND: Tensor, bias_B1LS: Tensor | None = None) -> Tensor:
    """Scaled dot-product attention [B, L, N, D] over S keys; scale 1/sqrt(D).

    `bias_B1LS` is added to the logits of all heads. Without one nothing is masked: another kernel, with other bits.
    """
    q, k, v = (x.transpose(1, 2) for x in (q_BLND, k_BSND, v_BSND))
    return F.scaled_dot_product_attention(q, k, v, attn_mask=bias_B1LS).transpose(1, 2)


@dataclass(frozen=True, slots=True, kw_only=True)
class TextKV:
    """Cross-attention keys and values [B, T, N, D] of one text by layer number; B = 1 serves any batch."""

    k_BTND: dict[int, Tensor]
    v_BTND: dict[int, Tensor]

    @staticmethod
    def batch(items: Sequence[TextKV]) -> TextKV:
        """The texts of batch mates as one batch, in list order."""
        if len(items) == 1:
            return items[0]
        first = items[0]
        return TextKV(
            k_BTND={layer: torch.cat([item.k_BTND[layer] for item in items]) for layer in first.k_BTND},
            v_BTND={layer: torch.cat([item.v_BTND[layer] for item in items]) for layer in first.v_BTND},
        )

    def __len__(self) -> int:
        """Number of batch items."""
        return next(iter(self.k_BTND.values())).shape[0]

    def size_bytes(self) -> int:
        """Memory of the keys and values in bytes."""
        return sum(t.numel() * t.element_size() for kv in (self.k_BTND, self.v_BTND) for t in kv.values())


@dataclass(frozen=True, slots=True, kw_only=True)
class Conditioning:
    """What steers a forward: one entry for each kind of input that a client can give."""

    text: TextKV

    @staticmethod
    def batch(items: Sequence[Conditioning]) -> Conditioning:
        """The conditioning of batch mates as one batch, in list order."""
        return Conditioning(text=TextKV.batch([item.text for item in items]))


@dataclass(frozen=True, slots=True, kw_only=True)
class Inputs:
    """Everything that one forward over a batch of blocks is given; all tensors lie on the model's device."""

    x_BFCHW: Tensor
    """The latents."""
    timestep_BF: Tensor
    """Float timesteps 0 to 1000; fractions matter."""
    position_BF: Tensor
    """int64 places of the latent frames on the time axis: by them queries are rotated."""
    conditioning: Conditioning
    attention: SelfAttention
    key_position_BF: Tensor | None = None
    """The same for their keys, as they are stored; None: those of the queries."""


class LayerPass(Protocol):
    """One forward on its way through the layers that a worker holds; a chain of workers makes one forward of several.

    A worker before which another one stands gets the hidden states from it, and does not `enter`; one that another
    stands behind does not `leave`.
    """

    @property
    def shape(self) -> tuple[int, ...]:
        """B, L and E of its hidden states."""
        ...

    def enter(self) -> Tensor:
        """Hidden states [B, L, E] as the first layer of the model takes them."""
        ...

    def run(self, h_BLE: Tensor) -> Tensor:
        """Hidden states after the held layers."""
        ...

    def commit(self, h_BLE: Tensor) -> None:
        """Run the held layers for their K/V only: nobody asks for an output of the last one."""
        ...

    def leave(self, h_BLE: Tensor) -> Tensor:
        """Flow [B, F, C, H, W] of the last layer's hidden states."""
        ...


class Denoiser(Protocol):
    """A network, or a range of its layers, with weights on a device."""

    @property
    def device(self) -> torch.device:
        """Where the weights lie."""
        ...

    @property
    def dtype(self) -> torch.dtype:
        """The type of the weights, in which the network computes."""
        ...

    @property
    def layers(self) -> range:
        """Numbers of the layers that are held."""
        ...

    @property
    def text_shape(self) -> tuple[int, int]:
        """Rows of a text's features, at most, and their channels."""
        ...

    def page_shape(self, tokens_per_frame: int) -> PageShape:
        """What a page must hold for this network."""
        ...

    def encode_text(self, text_BTC: Tensor) -> TextKV:
        """The entry of Conditioning for texts of as many rows each; ValueError if they have too many."""
        ...

    def fold(self, layer: int, kv_UPLND: Tensor, grid: tuple[int, int]) -> Tensor:
        """Keys and values [2, L, N, D] of one page that stands for those of P pages, in a held layer.

        `grid` are the rows and columns of tokens in a frame. Keys are as they are stored without their time, before and
        after. ValueError if the model folds other numbers of pages.
        """
        ...

    def denoise(self, inputs: Inputs) -> Tensor:
        """Flow [B, F, C, H, W] = noise - x0, in the network's type; ValueError if the latents do not fit."""
        ...

    def commit(self, inputs: Inputs) -> None:
        """Write the K/V of latents in every held layer."""
        ...

    def begin(self, inputs: Inputs) -> LayerPass:
        """Begin a forward that goes step by step, for a chain of workers each of which holds some layers."""
        ...


class Solver(Protocol):
    """Takes the step after a denoise: from the flow at one noise level to the latents at the next."""

    def advance(self, x_BFCHW: Tensor, flow_BFCHW: Tensor, works: Sequence[ForwardWork]) -> Tensor:
        """The outputs [B, F, C, H, W], in float32, of denoise ops, one for each batch item."""
        ...

    def noised(self, x_BFCHW: Tensor, works: Sequence[ForwardWork]) -> Tensor:
        """The latents [B, F, C, H, W] with the noise that ops add to what they start from; the others as they are."""
        ...


# --- decoding -----------------------------------------------------------------------------------------------------


@dataclass(slots=True)
class CarriedState:
    """What one stream's decoder (or encoder) carries from chunk to chunk: constant in size, all zero at the start."""

    history_BFHWC: list[Tensor]
    """For each layer that looks back, in execution order, the last frames of its input."""
    started: bool = False
    """Whether the first latent frame (first picture) has been seen: it is treated otherwise than the others."""

    def overwrite(self, source: CarriedState) -> None:
        """Become equal to another state, on whatever device that lies; what is here already is not copied."""
        for own_BFHWC, new_BFHWC in zip(self.history_BFHWC, source.history_BFHWC, strict=True):
            if new_BFHWC is not own_BFHWC:
                own_BFHWC.copy_(new_BFHWC, non_blocking=True)  # torch keeps pinned memory until it is copied
        self.started = source.started


class LatentEncoder(Protocol):
    """Pictures to latents before they are normalised, chunk by chunk."""

    @property
    def device(self) -> torch.device:
        """Where its weights are."""
        ...

    @property
    def dtype(self) -> torch.dtype:
        """Its floating-point format."""
        ...

    def initial_state(self, batch: int, height: int, width: int) -> CarriedState:
        """The state of a stream that has seen nothing; `height` and `width` are those of a picture."""
        ...

    def encode(self, pixels_BCFHW: Tensor, state: CarriedState) -> tuple[Tensor, Tensor]:
        """Mean and logarithm of the variance [B, C, F, H, W] of the latents of the next pictures, values in [-1, 1]."""
        ...


class LatentDecoder(Protocol):
    """Latents to pictures, block by block of a stream, with weights on a device."""

    @property
    def device(self) -> torch.device:
        """Where the weights lie."""
        ...

    @property
    def dtype(self) -> torch.dtype:
        """The type in which it computes."""
        ...

    @property
    def channels(self) -> int:
        """Channels of a latent frame."""
        ...

    @property
    def receptive_frames(self) -> int:
        """How many latent frames back its state and its next pictures depend on, whatever came before.

        So a state that began with zeros, as `started`, is exact after as many, and not with one less.
        """
        ...

    def state_shapes(self, batch: int, height: int, width: int) -> list[tuple[int, ...]]:
        """Shapes of what `initial_state` holds, in the same order; `height`, `width` are those of a latent frame."""
        ...

    def initial_state(self, batch: int, height: int, width: int) -> CarriedState:
        """The state of a stream that has seen nothing."""
        ...

    def decode(self, z_BCFHW: Tensor, state: CarriedState) -> Tensor:
        """Pixels [B, C, F, H, W], nominally -1 to 1, of the next latent frames; advances the state in place.

        The latents are as this decoder takes them (workers.decode.slots.LatentFormat). A decode that fails leaves the
        state as it was.
        """
        ...

    def advance(self, z_BCFHW: Tensor, state: CarriedState, later_frames: int) -> None:
        """Take the state past latent frames of which no pictures are wanted, nor of `later_frames` that come next.

        What no picture after those depends on is not computed, so until then the state is good for nothing else: the
        layers of high resolution, which take most of the time, look back only a few latent frames.
        """
        ...


# --- prompts ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class EncodedText:
    """A prompt as the model sees it."""

    features_TC: Tensor
    """float32 on the CPU; the model pads it with zero rows."""
    notice: str
    """What the client should know, such as words without effect; empty if there is nothing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PromptParts:
    """What a model takes a prompt for."""

    understood: tuple[str, ...]
    """Each as `attribute: value`."""
    ignored: tuple[str, ...]
    """The words without an effect."""
    defaulted: tuple[str, ...]
    """What it does not say and is taken instead, each as `attribute: value`."""


class TextRules(Protocol):
    """What a client may write. The front end asks, which has no weights and no room for any."""

    def vocabulary(self) -> Mapping[str, tuple[str, ...]]:
        """Words that are understood, by attribute; empty if any text is."""
        ...

    def read(self, prompt: str) -> PromptParts | None:
        """What the model takes it for; None where any text is understood. InvalidField if it cannot be encoded."""
        ...


class TextEncoder(Protocol):
    """Encodes prompts, with weights on a device if it needs some; a pure function of the prompt."""

    def encode(self, prompt: str) -> EncodedText:
        """InvalidField if the prompt cannot be encoded at all."""
        ...
