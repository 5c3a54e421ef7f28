"""The transformer's own properties; its agreement with the reference is test_goldens.py."""

import math
from dataclasses import dataclass, field, replace
from typing import Any

import pytest
import torch
from torch import Tensor

from workers.models.api import Conditioning, Inputs, SelfAttention, TextKV, sdpa
from workers.models.rotary import rotate
from workers.models.wan.config import WanConfig
from workers.models.wan.dit import WanModel, time_features, turns

CONFIG = WanConfig(
    dim=48, ffn_dim=96, num_heads=2, num_layers=3, in_dim=4, out_dim=4, freq_dim=16, text_dim=12, text_len=5
)
WAN_1_3B = WanConfig(
    dim=1536,
    ffn_dim=8960,
    num_heads=12,
    num_layers=30,
    in_dim=16,
    out_dim=16,
    freq_dim=256,
    text_dim=4096,
    text_len=512,
)


@dataclass
class Own:
    """Self-attention over the own block (and `past`), remembering what it was given."""

    past: dict[int, tuple[Tensor, Tensor]] = field(default_factory=dict)
    kept: dict[int, tuple[Tensor, Tensor]] = field(default_factory=dict)
    attended: list[int] = field(default_factory=list)

    def attend(self, layer: int, q_BLND: Tensor, k_BLND: Tensor, v_BLND: Tensor) -> Tensor:
        self.attended.append(layer)
        self.store(layer, k_BLND, v_BLND)
        if layer in self.past:
            k_BLND, v_BLND = (torch.cat(pair, 1) for pair in zip(self.past[layer], (k_BLND, v_BLND), strict=True))
        return sdpa(q_BLND, k_BLND, v_BLND)

    def store(self, layer: int, k_BLND: Tensor, v_BLND: Tensor) -> None:
        self.kept[layer] = (k_BLND, v_BLND)


@dataclass(frozen=True)
class Call:
    """Arguments of a forward of two items of two frames, 4x6 latents."""

    x: Tensor
    timestep: Tensor
    position: Tensor
    text: TextKV

    def inputs(self, attention: SelfAttention) -> Inputs:
        return Inputs(
            x_BFCHW=self.x,
            timestep_BF=self.timestep,
            position_BF=self.position,
            conditioning=Conditioning(text=self.text),
            attention=attention,
        )

    def flow(self, model: WanModel, attention: SelfAttention | None = None) -> Tensor:
        return model.denoise(self.inputs(attention or Own()))


@pytest.fixture
def model() -> WanModel:
    torch.manual_seed(5)
    return WanModel(CONFIG)


@pytest.fixture
def call(model: WanModel) -> Call:
    torch.manual_seed(6)
    text = model.encode_text(torch.randn(2, 5, 12))
    timestep = torch.tensor([[1000.0, 937.5], [625.0, 0.0]])
    return Call(torch.randn(2, 2, 4, 4, 6), timestep, torch.tensor([[0, 1], [6, 7]]), text)


def test_names_and_sizes_are_those_of_the_published_checkpoint() -> None:
    with torch.device("meta"):
        state = WanModel(WAN_1_3B).state_dict()
    assert len(state) == 825
    assert sum(t.numel() for t in state.values()) == 1_418_996_800
    assert state["patch_embedding.weight"].shape == (1536, 16, 1, 2, 2)
    assert state["blocks.29.modulation"].shape == (1, 6, 1536)
    assert state["head.modulation"].shape == (1, 2, 1536)
    assert state["head.head.weight"].shape == (64, 1536)
    attention = {f"{p}.{kind}" for p in "qkvo" for kind in ("weight", "bias")} | {
        "norm_q.weight",
        "norm_k.weight",
    }
    layer = {name.removeprefix("blocks.7.") for name in state if name.startswith("blocks.7.")}
    assert layer == {
        "modulation",
        *(f"self_attn.{name}" for name in attention),
        *(f"cross_attn.{name}" for name in attention),
        *(f"{name}.{kind}" for name in ("norm3", "ffn.0", "ffn.2") for kind in ("weight", "bias")),
    }
    assert {name.rpartition(".")[0] for name in state if not name.startswith(("blocks.", "head."))} == {
        "patch_embedding",
        *(f"{name}_embedding.{number}" for name in ("text", "time") for number in (0, 2)),
        "time_projection.1",
    }


