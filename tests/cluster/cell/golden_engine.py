"""The real engine over the network and the noise of a golden: its workers are threads, and what they make is kept."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
import pytest
import torch
from torch import Tensor

from cluster.cell.engine import Engine
from longtake.core.limits import Limits
from longtake.core.recipe.recipe import Recipe
from longtake.core.scheduler import Scheduler
from longtake.core.work import Ability, LatentRef, Role, SessionId, WorkerId
from tests.cluster.cell.threaded import over_threads
from tests.cluster.cell.world import stream
from tests.identity.workers import Ready, WithoutPictures
from tests.workers.golden_pair import GoldenPair
from workers.denoise import noise
from workers.denoise.attention import SdpaBackend
from workers.denoise.noise import Draw
from workers.denoise.worker import DenoiseWorker
from workers.messages import Introduction
from workers.models.api import EncodedText
from workers.runner import Performer

NoiseOf = Callable[[int, int], Tensor]
"""The noise [F, C, H, W] of a block and a draw."""


@dataclass
class Text:
    """A text encoder that knows one text."""

    features_TC: Tensor

    def encode(self, prompt: str) -> EncodedText:
        """See TextEncoder."""
        return EncodedText(features_TC=self.features_TC, notice="")


@dataclass
class Finished:
    """The x0 of every block that an engine has kept."""

    blocks: dict[int, Tensor] = field(default_factory=dict)

    def listen(self, engine: Engine, step: int, shape: Sequence[int]) -> None:
        """Keep what enters the step of finished latents, from now on."""
        put = engine.journal.put_latents

        def put_latents(ref: LatentRef, data: bytes, version: int = 0) -> bool:
            if ref.step == step:
                self.blocks[ref.block] = torch.from_numpy(np.frombuffer(data, "<f4").reshape(shape).copy())
            return put(ref, data, version)

        engine.journal.put_latents = put_latents  # type: ignore[method-assign]

    def joined(self) -> Tensor:
        """All of them in order [1, F, C, H, W]."""
        return torch.cat([self.blocks[block] for block in sorted(self.blocks)]).unsqueeze(0)


def workers_of(golden: GoldenPair, recipe: Recipe, decoder: WithoutPictures, *, denoisers: int = 1) -> list[Ready]:
    """Denoise workers over the network of a golden, and one that knows its text."""
    pages = 2 * recipe.lane_count * recipe.page_count
    geometry = golden.geometry(recipe.blocks)

    def ready(name: str, role: Role, capacity: int, make: Callable[[], Performer]) -> Ready:
        ability = Ability(capacity=capacity)
        return Ready(Introduction(worker=WorkerId(name), role=role, ability=ability, model_digest=""), make, "")

    def denoiser() -> DenoiseWorker:
        return DenoiseWorker(golden.model, geometry, SdpaBackend(), pages=pages)

    made = [ready(f"denoise-{number}", Role.DENOISE, pages, denoiser) for number in range(denoisers)]
    return [*made, ready("decode-0", Role.DECODE, 1, lambda: decoder)]


async def served(
    golden: GoldenPair, recipe: Recipe, noise_of: NoiseOf, blocks: int, monkeypatch: pytest.MonkeyPatch
) -> Tensor:
    """The x0 [1, F, C, H, W] of so many blocks of a stream through the real engine, from this noise."""
    geometry = golden.geometry(recipe.blocks)

    def stored(draws: Sequence[Draw], shape: Sequence[int], device: torch.device) -> Tensor:
        found = torch.stack([noise_of(drawn.block, drawn.draw) for drawn in draws])
        assert found.shape[1:] == tuple(shape)
        return found.to(device)

    monkeypatch.setattr(noise, "normals", stored)
    torch.set_num_threads(1)
    engine, finished = Engine(Scheduler(recipe, geometry, Limits())), Finished()
    finished.listen(engine, recipe.step_count, geometry.block_shape)
    text = WithoutPictures(Text(golden.tensors["in.prompt_embeds"][0]))
    async with over_threads(engine, workers_of(golden, recipe, text)):
        await stream(engine, SessionId("s"), "its text", picture_limit=geometry.first_picture(blocks))
    return finished.joined()
