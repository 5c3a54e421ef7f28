"""What stands for a model where nothing is computed: pure functions whose results can be computed by hand.

Everything a real forward depends on goes into a SHA-256: the latents it starts from, the prompt, the timestep, the
positions, the contents of the pages it reads in their order, and the noise it adds. As in a real model, this happens
layer by layer: what a page holds of layer 0 depends on its own block alone, what it holds of layer l on what the pages
read then held of layer l - 1. So pages forget, exactly: with H past blocks in a window, the pages of a lane are the
same again once the last H x layers blocks were run again from their latents, and not with one block less. The state of
a decoder is the last few latent frames that it was given, so it is the same again after just as many.

A latent is a hash spread over its shape, and each picture of a block is one colour pattern. So an op that ran on
another session's latents or pages, out of order or not at all, shows in what follows, and whoever knows prompt and seed
knows all pictures beforehand. Order, identity and timing are real; the video is not.
"""

from __future__ import annotations

import hashlib
import math
import struct
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from longtake.core.errors import InternalFault
from longtake.core.recipe.geometry import Geometry

HASH_BYTES = 32
_POSITION_BYTES = 8
_FLOAT_BYTES = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Reach:
    """How far back a stream's past decides the results of a simulated model."""

    layers: int = 2
    """Layers of the transformer."""
    latents: int = 4
    """Latent frames that the state of a decoder is made of."""


REACH = Reach()
"""The reach of every simulated worker that is not told another."""


def mix(*parts: bytes) -> bytes:
    """SHA-256 over parts, each with its length, so that no two lists of parts are alike."""
    return hashlib.sha256(b"".join([struct.pack("<Q", len(part)) + part for part in parts])).digest()


def numbers(*values: float) -> bytes:
    """Numbers as a part for `mix`."""
    return struct.pack(f"<{len(values)}d", *values)


# --- denoising --------------------------------------------------------------------------------------------------------


def noise(seed: int, block: int, draw: int) -> bytes:
    """What stands for the noise of one draw."""
    return mix(b"noise", struct.pack("<QQQ", seed, block, draw))


def latents_of(name: bytes, geometry: Geometry) -> bytes:
    """Latents of one block (float32, little-endian): the bytes of `name` as numbers 0 to 255, repeated."""
    return _spread(name, math.prod(geometry.block_shape)).astype("<f4").tobytes()


def encoder_after(seen: bytes, pictures: Sequence[bytes]) -> bytes:
    """The state of an encoder of pictures behind these, which is also what stands for the latent frame that they make.

    `seen` is the state before; empty: it has seen nothing.
    """
    return mix(b"given", seen, *pictures)


def no_pages(count: int, reach: Reach) -> NDArray[np.uint8]:
    """Pages [page, layer, byte] that nothing was written to: zeros, which no forward leaves."""
    return np.zeros((count, reach.layers, HASH_BYTES), np.uint8)


def entering(latents: bytes, text: bytes, timestep: float, positions: Sequence[int]) -> bytes:
    """What enters the first layer of a forward."""
    return mix(b"forward", latents, text, numbers(timestep, *positions))


def leaving(
    value: bytes, seen: NDArray[np.uint8], turns: Sequence[int] = (), bias: Sequence[Sequence[float]] = ()
) -> bytes:
    """What leaves a layer that `value` enters: `seen` is what it reads of it in the pages [page, byte], in order.

    Those that the forward itself writes are zeros in it. `turns` has a place for each if they are stored without one,
    `bias` what is added for each by each own frame, if anything is.
    """
    weighed = [b"bias", *(numbers(*row) for row in bias)] if bias else []
    return mix(value, seen.tobytes(), *([numbers(*turns)] if turns else []), *weighed)


def forward(
    latents: bytes,
    text: bytes,
    timestep: float,
    positions: Sequence[int],
    context: NDArray[np.uint8],
    turns: Sequence[int] = (),
) -> tuple[bytes, ...]:
    """What enters each layer of a forward, and last what leaves it.

    `context` holds the pages read [page, layer, byte], in order; those that the forward itself writes are zeros in it.
    `turns` has a place for each of them if they are stored without their time.
    """
    values = [entering(latents, text, timestep, positions)]
    for layer in range(context.shape[1]):
        values.append(leaving(values[-1], context[:, layer], turns))
    return tuple(values)


