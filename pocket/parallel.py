"""Data-parallel training with one single-threaded process per core: gradients averaged in one flat buffer."""

import argparse
import os
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Self, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn


@dataclass(frozen=True, slots=True, kw_only=True)
class Rank:
    """One training process among `world`."""

    number: int
    world: int
    device: torch.device


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """What processes do together; every field is an option of the command line."""

    processes: int = 2
    device: str = "cpu"

    @classmethod
    def asked(cls, about: str | None) -> Self:
        """The job that the arguments of this process ask for."""
        parser = argparse.ArgumentParser(description=about)
        for name, default in asdict(cls()).items():
            parser.add_argument(f"--{name.replace('_', '-')}", type=type(default), default=default)
        return cls(**vars(parser.parse_args()))


J = TypeVar("J", bound=Job)


def launch(run: Callable[[Rank, J], None], job: J) -> None:
    """Calls run(rank, job) in all processes of the job and waits for them."""
    with tempfile.TemporaryDirectory() as folder:
        store = str(Path(folder) / "store")
        context = get_context("spawn")
        device = torch.device(job.device)
        ranks = [Rank(number=number, world=job.processes, device=device) for number in range(job.processes)]
        started = [context.Process(target=_main, args=(rank, run, job, store)) for rank in ranks]
        for process in started:
            process.start()
        for process in started:
            process.join()
    if any(process.exitcode for process in started):
        raise ChildProcessError(f"training processes ended with {[process.exitcode for process in started]}")


def _main(rank: Rank, run: Callable[[Rank, J], None], job: J, store: str) -> None:
    torch.set_num_threads(1)
    os.environ["OMP_NUM_THREADS"] = "1"
    if rank.world > 1:
        dist.init_process_group("gloo", init_method=f"file://{store}", rank=rank.number, world_size=rank.world)
    run(rank, job)
    if rank.world > 1:
        dist.destroy_process_group()


class Averager:
    """Averages gradients and the wall clock over all ranks, so that every rank follows the same schedule."""

    def __init__(self, rank: Rank, model: nn.Module, minutes: float) -> None:
        self._rank = rank
        self._parameters = list(model.parameters())
        self._flat = torch.zeros(sum(p.numel() for p in self._parameters) + 1)
        self._start_s = time.monotonic()
        self._seconds = minutes * 60
        for parameter in self._parameters:
            if rank.world > 1:
                dist.broadcast(parameter.data, 0)

    def reduce(self) -> float:
        """Averages all gradients in place; returns the used share of the wall-clock budget, equal on all ranks."""
        sizes = [p.numel() for p in self._parameters]
        parts = [(p.grad if p.grad is not None else torch.zeros_like(p)).flatten() for p in self._parameters]
        elapsed = torch.tensor([(time.monotonic() - self._start_s) / self._seconds])
        torch.cat([*parts, elapsed.to(parts[0].device)], out=self._flat)
        if self._rank.world > 1:
            dist.all_reduce(self._flat)
            self._flat /= self._rank.world
        for parameter, piece in zip(self._parameters, torch.split(self._flat[:-1], sizes), strict=True):
            parameter.grad = piece.view_as(parameter)
        return float(self._flat[-1])


class Ema:
    """Exponential moving average of parameters, with a warm-up so that the first steps do not linger."""

    def __init__(self, model: nn.Module, decay: float) -> None:
        self._decay = decay
        self._model = model
        self.step = 0
        self.values: dict[str, Tensor] = {k: v.detach().clone() for k, v in model.state_dict().items()}

    def update(self) -> None:
        """Moves the average towards the model."""
        self.step += 1
        decay = min(self._decay, (1 + self.step) / (10 + self.step))
        with torch.no_grad():
            for name, value in self._model.state_dict().items():
                self.values[name].lerp_(value, 1 - decay)


def learning_rate(progress: float, warmup: float) -> float:
    """Factor of the learning rate: linear warm-up, then constant, then linear to zero over the last 40 %."""
    return max(0.0, min(1.0, progress / warmup if warmup else 1.0, (1 - progress) / 0.4))
