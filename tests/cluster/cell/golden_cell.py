"""A golden of a reference implementation, made by the real engine: its weights, texts and noise where ours would be.

Everything between is what serves: scheduler, engine, link messages, a denoise worker with pages. Of every commit it is
kept what the pages that it read held afterwards, by the frames that lie in them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import torch
from torch import Tensor

from cluster.cell.engine import Engine
from cluster.render import in_process_workers
from longtake.core.events import CueRequest
from longtake.core.limits import Limits
from longtake.core.recipe.ops import Kind
from longtake.core.recipe.recipe import Recipe
from longtake.core.scheduler import Scheduler
from longtake.core.work import Ability, CueId, PageId, Role, SessionId
from tests.cluster.cell.golden_engine import Finished
from tests.cluster.cell.threaded import over_threads
from tests.cluster.cell.world import stream
from tests.identity.workers import Ready, WithoutPictures
from tests.workers.longlive import LongLiveGolden
from workers.denoise.noise import BlockNoise, Draw
from workers.denoise.worker import DenoiseWorker
from workers.messages import Introduction, Task
from workers.models.api import EncodedText
from workers.models.weights import ModelInfo
from workers.orders import Answer, Order
from workers.runner import Performer
from workers.start.loading import load_worker
from workers.start.spec import WorkerSpec

SESSION = SessionId("golden")
Pages = Mapping[int, Tensor]
"""Keys and values [layer, 2, L, N, D] by latent frame."""


@dataclass(frozen=True)
class Prompts:
    """A text encoder that knows the golden's prompts: they are called by their numbers."""

    golden: LongLiveGolden

    def encode(self, prompt: str) -> EncodedText:
        """See workers.models.api.TextEncoder."""
        return EncodedText(features_TC=self.golden.text(int(prompt)), notice="")


@dataclass(frozen=True)
class Noise:
    """The golden's noise, by block and draw, whatever the seed."""

    golden: LongLiveGolden

    def of(self, draws: Sequence[Draw], frames: int) -> Tensor:
        """See workers.denoise.noise.BlockNoise."""
        return torch.stack([self.golden.noise(draw.block, draw.draw)[:frames] for draw in draws])


@dataclass
class Watched:
    """A denoise worker of which is kept what it read."""

    worker: DenoiseWorker
    committed: dict[int, list[Tensor]] = field(default_factory=dict)
    """By block, the pages that its commit read, in their order, as it left them."""
    role: Role = Role.DENOISE

    @property
    def device(self) -> torch.device:
        """See workers.images.Holder."""
        return self.worker.device

    def page(self, page: PageId) -> Tensor:
        """See workers.images.Holder."""
        return self.worker.page(page)

    def perform(self, message: Order) -> Iterator[Answer]:
        """See workers.runner.Performer."""
        yield from self.worker.perform(message)
        if isinstance(message, Task) and isinstance(message.order, tuple):
            for work in (forward.work for forward in message.order):
                if work.kind is Kind.COMMIT:
                    self.committed[work.block] = [self.page(page).clone() for page in work.pages.reads]


@dataclass
class GoldenRun:
    """What the engine made of a golden."""

    recipe: Recipe
    """By which it was made."""
    watched: Watched
    latents: dict[int, Tensor] = field(default_factory=dict)
    """Finished latents [F, C, H, W] by block."""

    def out(self, blocks: range) -> Tensor:
        """Those of some blocks, one behind the other."""
        return torch.cat([self.latents[block] for block in blocks])

    def pages(self, block: int) -> Pages:
        """What the pages held once the block was committed."""
        window = self.recipe.window
        frames = sorted(window.frames(block), key=window.slot)
        return dict(zip(frames, self.watched.committed[block], strict=True))


def _denoiser(spec: WorkerSpec, golden: LongLiveGolden, watched: list[Watched]) -> Ready:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(BlockNoise, "on", lambda *_: Noise(golden))
        loaded = load_worker(spec)  # and its first worker with it

    def make() -> Performer:
        worker = loaded.fresh()
        assert isinstance(worker, DenoiseWorker)
        watched.append(Watched(worker))
        return watched[-1]

    return Ready(loaded.introduction, make, spec.meeting_point)


def _workers(golden: LongLiveGolden, folder: Path, info: ModelInfo, watched: list[Watched]) -> Iterator[Ready]:
    for spec in in_process_workers(folder, info.recipe, denoise=1, sessions=1):
        if spec.role is Role.DENOISE:
            yield _denoiser(spec, golden, watched)
            continue
        ability = Ability(capacity=spec.capacity)
        said = Introduction(worker=spec.worker, role=spec.role, ability=ability, model_digest="")
        yield Ready(said, lambda: WithoutPictures(Prompts(golden)), spec.meeting_point)


async def golden_run(
    golden: LongLiveGolden,
    folder: Path,
    blocks: int,
    *,
    cues: Mapping[int, int] | None = None,
    recipe: Recipe | None = None,
) -> GoldenRun:
    """`blocks` blocks with the first prompt, and from the blocks in `cues` on with others.

    They are made by the golden's own recipe, or by a wrong one.
    """
    torch.set_num_threads(1)
    info = golden.write(folder, recipe or golden.recipe)
    watched, finished = list[Watched](), Finished()
    engine = Engine(Scheduler(info.recipe, info.geometry, Limits()))
    finished.listen(engine, info.recipe.step_count, info.geometry.block_shape)
    async with over_threads(engine, _workers(golden, folder, info, watched)):
        asked = tuple(
            CueRequest(cue=CueId(f"cue {block}"), prompt=str(number), block=block)
            for block, number in (cues or {}).items()
        )
        await stream(engine, SESSION, "0", picture_limit=info.geometry.first_picture(blocks), cues=asked)
    return GoldenRun(info.recipe, watched[-1], finished.blocks)