def left_by(value: bytes, positions: Sequence[int]) -> NDArray[np.uint8]:
    """What a forward leaves of a layer in the pages of its own frames [page, byte]: each a hash and the position.

    The hash begins at another byte in each, so that they differ also where all positions are 0.
    """
    kept = value[_POSITION_BYTES:]
    turned = ((kept[start:] + kept[:start], position) for start, position in enumerate(positions))
    content = b"".join(value + struct.pack("<Q", position) for value, position in turned)
    return np.frombuffer(content, np.uint8).reshape(len(positions), HASH_BYTES)


def pages_of(values: tuple[bytes, ...], positions: Sequence[int]) -> NDArray[np.uint8]:
    """The same of all layers [page, layer, byte], by what `forward` returns."""
    return np.stack([left_by(value, positions) for value in values[:-1]], axis=1)


def folded(pages: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """What stands for several pages [page, layer, byte] that became one [layer, byte], in each layer by itself."""
    layers = [mix(b"folded", pages[:, layer].tobytes()) for layer in range(pages.shape[1])]
    return np.frombuffer(b"".join(layers), np.uint8).reshape(pages.shape[1:])


def are_written(pages: NDArray[np.uint8]) -> bool:
    """Whether something was written to each of these pages [page, layer, byte]."""
    return bool(pages[:, 0, :_POSITION_BYTES].any(axis=1).all())


def denoised(left: bytes, added_noise: bytes, geometry: Geometry) -> bytes:
    """Output of a denoise op, by what left the last layer of its forward; `added_noise` is empty where it is x0."""
    return latents_of(mix(b"denoised", left, added_noise), geometry)


def noised(latents: bytes, sigma: float, added_noise: bytes, geometry: Geometry) -> bytes:
    """Latents that were taken to a noise level."""
    return latents_of(mix(b"noised", latents, numbers(sigma), added_noise), geometry)


# --- decoding ---------------------------------------------------------------------------------------------------------


def first_state(reach: Reach) -> bytes:
    """The state of a decoder that was given nothing yet."""
    return bytes(HASH_BYTES * (reach.latents + _shallow(reach.latents)))


def decoded(latents: bytes, state: bytes, geometry: Geometry) -> tuple[bytes, bytes]:
    """What stands for the decoding of latent frames in the state that those before left, and the state they leave.

    InternalFault if the latents are not those of whole frames.
    """
    return mix(b"decoded", state, _frames(latents, geometry)), advanced(latents, state, geometry, later_frames=0)


def advanced(latents: bytes, state: bytes, geometry: Geometry, *, later_frames: int) -> bytes:
    """The state that latent frames leave if no pictures are wanted of them, nor of so many that come next.

    As in a real decoder only a part of it reaches back all the way. What those that come next push out is not added.
    """
    size = 2 * (len(state) // HASH_BYTES) // 3
    deep, shallow = state[: size * HASH_BYTES], state[size * HASH_BYTES :]
    frames = _frames(latents, geometry)
    if later_frames < size:
        deep = (deep + frames)[-len(deep) :]
    if later_frames < _shallow(size):
        shallow = (shallow + frames)[-len(shallow) :]
    return deep + shallow


def _shallow(latents: int) -> int:
    """How many latent frames back the other part of a state reaches."""
    return (latents + 1) // 2


def _frames(latents: bytes, geometry: Geometry) -> bytes:
    """A hash of each frame of the latents."""
    frame_bytes = _FLOAT_BYTES * math.prod(geometry.block_shape[1:])
    if not latents or len(latents) % frame_bytes:
        raise InternalFault(f"{len(latents)} bytes are not those of latent frames of {frame_bytes} bytes each")
    starts = range(0, len(latents), frame_bytes)
    return b"".join(mix(b"frame", latents[start : start + frame_bytes]) for start in starts)


def pictures(block_name: bytes, first_picture: int, count: int, geometry: Geometry) -> NDArray[np.uint8]:
    """Pictures [count, height, width, 3] of a block; each is a hash of block and picture number, again and again."""
    size = geometry.height * geometry.width * 3
    hashes = (mix(b"picture", block_name, numbers(first_picture + offset)) for offset in range(count))
    shown = [_spread(name, size) for name in hashes]
    return np.array(shown, np.uint8).reshape(count, geometry.height, geometry.width, 3)


def _spread(name: bytes, size: int) -> NDArray[np.uint8]:
    """The bytes of `name` again and again, `size` in all."""
    return np.frombuffer(name * (size // len(name) + 1), np.uint8, size)