def test_time_features_are_cosines_then_sines() -> None:
    features = time_features(torch.tensor([[0.0, 2.5]]), 4)
    assert features.dtype == torch.float64
    expected = [[1, 1, 0, 0], [math.cos(2.5), math.cos(0.025), math.sin(2.5), math.sin(0.025)]]
    torch.testing.assert_close(features[0], torch.tensor(expected, dtype=torch.float64))


def sized(head_dim: int) -> WanConfig:
    return replace(CONFIG, dim=2 * head_dim)


def test_rotation_of_one_token_by_hand() -> None:
    # A head of 16 channels has 8 pairs: 4 of time, 2 of rows, 2 of columns.
    turn = turns(torch.tensor([[3]]), (2, 3), sized(16))
    assert turn.cos.shape == turn.sin.shape == (1, 6, 1, 16)
    angles = torch.tensor([3, 0.3, 0.03, 0.003, 1, 0.01, 2, 0.02])  # frame 3, row 1, column 2: the last token
    torch.testing.assert_close(torch.atan2(turn.sin, turn.cos)[0, -1, 0], angles.repeat_interleave(2))
    x = torch.zeros(1, 6, 1, 16)
    x[..., 0] = 1
    rotated = rotate(x, turn)[0, -1, 0]
    torch.testing.assert_close(rotated[:2], torch.tensor([math.cos(3), math.sin(3)]))
    assert not rotated[2:].any()


def test_wan_splits_128_channels_into_22_21_21_pairs() -> None:
    cos = turns(torch.tensor([[5]]), (2, 2), sized(128)).cos[0, :, 0, ::2]
    moved = cos[-1] != cos[0]
    assert not moved[:22].any()
    assert (cos[0, :22] != 1).all()
    assert (cos[0, 22:] == 1).all()
    assert moved[22:28].all(), "the highest frequencies of the rows"
    assert moved[43:49].all(), "and of the columns"


@pytest.mark.parametrize("shift", [1000, 100_000, 10_000_000])
def test_only_differences_of_positions_count(shift: int, model: WanModel, call: Call) -> None:
    def second_block(offset: int) -> Tensor:
        first = Own()
        replace(call, position=call.position + offset).flow(model, first)
        return replace(call, position=call.position + offset + 2).flow(model, Own(past=first.kept))

    torch.testing.assert_close(second_block(shift), second_block(0), rtol=0, atol=1e-5)


def test_positions_count(model: WanModel, call: Call) -> None:
    apart = replace(call, position=call.position * torch.tensor([1, 4]))
    assert (apart.flow(model) - call.flow(model)).abs().max() > 1e-3


def test_every_frame_has_its_own_timestep(model: WanModel, call: Call) -> None:
    frame_alone = Own()
    call.flow(model, frame_alone)
    other = Own()
    changed = replace(call, timestep=torch.tensor([[1000.0, 833.3333], [625.0, 0.0]]))
    flow = changed.flow(model, other)
    assert (flow[0] - call.flow(model)[0]).abs().max() > 1e-3
    torch.testing.assert_close(flow[1], call.flow(model)[1])
    before, after = frame_alone.kept[0][0][0].chunk(2), other.kept[0][0][0].chunk(2)
    torch.testing.assert_close(before[0], after[0])  # in the first layer, frame 0 has not met frame 1 yet
    assert (before[1] - after[1]).abs().max() > 1e-3


def test_fractions_of_timesteps_count(model: WanModel, call: Call) -> None:
    whole, exact = (replace(call, timestep=torch.full((2, 2), t)).flow(model) for t in (833.0, 2500 / 3))
    assert (whole - exact).abs().max() > 1e-4


def test_padded_text_is_attended(model: WanModel) -> None:
    short = torch.randn(1, 3, 12)
    padded = model.encode_text(torch.cat([short, torch.zeros(1, 2, 12)], 1))
    from_short = model.encode_text(short)
    assert all(torch.equal(padded.k_BTND[layer], from_short.k_BTND[layer]) for layer in model.layers)
    assert padded.v_BTND[0].shape[1] == CONFIG.text_len
    assert padded.v_BTND[0][:, 3:].abs().max() > 1e-3


