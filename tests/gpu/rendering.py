"""What is rendered on a device, as numbers that can be compared."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cluster.cell.outbox import ClientMessage, SegmentOut
from cluster.render import render
from longtake.core.events import CueRequest, Open
from longtake.core.flow import Pace
from longtake.core.recipe.table import NamedRecipe
from longtake.core.work import DecoderKind, SegmentSettings, SessionId
from workers.models.api import Compute


async def rendered(
    model: Path,
    compute: Compute,
    *,
    count: int,
    decoder: DecoderKind = DecoderKind.FULL,
    recipe: NamedRecipe | None = None,
    cues: tuple[CueRequest, ...] = (),
) -> NDArray[np.int16]:
    """All of so many pictures of a stream, by the model's own recipe or another, as one flat array."""
    parts: list[bytes] = []

    def tell(message: ClientMessage) -> None:
        if isinstance(message, SegmentOut):  # raw has no header
            parts.append(message.data)

    request = Open(
        now_s=0.0, session=SessionId("r"), prompt="a red ball", seed=5, pace=Pace.FAST, window=4, picture_limit=count,
        settings=SegmentSettings(codec="raw", quality=0, decoder=decoder), recipe=recipe.name if recipe else "",
        cues=cues,
    )  # fmt: skip
    await render(model, request, tell, compute=compute, recipe=recipe)
    assert parts
    return np.frombuffer(b"".join(parts), np.uint8).astype(np.int16)
