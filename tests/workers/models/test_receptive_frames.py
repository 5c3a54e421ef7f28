"""How far back a decoder's state depends on latents: as many frames as its structure says, and not one less."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor

from workers.models import weights
from workers.models.api import CarriedState, Compute, LatentDecoder
from workers.models.wan.causal_conv import CausalConv3d, Conv2d, TimeConv
from workers.models.wan.config import TaehvConfig, WanVAEConfig
from workers.models.wan.fused_vae import FusedDecoder
from workers.models.wan.taehv import TaehvDecoder
from workers.models.wan.vae import Upsample, WanDecoder

torch.set_num_threads(1)

POCKET = Path(weights.__file__).parents[2] / "pocket" / "weights"
POCKET_VAE = weights.load_info(POCKET).vae
SIZE = (2, 3)
SPREAD = 8.0
"""By how much the oldest of a convolution's frames counts more than usual."""
WAN, TAEHV = WanVAEConfig(dim=2, z_dim=4), TaehvConfig(z_dim=4, widths=(8, 6, 4, 4), growth=(1, 2, 2))
"""The structures of the published ones, as small as they can be."""
FRAMES = [
    (POCKET_VAE, 30),  # 10 convolutions of 2 frames each at rate 1, 5 at rate 2, 9 at rate 4: 20 + 5 + 4.5
    (WAN, 38),  # 12, 7 and 13: 24 + 7 + 6.5
    (WanVAEConfig(dim=4, z_dim=2, dim_mult=(1, 2), temporal_downsample=(False,), attn_scales=(1.0,)), 36),
    (WanVAEConfig(dim=4, z_dim=3, dim_mult=(1, 2, 3), num_res_blocks=1, temporal_downsample=(True, False)), 33),
    (TAEHV, 8),  # 6 memories of 1 frame each at rate 1, 3 at rate 2
    (TaehvConfig(z_dim=5, widths=(9, 6, 8, 4), growth=(2, 3, 1)), 5),  # 3 each at rates 1, 2 and 6: 3 + 1.5 + 0.5
]


def decoder_of(config: WanVAEConfig | TaehvConfig) -> WanDecoder | TaehvDecoder:
    """Random weights that look back, where trained ones may forget sooner than their structure allows."""
    torch.manual_seed(0)
    decoder = TaehvDecoder(config) if isinstance(config, TaehvConfig) else WanDecoder(config)
    with torch.no_grad():
        for part in decoder.modules():
            if isinstance(part, CausalConv3d | TimeConv):
                part.weight[:, :, 0].mul_(SPREAD)
            elif isinstance(part, Conv2d) and isinstance(decoder, TaehvDecoder):
                part.weight.mul_(2)
    return decoder.requires_grad_(False)


def decoded(decoder: LatentDecoder, z_BCFHW: Tensor, state: CarriedState) -> list[Tensor]:
    """What the state becomes by these latent frames, and the pictures of two more."""
    with torch.inference_mode():
        decoder.decode(z_BCFHW[:, :, :-2], state)
        return [*state.history_BFHWC, decoder.decode(z_BCFHW[:, :, -2:], state)]


def after(decoder: LatentDecoder, z_BCFHW: Tensor, last: int) -> list[Tensor]:
    """The same of a stream of which only the last so many frames are known."""
    state = decoder.initial_state(1, *SIZE)
    state.started = True
    return decoded(decoder, z_BCFHW[:, :, -2 - last :], state)


def equal(one: list[Tensor], other: list[Tensor]) -> bool:
    return all(torch.equal(*pair) for pair in zip(one, other, strict=True))


@pytest.mark.parametrize(("config", "frames"), FRAMES)
def test_state_and_pictures_are_exact_after_as_many_frames_as_the_structure_says_and_not_after_one_less(
    config: WanVAEConfig | TaehvConfig, frames: int
) -> None:
    decoder = decoder_of(config)
    assert decoder.receptive_frames == frames
    for length in (frames + 3, frames + 4):
        z_BCFHW = torch.randn(1, decoder.channels, length + 2, *SIZE)
        whole = decoded(decoder, z_BCFHW, decoder.initial_state(1, *SIZE))
        assert equal(after(decoder, z_BCFHW, frames), whole)
        assert equal(after(decoder, z_BCFHW, frames + 1), whole)
        assert not equal(after(decoder, z_BCFHW, frames - 1), whole)


