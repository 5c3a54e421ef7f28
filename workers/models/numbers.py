"""A model directory as the numbers that planning and sizing are done with; no weights are read."""

from __future__ import annotations

import json
import math
from pathlib import Path

from longtake.core.errors import InvalidField
from longtake.core.plan.autoencoder import DecoderShape, EncoderShape, TinyDecoderSize
from longtake.core.plan.model import Model, TransformerShape
from longtake.core.plan.presets import UMT5
from longtake.core.plan.text_encoder import TextEncoderShape
from longtake.core.recipe.geometry import Geometry
from workers.models.tensor_files import TensorFiles
from workers.models.text_rules import is_encoded_apart
from workers.models.wan.config import TaehvConfig
from workers.models.weights import TEXT_CONFIG, VAE, ModelInfo, encoder_sizes, tiny_shapes, tiny_state_shapes


def numbers_of(info: ModelInfo, folder: Path) -> Model:
    """The sizes of a model, that of the text encoder in `folder` included; InvalidField if that one's are wrong."""
    return Model(
        name=info.name,
        recipe=info.recipe,
        geometry=info.geometry,
        transformer=TransformerShape(
            dim=info.dit.dim,
            ffn_dim=info.dit.ffn_dim,
            layers=info.dit.num_layers,
            text_tokens=info.dit.text_len,
            text_dim=info.dit.text_dim,
            freq_dim=info.dit.freq_dim,
            patch_values=info.dit.patch_size[1] * info.dit.patch_size[2],
        ),
        decoder=DecoderShape(
            dim=info.vae.dim,
            dim_mult=info.vae.dim_mult,
            num_res_blocks=info.vae.num_res_blocks,
            temporal_upsample=tuple(reversed(info.vae.temporal_downsample)),
        ),
        encoder=_encoder(info, folder),
        tiny=None if info.tiny is None else _tiny(info.tiny, info.geometry),
        text=_text(folder / TEXT_CONFIG, info) if is_encoded_apart(info.text_kind) else None,
    )


def _encoder(info: ModelInfo, folder: Path) -> EncoderShape | None:
    """As wide as the decoder where the file that would tell is not there, which its loading will say."""
    try:
        sizes = encoder_sizes(TensorFiles(folder, VAE), info)
    except FileNotFoundError:
        sizes = info.vae
    if sizes is None:
        return None
    return EncoderShape(
        dim=sizes.dim,
        dim_mult=sizes.dim_mult,
        num_res_blocks=sizes.num_res_blocks,
        temporal_downsample=sizes.temporal_downsample,
    )


def _tiny(config: TaehvConfig, geometry: Geometry) -> TinyDecoderSize:
    states = tiny_state_shapes(config, geometry.latent_height, geometry.latent_width)
    return TinyDecoderSize(
        weights=sum(map(math.prod, tiny_shapes(config).values())), state_values=sum(map(math.prod, states))
    )


def _text(path: Path, info: ModelInfo) -> TextEncoderShape:
    """The text encoder that config.json describes; the published one if it is not there, which its loading will say."""
    try:
        sizes = json.loads(path.read_text(encoding="utf-8"))
        return TextEncoderShape(
            vocabulary=int(sizes["vocab_size"]),
            dim=int(sizes["d_model"]),
            inner=int(sizes["num_heads"]) * int(sizes["d_kv"]),
            heads=int(sizes["num_heads"]),
            ffn_dim=int(sizes["d_ff"]),
            layers=int(sizes["num_layers"]),
            buckets=int(sizes["relative_attention_num_buckets"]),
            max_tokens=info.text_rows,
        )
    except FileNotFoundError:
        return UMT5
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise InvalidField(TEXT_CONFIG, f"{type(error).__name__}: {error}", "the sizes of umT5's encoder") from None
