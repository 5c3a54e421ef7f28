"""Decoder slots: streams do not disturb each other, survive a move, and never grow."""

import gc
import re
from dataclasses import replace

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch._subclasses import FakeTensor

from longtake.core.errors import InternalFault, InvalidField, UnknownPeer
from workers.decode.slots import DecoderPool, LatentFormat
from workers.models.api import CarriedState
from workers.models.wan.config import WanVAEConfig
from workers.models.wan.vae import WanDecoder

torch.set_num_threads(1)

CONFIG = WanVAEConfig(dim=4, z_dim=3, dim_mult=(1, 2, 2), num_res_blocks=1, temporal_downsample=(False, True))
MEAN, STD = (0.5, -0.25, 0.0), (2.0, 0.5, 1.0)
HEIGHT, WIDTH, FRAMES = 4, 6, 3
LATENTS = LatentFormat(mean=MEAN, std=STD, height=HEIGHT, width=WIDTH)
EVERY = range(FRAMES * 2)
# conv1 sees 3 channels; the stages' inputs and the head's as listed, each 2 frames of float32.
_AT_4X6 = 3 + 2 * 8 + 2 * 8 + 4 * 8 + 8  # conv1, two middle residuals, two stage residuals (2 each), time_conv
_AT_8X12 = (4 + 8) + 2 * 8
_AT_16X24 = 4 * 4 + 4
SLOT_BYTES = 2 * 4 * (_AT_4X6 * 24 + _AT_8X12 * 96 + _AT_16X24 * 384)
"""As many pictures as a block can have."""


def model(seed: int = 0) -> WanDecoder:
    torch.manual_seed(seed)
    return WanDecoder(CONFIG)


def pool(slots: int = 2) -> DecoderPool:
    return DecoderPool(model(), LATENTS, slots=slots)


def blocks(seed: int, count: int) -> list[Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(FRAMES, 3, HEIGHT, WIDTH, generator=generator) for _ in range(count)]


def expected_pictures(latents_FCHW: Tensor) -> NDArray[np.uint8]:
    z = latents_FCHW * torch.tensor(STD).view(1, 3, 1, 1) + torch.tensor(MEAN).view(1, 3, 1, 1)
    with torch.inference_mode():
        pixels_CFHW: Tensor = model()(z.transpose(0, 1)[None])[0]
    levels = ((pixels_CFHW.clamp(-1, 1) + 1) * 127.5).round()  # in float32, as documented
    return levels.permute(1, 2, 3, 0).to(torch.uint8).numpy()


def test_blocks_of_interleaved_streams_decode_as_whole_clips() -> None:
    ours = pool()
    ours.open(0)
    ours.open(1)
    first, second = blocks(1, 3), blocks(2, 3)
    got: list[list[NDArray[np.uint8]]] = [[], []]
    for pair in zip(first, second, strict=True):
        for slot, latents in enumerate(pair):
            got[slot].append(ours.decode(slot, latents, EVERY).pictures())
    assert [len(p) for p in got[0]] == [1 + 2 * 2, 6, 6]
    for slot, clip in enumerate((first, second)):
        pictures = np.concatenate(got[slot])
        assert pictures.dtype == np.uint8 and pictures.shape == (17, HEIGHT * 4, WIDTH * 4, 3)
        np.testing.assert_array_equal(pictures, expected_pictures(torch.cat(clip)))


def test_pictures_after_the_end_of_the_stream_are_cut() -> None:
    ours = pool()
    ours.open(0)
    latents = blocks(1, 1)[0]
    np.testing.assert_array_equal(ours.decode(0, latents, range(3)).pictures(), expected_pictures(latents)[:3])


def test_denormalisation_and_rounding_are_seen() -> None:
    latents = blocks(3, 1)[0]
    plain = DecoderPool(model(), replace(LATENTS, mean=(0, 0, 0), std=(1, 1, 1)), slots=1)
    plain.open(0)
    assert not np.array_equal(plain.decode(0, latents, EVERY).pictures(), expected_pictures(latents))


class Constant(WanDecoder):
    """A decoder whose pictures are a given level."""

    level = 0.0

    def decode(self, z_BCFHW: Tensor, state: object) -> Tensor:
        return torch.full((1, 3, 1, 16, 24), self.level)


