"""The networks against those of diffusers, which nobody here wrote, with the same random weights."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from tests.workers.models.diffusers_names import wan_dit_name, wan_vae_name
from workers.models.api import Conditioning, Inputs, sdpa
from workers.models.wan.config import WanConfig, WanVAEConfig
from workers.models.wan.dit import WanModel
from workers.models.wan.vae import WanDecoder, WanEncoder

# By their own modules: importorskip keeps silent what diffusers warns of while it is imported, and the package itself
# imports them only when they are asked for.
transformer_wan = pytest.importorskip("diffusers.models.transformers.transformer_wan")
autoencoder_kl_wan = pytest.importorskip("diffusers.models.autoencoders.autoencoder_kl_wan")

DIT_ATOL = 1e-5
VAE_ATOL = 2e-5
BFLOAT16_ERROR = 2e-2
"""Norm of the difference to the norm of what it should be."""

SMALL = WanConfig(
    dim=128, ffn_dim=256, num_heads=4, num_layers=4, in_dim=16, out_dim=16, freq_dim=256, text_dim=64, text_len=24
)
HEADS_OF_WAN = replace(SMALL, dim=1536, ffn_dim=2048, num_heads=12, num_layers=2)
DEEP = replace(SMALL, num_layers=30)
WAN_1_3B = replace(HEADS_OF_WAN, ffn_dim=8960, num_layers=30, text_dim=4096, text_len=512)
VAE = WanVAEConfig(dim=8)

FRAMES = 3
SAME = torch.tensor([[833.33] * FRAMES, [500.25] * FRAMES])
EACH = torch.tensor([[833.33, 500.25, 0.0], [1000.0, 937.5, 21.7]])


class OwnBlock:
    """Self-attention over the block itself (SelfAttention)."""

    def attend(self, layer: int, q_BLND: Tensor, k_BLND: Tensor, v_BLND: Tensor) -> Tensor:
        return sdpa(q_BLND, k_BLND, v_BLND)

    def store(self, layer: int, k_BLND: Tensor, v_BLND: Tensor) -> None:
        raise AssertionError("nothing is committed here")


def their_dit(config: WanConfig) -> nn.Module:
    dit: nn.Module = transformer_wan.WanTransformer3DModel(
        patch_size=config.patch_size,
        num_attention_heads=config.num_heads,
        attention_head_dim=config.head_dim,
        in_channels=config.in_dim,
        out_channels=config.out_dim,
        text_dim=config.text_dim,
        freq_dim=config.freq_dim,
        ffn_dim=config.ffn_dim,
        num_layers=config.num_layers,
        eps=config.eps,
    )
    return dit.eval().requires_grad_(False)


def their_vae(config: WanVAEConfig) -> nn.Module:
    vae: nn.Module = autoencoder_kl_wan.AutoencoderKLWan(
        base_dim=config.dim,
        z_dim=config.z_dim,
        dim_mult=list(config.dim_mult),
        num_res_blocks=config.num_res_blocks,
        temperal_downsample=list(config.temporal_downsample),
    )
    return vae.eval().requires_grad_(False)


def perturb(network: nn.Module) -> None:
    """Move what starts as ones and zeros, such as norms and biases: mixed up, it would not be noticed."""
    with torch.no_grad():
        for parameter in network.parameters():
            if max(parameter.shape) == parameter.numel():
                parameter.add_(torch.randn_like(parameter), alpha=0.1)


def renamed(network: nn.Module, wan_name: Callable[[str], str]) -> dict[str, Tensor]:
    """Their tensors under Wan's names, as many as before."""
    state = network.state_dict()
    out = {wan_name(name): tensor for name, tensor in state.items()}
    assert len(out) == len(state)
    return out


def dits(config: WanConfig) -> tuple[nn.Module, WanModel]:
    """Theirs and ours with the same weights."""
    torch.manual_seed(11)
    theirs, ours = their_dit(config), WanModel(config)
    perturb(theirs)
    ours.load_state_dict(renamed(theirs, wan_dit_name), strict=True)
    return theirs, ours.eval().requires_grad_(False)


def flows(theirs: nn.Module, ours: WanModel, timestep_BF: Tensor) -> tuple[Tensor, Tensor]:
    """Both flows [B, F, C, H, W] of the same two blocks, whose text has fewer rows than the model takes."""
    torch.manual_seed(12)
    config, grid = ours.config, (4, 3)
    x_BFCHW = torch.randn(2, FRAMES, config.in_dim, 2 * grid[0], 2 * grid[1]).to(ours.dtype)
    text_BTC = torch.randn(2, config.text_len - 7, config.text_dim).to(ours.dtype)
    padded_BTC = torch.cat([text_BTC, text_BTC.new_zeros(2, 7, config.text_dim)], 1)
    if (timestep_BF == timestep_BF[:, :1]).all():
        timestep = timestep_BF[:, 0]
    else:
        timestep = timestep_BF.repeat_interleave(grid[0] * grid[1], 1)  # one for each token
    with torch.inference_mode():
        (expected_BCFHW,) = theirs(x_BFCHW.transpose(1, 2), timestep, padded_BTC, return_dict=False)
        flow_BFCHW = ours.denoise(
            Inputs(
                x_BFCHW=x_BFCHW,
                timestep_BF=timestep_BF,
                position_BF=torch.arange(FRAMES).expand(2, -1),
                conditioning=Conditioning(text=ours.encode_text(text_BTC)),
                attention=OwnBlock(),
            )
        )
    return expected_BCFHW.transpose(1, 2), flow_BFCHW


