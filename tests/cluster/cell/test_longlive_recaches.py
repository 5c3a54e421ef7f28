"""LongLive through the real engine: outputs and caches of its own code, and what a mistake in a recache does to them.

Outputs hardly tell a causal recache from one whose blocks read one another; what the last layers hold does.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from cluster.render import in_process_engine, in_process_workers
from longtake.core.events import CueRequest
from longtake.core.recipe.cues import CueRule
from longtake.core.recipe.recipe import Recipe
from longtake.core.recipe.renewals import Renewal, Renewing
from longtake.core.work import CueId, LatentRef
from tests.cluster.cell.world import stream
from tests.core.support.recipes import altered
from tests.workers.longlive_recaches import GOLDENS, LongLive
from workers.denoise.noise import BlockNoise, Draw
from workers.denoise.worker import DenoiseWorker, tensor_from_bytes
from workers.messages import Forward
from workers.models.api import EncodedText
from workers.models.text import PocketText

FIRST, SECOND = "a red ball", "a blue box"
RUNS = [(name, run) for name in GOLDENS for run in LongLive.load(name).runs]
Caches = dict[str, Tensor]


@dataclass
class Run:
    """A stream of a golden's model, noise and prompts; what came of it."""

    golden: LongLive
    latents: dict[int, Tensor] = field(default_factory=dict)
    """Finished, by block."""
    caches: Caches = field(default_factory=dict)
    """Named as in the golden, before and after the last recache: sinks first, then the oldest frame."""

    async def make(self, folder: Path, recipe: Recipe, frames: int, turns: Sequence[int]) -> None:
        self.golden.write(folder, recipe)
        cues = tuple(
            CueRequest(cue=CueId(f"c{number}"), prompt=FIRST if number % 2 else SECOND, block=block)
            for number, block in enumerate(turns)
        )
        async with in_process_engine(folder, in_process_workers(folder, recipe)) as engine:
            put = engine.journal.put_latents

            def put_latents(ref: LatentRef, data: bytes, version: int = 0) -> bool:
                if ref.step == recipe.step_count:
                    self.latents[ref.block] = tensor_from_bytes(data, (-1, *self.golden.out("switch").shape[1:]))
                return put(ref, data, version)

            engine.journal.put_latents = put_latents  # type: ignore[method-assign]
            await stream(engine, "s", FIRST, cues=cues, picture_limit=1 + 4 * (frames - 1))

    def watch(self, worker: DenoiseWorker, batch: tuple[Forward, ...], moment: str) -> None:
        """Look at the pages of a forward."""
        works = [forward.work for forward in batch]
        written = {page: at for work in works for page, at in zip(work.pages.writes, work.positions, strict=True)}
        kept = [page for page in works[-1].pages.reads if page not in written]
        pages = [worker.page(page).clone() for page in (*kept, *sorted(written, key=written.__getitem__))]
        for layer, held in enumerate(torch.stack(pages, dim=2)):  # [Y, U, P, L, N, D]
            for unit, name in enumerate("kv"):
                self.caches[f"{moment}.layer{layer}.{name}"] = held[unit].flatten(0, 1)

    @property
    def out(self) -> Tensor:
        return torch.cat([self.latents[block] for block in sorted(self.latents)])


@pytest.fixture
def make(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[LongLive], Run]:
    """Whoever makes a run has its noise and its texts."""
    torch.set_num_threads(1)

    def prepared(golden: LongLive) -> Run:
        run, forward = Run(golden), DenoiseWorker._forward

        def noise(self: BlockNoise, draws: Sequence[Draw], frames: int) -> Tensor:
            sources = [golden.tensors["in.noise"], *golden.tensors["in.sde_noise"]]
            found = [sources[draw.draw][0, draw.block * frames : (draw.block + 1) * frames] for draw in draws]
            return torch.stack(
                [each if len(each) == frames else torch.zeros(frames, *each.shape[1:]) for each in found]
            )

        def encode(self: PocketText, prompt: str) -> EncodedText:
            name = "in.prompt_embeds" if prompt == FIRST else "in.prompt_embeds_2"
            return EncodedText(features_TC=golden.tensors[name][0], notice="")

        def watched(self: DenoiseWorker, batch: tuple[Forward, ...]) -> object:
            lanes = [(each.work.session, each.work.lane) for each in batch]
            renews = len(lanes) > 1 and len(set(lanes)) == 1
            if renews:
                run.watch(self, batch, "before")
            made = forward(self, batch)
            if renews:
                run.watch(self, batch, "after")
            return made

        monkeypatch.setattr(BlockNoise, "of", noise)
        monkeypatch.setattr(PocketText, "encode", encode)
        monkeypatch.setattr(DenoiseWorker, "_forward", watched)
        return run

    return prepared


