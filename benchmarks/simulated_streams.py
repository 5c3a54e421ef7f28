"""What streams of simulated workers must show, computed by hand: one stream, block after block, without pages."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from benchmarks.by_hand import KnownHashes, Model, text_of
from benchmarks.courses import LoadOf, no_load
from workers.denoise.worker import tensor_to_bytes
from workers.models.weights import ModelInfo
from workers.simulated import arithmetic
from workers.simulated.arithmetic import REACH, Reach
from workers.simulated.text import simulated_text


def small_pictures(info: ModelInfo) -> ModelInfo:
    """The model with the smallest pictures its strides allow, so that bytes cost little; for simulated devices only."""
    side = info.geometry.stride_space * info.geometry.patch_space
    return replace(info, name=f"{info.name}, {side}x{side}", geometry=replace(info.geometry, width=side, height=side))


def expected_latents(
    info: ModelInfo,
    prompt: str,
    seed: int,
    reach: Reach = REACH,
    loads: LoadOf = no_load,
    *,
    blocks: int | None = None,
) -> Iterator[bytes]:
    """Finished latents of block 0, 1, … of a stream without cues, for ever.

    `blocks` is how many the stream has: where blocks see later ones, the last ones depend on it.
    """
    texts = {0: prompt_of(info, prompt)}
    model = Model(recipe=info.recipe, geometry=info.geometry, reach=reach)
    return model.latents(KnownHashes(number=seed, texts=texts, loads=loads, blocks=blocks))


def prompt_of(info: ModelInfo, prompt: str) -> bytes:
    """What stands for a prompt."""
    return text_of(tensor_to_bytes(simulated_text(info).encode(prompt).features_TC))


def expected_pictures(
    info: ModelInfo, prompt: str, seed: int, reach: Reach = REACH, loads: LoadOf = no_load
) -> Iterator[NDArray[np.uint8]]:
    """Pictures [count, height, width, 3] of block 0, 1, … of a stream without cues, for ever."""
    state = arithmetic.first_state(reach)
    for block, latents in enumerate(expected_latents(info, prompt, seed, reach, loads)):
        name, state = arithmetic.decoded(latents, state, info.geometry)
        yield arithmetic.pictures(
            name, info.geometry.first_picture(block), info.geometry.pictures(block), info.geometry
        )