@pytest.mark.parametrize("timestep_BF", [SAME, EACH], ids=["one timestep", "one timestep per frame"])
@pytest.mark.parametrize("config", [SMALL, HEADS_OF_WAN], ids=["4 heads of 32", "12 heads of 128"])
def test_transformer_equals_that_of_diffusers(config: WanConfig, timestep_BF: Tensor) -> None:
    expected, flow = flows(*dits(config), timestep_BF)
    assert expected.std() > 0.1
    torch.testing.assert_close(flow, expected, rtol=0, atol=DIT_ATOL)


def relative(x: Tensor, expected: Tensor) -> float:
    return float((x.float() - expected.float()).norm() / expected.float().norm())


def test_bfloat16_stays_near_that_of_diffusers_over_30_layers() -> None:
    theirs, ours = dits(DEEP)
    exact, _ = flows(theirs, ours, SAME)
    expected, flow = flows(theirs.to(torch.bfloat16), ours.to(torch.bfloat16), SAME)
    assert flow.dtype == expected.dtype == torch.bfloat16
    assert relative(flow, expected) <= BFLOAT16_ERROR
    assert relative(flow, exact) <= BFLOAT16_ERROR


@dataclass(frozen=True)
class Autoencoders:
    """Theirs, and ours in two parts, with the same weights."""

    theirs: Any
    encoder: WanEncoder
    decoder: WanDecoder

    def their_pictures(self, z_BCFHW: Tensor) -> Tensor:
        """What leaves their decoder, before it is clamped."""
        pictures: list[Tensor] = []
        hook = self.theirs.decoder.register_forward_hook(lambda module, given, output: pictures.append(output))
        self.theirs.decode(z_BCFHW)
        hook.remove()
        return torch.cat(pictures, 2)


@pytest.fixture(scope="module")
def vaes() -> Autoencoders:
    torch.manual_seed(13)
    both = Autoencoders(their_vae(VAE), WanEncoder(VAE), WanDecoder(VAE))
    perturb(both.theirs)
    state = renamed(both.theirs, wan_vae_name)
    of_decoder = {name: state.pop(name) for name in list(state) if both.decoder.takes(name)}
    both.encoder.load_state_dict(state, strict=True)
    both.decoder.load_state_dict(of_decoder, strict=True)
    return both


def test_decoder_equals_that_of_diffusers_and_itself_streamed(vaes: Autoencoders) -> None:
    torch.manual_seed(14)
    z_BCFHW = torch.randn(2, VAE.z_dim, 7, 6, 5)
    with torch.inference_mode():
        expected = vaes.their_pictures(z_BCFHW)
        whole = vaes.decoder(z_BCFHW)
        state = vaes.decoder.initial_state(2, 6, 5)
        streamed = torch.cat([vaes.decoder.decode(z, state) for z in torch.split(z_BCFHW, [3, 3, 1], 2)], 2)
    assert whole.shape == (2, 3, 25, 48, 40)
    assert expected.std() > 0.1
    torch.testing.assert_close(whole, expected, rtol=0, atol=VAE_ATOL)
    assert torch.equal(streamed, whole)


def test_encoder_equals_that_of_diffusers(vaes: Autoencoders) -> None:
    torch.manual_seed(15)
    pixels_BCFHW = torch.rand(2, 3, 17, 48, 40) * 2 - 1
    with torch.inference_mode():
        expected = vaes.theirs.encode(pixels_BCFHW).latent_dist
        mean, logvar = vaes.encoder(pixels_BCFHW)
    assert mean.shape == (2, VAE.z_dim, 5, 6, 5)
    assert expected.mean.std() > 0.1
    torch.testing.assert_close(mean, expected.mean, rtol=0, atol=VAE_ATOL)
    torch.testing.assert_close(logvar, expected.logvar, rtol=0, atol=VAE_ATOL)


def test_every_name_and_shape_of_the_published_sizes() -> None:
    with torch.device("meta"):
        for theirs, wan_name, parts, count in (
            (their_dit(WAN_1_3B), wan_dit_name, [WanModel(WAN_1_3B)], 825),
            (their_vae(WanVAEConfig()), wan_vae_name, [WanEncoder(WanVAEConfig()), WanDecoder(WanVAEConfig())], 194),
        ):
            ours = {name: tensor.shape for part in parts for name, tensor in part.state_dict().items()}
            assert {name: tensor.shape for name, tensor in renamed(theirs, wan_name).items()} == ours
            assert len(ours) == count