def off(golden: LongLive, name: str, run: Run) -> dict[str, float]:
    """The largest deviations from a run of the golden: of the output, and of what the last recache found and left."""
    found = {"out": run.out - golden.out(name)}
    for key, tensor in run.caches.items():
        right = golden.tensors.get(f"cache.{name}.{key}")
        if right is not None and right[0].shape == tensor.shape:
            found[key] = tensor - right[0]
    return {key: float(each.abs().max()) for key, each in found.items()}


@pytest.mark.parametrize(("name", "run"), RUNS)
async def test_every_run_is_what_their_code_made(
    name: str, run: str, make: Callable[[LongLive], Run], tmp_path: Path
) -> None:
    golden = LongLive.load(name)
    made = make(golden)
    await made.make(tmp_path, golden.recipe(run), len(golden.out(run)), golden.switches(run))
    found = off(golden, run, made)
    assert max(found.values()) <= golden.tolerance, found
    caches = {key for key in golden.tensors if key.startswith((f"cache.{run}.before.", f"cache.{run}.after."))}
    missing = caches - {f"cache.{run}.{key}" for key in found}
    assert all(".before." in key and run != "early_switch" and not golden.keeps_sinks(run) for key in missing), missing


def apart(renewing: Renewing, block: int, version: int) -> Renewal:
    """The blocks one after the other."""
    return replace(Renewing.renewal(renewing, block, version), is_joint=False)


def of_old_prompt(renewing: Renewing, block: int, version: int) -> Renewal:
    """With the prompt that was."""
    return replace(Renewing.renewal(renewing, block, version), version=version - 1)


def sinks_left(renewing: Renewing, block: int, version: int) -> Renewal:
    """The sinks stay though nothing has left the window."""
    made, sinks = Renewing.renewal(renewing, block, version), renewing.window
    after = range(sinks.sinks // sinks.blocks.frames, block)
    return replace(made, blocks=after, kept=sinks.sink_frames)


Change = Callable[[Recipe], Recipe]
MISTAKES: dict[str, tuple[str, Change | None, Callable[[Renewing, int, int], Renewal] | None]] = {
    "a window of one more block": ("switch", lambda one: altered(one, window_frames=one.page_count + 3), None),
    "no recache": ("switch", lambda one: altered(one, change=CueRule.SWAP, keep_sinks=None), None),
    "block by block": ("switch", None, apart),
    "the old prompt": ("switch", None, of_old_prompt),
    "sinks the other way": ("switch", lambda one: altered(one, keep_sinks=not one.cues.keep_sinks), None),
    "no sinks": ("switch", lambda one: altered(one, sink_frames=0, keep_sinks=None), None),
    "early, no recache": ("early_switch", lambda one: altered(one, change=CueRule.SWAP, keep_sinks=None), None),
    "early, sinks left": ("early_switch", None, sinks_left),
    "past blocks of the window alone": ("switch", lambda one: altered(one, change=CueRule.WINDOW), None),
}


@pytest.mark.parametrize("name", GOLDENS)
@pytest.mark.parametrize("mistake", [*MISTAKES, "no cue"])
async def test_a_mistake_shows(
    name: str, mistake: str, make: Callable[[LongLive], Run], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    golden = LongLive.load(name)
    run, change, renewal = MISTAKES.get(mistake, ("switch", None, None))
    recipe = golden.recipe(run) if change is None else change(golden.recipe(run))
    if renewal is not None:
        whole = Renewing.renewal

        def wrong(self: Renewing, block: int, version: int) -> Renewal:
            with pytest.MonkeyPatch.context() as right:
                right.setattr(Renewing, "renewal", whole)
                return renewal(self, block, version)

        monkeypatch.setattr(Renewing, "renewal", wrong)
    made = make(golden)
    turns = golden.switches(run) if mistake != "no cue" else []
    await made.make(tmp_path, recipe, len(golden.out(run)), turns)
    found = off(golden, run, made)
    assert found["out"] > 100 * golden.tolerance, "only the output is compared of what keeps no cache"
