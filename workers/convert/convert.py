"""Writing a model directory out of published checkpoints: whole or not at all, and the same bytes every time.

Theory of operation. Tensors go one file at a time through memory, so what it takes is one file of the output. All is
written into a folder beside the wanted one and renamed when it is whole: an end before that leaves nothing.
"""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Callable, Iterable
from pathlib import Path

import torch
from torch import Tensor

from longtake.core.errors import InvalidField
from workers.convert.choice import Choice, Wish
from workers.convert.found import Found
from workers.convert.sources import TOKENIZER_FILE
from workers.models.api import Compute
from workers.models.manifest import Manifest, Origin, StoredFile
from workers.models.tensor_files import write_tensors
from workers.models.weights import DIT, TEXT, TEXT_CONFIG, TOKENIZER, VAE, load_info, load_manifest, save_info

Tell = Callable[[str, int], object]
"""Told what is worked on and how many bytes of it are done since it was told last."""


def total_bytes(choice: Choice) -> int:
    """Bytes that are read and written in all: what a bar counts to."""
    return 2 * sum(path.stat().st_size for path in _source_files(choice))


def convert(choice: Choice, wish: Wish, output: Path, progress: Tell) -> bool:
    """Write the model directory; returns False if it is there already, made of the same sources by the same wish.

    InvalidField for a folder with something else in it, and for weights that are no finite numbers.
    """
    other = InvalidField("output", str(output), "a folder that is empty or not there yet")
    taken = output.exists() and any(output.iterdir() if output.is_dir() else [output])
    there = _held(output, choice) if taken else None
    if taken and there is None:
        raise other  # before gigabytes of sources are hashed
    origin = _origin(choice, wish, progress)
    if there is not None:
        if there.origin != origin:
            raise other
        return False
    unfinished = output.parent / f".{output.name}.unfinished"
    shutil.rmtree(unfinished, ignore_errors=True)  # of a run that was killed
    unfinished.mkdir(parents=True)
    try:
        _write(choice, wish, unfinished, origin, progress)
        if output.is_dir():
            output.rmdir()
        unfinished.rename(output)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)
    return True


def _write(choice: Choice, wish: Wish, folder: Path, origin: Origin, progress: Tell) -> None:
    def put(found: Found, stem: str, read: Callable[[str], Tensor]) -> Iterable[Path]:
        def counted(name: str) -> Tensor:
            tensor = read(name)
            kept = tensor.to(_dtype(tensor.dtype, wish))
            progress(f"writing the {found.part.value}", kept.nbytes)
            return kept

        return write_tensors(folder, stem, {name: _size(found, name, wish) for name in found.names}, counted)

    (folder / TEXT).parent.mkdir()
    written = [*put(choice.transformer, DIT, lambda name: _merged(choice, name))]
    written += [*put(choice.vae, VAE, choice.vae.read), *put(choice.text, TEXT, choice.text.read)]
    (folder / TEXT_CONFIG).write_text(json.dumps(choice.text_config, indent=2) + "\n", encoding="utf-8")
    shutil.copyfile(choice.tokenizer / TOKENIZER_FILE, folder / TOKENIZER)
    written += [folder / TEXT_CONFIG, folder / TOKENIZER]
    files = tuple(StoredFile.of(path, path.relative_to(folder).as_posix()) for path in written)
    save_info(folder, choice.info, Manifest(files=files, origin=origin))


def _merged(choice: Choice, name: str) -> Tensor:
    """A weight of the transformer, with what the LoRA changes of it."""
    weight, lora = choice.transformer.read(name), choice.lora
    change = None if lora is None else lora.changes.get(name)
    if lora is None or change is None:
        return weight
    product = lora.found.read(change.up).float() @ lora.found.read(change.down).float()
    return (weight.float() + lora.scale * product).to(weight.dtype)


def _size(found: Found, name: str, wish: Wish) -> int:
    return math.prod(found.shape(name)) * _dtype(found.dtype(name), wish).itemsize


def _dtype(own: torch.dtype, wish: Wish) -> torch.dtype:
    """The number format in which a tensor is written."""
    return own if wish.dtype is None else Compute(dtype=wish.dtype).torch_dtype


def _source_files(choice: Choice) -> tuple[Path, ...]:
    parts = [choice.transformer, choice.vae, choice.text, *([choice.lora.found] if choice.lora else [])]
    return tuple(dict.fromkeys(path for part in parts for path in part.collection.files))


def _origin(choice: Choice, wish: Wish, progress: Tell) -> Origin:
    sources = []
    for path in (*_source_files(choice), choice.tokenizer / TOKENIZER_FILE):
        sources.append(StoredFile.of(path, path.name))
        progress(f"reading {path.name}", sources[-1].bytes)
    return Origin(
        recipe=choice.published.name,
        weights=choice.weights,
        licence=choice.published.licence,
        dtype=wish.dtype or "",
        lora_scale=None if choice.lora is None else choice.lora.scale,
        sources=tuple(sources),
    )


def _held(output: Path, choice: Choice) -> Manifest | None:
    """The manifest of a whole model directory like the one that is chosen; None if there is something else."""
    try:
        manifest = load_manifest(output)
        if manifest is None or load_info(output) != choice.info:
            return None
        manifest.check_sizes(output)
    except (InvalidField, OSError):
        return None
    return manifest
