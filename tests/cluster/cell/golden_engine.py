"""The real engine over the network and the noise of a golden: one in-process worker, whose latents are kept."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from cluster.cell.chains import Chains
from cluster.cell.engine import Engine
from cluster.launch.in_process import ThreadPort
from longtake.core.limits import Limits
from longtake.core.recipe.geometry import Geometry
from longtake.core.recipe.recipe import Recipe
from longtake.core.scheduler import Scheduler
from longtake.core.work import Ability, LatentRef, Role, SessionId, WorkerId
from tests.cluster.cell.world import stream
from tests.identity.workers import Ready, WithoutPictures
from tests.workers.reference import PLACES
from workers.denoise import noise
from workers.denoise.attention import SdpaBackend
from workers.denoise.noise import Draw
from workers.denoise.worker import DenoiseWorker
from workers.messages import Introduction, Shutdown
from workers.models.api import EncodedText
from workers.models.wan.config import WanConfig
from workers.models.wan.dit import WanModel

NoiseOf = Callable[[int, int], Tensor]
"""The noise [F, C, H, W] of a block and a draw."""


def goldens(pattern: str) -> dict[str, Path]:
    """The sidecars that are there of this kind, by name."""
    return {path.stem: path for place in PLACES for path in sorted(place.glob(f"{pattern}.json"))}


@dataclass(frozen=True)
class GoldenModel:
    """A sidecar with its tensors, and the network that they came from."""

    sidecar: dict[str, Any]
    tensors: dict[str, Tensor]
    model: WanModel

    @staticmethod
    @cache
    def load(path: Path) -> GoldenModel:
        sidecar, tensors = json.loads(path.read_text()), load_file(path.with_suffix(".safetensors"))
        told, known = sidecar["config"]["model"], WanConfig.__dataclass_fields__
        sizes = {key: value for key, value in told.items() if key in known}
        model = WanModel(WanConfig(**sizes | {"patch_size": tuple(sizes["patch_size"])}))
        prefix = "weights."
        weights = {name.removeprefix(prefix).removeprefix("model."): value for name, value in tensors.items()
                   if name.startswith(prefix)}  # fmt: skip
        model.load_state_dict(weights)
        return GoldenModel(sidecar, tensors, model.eval().requires_grad_(False))

    @property
    def config(self) -> dict[str, Any]:
        config: dict[str, Any] = self.sidecar["config"]
        return config

    def geometry(self, recipe: Recipe) -> Geometry:
        """That of its latents."""
        latent, patch = self.config["latent"], self.config["model"]["patch_size"]
        return Geometry(
            width=8 * latent["width"],
            height=8 * latent["height"],
            fps=Fraction(16),
            latent_channels=latent["channels"],
            blocks=recipe.blocks,
            patch_space=patch[1],
        )


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


async def served(
    golden: GoldenModel, recipe: Recipe, noise_of: NoiseOf, blocks: int, monkeypatch: pytest.MonkeyPatch
) -> Tensor:
    """The x0 [1, F, C, H, W] of so many blocks of a stream through the real engine, from this noise."""
    geometry = golden.geometry(recipe)

    def stored(draws: Sequence[Draw], shape: Sequence[int], device: torch.device) -> Tensor:
        found = torch.stack([noise_of(drawn.block, drawn.draw) for drawn in draws])
        assert found.shape[1:] == tuple(shape)
        return found.to(device)

    monkeypatch.setattr(noise, "normals", stored)
    torch.set_num_threads(1)
    pages = recipe.lane_count * recipe.page_count
    denoise = Introduction(
        worker=WorkerId("denoise-0"), role=Role.DENOISE, ability=Ability(capacity=pages), model_digest=""
    )
    decode = Introduction(worker=WorkerId("decode-0"), role=Role.DECODE, ability=Ability(capacity=1), model_digest="")
    text = Text(golden.tensors["in.prompt_embeds"][0])
    made = (
        Ready(denoise, lambda: DenoiseWorker(golden.model, geometry, SdpaBackend(), pages=pages), ""),
        Ready(decode, lambda: WithoutPictures(text), ""),
    )
    engine, finished = Engine(Scheduler(recipe, geometry, Limits())), Finished()
    finished.listen(engine, recipe.step_count, geometry.block_shape)
    loop, ports = asyncio.create_task(engine.run()), []
    for each in made:
        ports.append(ThreadPort(each, Chains(engine)))
        ports[-1].start()
    try:
        await stream(engine, SessionId("s"), "its text", picture_limit=geometry.first_picture(blocks))
        engine.scheduler.check()
    finally:
        for port in ports:
            port.send(Shutdown())
            await asyncio.to_thread(port.runner.join, 10.0)
        loop.cancel()
    return finished.joined()
