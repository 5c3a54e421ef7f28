"""Renders and encodes the training sequences of the transformer once: `python -m pocket.encode_data --sequences 3000`.

Latents are what a long stream has: each clip passes through the encoder from its first picture on, in one go.
"""

import logging
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file

from pocket import world
from pocket.config import FRAMES_PER_BLOCK
from pocket.data import attributes_of, random_cued_clip, to_pixels
from pocket.parallel import Job, Rank, launch
from pocket.train_vae import Autoencoder

log = logging.getLogger("pocket.encode_data")
_SHARD = 50
_AT_ONCE = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Encoding(Job):
    """What is encoded; `sequences` in all, shared among the processes."""

    sequences: int = 3000
    blocks: int = 6
    seed: int = 2
    vae: str = "vae.safetensors"
    out: str = "latents"


def _encode(rank: Rank, config: Encoding) -> None:
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    model = Autoencoder()
    model.load_wan(load_file(config.vae))
    encoder = model.encoder_half.eval().to(rank.device)
    rng = np.random.default_rng((config.seed, rank.number))
    pictures = world.cue_picture(config.blocks)
    started_s = time.monotonic()
    for shard in range(rank.number, -(-config.sequences // _SHARD), rank.world):
        latents, versions, attributes = [], [], []
        for _ in range(_SHARD // _AT_ONCE):
            clips = [random_cued_clip(rng, config.blocks) for _ in range(_AT_ONCE)]
            pixels = torch.stack([to_pixels(world.render(clip, pictures)) for clip, _ in clips])
            with torch.no_grad():
                mean_BCFHW, _ = encoder(pixels.to(rank.device))
            assert mean_BCFHW.shape[2] == config.blocks * FRAMES_PER_BLOCK
            latents.append(mean_BCFHW.transpose(1, 2).cpu().numpy().astype(np.float16))
            versions += [version for _, version in clips]
            attributes += [attributes_of(clip) for clip, _ in clips]
        folder = Path(config.out)
        np.savez(folder / f"text-{shard:04d}.npz", version=np.stack(versions), attributes=np.stack(attributes))
        # Written last and renamed: a shard that can be seen is whole.
        partial = folder / f"partial-{shard:04d}.npy"
        np.save(partial, np.concatenate(latents))
        partial.rename(folder / f"latent-{shard:04d}.npy")
        if rank.number == 0:
            log.info("shard %d after %.0f s", shard, time.monotonic() - started_s)


def main() -> None:
    """Command line: every field of Encoding is an option."""
    config = Encoding.asked(__doc__)
    Path(config.out).mkdir(parents=True, exist_ok=True)
    launch(_encode, config)


if __name__ == "__main__":
    main()
