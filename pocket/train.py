"""Trains the pocket transformer by flow matching with HiAR's conditioning: `python -m pocket.train --minutes 85`.

Shapes: B sequence, F latent frame of a block, C channel, H, W latent height and width.
"""

import logging
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from longtake.core.recipe.context import Level
from pocket.conditioning import SIGMAS, Sigmas, TrainingBatch, noised, predict_flow
from pocket.config import POCKET_DIT
from pocket.data import LatentSet
from pocket.learner import Learner, Schedule, begin
from pocket.parallel import Rank, launch
from workers.models.wan.dit import WanModel

log = logging.getLogger("pocket.train")


@dataclass(frozen=True, slots=True, kw_only=True)
class Training(Schedule):
    """Everything that decides the outcome; `noisy_blocks` is the batch per process, counted in noisy copies.

    `out` receives the averaged weights (dit.safetensors) and what a later run, whose `start` names this folder, goes on
    from (raw.safetensors, optimizers.pt).

    """

    minutes: float = 85.0
    noisy_blocks: int = 36
    learning_rate: float = 4e-3
    warmup: float = 0.01
    short_share: float = 0.3
    self_context_from: float = 0.65
    self_context_share: float = 0.5
    context_noise: float = 0.05
    clean_share: float = 0.2
    input_share: float = 0.2
    ema: float = 0.998
    latent_std: float = 2.5
    seed: int = 3
    latents: str = "latents"
    out: str = "train"


# Later steps settle shape and motion, so they are drawn more often and weigh more.
_STEP_SHARES = (0.15, 0.2, 0.3, 0.35)
_STEP_WEIGHTS = (0.5, 0.7, 1.0, 1.3)
_LEVELS = (Level.OUTPUT, Level.CLEAN, Level.INPUT)
# Input and output maps are not hidden matrices; Muon is not for them.
_ENDS = ("text_embedding.0", "time_embedding.0", "patch_embedding", "head")


def new_model() -> WanModel:
    """A transformer with gates and head near zero, so that every layer starts as the identity."""
    model = WanModel(POCKET_DIT)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.ndim == 2:
                torch.nn.init.xavier_uniform_(parameter)
            elif name.endswith(".bias"):
                parameter.zero_()
            if name.startswith("time_projection.1") or name.startswith("time_embedding.2"):
                parameter.mul_(0.2)
        model.head.head.weight.zero_()
        for name, parameter in model.named_parameters():
            if name.startswith("blocks.") and name.endswith("modulation"):
                parameter.mul_(0.2)
                parameter[:, 2] += 0.5
                parameter[:, 5] += 0.5
    return model


def load_model(path: str) -> WanModel:
    """The transformer of a checkpoint."""
    model = WanModel(POCKET_DIT)
    model.load_state_dict({name: value.float() for name, value in load_file(path).items()})
    return model


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingLoss:
    """The weighted loss of a batch, and the plain squared error and the step of each sequence."""

    weighted: Tensor
    error_B: Tensor
    step_B: Tensor


def _drawn(shares: tuple[float, ...], count: int, draw: torch.Generator) -> Tensor:
    """So many random indices into `shares`, each as often as its share says."""
    return torch.multinomial(torch.tensor(shares), count, replacement=True, generator=draw)