def late(decoder: LatentDecoder, z_BCFHW: Tensor, frames: int, *, too_much: int) -> list[Tensor]:
    """As `after` with as many frames as the decoder depends on, of which only what matters is computed, `frames` at a
    time; of each is said that so many more frames follow than do."""
    state = decoder.initial_state(1, *SIZE)
    state.started = True
    last = frames * -(-decoder.receptive_frames // frames)
    silent_BCFHW = z_BCFHW[:, :, -2 - last : -2]
    with torch.inference_mode():
        for start in range(0, last, frames):
            later = last - start - frames
            decoder.advance(silent_BCFHW[:, :, start : start + frames], state, later + too_much)
        before = [*state.history_BFHWC]
        return [*before, decoder.decode(z_BCFHW[:, :, -2:], state)]


@pytest.mark.parametrize("frames", [1, 2, 3])
@pytest.mark.parametrize("config", [config for config, _ in FRAMES])
def test_what_no_picture_will_depend_on_need_not_be_computed(config: WanVAEConfig | TaehvConfig, frames: int) -> None:
    decoder = decoder_of(config)
    z_BCFHW = torch.randn(1, decoder.channels, decoder.receptive_frames + 5, *SIZE)
    whole = decoded(decoder, z_BCFHW, decoder.initial_state(1, *SIZE))
    assert equal(late(decoder, z_BCFHW, frames, too_much=0), whole)
    assert not equal(late(decoder, z_BCFHW, frames, too_much=frames), whole)


def test_most_of_the_time_is_saved() -> None:
    """Of a rebuild of pocket's decoder only the last blocks pass through the layers that make large pictures."""
    decoder = weights.load_decoder(POCKET, weights.load_info(POCKET), Compute())
    assert isinstance(decoder, WanDecoder)
    parts, frames = decoder.order(), 3
    depths = [decoder.depth(later) for later in range(0, decoder.receptive_frames, frames)]
    assert depths == sorted(depths, reverse=True) and depths[0] == len(parts)
    last_doubling = max(number for number, part in enumerate(parts) if isinstance(part, Upsample))
    assert sum(depth > last_doubling for depth in depths) == 1


def test_a_fused_decoder_leaves_out_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    decoder = decoder_of(WAN)
    assert isinstance(decoder, WanDecoder)
    monkeypatch.setattr("workers.models.wan.fused_vae.compiled", lambda function: function)
    fused, z_BCFHW = FusedDecoder(decoder), torch.randn(1, decoder.channels, 44, *SIZE)
    state = fused.initial_state(1, *SIZE)
    with torch.inference_mode():  # its rounding depends on how many frames come at once
        made = [fused.decode(each, state) for each in (*torch.split(z_BCFHW[:, :, :-2], 3, 2), z_BCFHW[:, :, -2:])]
    whole = [*state.history_BFHWC, made[-1]]
    assert equal(late(fused, z_BCFHW, 3, too_much=0)[-1:], whole[-1:])
    assert not equal(late(fused, z_BCFHW, 3, too_much=3)[-1:], whole[-1:])


def test_the_trained_decoder_of_pocket_is_exact_after_as_many_too() -> None:
    """It forgets sooner, but how much sooner depends on the latents and on rounding: nothing to rely on."""
    decoder = weights.load_decoder(POCKET, weights.load_info(POCKET), Compute())
    assert decoder.receptive_frames == 30
    z_BCFHW = torch.randn(1, decoder.channels, 40, *SIZE, generator=torch.Generator().manual_seed(0))
    whole = decoded(decoder, z_BCFHW, decoder.initial_state(1, *SIZE))
    assert equal(after(decoder, z_BCFHW, 30), whole)
    assert not equal(after(decoder, z_BCFHW, 22), whole)


def test_a_fused_decoder_looks_back_as_far_as_the_plain_one() -> None:
    decoder = decoder_of(WAN)
    assert isinstance(decoder, WanDecoder)
    assert FusedDecoder(decoder).receptive_frames == 38
