"""Decoder slots: latents of a block to pictures, with one fixed-size carried state for each session's decoder.

Shape legend: F frames (latent frames in, pictures out), C channels, H rows, W columns.
"""

import math
from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from longtake.core.errors import InternalFault, InvalidField, UnknownPeer
from workers.models.wan.causal_conv import CarriedState
from workers.models.wan.vae import WanDecoder


class DecoderPool:
    """A fixed number of numbered decoder slots on one device, all for latents of one size.

    Who gets which slot is decided elsewhere: opening an open slot or using a closed one is a broken promise of ours,
    so it raises InternalFault. A decode that fails leaves its slot as it was. Nothing grows with a stream's length.
    """

    def __init__(
        self,
        model: WanDecoder,
        *,
        mean: Sequence[float],
        std: Sequence[float],
        latent_height: int,
        latent_width: int,
        slots: int,
        device: torch.device | str = "cpu",
        dtype: torch.dtype = torch.float32,
    ) -> None:
        """Move `model` to `device` and `dtype`; reserve nothing else: a slot's memory is taken when it opens.

        mean, std: per latent channel, of the latents before they were normalised. InvalidField if a size is wrong.
        """
        channels = model.config.z_dim
        for name, values in (("vae.mean", mean), ("vae.std", std)):
            if len(values) != channels:
                raise InvalidField(name, list(values), f"{channels} numbers, one for each latent channel")
        sizes = {"latent height": latent_height, "latent width": latent_width, "decoder slots": slots}
        for name, size in sizes.items():
            if size < 1:
                raise InvalidField(name, size, "1 or more")
        self._model = model.to(device=device, dtype=dtype).eval().requires_grad_(False)
        self._device, self._dtype = torch.device(device), dtype
        self._latent_CHW = (channels, latent_height, latent_width)
        self._mean_C111 = torch.tensor(mean, dtype=dtype, device=device).view(-1, 1, 1, 1)
        self._std_C111 = torch.tensor(std, dtype=dtype, device=device).view(-1, 1, 1, 1)
        self._slots: list[CarriedState | None] = [None] * slots

    @property
    def slots(self) -> int:
        """How many slots there are, open or not."""
        return len(self._slots)

    @property
    def slot_bytes(self) -> int:
        """Bytes one open slot holds, for ever."""
        shapes = self._model.state_shapes(1, *self._latent_CHW[1:])
        return sum(math.prod(shape) for shape in shapes) * self._dtype.itemsize

    def open(self, slot: int) -> None:
        """Take a slot for a stream that starts at its first block. UnknownPeer, InternalFault (already open)."""
        self._vacant(slot)
        self._slots[slot] = self._model.initial_state(1, *self._latent_CHW[1:])

    def open_copy(self, slot: int, origin: int) -> None:
        """Take a slot for a stream that goes on from the state of another one, which goes on as well.

        UnknownPeer, InternalFault (already open, or the other is not).
        """
        self._vacant(slot)
        self._slots[slot] = self._state(origin).clone()

    def close(self, slot: int) -> None:
        """Free a slot. UnknownPeer, InternalFault (not open)."""
        self._state(slot)
        self._slots[slot] = None

    def decode(self, slot: int, latents_FCHW: Tensor) -> NDArray[np.uint8]:
        """Decode the next latent frames of the stream in `slot`; float latents as the denoiser made them (normalised).

        Returns pictures_FHWC, uint8, RGB: each value clamped to [-1, 1], then round((x + 1) * 127.5), half to even.
        UnknownPeer, InternalFault (slot not open, or latents of another size).
        """
        state = self._state(slot)
        if latents_FCHW.dim() != 4 or tuple(latents_FCHW.shape[1:]) != self._latent_CHW or not len(latents_FCHW):
            c, h, w = self._latent_CHW
            got = "x".join(str(n) for n in latents_FCHW.shape)
            raise InternalFault(f"latents of decoder slot {slot}: shape {got}, allowed: Fx{c}x{h}x{w} with F >= 1")
        with torch.inference_mode():
            z_CFHW = latents_FCHW.to(self._device, self._dtype).transpose(0, 1) * self._std_C111 + self._mean_C111
            pixels_BCFHW = self._model.decode(z_CFHW[None], state)
            levels = pixels_BCFHW[0].float().clamp(-1, 1).add(1).mul(127.5).round()
            pictures_FHWC = levels.permute(1, 2, 3, 0).to(torch.uint8).contiguous().cpu()
        return pictures_FHWC.numpy()

    def take_state(self, slot: int) -> CarriedState:
        """Free a slot and return the state that was in it, where it lies. UnknownPeer, InternalFault (not open)."""
        state = self._state(slot)
        self._slots[slot] = None
        return state

    def import_state(self, slot: int, state: CarriedState) -> None:
        """Take a slot for a stream that goes on from a state taken from any pool of this model, size and dtype.

        UnknownPeer, InternalFault (already open, or the state does not fit).
        """
        self._vacant(slot)
        expected = self._model.state_shapes(1, *self._latent_CHW[1:])
        found = [tuple(h.shape) for h in state.history_BFHWC]
        if found != expected or any(h.dtype != self._dtype for h in state.history_BFHWC):
            raise InternalFault(f"imported decoder state does not fit this model, size and dtype {self._dtype}")
        # A state of its own over the same tensors where the device is the same: they are never written to.
        self._slots[slot] = state.to(self._device)

    def _check_number(self, slot: int) -> None:
        if not 0 <= slot < len(self._slots):
            raise UnknownPeer(f"decoder slot: {slot} is not allowed; allowed: 0 to {len(self._slots) - 1}")

    def _vacant(self, slot: int) -> None:
        self._check_number(slot)
        if self._slots[slot] is not None:
            raise InternalFault(f"decoder slot {slot} is already open")

    def _state(self, slot: int) -> CarriedState:
        self._check_number(slot)
        state = self._slots[slot]
        if state is None:
            raise InternalFault(f"decoder slot {slot} is not open")
        return state
