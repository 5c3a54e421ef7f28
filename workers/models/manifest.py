"""What a converted model directory says of its own files: their hashes, so that nobody hashes gigabytes at every start.

A directory made by hand has no such list; then its digest is computed from the files themselves.
"""

from __future__ import annotations

import hashlib
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from longtake.core.errors import InvalidField
from workers.json_values import record


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredFile:
    """One file, as it was when it was written or read."""

    name: str
    """Its path in the model directory, or the name of a source."""
    bytes: int
    sha256: str
    """Hexadecimal."""

    @staticmethod
    def of(path: Path, name: str) -> StoredFile:
        """Read the file and hash it."""
        with path.open("rb") as file:
            return StoredFile(
                name=name, bytes=path.stat().st_size, sha256=hashlib.file_digest(file, "sha256").hexdigest()
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class Origin:
    """Where the weights of a model directory come from."""

    recipe: str
    """Name of the recipe that was asked for."""
    weights: str
    """Which of the weights in a training checkpoint were taken; empty if there was no choice."""
    licence: str
    """As the publisher of the checkpoint names it."""
    dtype: str
    """The number format that was asked for; empty means as in the sources."""
    lora_scale: float | None = None
    """What the product of a merged LoRA was multiplied by, alpha over its rank; None without one."""
    tiny_licence: str | None = None
    """The licence of the tiny decoder; None without one."""
    sources: tuple[StoredFile, ...]
    """The files that were read, by their own names."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """The sections `files` and `origin` of a model.json."""

    files: tuple[StoredFile, ...]
    origin: Origin

    def table(self) -> dict[str, object]:
        """Both sections as JSON."""
        return {"files": [asdict(file) for file in self.files], "origin": asdict(self.origin)}

    @staticmethod
    def read(table: dict[str, object]) -> Manifest | None:
        """The sections of a model.json; None if it has neither, InvalidField if one is missing or wrong."""
        if "files" not in table and "origin" not in table:
            return None
        return record(Manifest, {key: table[key] for key in ("files", "origin") if key in table}, "model.json")

    def with_tiny(self, file: StoredFile, sources: tuple[StoredFile, ...], licence: str) -> Manifest:
        """The same with the file of a tiny decoder, which was made of these sources."""
        origin = replace(self.origin, tiny_licence=licence, sources=(*self.origin.sources, *sources))
        return Manifest(files=(*self.files, file), origin=origin)

    def check_sizes(self, folder: Path) -> None:
        """Compare the sizes of all files; InvalidField names the first that is missing or has another size."""
        for file in self.files:
            path = folder / file.name
            found = path.stat().st_size if path.is_file() else None
            if found != file.bytes:
                raise InvalidField(str(path), found, f"{file.bytes} bytes, as it had when it was converted")

    def check_hashes(self, folder: Path) -> None:
        """Read all files and compare; InvalidField names the first that is not what was written."""
        self.check_sizes(folder)
        for file in self.files:
            found = StoredFile.of(folder / file.name, file.name).sha256
            if found != file.sha256:
                raise InvalidField(str(folder / file.name), found, f"SHA-256 {file.sha256}, as it was converted")
