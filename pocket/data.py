"""Training data of the pocket model: random clips of the world, and their latents on disk.

Shapes: S sequence, F latent frame of a sequence, C latent channel, H, W latent height and width, V text version.
"""

import math
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pocket import world
from pocket.conditioning import TrainingBatch
from pocket.config import POCKET_DIT
from pocket.world import Change, Clip
from workers.models import pocket_text
from workers.models.pocket_text import Background, Colour, Motion, Scene, Shape

VERSIONS: Final = 3
_CUED_SHARE: Final = 0.55
_SECOND_CUE_SHARE: Final = 0.4


def random_change(rng: np.random.Generator, scene: Scene) -> Scene:
    """A scene that differs from `scene` in one or more attributes, each changed with probability one half."""
    while True:
        other = world.random_scene(rng)
        keep = rng.random(4) < 0.5
        mixed = Scene(
            colour=scene.colour if keep[0] else other.colour,
            shape=scene.shape if keep[1] else other.shape,
            motion=scene.motion if keep[2] else other.motion,
            background=scene.background if keep[3] else other.background,
        )
        if mixed != scene:
            return mixed


def random_cued_clip(rng: np.random.Generator, blocks: int) -> tuple[Clip, NDArray[np.int64]]:
    """A clip and the text version of each of its blocks; more than half of the clips have one cue or two."""
    scene = world.random_scene(rng)
    phase = float(rng.uniform(0, 2 * math.pi))
    version = np.zeros(blocks, np.int64)
    changes: list[Change] = []
    if rng.random() < _CUED_SHARE:
        weights = np.linspace(2, 1, blocks - 1)
        first = 1 + int(rng.choice(blocks - 1, p=weights / weights.sum()))
        cues = [first]
        if first + 2 < blocks and rng.random() < _SECOND_CUE_SHARE:
            cues.append(int(rng.integers(first + 1, blocks)))
        now = scene
        for block in cues:
            now = random_change(rng, now)
            changes.append(Change(picture=world.cue_picture(block), scene=now))
            version[block:] += 1
    return Clip(scene=scene, phase=phase, changes=tuple(changes)), version


def random_pictures(rng: np.random.Generator, pictures: int) -> Tensor:
    """Pictures of a random clip as the autoencoder takes them: [3, pictures, H, W] in -1..1, often with a change."""
    scene = world.random_scene(rng)
    changes: tuple[Change, ...] = ()
    if rng.random() < 0.4:
        changes = (Change(picture=int(rng.integers(-10, pictures)), scene=random_change(rng, scene)),)
    clip = Clip(scene=scene, phase=float(rng.uniform(0, 2 * math.pi)), changes=changes)
    return to_pixels(world.render(clip, pictures))


def to_pixels(pictures_THWC: NDArray[np.float32]) -> Tensor:
    """World pictures in 0..1 as the autoencoder takes them: [3, T, H, W] in -1..1."""
    return torch.from_numpy(pictures_THWC * 2 - 1).permute(3, 0, 1, 2)


@dataclass(frozen=True, slots=True, kw_only=True)
class LatentSet:
    """Sequences on disk: latents before normalisation, the text version of each block, and the texts."""

    latent_SFCHW: NDArray[np.float16]
    version_SB: NDArray[np.int64]
    attributes_SV4: NDArray[np.int64]

    @staticmethod
    def open(folder: Path) -> "LatentSet":
        """All finished shards of a folder, memory-mapped; FileNotFoundError when there is none."""
        shards = sorted(folder.glob("latent-*.npy"))
        if not shards:
            raise FileNotFoundError(f"{folder} holds no latents; make them with python -m pocket.encode_data")
        side = [path.with_name(path.name.replace("latent", "text")).with_suffix(".npz") for path in shards]
        return LatentSet(
            latent_SFCHW=np.concatenate([np.load(path, mmap_mode="r") for path in shards]),
            version_SB=np.concatenate([np.load(path)["version"] for path in side]),
            attributes_SV4=np.concatenate([np.load(path)["attributes"] for path in side]),
        )

    def batch(self, rng: np.random.Generator, sequences: int, blocks: int, scale: "Scale") -> TrainingBatch:
        """Random sequences cut to their first `blocks` blocks."""
        chosen = np.sort(rng.choice(len(self.latent_SFCHW), sequences, replace=False))
        frames = self.latent_SFCHW.shape[1] // self.version_SB.shape[1]
        raw = torch.from_numpy(self.latent_SFCHW[chosen, : blocks * frames].astype(np.float32))
        texts = [texts_of(attributes) for attributes in self.attributes_SV4[chosen]]
        first_text = torch.arange(sequences)[:, None] * VERSIONS
        return TrainingBatch(
            latent=scale.normalise(raw).reshape(sequences, blocks, frames, *raw.shape[2:]),
            texts=torch.from_numpy(np.concatenate(texts)),
            text_of_block=torch.from_numpy(self.version_SB[chosen, :blocks]) + first_text,
        )

    def scale(self, std: float) -> "Scale":
        """The scale that gives these latents the standard deviation `std`, over all channels together.

        Channels keep their relative size: the large ones carry what is large in the picture, and stay above the noise
        longest.
        """
        some = self.latent_SFCHW[:200].astype(np.float64)
        mean_C = some.mean(axis=(0, 1, 3, 4))
        spread = float(np.sqrt(np.mean((some - mean_C[:, None, None]) ** 2)))
        return Scale(mean=tuple(mean_C.tolist()), std=spread / std)


@dataclass(frozen=True, slots=True, kw_only=True)
class Scale:
    """Mean of each latent channel and one standard deviation for all: z = normalised * std + mean."""

    mean: tuple[float, ...]
    std: float

    def normalise(self, z_SFCHW: Tensor) -> Tensor:
        """What the transformer sees."""
        return (z_SFCHW - self._mean(z_SFCHW)) / self.std

    def restore(self, x_SFCHW: Tensor) -> Tensor:
        """What the decoder takes."""
        return x_SFCHW * self.std + self._mean(x_SFCHW)

    def _mean(self, like: Tensor) -> Tensor:
        return torch.tensor(self.mean, dtype=like.dtype, device=like.device)[:, None, None]


def attributes_of(clip: Clip) -> NDArray[np.int64]:
    """Indices of the attributes of a clip's scenes [V, 4]; the last scene fills what is left."""
    scenes = [clip.scene, *(change.scene for change in clip.changes)]
    scenes += [scenes[-1]] * (VERSIONS - len(scenes))
    kinds: list[list[StrEnum]] = [list(Colour), list(Shape), list(Motion), list(Background)]
    return np.array(
        [[k.index(a) for k, a in zip(kinds, (s.colour, s.shape, s.motion, s.background), strict=True)] for s in scenes]
    )


def texts_of(attributes_V4: NDArray[np.int64]) -> NDArray[np.float32]:
    """Text features [V, rows, channels] of attribute indices."""
    return np.stack([
        pocket_text.encode(
            Scene(
                colour=list(Colour)[c],
                shape=list(Shape)[s],
                motion=list(Motion)[m],
                background=list(Background)[b],
            ),
            POCKET_DIT.text_dim,
        )
        for c, s, m, b in attributes_V4
    ])  # fmt: skip