def test_texts_of_batch_mates_stay_apart(model: WanModel, call: Call) -> None:
    texts = [model.encode_text(torch.randn(1, 5, 12)) for _ in range(2)]
    both = replace(call, text=TextKV.batch(texts)).flow(model)
    one = replace(call, text=texts[1]).flow(model)
    torch.testing.assert_close(both[1], one[1])
    assert (both[0] - one[0]).abs().max() > 1e-3
    assert len(TextKV.batch(texts)) == 2
    assert texts[0].size_bytes() == 2 * 3 * 5 * 48 * 4


def test_commit_stores_what_a_forward_does_and_stops_in_the_last_layer(model: WanModel, call: Call) -> None:
    forward, commit = Own(), Own()
    call.flow(model, forward)
    model.commit(call.inputs(commit))
    for layer in model.layers:
        for expected, stored in zip(forward.kept[layer], commit.kept[layer], strict=True):
            assert torch.equal(expected, stored)
    assert forward.attended == [0, 1, 2]
    assert commit.attended == [0, 1]


@pytest.mark.parametrize("cut", [1, 2])
def test_a_chain_of_parts_equals_the_whole(cut: int, model: WanModel, call: Call) -> None:
    parts = [WanModel(CONFIG, range(cut)), WanModel(CONFIG, range(cut, 3))]
    for part in parts:
        part.load_state_dict({name: t for name, t in model.state_dict().items() if name in part.state_dict()})
    first, last = (part.begin(call.inputs(Own())) for part in parts)
    h = first.run(first.enter())
    assert h.shape == last.shape
    assert torch.equal(last.leave(last.run(h)), call.flow(model))
    assert set(parts[0].state_dict()) | set(parts[1].state_dict()) == set(model.state_dict())


def test_output_patches_are_row_column_channel(model: WanModel, call: Call) -> None:
    with torch.no_grad():
        model.head.head.weight.zero_()
        model.head.head.bias.copy_(torch.arange(16.0))
    flow = call.flow(model)
    rows, columns = torch.meshgrid(torch.arange(4), torch.arange(6), indexing="ij")
    for channel in range(4):
        expected = ((rows % 2) * 2 + columns % 2) * 4 + channel
        assert torch.equal(flow[:, :, channel], expected.float().expand(2, 2, 4, 6))


def test_input_patches_are_those_of_the_convolution(model: WanModel, call: Call) -> None:
    by_convolution = model.patch_embedding(call.x.transpose(1, 2)).flatten(2).transpose(1, 2)
    torch.testing.assert_close(model.embed(call.x), by_convolution)


def test_every_parameter_gets_a_gradient(model: WanModel, call: Call) -> None:
    text = model.encode_text(torch.randn(2, 5, 12))
    torch.autograd.backward(replace(call, text=text).flow(model).square().sum())
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name
        assert parameter.grad.abs().max() > 0, name


def test_bfloat16_is_near_float32(model: WanModel, call: Call) -> None:
    expected = call.flow(model)
    model.to(torch.bfloat16)
    text = TextKV(
        k_BTND={layer: k.bfloat16() for layer, k in call.text.k_BTND.items()},
        v_BTND={layer: v.bfloat16() for layer, v in call.text.v_BTND.items()},
    )
    flow = replace(call, text=text).flow(model)
    assert flow.dtype == torch.bfloat16
    assert (flow.float() - expected).abs().max() < 0.1 * expected.abs().max()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"num_heads": 5}, "does not split"),
        ({"freq_dim": 15}, "odd"),
        ({"patch_size": (2, 2, 2)}, "paged one by one"),
    ],
)
def test_sizes_that_cannot_be_are_refused(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        replace(CONFIG, **change)


def test_inputs_that_do_not_fit_are_refused(model: WanModel, call: Call) -> None:
    with pytest.raises(ValueError, match="does not divide into patches"):
        replace(call, x=torch.zeros(2, 2, 4, 4, 5)).flow(model)
    with pytest.raises(ValueError, match="text has 6 rows"):
        model.encode_text(torch.zeros(1, 6, 12))