def dit_loss(
    model: WanModel, batch: TrainingBatch, config: Training, draw: torch.Generator, own_context: bool
) -> TrainingLoss:
    """Squared error of the flow of all noisy copies, each sequence at one random step and level.

    With `own_context` the context copies at OUTPUT are made from the model's own predictions instead of true latents.
    At INPUT they are the noisy copies themselves.
    """
    x, device = batch.latent, batch.latent.device
    step_B = _drawn(_STEP_SHARES, len(x), draw)
    output_share = 1 - config.clean_share - config.input_share
    level_B = _drawn((output_share, config.clean_share, config.input_share), len(x), draw)
    sigmas = Sigmas.at(step_B.to(device), [_LEVELS[number] for number in level_B.tolist()])
    is_level = [(level_B == number).to(device).view(-1, 1, 1, 1, 1, 1) for number in range(len(_LEVELS))]
    own, past = (sigma.view(-1, 1, 1, 1, 1, 1) for sigma in (sigmas.own_B, sigmas.past_B))

    def random_like(like: Tensor) -> Tensor:
        return torch.randn(like.shape, generator=draw).to(device)

    noise = random_like(x)
    noisy = noised(x, own, noise)
    clean = x[:, :-1] + config.context_noise * random_like(x[:, :-1])
    context = torch.where(is_level[2], noisy[:, :-1], noised(clean, past, random_like(clean)))
    if own_context:
        with torch.no_grad():
            made = (noisy - own * predict_flow(model, batch, sigmas, context, noisy))[:, :-1]
        context = torch.where(is_level[0], noised(made, past, random_like(made)), context)
    error_B = (predict_flow(model, batch, sigmas, context, noisy) - (noise - x)).square().flatten(1).mean(1)
    weight_B = torch.tensor(_STEP_WEIGHTS)[step_B].to(device)
    return TrainingLoss(weighted=(error_B * weight_B).mean(), error_B=error_B.detach(), step_B=step_B)


def _blocks(progress: float, config: Training) -> int:
    """Blocks of the sequences: short ones first (more scenes per second), the full length later."""
    return 3 if progress < config.short_share else 6


class _Errors:
    """The mean squared error of each step of late, for the log."""

    def __init__(self) -> None:
        self._by_step = [1.0] * len(SIGMAS)

    def count(self, loss: TrainingLoss) -> None:
        for number in range(len(SIGMAS)):
            if bool((loss.step_B == number).any()):
                self._by_step[number] += 0.05 * (
                    loss.error_B[loss.step_B == number].mean().item() - self._by_step[number]
                )

    def __str__(self) -> str:
        return " ".join(f"{error:.4f}" for error in self._by_step)


def _learner(rank: Rank, model: WanModel, config: Training) -> Learner:
    """As an earlier run left it, if this one goes on from there."""
    learner = Learner(rank, model, config, _ENDS)
    if config.start:
        saved = torch.load(f"{config.start}/optimizers.pt", weights_only=True)
        for optimizer, state in zip(learner.optimizers, saved, strict=True):
            optimizer.load_state_dict(state)
    return learner


def _save(learner: Learner, model: WanModel, folder: str) -> None:
    for values, name in ((learner.ema.values, "dit"), (model.state_dict(), "raw")):
        save_file({key: value.contiguous() for key, value in values.items()}, f"{folder}/{name}.safetensors")
    torch.save([optimizer.state_dict() for optimizer in learner.optimizers], f"{folder}/optimizers.pt")


def _train(rank: Rank, config: Training) -> None:
    rng, draw = begin(rank, config.seed)
    model = (load_model(f"{config.start}/raw.safetensors") if config.start else new_model()).to(rank.device)
    data = LatentSet.open(Path(config.latents))
    scale = data.scale(config.latent_std)
    learner, errors = _learner(rank, model, config), _Errors()
    while learner.progress < 1:
        if learner.step % 100 == 0:
            data = LatentSet.open(Path(config.latents))  # encoding may still be adding sequences
        blocks = _blocks(learner.progress, config)
        batch = data.batch(rng, config.noisy_blocks // blocks, blocks, scale).to(rank.device)
        own_context = learner.progress > config.self_context_from and rng.random() < config.self_context_share
        loss = dit_loss(model, batch, config, draw, own_context)
        norm = learner.learn(loss.weighted)
        errors.count(loss)
        if learner.is_due(50):
            log.info(
                "step %d progress %.4f blocks %d sequences %d loss %.4f norm %.2f by step %s",
                learner.step, learner.progress, blocks, len(data.latent_SFCHW), loss.weighted.item(), norm.item(),
                errors,
            )  # fmt: skip
        if learner.is_due(200):
            _save(learner, model, config.out)


def main() -> None:
    """Command line: every field of Training is an option."""
    config = Training.asked(__doc__)
    Path(config.out).mkdir(parents=True, exist_ok=True)
    launch(_train, config)


if __name__ == "__main__":
    main()
