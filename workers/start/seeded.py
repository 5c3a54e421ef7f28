"""Made-up inputs for trials at start, the same to the bit on every device, and a digest of what comes of them.

They are draws of the noise of streams, which is made of integers and exact operations; a device's own generator gives
other numbers on another device. They are never zeros: products of those take less time than others, and round to
nothing.
"""

from __future__ import annotations

import hashlib
from enum import IntEnum

from torch import Tensor, uint8

from workers.denoise.kv import PageMemory
from workers.denoise.noise import normal

_SEED = 0x10261A4E


class Purpose(IntEnum):
    """What an input is made up for."""

    LATENTS = 0
    TEXT = 1
    PAGES = 2


def seeded(item: int, purpose: Purpose, shape: tuple[int, ...]) -> Tensor:
    """Standard normals, float32 on the CPU; another `item` or `purpose`, other numbers."""
    return normal(_SEED, item, purpose, shape)


def fill(memory: PageMemory) -> None:
    """Fill all pages with what earlier blocks might have left: one draw, in each page turned by another amount.

    A draw for each would take minutes where pages are large.
    """
    shape = memory.shape
    page_ULND = seeded(0, Purpose.PAGES, (2, shape.tokens_per_frame, shape.num_heads, shape.head_dim))
    flat_UX = page_ULND.flatten(1).to(memory.device, memory.kv_YUPLND.dtype)
    for layer, kv_UPLND in enumerate(memory.kv_YUPLND):
        for page in range(memory.pages):
            kv_ULND = kv_UPLND[:, page]
            kv_ULND.copy_(flat_UX.roll(layer * memory.pages + page, dims=1).view_as(kv_ULND))


def digest_of(*tensors: Tensor) -> str:
    """SHA-256 (hex) over every bit of the tensors, each with its type and shape."""
    found = hashlib.sha256()
    for tensor in tensors:
        found.update(f"{tensor.dtype} {tuple(tensor.shape)};".encode())
        found.update(tensor.detach().cpu().contiguous().flatten().view(uint8).numpy().data)
    return found.hexdigest()
