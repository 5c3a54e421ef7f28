"""Arithmetic between forwards, by hand."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from longtake.core.recipe.ops import Kind, Noised
from longtake.core.work import ConditioningRef, FromNoise, SessionId
from tests.workers.works import Flat, changed
from workers.denoise.noise import BlockNoise, normal
from workers.denoise.solver import KeyedRenoising, predict_x0, renoise


def filled(*values: float, dtype: torch.dtype = torch.float32) -> Tensor:
    """A latent [len(values), 2, 1, 1, 2] with one value per batch item."""
    return torch.tensor(values, dtype=dtype).view(-1, 1, 1, 1, 1).expand(-1, 2, 1, 1, 2)


def test_x0_is_x_minus_sigma_flow_of_each_item() -> None:
    assert torch.equal(predict_x0(filled(3, 3), filled(2, -4), (1.0, 0.25)), filled(1, 4))


def test_x0_is_rounded_once_from_float64() -> None:
    # 1/3 times 3 rounds to 1 in float32 arithmetic, but the float32 nearest 1/3 lies above it.
    sigma = float(torch.tensor(1 / 3))
    x0 = predict_x0(filled(1), filled(3), (sigma,))
    assert x0.dtype == torch.float32
    assert torch.equal(x0, filled(1 - 3 * sigma))
    assert (1 - torch.tensor(sigma) * 3) != x0.flatten()[0]


def test_renoise_mixes_in_float32() -> None:
    mixed = renoise(filled(4, 8), filled(8, 0, dtype=torch.bfloat16), (0.5, 0.25))
    assert mixed.dtype == torch.float32
    assert torch.equal(mixed, filled(6, 6))


def test_renoise_inverts_x0() -> None:
    x0, noise = filled(0.3), filled(-1.7)
    x = renoise(x0, noise, (0.625,))
    torch.testing.assert_close(predict_x0(x, noise - x0, (0.625,)), x0)


def test_a_step_leads_to_the_next_level_with_the_noise_of_its_block_and_the_last_one_to_x0() -> None:
    shape = (2, 1, 1, 2)
    last = Flat(
        session=SessionId("s"), lane=0, kind=Kind.DENOISE, step=2, block=7, timestep=500.0, sigma=0.5, next_sigma=None,
        seed=3, positions=(14, 15), reads=(), writes=(), input=FromNoise(),
        conditioning=ConditioningRef(session=SessionId("s"), version=0),
    ).work()  # fmt: skip
    works = [last, changed(last, next_sigma=0.25), changed(last, next_sigma=0.25, seed=4)]
    solver = KeyedRenoising(BlockNoise.on(torch.device("cpu"), shape[1:]))
    got = solver.advance(filled(3, 3, 3), filled(2, 2, 2), works)
    expected = [filled(2)[0], *(0.75 * filled(2)[0] + 0.25 * normal(seed, 7, 3, shape) for seed in (3, 4))]
    assert torch.equal(got, torch.stack(expected))


def test_a_commit_adds_the_draw_that_it_is_told_and_the_others_start_from_what_they_are_given() -> None:
    shape = (2, 1, 1, 2)
    plain = Flat(
        session=SessionId("s"), lane=0, kind=Kind.COMMIT, step=0, block=7, timestep=0.0, sigma=1.0, next_sigma=None,
        seed=3, positions=(14, 15), reads=(), writes=(), input=FromNoise(),
        conditioning=ConditioningRef(session=SessionId("s"), version=0),
    ).work()  # fmt: skip
    noisy = replace(plain, times=replace(plain.times, noised=Noised(0.25, 5)))
    solver = KeyedRenoising(BlockNoise.on(torch.device("cpu"), shape[1:]))
    got = solver.noised(filled(2, 2).clone(), [plain, noisy])
    assert torch.equal(got, torch.stack([filled(2)[0], 0.75 * filled(2)[0] + 0.25 * normal(3, 7, 5, shape)]))


def test_one_sigma_per_item() -> None:
    with pytest.raises(ValueError, match="1 sigmas for 2"):
        predict_x0(filled(1, 1), filled(1, 1), (0.5,))
