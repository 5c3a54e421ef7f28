"""The Wan autoencoder: equal to the reference, the same bits however a clip is cut, and causal."""

import itertools
import math
import re
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from torch import Tensor

from longtake.core.errors import InvalidField
from workers.models.api import CarriedState
from workers.models.wan.causal_conv import CausalConv3d
from workers.models.wan.config import WanVAEConfig
from workers.models.wan.vae import WanDecoder, WanEncoder

torch.set_num_threads(1)

GOLDEN = Path(__file__).parents[2] / "goldens" / "wan_vae_tiny.safetensors"
ATOL = 2e-5
ROUNDING = 1e-5
"""Kernels for other shapes may add in another order; a server decodes a block as a whole and never otherwise."""
SMALL = WanVAEConfig(dim=4, z_dim=4, dim_mult=(1, 2), num_res_blocks=1, temporal_downsample=(True,))


@pytest.fixture(scope="module")
def golden() -> dict[str, Tensor]:
    return load_file(GOLDEN)


@pytest.fixture(scope="module")
def reference_decoder(golden: dict[str, Tensor]) -> WanDecoder:
    decoder = WanDecoder(WanVAEConfig(dim=8))
    weights = {name.removeprefix("weights."): t for name, t in golden.items() if name.startswith("weights.")}
    decoder.load_state_dict(weights, strict=True)
    return decoder


def golden_latents(golden: dict[str, Tensor]) -> Tensor:
    return golden["in.z"] * golden["in.std"].view(1, -1, 1, 1, 1) + golden["in.mean"].view(1, -1, 1, 1, 1)


def decode(decoder: WanDecoder, z_BCFHW: Tensor, chunks: list[int]) -> tuple[Tensor, CarriedState]:
    state = decoder.initial_state(z_BCFHW.shape[0], *z_BCFHW.shape[3:])
    with torch.inference_mode():
        parts = [decoder.decode(chunk, state) for chunk in torch.split(z_BCFHW, chunks, 2)]
    return torch.cat(parts, 2), state


def encode(encoder: WanEncoder, x_BCFHW: Tensor, chunks: list[int]) -> Tensor:
    state = encoder.initial_state(x_BCFHW.shape[0], *x_BCFHW.shape[3:])
    with torch.inference_mode():
        return torch.cat([torch.cat(encoder.encode(chunk, state), 1) for chunk in torch.split(x_BCFHW, chunks, 2)], 2)


def test_decoder_reproduces_the_reference(golden: dict[str, Tensor], reference_decoder: WanDecoder) -> None:
    pixels, state = decode(reference_decoder, golden_latents(golden), [5])
    torch.testing.assert_close(pixels, golden["out.pixels"], rtol=0, atol=ATOL)
    assert len(state.history_BFHWC) == 32
    for i, carried_BFHWC in enumerate(state.history_BFHWC):
        expected_BCFHW = golden[f"cache_after_all.{i:02d}"]
        torch.testing.assert_close(carried_BFHWC.permute(0, 4, 1, 2, 3), expected_BCFHW, rtol=0, atol=ATOL)


def test_the_golden_tells_a_wrong_start_apart(golden: dict[str, Tensor], reference_decoder: WanDecoder) -> None:
    z = golden_latents(golden)
    state = reference_decoder.initial_state(1, *z.shape[3:])
    state.started = True  # as the Self-Forcing demo does: zeros for history, and no first latent frame
    with torch.inference_mode():
        pixels = reference_decoder.decode(z, state)
    assert pixels.shape[2] == 20
    difference = (pixels[:, :, 3:] - golden["out.pixels"]).abs().amax((0, 1, 3, 4))
    assert bool((difference > 100 * ATOL).all())


@pytest.mark.parametrize("chunks", [[1] * 5, [2, 3], [3, 2], [1, 4], [4, 1]])
def test_any_chunking_gives_what_one_call_gives(
    golden: dict[str, Tensor], reference_decoder: WanDecoder, chunks: list[int]
) -> None:
    z = golden_latents(golden)
    whole, whole_state = decode(reference_decoder, z, [5])
    cut, cut_state = decode(reference_decoder, z, chunks)
    torch.testing.assert_close(cut, whole, rtol=0, atol=ROUNDING)
    for ours, theirs in zip(cut_state.history_BFHWC, whole_state.history_BFHWC, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=0, atol=ROUNDING)


