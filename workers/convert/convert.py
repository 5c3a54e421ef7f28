"""Writing a model directory out of published checkpoints: whole or not at all, and the same bytes every time.

Theory of operation. Tensors go one file at a time through memory, so what it takes is one file of the output. All is
written into a folder beside the wanted one and renamed when it is whole: an end before that leaves nothing.
"""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from longtake.core.errors import InvalidField
from workers.convert.choice import Choice, Wish, compare
from workers.convert.found import Found
from workers.convert.sources import TOKENIZER_FILE
from workers.models.api import Compute
from workers.models.manifest import Manifest, Origin, StoredFile
from workers.models.tensor_files import write_tensors
from workers.models.wan.sizes import TINY_LICENCE, tiny_config
from workers.models.weights import (
    DIT,
    INFO_FILE,
    TEXT,
    TEXT_CONFIG,
    TINY,
    TOKENIZER,
    VAE,
    load_info,
    load_manifest,
    save_info,
    tiny_shapes,
)

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
    unfinished = _unfinished(output)
    try:
        _write(choice, wish, unfinished, origin, progress)
        if output.is_dir():
            output.rmdir()
        unfinished.rename(output)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)
    return True


def _unfinished(output: Path) -> Path:
    """An empty folder beside the output, on the same file system."""
    folder = output.parent / f".{output.name}.unfinished"
    shutil.rmtree(folder, ignore_errors=True)  # of a run that was killed
    folder.mkdir(parents=True)
    return folder


def add_tiny_decoder(found: Found, folder: Path, dtype: str | None, progress: Tell) -> bool:
    """Add a tiny decoder to a model directory, in the number format of the rest if `dtype` is None.

    Returns False if it is there already. InvalidField or Contradiction if there is another one, or it does not fit.
    """
    info, manifest = load_info(folder), load_manifest(folder)
    found.check_formats()
    tiny = tiny_config(found.shape)
    compare(found, tiny_shapes(tiny))
    with_it = replace(info, tiny=tiny)
    unfinished = _unfinished(folder)
    try:
        kept = dtype or (manifest.origin.dtype if manifest else "") or None
        (made,) = _put(found, (unfinished, TINY), found.read, kept, progress)
        there = folder / made.name
        if info.tiny is not None:
            if info != with_it or StoredFile.of(there, made.name) != StoredFile.of(made, made.name):
                raise InvalidField("output", str(folder), "a model directory without a tiny decoder, or with this one")
            return False
        if manifest is not None:
            sources = _sources(found.collection.files, progress)
            manifest = manifest.with_tiny(StoredFile.of(made, made.name), sources, TINY_LICENCE)
        save_info(unfinished, with_it, manifest)
        made.replace(there)  # which model.json does not name yet
        (unfinished / INFO_FILE).replace(folder / INFO_FILE)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)
    return True


def _write(choice: Choice, wish: Wish, folder: Path, origin: Origin, progress: Tell) -> None:
    def put(found: Found, stem: str, read: Callable[[str], Tensor]) -> Iterable[Path]:
        return _put(found, (folder, stem), read, wish.dtype, progress)

    (folder / TEXT).parent.mkdir()
    written = [*put(choice.transformer, DIT, lambda name: _merged(choice, name))]
    written += [*put(choice.vae, VAE, choice.vae.read), *put(choice.text, TEXT, choice.text.read)]
    (folder / TEXT_CONFIG).write_text(json.dumps(choice.text_config, indent=2) + "\n", encoding="utf-8")
    shutil.copyfile(choice.tokenizer / TOKENIZER_FILE, folder / TOKENIZER)
    written += [folder / TEXT_CONFIG, folder / TOKENIZER]
    if choice.tiny is not None:
        written += put(choice.tiny, TINY, choice.tiny.read)
    files = tuple(StoredFile.of(path, path.relative_to(folder).as_posix()) for path in written)
    save_info(folder, choice.info, Manifest(files=files, origin=origin))


def _put(
    found: Found, place: tuple[Path, str], read: Callable[[str], Tensor], dtype: str | None, progress: Tell
) -> tuple[Path, ...]:
    """Write what was found into files of a folder that have this stem; returns the files."""

    def counted(name: str) -> Tensor:
        tensor = read(name)
        kept = tensor.to(_dtype(tensor.dtype, dtype))
        progress(f"writing the {found.part.value}", kept.nbytes)
        return kept

    folder, stem = place
    return write_tensors(folder, stem, {name: _size(found, name, dtype) for name in found.names}, counted)


def _merged(choice: Choice, name: str) -> Tensor:
    """A weight of the transformer, with what the LoRA changes of it."""
    weight, lora = choice.transformer.read(name), choice.lora
    change = None if lora is None else lora.changes.get(name)
    if lora is None or change is None:
        return weight
    product = lora.found.read(change.up).float() @ lora.found.read(change.down).float()
    return (weight.float() + lora.scale * product).to(weight.dtype)


def _size(found: Found, name: str, dtype: str | None) -> int:
    return math.prod(found.shape(name)) * _dtype(found.dtype(name), dtype).itemsize


def _dtype(own: torch.dtype, dtype: str | None) -> torch.dtype:
    """The number format in which a tensor is written."""
    return own if dtype is None else Compute(dtype=dtype).torch_dtype


def _source_files(choice: Choice) -> tuple[Path, ...]:
    files = dict.fromkeys(path for part in choice.parts if part is not choice.tiny for path in part.collection.files)
    tiny = () if choice.tiny is None else choice.tiny.collection.files
    return (*files, choice.tokenizer / TOKENIZER_FILE, *tiny)


def _sources(paths: Iterable[Path], progress: Tell) -> tuple[StoredFile, ...]:
    sources = []
    for path in paths:
        sources.append(StoredFile.of(path, path.name))
        progress(f"reading {path.name}", sources[-1].bytes)
    return tuple(sources)


def _origin(choice: Choice, wish: Wish, progress: Tell) -> Origin:
    return Origin(
        recipe=choice.published.name,
        weights=choice.weights,
        licence=choice.published.licence,
        dtype=wish.dtype or "",
        lora_scale=None if choice.lora is None else choice.lora.scale,
        tiny_licence=None if choice.tiny is None else TINY_LICENCE,
        sources=_sources(_source_files(choice), progress),
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
