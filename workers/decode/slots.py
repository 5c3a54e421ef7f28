"""Decoder slots: latents of a block to pictures, with one fixed-size carried state for each session's decoder.

Shape legend: F frames (latent frames in, pictures out), C channels, H rows, W columns.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from longtake.core.errors import InternalFault, InvalidField, UnknownPeer
from longtake.core.work import DecoderKind
from workers.device_work import DeviceWork, upload
from workers.models.api import CarriedState, LatentDecoder
from workers.models.weights import ModelInfo


@dataclass(frozen=True, slots=True, kw_only=True)
class Decoding:
    """The decode of one block, which the device may not have done yet."""

    work: DeviceWork
    landing_FHWC: Tensor
    """Where the pictures arrive in host memory: uint8, RGB."""

    def pictures(self) -> NDArray[np.uint8]:
        """Wait for the pictures [F, H, W, C]; RuntimeError if the device failed."""
        self.work.wait()
        return self.landing_FHWC.numpy()


class DecoderSlots(Protocol):
    """Numbered slots on one device; each that is open holds the decoder state of one stream.

    Who gets which slot is decided elsewhere: every method raises UnknownPeer for a number that no slot has, and
    InternalFault if it finds a slot open that it opens, or closed that it uses.
    """

    @property
    def device(self) -> torch.device:
        """Where the states lie."""
        ...

    def open(self, slot: int, *, started: bool = False) -> None:
        """Take a slot for a stream that starts at its first block, or (`started`) at a later one with a blank past."""
        ...

    def open_copy(self, slot: int, origin: int) -> None:
        """Take a slot for a stream that goes on from the state of another one, which goes on as well."""
        ...

    def close(self, slot: int) -> None:
        """Free a slot."""
        ...

    def decode(self, slot: int, latents_FCHW: Tensor, pictures: range) -> Decoding:
        """Decode the next latent frames of the stream in `slot`; float32 latents as the denoiser made them.

        The pictures are those with the numbers `pictures`, which begin with the frames' first. InternalFault also if
        the latents have another size. A decode that fails leaves its slot as it was.
        """
        ...

    def advance(self, slot: int, latents_FCHW: Tensor, later_frames: int) -> DeviceWork:
        """Take a slot past the next latent frames, of which no pictures are wanted, nor of `later_frames` after them.

        Until those are taken too, the state is not that of the stream. Errors as of `decode`.
        """
        ...

    def take_state(self, slot: int) -> tuple[Tensor, ...]:
        """Free a slot and return the state that was in it, where it lies: it is there until the slot is taken again."""
        ...

    def import_state(self, slot: int, state: tuple[Tensor, ...]) -> None:
        """Take a slot for a stream that goes on from a state taken from such slots, on whatever device it lies.

        InternalFault also if the state does not fit.
        """
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class LatentFormat:
    """The latents that a decoder is given: their size, and how they were normalised."""

    mean: tuple[float, ...]
    """The mean of each channel, before the latents were normalised."""
    std: tuple[float, ...]
    height: int
    width: int

    @staticmethod
    def of(info: ModelInfo, decoder: DecoderKind = DecoderKind.FULL) -> LatentFormat:
        """The latents that this decoder of a model takes: the tiny one as the denoiser makes them."""
        full, channels = decoder is DecoderKind.FULL, len(info.latent_mean)
        return LatentFormat(
            mean=info.latent_mean if full else (0.0,) * channels,
            std=info.latent_std if full else (1.0,) * channels,
            height=info.geometry.latent_height,
            width=info.geometry.latent_width,
        )


def _pictures(pixels_CFHW: Tensor) -> Tensor:
    """Pictures [F, H, W, C], uint8: each value is clamped to [-1, 1], then round((x + 1) * 127.5), half to even."""
    levels_CFHW = pixels_CFHW.float().clamp(-1, 1).add(1).mul(127.5).round()
    return levels_CFHW.permute(1, 2, 3, 0).to(torch.uint8).contiguous()


class DecoderPool:
    """A fixed number of decoder slots (DecoderSlots) of one model, all for latents of one size.

    Their memory is taken once and written to for ever: no stream that opens, goes on or comes back can run out of it.
    """

    def __init__(self, decoder: LatentDecoder, latents: LatentFormat, *, slots: int) -> None:
        """Take the memory of all slots. InvalidField if a size is wrong."""
        channels = decoder.channels
        for name, values in (("vae.mean", latents.mean), ("vae.std", latents.std)):
            if len(values) != channels:
                raise InvalidField(name, list(values), f"{channels} numbers, one for each latent channel")
        sizes = {"latent height": latents.height, "latent width": latents.width, "decoder slots": slots}
        for name, size in sizes.items():
            if size < 1:
                raise InvalidField(name, size, "1 or more")
        self._decoder = decoder
        self._device, self._dtype = decoder.device, decoder.dtype
        self._latent_CHW = (channels, latents.height, latents.width)
        self._mean_C111 = torch.tensor(latents.mean, dtype=self._dtype, device=self._device).view(-1, 1, 1, 1)
        self._std_C111 = torch.tensor(latents.std, dtype=self._dtype, device=self._device).view(-1, 1, 1, 1)
        whole_BFHWC = decoder.initial_state(slots, latents.height, latents.width).history_BFHWC
        self._states = [CarriedState([h[slot : slot + 1] for h in whole_BFHWC]) for slot in range(slots)]
        self._open: set[int] = set()

    @property
    def device(self) -> torch.device:
        """See DecoderSlots."""
        return self._device

    def open(self, slot: int, *, started: bool = False) -> None:
        """See DecoderSlots."""
        state = self._taken(slot)
        for history_BFHWC in state.history_BFHWC:
            history_BFHWC.zero_()
        state.started = started

    def open_copy(self, slot: int, origin: int) -> None:
        """See DecoderSlots."""
        source = self._state(origin)
        self._taken(slot).overwrite(source)

    def close(self, slot: int) -> None:
        """See DecoderSlots."""
        self._state(slot)
        self._open.remove(slot)

    def decode(self, slot: int, latents_FCHW: Tensor, pictures: range) -> Decoding:
        """See DecoderSlots."""
        with self._taken_on(slot, latents_FCHW) as (work, z_BCFHW, state):
            pixels_BCFHW = self._decoder.decode(z_BCFHW, state)
            landing_FHWC = work.land(_pictures(pixels_BCFHW[0, :, : len(pictures)]))
        return Decoding(work=work, landing_FHWC=landing_FHWC)

    def advance(self, slot: int, latents_FCHW: Tensor, later_frames: int) -> DeviceWork:
        """See DecoderSlots."""
        with self._taken_on(slot, latents_FCHW) as (work, z_BCFHW, state):
            self._decoder.advance(z_BCFHW, state, later_frames)
        return work

    @contextmanager
    def _taken_on(self, slot: int, latents_FCHW: Tensor) -> Iterator[tuple[DeviceWork, Tensor, CarriedState]]:
        """The next latents as the decoder takes them, and a state to advance that becomes the slot's afterwards."""
        state = self._state(slot)
        if latents_FCHW.dim() != 4 or tuple(latents_FCHW.shape[1:]) != self._latent_CHW or not len(latents_FCHW):
            c, h, w = self._latent_CHW
            got = "x".join(str(n) for n in latents_FCHW.shape)
            raise InternalFault(f"latents of decoder slot {slot}: shape {got}, allowed: Fx{c}x{h}x{w} with F >= 1")
        with torch.inference_mode():
            work = DeviceWork(self._device)
            (latents_FCHW,) = upload(self._device, latents_FCHW)
            z_CFHW = latents_FCHW.to(self._dtype).transpose(0, 1) * self._std_C111 + self._mean_C111
            # The decoder puts new tensors in place of those of the state it is given, which has to be of its own.
            advanced = CarriedState([*state.history_BFHWC], state.started)
            yield work, z_CFHW[None], advanced
            state.overwrite(advanced)
            work.finish()

    def take_state(self, slot: int) -> tuple[Tensor, ...]:
        """See DecoderSlots."""
        state = self._state(slot)
        self._open.remove(slot)
        return (*state.history_BFHWC, torch.tensor([state.started], dtype=torch.uint8))

    def import_state(self, slot: int, state: tuple[Tensor, ...]) -> None:
        """See DecoderSlots. A state fits if it comes from a pool of this model, size and dtype."""
        self._vacant(slot)
        *history_BFHWC, started = state
        own = self._states[slot].history_BFHWC
        if [(h.shape, h.dtype) for h in history_BFHWC] != [(h.shape, h.dtype) for h in own]:
            raise InternalFault(f"imported decoder state does not fit this model, size and dtype {self._dtype}")
        self._taken(slot).overwrite(CarriedState(history_BFHWC, started=bool(started)))

    def _check_number(self, slot: int) -> None:
        if not 0 <= slot < len(self._states):
            raise UnknownPeer(f"decoder slot: {slot} is not allowed; allowed: 0 to {len(self._states) - 1}")

    def _vacant(self, slot: int) -> None:
        self._check_number(slot)
        if slot in self._open:
            raise InternalFault(f"decoder slot {slot} is already open")

    def _taken(self, slot: int) -> CarriedState:
        """The memory of a slot that opens."""
        self._vacant(slot)
        self._open.add(slot)
        return self._states[slot]

    def _state(self, slot: int) -> CarriedState:
        self._check_number(slot)
        if slot not in self._open:
            raise InternalFault(f"decoder slot {slot} is not open")
        return self._states[slot]