@pytest.mark.parametrize(("level", "byte"), [(-9.0, 0), (-1.0, 0), (0.0, 128), (0.2, 153), (1.0, 255), (7.0, 255)])
def test_pixels_are_clamped_and_rounded(level: float, byte: int) -> None:
    constant = Constant(CONFIG)
    constant.level = level
    ours = DecoderPool(constant, LATENTS, slots=1)
    ours.open(0)
    assert set(ours.decode(0, blocks(0, 1)[0], EVERY).pictures().ravel().tolist()) == {byte}


def test_a_moved_stream_goes_on_bit_for_bit() -> None:
    here, there = pool(), pool(slots=3)
    clip = blocks(4, 4)
    here.open(1)
    before = [here.decode(1, latents, EVERY).pictures() for latents in clip[:2]]
    here.open_copy(0, 1)
    taken = here.take_state(0)
    there.import_state(2, taken)
    after_there = [there.decode(2, latents, EVERY).pictures() for latents in clip[2:]]
    after_here = [here.decode(1, latents, EVERY).pictures() for latents in clip[2:]]
    np.testing.assert_array_equal(np.concatenate(before + after_there), expected_pictures(torch.cat(clip)))
    np.testing.assert_array_equal(np.concatenate(after_here), np.concatenate(after_there))
    assert sum(tensor.nbytes for tensor in taken[:-1]) == SLOT_BYTES