SHAPES = [
    (WanVAEConfig(dim=8), 1, 8, 8),
    (WanVAEConfig(dim=6, z_dim=3, dim_mult=(1, 2, 3), temporal_downsample=(True, True)), 2, 2, 3),
    (WanVAEConfig(dim=4, z_dim=2, dim_mult=(1, 2), temporal_downsample=(False,), attn_scales=(1.0,)), 3, 5, 1),
    (SMALL, 1, 1, 1),
]


@pytest.mark.parametrize(("config", "batch", "height", "width"), SHAPES)
def test_chunking_and_batching_change_no_more_than_rounding(
    config: WanVAEConfig, batch: int, height: int, width: int
) -> None:
    torch.manual_seed(0)
    decoder, encoder = WanDecoder(config), WanEncoder(config)
    frames, step, scale = 6, config.temporal_stride, config.spatial_stride
    z = torch.randn(batch, config.z_dim, frames, height, width)
    whole, state = decode(decoder, z, [frames])
    assert whole.shape == (batch, 3, 1 + (frames - 1) * step, height * scale, width * scale)
    for chunks in ([1] * frames, [3, 3], [1, 5], [2, 1, 3]):
        torch.testing.assert_close(decode(decoder, z, chunks)[0], whole, rtol=0, atol=ROUNDING)
    lone = torch.cat([decode(decoder, z[i : i + 1], [3, 3])[0] for i in range(batch)])
    torch.testing.assert_close(lone, whole, rtol=0, atol=ROUNDING)
    assert [tuple(h.shape) for h in state.history_BFHWC] == decoder.state_shapes(batch, height, width)

    x = whole.clamp(-1, 1)
    moments = encode(encoder, x, [x.shape[2]])
    assert moments.shape == (batch, 2 * config.z_dim, frames, height, width)
    for chunks in ([1] + [step] * (frames - 1), [1 + step, step * (frames - 2)]):
        torch.testing.assert_close(encode(encoder, x, chunks), moments, rtol=0, atol=ROUNDING)


def test_both_forms_of_the_causal_convolution_agree() -> None:
    torch.manual_seed(4)
    conv = CausalConv3d(6, 5)
    extended = torch.randn(2, 7, 4, 3, 6)
    with torch.inference_mode():
        torch.testing.assert_close(conv.frame_by_frame(extended), conv.all_at_once(extended), rtol=0, atol=1e-5)


def test_streaming_is_causal() -> None:
    torch.manual_seed(1)
    decoder = WanDecoder(SMALL)
    z = torch.randn(1, 4, 5, 4, 4)
    changed = z.clone()
    changed[:, :, 3] += 1
    before, after = decode(decoder, z, [5])[0], decode(decoder, changed, [5])[0]
    first = 1 + 2 * SMALL.temporal_stride  # pictures of latent frames 0, 1, 2
    assert torch.equal(before[:, :, :first], after[:, :, :first])
    assert not torch.equal(before[:, :, first], after[:, :, first])


