"""Trains the pocket model's autoencoder on pictures of the world: `python -m pocket.train_vae --minutes 15`.

Shapes: B batch, C channel, F latent frame or picture, H, W height and width.
"""

import logging
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from torch import Tensor

from pocket.config import POCKET_DECODER, POCKET_ENCODER
from pocket.data import random_pictures
from pocket.learner import Learner, Schedule, begin
from pocket.parallel import Rank, launch
from workers.models.wan.vae import WanDecoder, WanEncoder

log = logging.getLogger("pocket.train_vae")


@dataclass(frozen=True, slots=True, kw_only=True)
class VaeTraining(Schedule):
    """Everything that decides the outcome; `batch` is per process."""

    minutes: float = 15.0
    batch: int = 2
    learning_rate: float = 2e-3
    warmup: float = 0.02
    single_share: float = 0.35
    edge_weight: float = 0.5
    latent_noise: float = 0.1
    latent_penalty: float = 1e-4
    ema: float = 0.995
    seed: int = 1
    out: str = "vae.safetensors"


class Autoencoder(torch.nn.Module):
    """Encoder and decoder trained together; parameters have the names of Wan2.1_VAE."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder_half = WanEncoder(POCKET_ENCODER)
        self.decoder_half = WanDecoder(POCKET_DECODER)
        start_linear(self)

    def named_as_wan(self, values: dict[str, Tensor]) -> dict[str, Tensor]:
        """The state dict with the halves' prefixes removed."""
        return {name.split(".", 1)[1]: value.contiguous() for name, value in values.items()}

    def load_wan(self, values: dict[str, Tensor]) -> None:
        """Loads what `named_as_wan` returned."""
        for half in (self.encoder_half, self.decoder_half):
            half.load_state_dict({name: values[name].float() for name in half.state_dict()})


def load_autoencoder(path: Path) -> Autoencoder:
    """Encoder and decoder of a weights file, in float32."""
    model = Autoencoder()
    model.load_wan(load_file(path))
    return model.eval()


@torch.no_grad()
def start_linear(model: torch.nn.Module) -> None:
    """Starts near a linear autoencoder of local averages: deep stacks without skips hardly learn from a random start.

    Main-path convolutions become an orthogonal map of channels times a blur, an average or a single tap; the second
    convolution of each residual branch starts small. Nothing reaches back in time: what was learned on single pictures
    holds for video at once.
    """
    blur = torch.tensor([0.25, 0.5, 0.25])
    for name, weight in model.named_parameters():
        if weight.ndim < 2 or not name.endswith("weight"):
            continue
        channels = torch.nn.init.orthogonal_(torch.empty(weight.shape[:2]))
        if weight.ndim == 5 and weight.shape[2] == 3:
            weight[:, :, :2] = 0
        if "residual." in name:
            weight.mul_(0.2 if "residual.6" in name else 1.0)
        elif "to_qkv" in name or "proj" in name:
            weight.mul_(0.2 if "proj" in name else 1.0)
        elif "time_conv" in name and weight.shape[0] == weight.shape[1]:
            weight.zero_()[:, :, 1:, 0, 0] = 0.5 * torch.eye(weight.shape[0])[:, :, None]
        elif "time_conv" in name:
            weight.zero_()[:, :, 2, 0, 0] = torch.eye(weight.shape[1]).repeat(2, 1)
        elif weight.ndim == 5 and weight.shape[2] == 3:
            weight.mul_(0.2)[:, :, 2, 1, 1] += channels  # its last tap in time
        elif "downsamples" in name and weight.ndim == 4:
            weight.mul_(0.2)[:, :, :2, :2] += 0.25 * channels[:, :, None, None]
        elif "upsamples" in name and weight.ndim == 4:
            weight.mul_(0.2).add_(channels[:, :, None, None] * blur[:, None] * blur)
        else:
            weight.copy_(channels.view_as(weight))


def _edges(x_BCFHW: Tensor) -> tuple[Tensor, Tensor]:
    return x_BCFHW.diff(dim=-1), x_BCFHW.diff(dim=-2)


def reconstruction_loss(made: Tensor, true: Tensor, edge_weight: float) -> Tensor:
    """Mean absolute error plus a share of the same for horizontal and vertical differences, plus the squared error."""
    edges = sum((F.l1_loss(a, b) for a, b in zip(_edges(made), _edges(true), strict=True)), torch.zeros(()))
    return F.l1_loss(made, true) + F.mse_loss(made, true) + edge_weight * edges


def _pictures(progress: float, single_share: float, rng: np.random.Generator) -> tuple[int, int, int]:
    """Pictures without and with gradient, and how many clips stand for one of the batch.

    Single pictures at first (many scenes per second), then short clips, at last the middle of a stream with a filled
    history.
    """
    if progress < single_share:
        return 0, 1, 5
    if progress < 0.65:
        return 0, 5, 1
    return (0, 5, 1) if rng.random() < 0.4 else (1 + 4 * int(rng.integers(1, 7)), 4, 1)


def _coded(
    model: Autoencoder, clips: Tensor, lead: int, latent_noise: float, draw: torch.Generator
) -> tuple[Tensor, Tensor, Tensor]:
    """Mean and log variance of the latents of clips after `lead` pictures, and what is decoded of them with noise."""
    encoder_state = model.encoder_half.initial_state(len(clips), *clips.shape[-2:])
    decoder_state = model.decoder_half.initial_state(len(clips), clips.shape[-2] // 8, clips.shape[-1] // 8)
    if lead:
        with torch.no_grad():
            past, _ = model.encoder_half.encode(clips[:, :, :lead], encoder_state)
            model.decoder_half.decode(past, decoder_state)
    mean, logvar = model.encoder_half.encode(clips[:, :, lead:], encoder_state)
    noise = torch.randn(mean.shape, generator=draw).to(mean.device)
    return mean, logvar, model.decoder_half.decode(mean + latent_noise * noise, decoder_state)


def _train(rank: Rank, config: VaeTraining) -> None:
    rng, draw = begin(rank, config.seed)
    model = Autoencoder().to(rank.device)
    if config.start:
        model.load_wan(load_file(config.start))
    learner = Learner(rank, model, config)
    while learner.progress < 1:
        lead, count, times = _pictures(learner.progress, config.single_share, rng)
        clips = torch.stack([random_pictures(rng, lead + count) for _ in range(config.batch * times)]).to(rank.device)
        mean, logvar, made = _coded(model, clips, lead, config.latent_noise, draw)
        reconstruction = reconstruction_loss(made, clips[:, :, lead:], config.edge_weight)
        # The posterior's variance is fixed to the noise's; its half of the output only has to say so.
        target = 2 * float(np.log(config.latent_noise))
        penalty = mean.square().mean() + (logvar - target).square().mean()
        learner.learn(reconstruction + config.latent_penalty * penalty)
        if learner.is_due(50):
            log.info(
                "step %d progress %.3f pictures %d loss %.4f mse %.5f latent std %.3f",
                learner.step, learner.progress, lead + count, reconstruction.item(),
                F.mse_loss(made, clips[:, :, lead:]).item(), mean.std().item(),
            )  # fmt: skip
        if learner.is_due(200):
            save_file(model.named_as_wan(learner.ema.values), config.out)


def main() -> None:
    """Command line: every field of VaeTraining is an option."""
    config = VaeTraining.asked(__doc__)
    Path(config.out).parent.mkdir(parents=True, exist_ok=True)
    launch(_train, config)


if __name__ == "__main__":
    main()
