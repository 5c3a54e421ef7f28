"""The oracle of step lists: blocks of clean context that each take the steps of a list, as a plain loop.

As Causal-Forcing and ASD write it: a block starts from noise and passes the entries of its own list; after each but the
last it is noised again to the level of the next one; what the last one leaves is committed at t = 0. Written from
those, and beside the core; test_causal_forcing.py checks it with tensors of the reference. Shape suffixes as in
oracle.py.
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from tests.workers.oracle import Lanes, clean, noised
from workers.models.api import Denoiser

ListOf = Callable[[int], Sequence[int]]
"""Which entries of the training schedule of 1000 steps a block takes."""
DrawOf = Callable[[int, int, int], Tensor]
"""draw(block, entry, pass) -> [B, F, C, H, W]: what is added so that the block may take that entry, as the pass with
this number of its own list; of pass 0 what the block starts from."""


def level_of(entry: int, shift: float) -> tuple[float, float]:
    """Sigma and timestep of an entry, rounded to float32 one after the other."""
    share = entry / 1000
    sigma = torch.tensor(shift * share / (1 + (shift - 1) * share), dtype=torch.float32)
    return sigma.item(), torch.tensor(1000 * sigma.item(), dtype=torch.float32).item()


def generate_by_lists(
    model: Denoiser,
    text: Callable[[int], Tensor],
    lanes: Lanes,
    lists: Sequence[Sequence[int]],
    draw: DrawOf,
    *,
    frames: int,
    shift: float,
) -> list[Tensor]:
    """The x0 of blocks of so many `frames`, one for each of `lists`; `text` are the features of each block."""
    latents = []
    with torch.inference_mode():
        for block, entries in enumerate(lists):
            text_kv, first = model.encode_text(text(block)), block * frames
            x = draw(block, entries[0], 0)
            for number, entry in enumerate(entries):
                sigma, timestep = level_of(entry, shift)
                if number:
                    x = noised(x, draw(block, entry, number), sigma)
                x = clean(x, lanes.denoise("clean", first, x, timestep, text_kv), sigma)
            lanes.commit("clean", first, x, 0.0, text_kv)
            latents.append(x)
    return latents