def reference_encoder_moments(weights: dict[str, Tensor], x_BCFHW: Tensor) -> Tensor:
    """SMALL's encoder over a whole clip, written down layer by layer with 3-D convolutions and zero padding."""

    def causal(name: str, x: Tensor) -> Tensor:
        w = weights[f"{name}.weight"]
        space = w.shape[3] // 2
        return F.conv3d(F.pad(x, (space, space, space, space, w.shape[2] - 1, 0)), w, weights[f"{name}.bias"])

    def norm(name: str, x: Tensor) -> Tensor:
        gamma = weights[f"{name}.gamma"].view(1, -1, 1, 1, 1)
        return F.normalize(x, dim=1) * math.sqrt(x.shape[1]) * gamma

    def residual(name: str, x: Tensor) -> Tensor:
        y = causal(f"{name}.residual.2", F.silu(norm(f"{name}.residual.0", x)))
        y = causal(f"{name}.residual.6", F.silu(norm(f"{name}.residual.3", y)))
        return y + (causal(f"{name}.shortcut", x) if f"{name}.shortcut.weight" in weights else x)

    def attention(name: str, x: Tensor) -> Tensor:
        frames = []
        for frame in norm(f"{name}.norm", x).unbind(2):
            qkv = F.conv2d(frame, weights[f"{name}.to_qkv.weight"], weights[f"{name}.to_qkv.bias"])
            q, k, v = qkv.flatten(2).chunk(3, 1)
            p = (q.transpose(1, 2) @ k / q.shape[1] ** 0.5).softmax(-1)
            y = (p @ v.transpose(1, 2)).transpose(1, 2).reshape(frame.shape)
            frames.append(F.conv2d(y, weights[f"{name}.proj.weight"], weights[f"{name}.proj.bias"]))
        return x + torch.stack(frames, 2)

    def downsample(name: str, x: Tensor) -> Tensor:
        w, b = weights[f"{name}.resample.1.weight"], weights[f"{name}.resample.1.bias"]
        x = torch.stack([F.conv2d(F.pad(f, (0, 1, 0, 1)), w, b, stride=2) for f in x.unbind(2)], 2)
        time = F.conv3d(x, weights[f"{name}.time_conv.weight"], weights[f"{name}.time_conv.bias"], (2, 1, 1))
        return torch.cat([x[:, :, :1], time], 2)

    x = causal("encoder.conv1", x_BCFHW)
    x = residual("encoder.downsamples.0", x)
    x = downsample("encoder.downsamples.1", x)
    x = residual("encoder.downsamples.2", x)
    x = residual("encoder.middle.0", x)
    x = attention("encoder.middle.1", x)
    x = residual("encoder.middle.2", x)
    x = causal("encoder.head.2", F.silu(norm("encoder.head.0", x)))
    return causal("conv1", x)


def test_encoder_equals_the_same_layers_written_down_plainly() -> None:
    torch.manual_seed(2)
    encoder = WanEncoder(SMALL)
    x = torch.rand(2, 3, 9, 4, 6) * 2 - 1
    with torch.inference_mode():
        expected = reference_encoder_moments(encoder.state_dict(), x)
    torch.testing.assert_close(encode(encoder, x, [3, 2, 4]), expected, rtol=0, atol=ATOL)


def test_gradients_reach_every_parameter_through_both_networks() -> None:
    torch.manual_seed(3)
    decoder, encoder = WanDecoder(SMALL), WanEncoder(SMALL)
    mean, logvar = encoder(torch.rand(1, 3, 5, 4, 4))
    (decoder(mean).square().mean() + logvar.mean()).backward()
    for name, parameter in itertools.chain(decoder.named_parameters(), encoder.named_parameters()):
        assert parameter.grad is not None and bool(parameter.grad.abs().sum() > 0), name


def test_state_of_the_published_model_has_its_known_size() -> None:
    with torch.device("meta"):
        decoder = WanDecoder(WanVAEConfig())
    shapes = decoder.state_shapes(1, 60, 104)
    elements = sum(torch.Size(shape).numel() for shape in shapes)
    assert (len(shapes), elements) == (32, 944_286_720)


def test_a_failed_chunk_leaves_the_stream_where_it_was(
    golden: dict[str, Tensor], reference_decoder: WanDecoder
) -> None:
    z = golden_latents(golden)
    state = reference_decoder.initial_state(1, *z.shape[3:])
    with torch.inference_mode():
        first = reference_decoder.decode(z[:, :, :2], state)
        with pytest.raises(RuntimeError):
            reference_decoder.decode(z[:, :, 2:, :3], state)  # three rows where the state has four
        rest = reference_decoder.decode(z[:, :, 2:], state)
    assert torch.equal(torch.cat([first, rest], 2), decode(reference_decoder, z, [5])[0])


def test_refusals_name_field_value_and_what_is_allowed() -> None:
    with pytest.raises(InvalidField, match=re.escape("vae.dim: 7 is not allowed; allowed: a positive even number")):
        WanVAEConfig(dim=7)
    with pytest.raises(InvalidField, match=r"vae.temporal_downsample.*2 entries, one less than dim_mult \(1, 2, 4\)"):
        WanVAEConfig(dim_mult=(1, 2, 4))
    encoder = WanEncoder(SMALL)
    with pytest.raises(InvalidField, match="picture size: '5x4' is not allowed; allowed: multiples of 2"):
        encoder.initial_state(1, 5, 4)
    with pytest.raises(InvalidField, match="number of pictures: 4 is not allowed; allowed: a multiple of 2 plus 1"):
        encoder.encode(torch.zeros(1, 3, 4, 4, 4), encoder.initial_state(1, 4, 4))
