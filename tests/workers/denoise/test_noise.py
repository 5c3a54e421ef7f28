"""Noise: the published words of Philox, a committed vector of normals, and what its keys promise."""

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from longtake.core.errors import InvalidField
from workers.denoise import noise
from workers.denoise.noise import Draw, key_schedule, normal, normals, philox4x32

SHAPE = (3, 16, 8, 8)

# From Random123's kat_vectors (philox4x32, 10 rounds): counter, key, words.
KNOWN_ANSWERS = [
    ((0, 0, 0, 0), (0, 0), (0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8)),
    ((0xFFFFFFFF,) * 4, (0xFFFFFFFF,) * 2, (0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD)),
    (
        (0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344),
        (0xA4093822, 0x299F31D0),
        (0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1),
    ),
]

# The first eight normals of (seed, block, draw), bit for bit: a change breaks every recorded session.
VECTORS = {
    (0, 0, 0): "3f7dbb33 bf6cb6b0 bf1e1b9f bef6d1b2 be1d5357 3e392a6d 3f54ec98 3e4a2da3",
    (2**64 - 1, 2**32 - 1, 4): "bec26b80 bf21e83b 3f8ce1bf c027dcd9 bf2c4c38 3f7c1e9a bf9b0466 3fbaaa34",
    (0x0123456789ABCDEF, 4800, 1): "bd1eb562 be80ad09 bfb7522f 3feb1b65 bebcb857 3f62b604 bf03c237 bdfcbed8",
}


def words_of(counters: list[tuple[int, ...]], seed: int) -> list[tuple[int, ...]]:
    """The four words of each counter under a seed."""
    even, odd = (torch.tensor([[[c[first] for c in counters]], [[c[first + 2] for c in counters]]]) for first in (0, 1))
    even, odd = philox4x32(even, odd, key_schedule([seed]))
    return [
        tuple(int(word) for word in words) for words in zip(even[0, 0], odd[0, 0], even[1, 0], odd[1, 0], strict=True)
    ]


@pytest.mark.parametrize(("counter", "key", "words"), KNOWN_ANSWERS)
def test_philox_gives_the_published_words(
    counter: tuple[int, int, int, int], key: tuple[int, int], words: tuple[int, ...]
) -> None:
    drawn, other = words_of([counter, (7,) * 4], key[0] | key[1] << 32)
    assert drawn == words
    assert other != words


@pytest.mark.parametrize("key", VECTORS)
def test_normals_are_the_committed_bits(key: tuple[int, int, int]) -> None:
    assert normal(*key, (2, 4)).numpy().astype(">f4").tobytes().hex(" ", 4) == VECTORS[key]


def test_normals_agree_with_library_functions() -> None:
    seed, block, draw = 5 << 40 | 3, 9, 2
    words = np.array(words_of([(index, 0, draw, block) for index in range(64)], seed)).T
    u0, u1, u2, u3 = ((word + 0.5) / 2**32 for word in words)
    expected = []
    for radius, turn in ((u0, u1 - 0.5 / 2**32), (u2, u3 - 0.5 / 2**32)):
        length = np.sqrt(-2 * np.log(radius))
        expected += [length * np.cos(2 * math.pi * turn), length * np.sin(2 * math.pi * turn)]
    drawn = normal(seed, block, draw, (64, 4)).double().numpy()
    np.testing.assert_allclose(drawn, np.stack(expected, 1), rtol=1e-7, atol=1e-12)


def test_normals_are_normal() -> None:
    x = torch.cat([normal(11, block, draw, (10, 1000)) for block in range(5) for draw in range(4)]).double()
    count = x.numel()
    for power, moment, variance in ((1, 0, 1), (2, 1, 2), (3, 0, 15), (4, 3, 96)):
        assert abs((x**power).mean() - moment) < 4.5 * math.sqrt(variance / count), f"moment {power}"
    inside = (x.abs() < 1).double().mean()
    assert abs(inside - math.erf(math.sqrt(0.5))) < 4.5 * 0.47 / math.sqrt(count)
    assert 4 < x.abs().max() < 6.8


def test_words_neighbours_and_keys_are_uncorrelated() -> None:
    x = normal(1, 0, 0, (1 << 16,)).double()
    others = [x.roll(1), x.roll(2), x.roll(4)]
    others += [normal(*key, (1 << 16,)).double() for key in ((2, 0, 0), (1 << 32, 0, 0), (1, 1, 0), (1, 0, 1))]
    for other in others:
        assert abs((x * other).mean()) < 4.5 / math.sqrt(len(x))


def test_an_element_does_not_depend_on_the_shape() -> None:
    whole = normal(3, 1, 2, SHAPE).flatten()
    assert torch.equal(normal(3, 1, 2, (7,)), whole[:7])
    assert torch.equal(normal(3, 1, 2, (2, 4)), whole[:8].view(2, 4))
    assert normal(3, 1, 2, (0,)).shape == (0,)


@pytest.mark.parametrize("other", [(4, 1, 2), (3, 2, 2), (3, 1, 3), (3 + (1 << 32), 1, 2), (3, 2, 1)])
def test_every_part_of_the_key_counts(other: tuple[int, int, int]) -> None:
    assert not (normal(3, 1, 2, SHAPE) == normal(*other, SHAPE)).any()


@pytest.mark.parametrize("key", [(-1, 0, 0), (1 << 64, 0, 0), (0, -1, 0), (0, 1 << 32, 0), (0, 0, 1 << 32)])
def test_keys_out_of_range_are_refused(key: tuple[int, int, int]) -> None:
    with pytest.raises(ValueError, match="unsigned number"):
        normal(*key, SHAPE)


def test_draws_made_together_are_what_they_are_alone() -> None:
    draws = [Draw(3, 1, 2), Draw(2**64 - 1, 2**32 - 1, 0), Draw(3, 1, 2), Draw(1 << 33, 0, 4)]
    together = normals(draws, SHAPE)
    assert together.shape == (4, *SHAPE)
    assert all(torch.equal(made, normal(*drawn, SHAPE)) for made, drawn in zip(together, draws, strict=True))


def test_roots_are_rounded_as_ieee_754_says() -> None:
    x = torch.rand(1 << 20, dtype=torch.float64, generator=torch.Generator().manual_seed(1)) * 45
    np.testing.assert_array_equal(noise.square_root(x).numpy(), np.sqrt(x.numpy()))


CPU, META = torch.device("cpu"), torch.device("meta")


def test_one_bit_of_one_number_is_noticed_before_it_is_rounded_away(monkeypatch: pytest.MonkeyPatch) -> None:
    exact = noise.square_root
    assert noise.draws_exactly(CPU)

    def off_by_one(x: Tensor) -> Tensor:  # in one place, by one unit in the last place of float64
        return torch.where(torch.arange(x.shape[-1]) == 77, exact(x).nextafter(x + 9), exact(x))

    monkeypatch.setattr(noise, "square_root", off_by_one)
    assert not noise.draws_exactly(CPU)


def test_a_device_that_is_not_exact_gets_its_noise_from_a_core(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(noise, "draws_exactly", lambda device: device == CPU)
    monkeypatch.setattr(noise, "where_to_draw", noise.where_to_draw.__wrapped__)
    assert noise.where_to_draw(META) == CPU
    assert "a core draws its noise" in caplog.text
    assert noise.where_to_draw(CPU) == CPU
    monkeypatch.setattr(noise, "draws_exactly", lambda device: False)
    with pytest.raises(InvalidField, match=r"model\.device: 'meta' is not allowed"):
        noise.where_to_draw(META)