def test_a_slot_that_starts_in_the_middle_goes_on_as_if_it_had_been_there_from_the_first_block() -> None:
    ours, decoder = pool(), model()
    needed = -(-decoder.receptive_frames // FRAMES)
    clip = blocks(11, needed + 4)
    ours.open(0)
    for latents in clip[:-2]:
        ours.decode(0, latents, EVERY)
    ours.open(1, started=True)
    for latents in clip[-2 - needed : -2]:
        assert len(ours.decode(1, latents, range(0)).pictures()) == 0
    for latents in clip[-2:]:
        expected = ours.decode(0, latents, EVERY).pictures()
        np.testing.assert_array_equal(ours.decode(1, latents, EVERY).pictures(), expected)
    for one, other in zip(ours.take_state(0), ours.take_state(1), strict=True):
        assert torch.equal(one, other)


def test_a_slot_that_starts_in_the_middle_is_blank_whoever_had_it_before() -> None:
    ours, latents = pool(), blocks(12, 1)[0]
    ours.open(0)
    ours.decode(0, latents, EVERY)
    ours.close(0)
    for slot in range(2):
        ours.open(slot, started=True)
    *history, started = ours.take_state(0)
    assert not any(carried.any() for carried in history) and bool(started)
    assert len(ours.decode(1, latents, EVERY).pictures()) == len(EVERY), "no frame of it is a lone picture"


def test_without_its_state_a_stream_does_not_go_on() -> None:
    clip = blocks(4, 2)
    wrong = pool()
    wrong.open(0)
    wrong.decode(0, clip[1], EVERY).pictures()  # another past
    expected = expected_pictures(torch.cat(clip))[5:]
    assert not np.array_equal(wrong.decode(0, clip[1], EVERY).pictures(), expected)


def tensor_bytes() -> int:
    """Bytes of every distinct storage a live tensor holds on to."""
    gc.collect()
    tensors = [o for o in gc.get_objects() if issubclass(type(o), Tensor) and not isinstance(o, FakeTensor)]
    storages = [tensor.untyped_storage() for tensor in tensors]  # those of the compiler have none
    return sum({s.data_ptr(): s.nbytes() for s in storages}.values())


@pytest.mark.slow
def test_memory_is_the_computed_constant_of_all_slots_for_any_number_of_blocks() -> None:
    decoder, (latents,) = model(), blocks(5, 1)
    empty = tensor_bytes()
    ours = DecoderPool(decoder, LATENTS, slots=3)
    held = [tensor_bytes() - empty]
    ours.open(0)
    for _ in range(12):
        ours.decode(0, latents, EVERY).pictures()
        held.append(tensor_bytes() - empty)
    ours.close(0)
    held.append(tensor_bytes() - empty)
    of_mean_and_std = 2 * 3 * 4
    assert held == [3 * SLOT_BYTES + of_mean_and_std] * 14


def test_a_slot_lies_where_it_lay_at_the_start_whatever_happens_to_it() -> None:
    ours, other = pool(), pool()

    def addresses(slot: int) -> list[int]:
        """Where its tensors lie; the stream in it goes on."""
        state = ours.take_state(slot)
        ours.import_state(slot, tuple(tensor.clone() for tensor in state))
        return [tensor.data_ptr() for tensor in state[:-1]]

    ours.open(0)
    ours.open(1)
    first, second = addresses(0), addresses(1)
    assert len({*first, *second}) == 2 * len(first)
    ours.close(1)
    for latents in blocks(7, 3):
        ours.decode(0, latents, EVERY)
    ours.open_copy(1, 0)
    assert (addresses(0), addresses(1)) == (first, second)
    for _ in range(2):
        other.import_state(0, ours.take_state(1))
        other.decode(0, blocks(8, 1)[0], EVERY)
        ours.import_state(1, other.take_state(0))
        ours.decode(1, blocks(9, 1)[0], EVERY)
        assert addresses(1) == second
    ours.close(0)
    ours.open(0)
    assert addresses(0) == first


class Failing(WanDecoder):
    """A decoder that fails at the end, when it has made everything."""

    fails = False

    def decode(self, z_BCFHW: Tensor, state: CarriedState) -> Tensor:
        pixels_BCFHW = super().decode(z_BCFHW, state)
        if self.fails:
            raise RuntimeError("out of memory")
        return pixels_BCFHW


def test_a_decode_that_fails_leaves_its_slot_as_it_was() -> None:
    torch.manual_seed(0)
    failing = Failing(CONFIG)
    ours = DecoderPool(failing, LATENTS, slots=1)
    ours.open(0)
    clip = blocks(10, 3)
    got = [ours.decode(0, clip[0], EVERY).pictures()]
    failing.fails = True
    with pytest.raises(RuntimeError, match="out of memory"):
        ours.decode(0, clip[2], EVERY)
    failing.fails = False
    got += [ours.decode(0, latents, EVERY).pictures() for latents in clip[1:]]
    np.testing.assert_array_equal(np.concatenate(got), expected_pictures(torch.cat(clip)))


def test_a_closed_slot_starts_afresh() -> None:
    ours = pool()
    latents = blocks(6, 1)[0]
    ours.open(0)
    first = ours.decode(0, latents, EVERY).pictures()
    ours.close(0)
    ours.open(0)
    np.testing.assert_array_equal(ours.decode(0, latents, EVERY).pictures(), first)


def test_wrong_use_is_named() -> None:
    ours = pool()
    with pytest.raises(UnknownPeer, match="decoder slot: 2 is not allowed; allowed: 0 to 1"):
        ours.open(2)
    with pytest.raises(UnknownPeer):
        ours.decode(-1, blocks(0, 1)[0], EVERY).pictures()
    with pytest.raises(InternalFault, match="decoder slot 0 is not open"):
        ours.decode(0, blocks(0, 1)[0], EVERY).pictures()
    with pytest.raises(InternalFault, match="decoder slot 0 is not open"):
        ours.close(0)
    ours.open(0)
    with pytest.raises(InternalFault, match="decoder slot 0 is already open"):
        ours.open(0)
    ours.open(1)
    taken = ours.take_state(1)
    with pytest.raises(InternalFault, match="decoder slot 0 is already open"):
        ours.import_state(0, taken)
    with pytest.raises(InternalFault, match=re.escape("shape 3x3x4x5, allowed: Fx3x4x6 with F >= 1")):
        ours.decode(0, torch.zeros(3, 3, 4, 5), EVERY).pictures()
    other = DecoderPool(model(), replace(LATENTS, height=2), slots=1)
    with pytest.raises(InternalFault, match="does not fit"):
        other.import_state(0, taken)
    with pytest.raises(InvalidField, match=r"vae\.std"):
        DecoderPool(model(), replace(LATENTS, std=(1.0,)), slots=1)
    with pytest.raises(InvalidField, match="decoder slots: 0"):
        DecoderPool(model(), LATENTS, slots=0)
