"""The sizes of networks, read from the shapes of their tensors and, where shapes do not tell, from config.json."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

from longtake.core.errors import InvalidField
from workers.json_values import value
from workers.models.wan.config import TaehvConfig, WanConfig, WanVAEConfig

ShapeOf = Callable[[str], tuple[int, ...]]
"""The shape of a tensor by the name that is served."""
_HEAD_DIM = 128
"""Channels of a head in every transformer of Wan2.1; a checkpoint without config.json does not say."""
_TEXT_TOKENS = 512
"""Tokens of a prompt in every transformer of Wan2.1."""
TINY_LICENCE = "MIT (TAEHV)"
"""As the publisher of the tiny decoder names it."""
_TINY_ENDS = (8, 14, 20)
"""Numbers of the convolutions that end the stages of a tiny decoder, each behind the growth of its frames."""
LATENT_MEAN = (
    -0.7571, -0.7089, -0.9113, 0.1075, -0.1745, 0.9653, -0.1517, 1.5508,
    0.4134, -0.0715, 0.5517, -0.3632, -0.1922, -0.9497, 0.2503, -0.2921,
)  # fmt: skip
LATENT_STD = (
    2.8184, 1.4541, 2.3275, 2.6558, 1.2196, 1.7708, 2.6052, 2.0743,
    3.2687, 2.1526, 2.8652, 1.5579, 1.6382, 1.1253, 2.8251, 1.9160,
)  # fmt: skip
"""Of each channel of a latent of Wan2.1's autoencoder (wan/modules/vae.py; diffusers' configuration says the same)."""


def transformer_config(shape: ShapeOf, names: tuple[str, ...], config: Mapping[str, object]) -> WanConfig:
    """The sizes of a transformer; InvalidField if its config.json says what cannot be."""
    dim, in_dim, *patch = shape("patch_embedding.weight")
    rows, columns, depth = patch[1], patch[2], patch[0]
    layers = {int(name.split(".")[1]) for name in names if name.startswith("blocks.")}
    heads = _number(config, ("num_heads", "num_attention_heads"), dim // _HEAD_DIM)
    if not heads or dim % heads:
        raise InvalidField("config.json: num_heads", heads, f"a divisor of the width {dim}")
    return WanConfig(
        dim=dim,
        ffn_dim=shape("blocks.0.ffn.0.weight")[0],
        num_heads=heads,
        num_layers=max(layers) + 1,
        in_dim=in_dim,
        out_dim=shape("head.head.weight")[0] // (depth * rows * columns),
        freq_dim=shape("time_embedding.0.weight")[1],
        text_dim=shape("text_embedding.0.weight")[1],
        text_len=_number(config, ("text_len",), _TEXT_TOKENS),
        patch_size=(depth, rows, columns),
    )


def vae_config(shape: ShapeOf) -> WanVAEConfig:
    """The sizes of an autoencoder: all of Wan2.1's kind, which differ in two widths."""
    return WanVAEConfig(dim=shape("encoder.conv1.weight")[0], z_dim=shape("conv2.weight")[0])


def encoder_config(shape: ShapeOf, decoder: WanVAEConfig) -> WanVAEConfig:
    """The sizes of an autoencoder's encoder, which may be narrower than its decoder and else is like it."""
    residuals = decoder.num_res_blocks + 1  # and one that makes pictures smaller
    stages = range(0, len(decoder.dim_mult) * residuals, residuals)
    dim = shape("encoder.conv1.weight")[0]
    widths = [shape(f"encoder.downsamples.{stage}.residual.2.weight")[0] for stage in stages]
    return replace(decoder, dim=dim, dim_mult=tuple(width // dim for width in widths))


def tiny_config(shape: ShapeOf) -> TaehvConfig:
    """The sizes of a tiny decoder, whose layers are numbered through."""
    width, z_dim, *_ = shape("decoder.1.weight")
    first, second, last = (shape(f"decoder.{number}.weight")[0] for number in _TINY_ENDS)
    grown = (shape(f"decoder.{number - 1}.conv.weight")[0] for number in _TINY_ENDS)
    one, two, three = (after // before for after, before in zip(grown, (width, first, second), strict=True))
    return TaehvConfig(z_dim=z_dim, widths=(width, first, second, last), growth=(one, two, three))


def text_config(shape: ShapeOf, names: tuple[str, ...]) -> dict[str, object]:
    """The config.json of umT5's encoder as `transformers` reads it, whoever published the weights."""
    first = "encoder.block.0.layer"
    vocabulary, width = shape("shared.weight")
    inner = shape(f"{first}.0.SelfAttention.q.weight")[0]
    buckets, heads = shape(f"{first}.0.SelfAttention.relative_attention_bias.weight")
    layers = {int(name.split(".")[2]) for name in names if name.startswith("encoder.block.")}
    return {
        "architectures": ["UMT5EncoderModel"],
        "model_type": "umt5",
        "vocab_size": vocabulary,
        "d_model": width,
        "d_kv": inner // heads,
        "num_heads": heads,
        "d_ff": shape(f"{first}.1.DenseReluDense.wi_0.weight")[0],
        "num_layers": max(layers) + 1,
        "relative_attention_num_buckets": buckets,
        "relative_attention_max_distance": 128,
        "feed_forward_proj": "gated-gelu",
        "layer_norm_epsilon": 1e-06,
        "dropout_rate": 0.0,
        "pad_token_id": 0,
        "eos_token_id": 1,
        "tie_word_embeddings": False,
    }


def text_shapes(config: Mapping[str, object]) -> dict[str, tuple[int, ...]]:
    """Every tensor of umT5's encoder with such a config.json, under the names of `transformers`."""
    sizes = {name: size for name, size in config.items() if isinstance(size, int)}
    width, inner, wide = sizes["d_model"], sizes["num_heads"] * sizes["d_kv"], sizes["d_ff"]
    shapes: dict[str, tuple[int, ...]] = {
        "shared.weight": (sizes["vocab_size"], width),
        "encoder.final_layer_norm.weight": (width,),
    }
    for number in range(sizes["num_layers"]):
        layer = f"encoder.block.{number}.layer"
        shapes |= {f"{layer}.0.SelfAttention.{name}.weight": (inner, width) for name in "qkv"}
        shapes |= {
            f"{layer}.0.layer_norm.weight": (width,),
            f"{layer}.0.SelfAttention.o.weight": (width, inner),
            f"{layer}.0.SelfAttention.relative_attention_bias.weight": (
                sizes["relative_attention_num_buckets"],
                sizes["num_heads"],
            ),
            f"{layer}.1.layer_norm.weight": (width,),
            f"{layer}.1.DenseReluDense.wi_0.weight": (wide, width),
            f"{layer}.1.DenseReluDense.wi_1.weight": (wide, width),
            f"{layer}.1.DenseReluDense.wo.weight": (width, wide),
        }
    return shapes


def _number(config: Mapping[str, object], names: tuple[str, ...], usual: int) -> int:
    for name in names:
        if name in config:
            return value(f"config.json: {name}", config[name], int)
    return usual
