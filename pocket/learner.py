"""What both trainings do: the start of a process, and a step of a model that learns."""

import logging
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from pocket.optimizer import optimizers
from pocket.parallel import Averager, Ema, Job, Rank, learning_rate


@dataclass(frozen=True, slots=True, kw_only=True)
class Schedule(Job):
    """How long and how fast a model learns, and on what."""

    minutes: float
    learning_rate: float
    warmup: float
    """Share of the time in which the rate rises."""
    clip_norm: float = 1.0
    ema: float
    """Decay of the averaged weights."""
    seed: int
    out: str
    start: str = ""
    """What an earlier run wrote, to go on from; empty: a new model."""


def begin(rank: Rank, seed: int) -> tuple[np.random.Generator, torch.Generator]:
    """Begin a process that logs; the generators of what it learns from, and of noise."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    torch.manual_seed(seed)
    return np.random.default_rng((seed, rank.number)), torch.Generator().manual_seed(seed * 1000 + rank.number)


class Learner:
    """A model while it learns, of one process."""

    def __init__(self, rank: Rank, model: nn.Module, schedule: Schedule, ends: tuple[str, ...] = ()) -> None:
        """`ends` are beginnings of names of parameters that Muon is not for."""
        self._rank = rank
        self._model = model
        self._schedule = schedule
        self._averager = Averager(rank, model, schedule.minutes)
        self.ema = Ema(model, schedule.ema)
        self.optimizers = optimizers(model, schedule.learning_rate, ends)
        self.progress = 0.0
        """The used share of the time."""
        self.step = 0

    def learn(self, loss: Tensor) -> Tensor:
        """One step down the gradient of `loss`; returns the norm of the gradient."""
        self._model.zero_grad(set_to_none=True)
        torch.autograd.backward(loss)
        self.progress = self._averager.reduce()
        norm = torch.nn.utils.clip_grad_norm_(self._model.parameters(), self._schedule.clip_norm)
        for optimizer in self.optimizers:
            for group in optimizer.param_groups:
                group["lr"] = self._schedule.learning_rate * learning_rate(self.progress, self._schedule.warmup)
            optimizer.step()
        self.ema.update()
        self.step += 1
        return norm

    def is_due(self, steps: int) -> bool:
        """Whether this process shall do now what is done every so many steps, and at the end."""
        return self._rank.number == 0 and (self.step % steps == 0 or self.progress >= 1)
