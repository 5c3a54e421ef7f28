"""The training forward equals serving: same weights, same latents, block by block through a cache."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

from longtake.core.recipe.context import Level
from pocket.conditioning import SIGMAS, Layout, Sigmas, TrainingBatch, noised, predict_flow
from pocket.config import POCKET_DIT
from pocket.sampler import LaneCache
from pocket.train import Training, dit_loss
from workers.models.api import Conditioning, Inputs, TextKV
from workers.models.wan.dit import WanModel

BLOCKS, FRAMES = 5, 3
TINY = replace(POCKET_DIT, dim=32, ffn_dim=64, num_heads=2, num_layers=3)


def _model() -> WanModel:
    torch.manual_seed(0)
    model = WanModel(TINY)
    with torch.no_grad():
        model.head.head.weight.normal_(std=0.2)
    return model


def _batch(sequences: int) -> TrainingBatch:
    latent = torch.randn(sequences, BLOCKS, FRAMES, TINY.in_dim, 8, 8)
    texts = torch.randn(2 * sequences, 4, TINY.text_dim)
    version = torch.tensor([[0, 0, 1, 1, 1], [0, 1, 1, 1, 1]])[:sequences]
    return TrainingBatch(latent=latent, texts=texts, text_of_block=version + 2 * torch.arange(sequences)[:, None])


def _inputs(x: Tensor, timestep: Tensor, position: Tensor, text: TextKV, lane: LaneCache) -> Inputs:
    steering = Conditioning(text=text)
    return Inputs(x_BFCHW=x, timestep_BF=timestep, position_BF=position, conditioning=steering, attention=lane)


@torch.no_grad()
def _served(
    model: WanModel, batch: TrainingBatch, step: int, context: Tensor, noisy: Tensor, past_blocks: int
) -> Tensor:
    """D(s, n) then C(s, n) for n = 0, 1, ..., one sequence at a time, as a worker runs one lane."""
    levels = [*SIGMAS, 0.0]
    flows = []
    for sequence in range(len(noisy)):
        lane = LaneCache(TINY.num_layers, past_blocks)
        for block in range(BLOCKS):
            text = model.encode_text(batch.texts[batch.text_of_block[sequence, block]][None])
            position = (block * FRAMES + torch.arange(FRAMES))[None]
            lane.keep = False
            own = torch.full((1, FRAMES), 1000 * levels[step])
            flows.append(model.denoise(_inputs(noisy[sequence, block][None], own, position, text, lane)))
            if block < BLOCKS - 1:
                lane.keep = True
                past = torch.full((1, FRAMES), 1000 * levels[step + 1])
                model.commit(_inputs(context[sequence, block][None], past, position, text, lane))
    return torch.cat(flows).reshape(noisy.shape)


@pytest.mark.parametrize("step", range(4))
def test_training_forward_equals_serving(step: int) -> None:
    model, batch = _model(), _batch(2)
    context, noisy = torch.randn_like(batch.latent[:, 1:]), torch.randn_like(batch.latent)
    with torch.no_grad():
        sigmas = Sigmas.at(torch.full((2,), step), [Level.OUTPUT] * 2)
        trained = predict_flow(model, batch, sigmas, context, noisy)
    torch.testing.assert_close(trained, _served(model, batch, step, context, noisy, 2), atol=2e-5, rtol=1e-4)
    # The comparison notices a window that is one block short, and a context at another level.
    assert not torch.allclose(trained, _served(model, batch, step, context, noisy, 1), atol=1e-3)
    assert not torch.allclose(trained, _served(model, batch, (step + 1) % 4, context, noisy, 2), atol=1e-3)


def test_each_level_reads_its_own_noise() -> None:
    steps = torch.tensor([0, 0, 0, 3, 3, 3])
    sigmas = Sigmas.at(steps, [Level.OUTPUT, Level.CLEAN, Level.INPUT] * 2)
    torch.testing.assert_close(sigmas.own_B, torch.tensor([1, 1, 1, 0.625, 0.625, 0.625]))
    torch.testing.assert_close(sigmas.past_B, torch.tensor([0.9375, 0, 1, 0, 0, 0.625]))


def test_at_input_level_a_denoise_pass_leaves_what_training_reads() -> None:
    model, batch = _model(), _batch(1)
    noisy = torch.randn_like(batch.latent)
    with torch.no_grad():
        sigmas = Sigmas.at(torch.tensor([2]), [Level.INPUT])
        trained = predict_flow(model, batch, sigmas, noisy[:, :-1], noisy)
        lane = LaneCache(TINY.num_layers, 2)
        lane.keep = True
        flows = []
        for block in range(BLOCKS):
            text = model.encode_text(batch.texts[batch.text_of_block[0, block]][None])
            position = (block * FRAMES + torch.arange(FRAMES))[None]
            own = torch.full((1, FRAMES), 1000 * SIGMAS[2])
            flows.append(model.denoise(_inputs(noisy[:, block], own, position, text, lane)))
    torch.testing.assert_close(trained[0], torch.cat(flows), atol=2e-5, rtol=1e-4)


def test_windows_hold_two_past_blocks_and_the_own_unit() -> None:
    layout = Layout(blocks=4, past_blocks=2)
    assert layout.unit_blocks() == [0, 1, 2, 0, 1, 2, 3]
    assert layout.windows() == [
        [-1, -1, 0], [-1, 0, 1], [0, 1, 2], [-1, -1, 3], [-1, 0, 4], [0, 1, 5], [1, 2, 6],
    ]  # fmt: skip


def test_noising_ends_are_the_latent_and_the_noise() -> None:
    x, noise = torch.randn(3), torch.randn(3)
    assert torch.equal(noised(x, torch.tensor(0.0), noise), x)
    assert torch.equal(noised(x, torch.tensor(1.0), noise), noise)


def test_a_few_steps_reduce_the_loss() -> None:
    model, batch = _model(), _batch(2)
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    losses = []
    for _ in range(30):
        config, draw = Training(context_noise=0.0), torch.Generator().manual_seed(1)
        loss = dit_loss(model, batch, config, draw, own_context=False).weighted
        optimizer.zero_grad()
        torch.autograd.backward(loss)
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.8 * losses[0]
    assert np.isfinite(losses).all()
