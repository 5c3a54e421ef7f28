"""The trial of joint ops: whether a commit may go together with the denoise ops of blocks that step together.

The denoise ops of an iteration are always one forward, of the same shapes, so a device needs no proof that it gives the
same bits again. A commit is done alone when a lane is rebuilt. So it may be one of them only if its pages are the same
either way, and if they do not notice whether it was done before.

Shape suffixes: B batch item, F latent frame, C channel, H row, W column.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from longtake.core.recipe.joint import Joint
from longtake.core.recipe.positions import Bias
from workers.denoise.attention import ItemPages
from workers.denoise.kv import PageMemory
from workers.models.api import Conditioning, Inputs, TextKV
from workers.start.probe import Subject
from workers.start.seeded import Purpose, fill, seeded


@dataclass(frozen=True, slots=True)
class _Item:
    """One op of the iteration that is tried."""

    number: int
    step: int
    block: int
    pages: ItemPages


class _Iteration:
    """An iteration in the midst of a stream, with as many live blocks as there can be."""

    def __init__(self, subject: Subject, joint: Joint) -> None:
        recipe, denoiser = subject.recipe, subject.denoiser
        self._subject = subject
        self._window, self._timesteps = recipe.window, (*recipe.timesteps, 0.0)
        newest = recipe.blocks.block_of(self._window.slots - 1) + joint.live
        iteration = joint.iteration(0, newest) + joint.steps % joint.lag
        blocks = joint.taking_part(iteration)
        self.items = [
            _Item(number, step, block, self._pages(newest if joint.both_ways and step < joint.steps else block, block))
            for number, (step, block) in enumerate((iteration - joint.iteration(0, each), each) for each in blocks)
        ]
        shape = denoiser.page_shape(subject.geometry.tokens_per_frame)
        self._memory = PageMemory(shape, self._window.slots, device=denoiser.device, dtype=denoiser.dtype)
        self._texts = [
            denoiser.encode_text(seeded(item.number, Purpose.TEXT, denoiser.text_shape)[None].to(denoiser.device))
            for item in self.items
        ]

    def begin(self) -> None:
        """Put into all pages what they held before."""
        fill(self._memory)

    def denoise(self, items: Sequence[_Item]) -> Tensor:
        """Flow [B, F, C, H, W] of one forward over these ops."""
        return self._subject.denoiser.denoise(self._inputs(items))

    def commit(self, item: _Item) -> None:
        """One commit, done as such."""
        self._subject.denoiser.commit(self._inputs([item]))

    def left(self) -> Tensor:
        """All keys and values that are there now."""
        return self._memory.kv_YUPLND.clone()

    def _pages(self, reader: int, own: int) -> ItemPages:
        window, slope = self._window, self._subject.recipe.positions.slope
        frames = sorted(window.frames(reader), key=window.order)
        bias = Bias(slope, tuple(frames)).rows(window.own(own))
        return ItemPages(reads=tuple(map(window.slot, frames)), writes=window.own_slots(own), bias=bias)

    def _inputs(self, items: Sequence[_Item]) -> Inputs:
        geometry, device = self._subject.geometry, self._subject.denoiser.device
        blocks, shape = self._window.blocks, geometry.block_shape
        x_FCHW = [seeded(item.number, Purpose.LATENTS, shape) for item in items]
        times = [[self._timesteps[item.step]] * shape[0] for item in items]
        return Inputs(
            x_BFCHW=torch.stack(x_FCHW).to(device),
            timestep_BF=torch.tensor(times, device=device),
            position_BF=torch.tensor([list(blocks.own(item.block)) for item in items], device=device),
            conditioning=Conditioning(text=TextKV.batch([self._texts[item.number] for item in items])),
            attention=self._subject.attention.plan(self._memory, [item.pages for item in items]),
        )


def joint_like_apart(subject: Subject, joint: Joint) -> bool:
    """Whether an iteration of the subject's recipe gives the same bits in one forward as with its commit before it."""
    torch.set_num_threads(1)  # as where the worker computes: bits depend on it
    with torch.inference_mode():
        tried = _Iteration(subject, joint)
        commits = [item for item in tried.items if item.step == joint.steps]
        denoises = [item for item in tried.items if item.step < joint.steps]
        tried.begin()
        flows_BFCHW, left_YUPLND = tried.denoise(tried.items)[len(commits) :], tried.left()
        tried.begin()
        for item in commits:
            tried.commit(item)
        return torch.equal(flows_BFCHW, tried.denoise(denoises)) and torch.equal(left_YUPLND, tried.left())
