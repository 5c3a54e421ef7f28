"""Published models as numbers, for planning and simulation without their weights."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction

from longtake.core.plan.autoencoder import DecoderShape, EncoderShape
from longtake.core.plan.model import Model, TransformerShape
from longtake.core.plan.text_encoder import TextEncoderShape
from longtake.core.recipe.blocks import BlockPlan
from longtake.core.recipe.geometry import Geometry
from longtake.core.recipe.published import PUBLISHED, Base, Published

_HIAR = PUBLISHED["wan-hiar"]
HIAR_RECIPE = _HIAR.recipe
SIZE_480P = Geometry(width=832, height=480, fps=Fraction(16), latent_channels=16, blocks=BlockPlan(frames=3))
SIZE_720P = replace(SIZE_480P, width=1280, height=720)

_SHAPES = {
    Base.SMALL: TransformerShape(dim=1536, ffn_dim=8960, layers=30, text_tokens=512, text_dim=4096, freq_dim=256),
    Base.LARGE: TransformerShape(dim=5120, ffn_dim=13824, layers=40, text_tokens=512, text_dim=4096, freq_dim=256),
}
_WAN_DECODER = DecoderShape(
    dim=96, dim_mult=(1, 2, 4, 4), num_res_blocks=2, temporal_upsample=(True, True, False)
)  # fmt: skip
_WAN_ENCODER = EncoderShape(
    dim=96, dim_mult=(1, 2, 4, 4), num_res_blocks=2, temporal_downsample=(False, True, True)
)  # fmt: skip
UMT5 = TextEncoderShape(
    vocabulary=256384, dim=4096, inner=4096, heads=64, ffn_dim=10240, layers=24, buckets=32, max_tokens=512
)  # fmt: skip


def _wan(name: str, base: Base, geometry: Geometry, like: Published = _HIAR) -> Model:
    return Model(
        name=name,
        recipe=like.recipe,
        geometry=geometry,
        transformer=_SHAPES[base],
        decoder=_WAN_DECODER,
        encoder=_WAN_ENCODER,
        text=UMT5,
    )


PRESETS = {
    model.name: model
    for model in (
        _wan("wan2.1-1.3b-480p", Base.SMALL, SIZE_480P),
        _wan("wan2.1-1.3b-720p", Base.SMALL, SIZE_720P),
        _wan("wan2.1-14b-480p", Base.LARGE, SIZE_480P),
        *(_wan(f"{made.name}-480p", made.base, SIZE_480P, made) for made in PUBLISHED.values()),
    )
}
