"""Profiles of earlier starts in a folder, so that a worker need not measure again what cannot have changed.

A file holds one profile and the key it was measured under; its name is the key's hash. Files are written whole or not
at all. One that cannot be read, or holds another key, is passed over with a line in the log, and written anew.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import platform
import tempfile
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import torch

from workers.models.api import Compute
from workers.start.numerics import Numerics
from workers.start.probe import BatchProfile, Subject

FORMAT = "longtake-profile/3"
_CPU_INFO = Path("/proc/cpuinfo")

_log = logging.getLogger("longtake.worker")


@dataclass(frozen=True, slots=True, kw_only=True)
class ProfileKey:
    """Everything that times and bits of a forward depend on."""

    model_digest: str
    layers: str
    """The first and the last layer that the worker holds."""
    compute: Compute
    """How it computes; the device is the name of the processor or accelerator, not a number."""
    numerics: Numerics
    """Kernels, and what they make of seeded inputs now: a batch that was exact proves nothing of other kernels."""
    tokens_per_block: int
    window_pages: int
    turns_reads: bool
    """Whether keys were turned as they are read."""
    adds_bias: bool
    """Whether attention added to its logits."""
    first_frames: int
    """Latent frames of the first block, which is another shape if they are not as many as of the others."""
    max_batch: int
    """The batch size up to which it was measured."""

    @property
    def file_name(self) -> str:
        """The name of the profile's file: only equal keys have the same."""
        return hashlib.sha256(json.dumps(asdict(self)).encode()).hexdigest() + ".json"


def key_of(model_digest: str, subject: Subject, compute: Compute, numerics: Numerics, *, max_batch: int) -> ProfileKey:
    """The key of a profile of `subject`, which was loaded from a directory of that digest, measured here and now."""
    layers, recipe = subject.denoiser.layers, subject.recipe
    return ProfileKey(
        model_digest=model_digest,
        layers=f"{layers[0]}-{layers[-1]}",
        compute=replace(compute, device=_device_name(subject.denoiser.device)),
        numerics=numerics,
        tokens_per_block=subject.geometry.tokens_per_frame * recipe.blocks.frames,
        window_pages=recipe.window.size,
        turns_reads=recipe.positions.turn_reads,
        adds_bias=recipe.positions.slope > 0,
        first_frames=recipe.blocks.lead,
        max_batch=max_batch,
    )


def cached(folder: Path, key: ProfileKey, measure: Callable[[], BatchProfile]) -> BatchProfile:
    """The profile kept under `key` in `folder`; if there is none, it is measured and kept.

    A folder that cannot be written costs nothing but the next start's time.
    """
    path = folder / key.file_name
    try:
        return _read(path.read_bytes(), key)
    except FileNotFoundError:
        pass
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        _log.warning("profile %s is of no use (%s: %s), measuring again", path, type(error).__name__, error)
    profile = measure()
    try:
        _write(path, key, profile)
    except OSError as error:
        _log.warning("profile %s cannot be kept: %s", path, error)
    return profile


def _read(data: bytes, key: ProfileKey) -> BatchProfile:
    document = json.loads(data)
    if document["format"] != FORMAT or document["key"] != asdict(key):
        raise ValueError("it was measured for something else")
    kept = document["profile"]
    times = {int(size): float(seconds) for size, seconds in kept["forward_s"].items()}
    inexact, mixes = kept["inexact"], kept["mixes_kinds"]
    profile = BatchProfile(
        forward_s=times,
        limit=int(kept["limit"]),
        inexact=None if inexact is None else int(inexact),
        mixes_kinds=bool(mixes),
    )
    if not 1 <= profile.limit <= key.max_batch or 1 not in times or not all(0 < each < 3600 for each in times.values()):
        raise ValueError("its numbers cannot be")
    return profile


def _write(path: Path, key: ProfileKey, profile: BatchProfile) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    document = {"format": FORMAT, "key": asdict(key), "profile": asdict(profile)}
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=".profile-")
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            json.dump(document, file, indent=2)
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def _device_name(device: torch.device) -> str:
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    names = [platform.machine(), torch.backends.cpu.get_cpu_capability()]
    if _CPU_INFO.is_file():
        lines = _CPU_INFO.read_text(encoding="utf-8").splitlines()
        names += [line.partition(":")[2].strip() for line in lines if line.startswith("model name")][:1]
    return ", ".join(names)
