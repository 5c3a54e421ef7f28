"""The file of an exported session: one of safetensors, whose tensors are latents and whose metadata is all the rest.

A tensor `latents/STEP/BLOCK` [frame, channel, row, column], float32, is what enters a step. The metadata have one
entry, a text of JSON. What is read may come from anybody: sizes are looked at before there is memory for what they
announce, and every byte has its meaning or is refused.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate

import numpy as np
from pydantic import ConfigDict, TypeAdapter, ValidationError

from cluster.cell.snapshot import Snapshot
from cluster.journal.facts import STRICT, SessionRecord, read_strict, strict_json
from longtake.core.adoption import PlacedCue
from longtake.core.errors import InternalFault, InvalidField
from longtake.core.recipe.geometry import Geometry
from longtake.core.recipe.graph import Graph

FORMAT = 1
ENTRY = "longtake"
"""The one entry of the metadata."""
HEADER_BYTES = 8 << 20
"""No header is longer."""
_LENGTH_BYTES = 8
_FLOAT_BYTES = 4
_DTYPE = "F32"
_NAME = re.compile(r"latents/(0|[1-9][0-9]{0,2})/(0|[1-9][0-9]{0,12})")


@dataclass(frozen=True, slots=True, kw_only=True)
class Form:
    """What tensors a file of a session may have: those of its blocks, and of its reference."""

    geometry: Geometry
    steps: int
    """Of the recipe's ladder."""
    references: int = 0
    """Frames of the reference, which is called the latents of block 0 that enter the step behind the last one."""

    @classmethod
    def of(cls, graph: Graph, geometry: Geometry) -> Form:
        """That of the sessions of a recipe, whatever their blocks are."""
        divided, references = geometry.divided(graph.blocks), graph.window.references
        return cls(geometry=divided, steps=graph.step_count, references=references)

    def allows(self, step: int, block: int) -> bool:
        """Whether there may be such a tensor."""
        return 1 <= step <= self.steps or self._is_reference(step, block)

    def shape(self, step: int, block: int) -> tuple[int, int, int, int]:
        """Its shape."""
        if self._is_reference(step, block):
            _, *of_frame = self.geometry.block_shape
            return (self.references, *of_frame)  # type: ignore[return-value]
        return self.geometry.shape_of(block)

    def _is_reference(self, step: int, block: int) -> bool:
        return self.references > 0 and (step, block) == (self.steps + 1, 0)


"""Frames, channels, rows and columns of the latents of a block: the first may have other frames than the others."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ExportedFacts:
    """What is known of the session beside its latents."""

    format: int
    record: SessionRecord
    """Without tokens."""
    cues: tuple[PlacedCue, ...]
    acknowledged: int
    versions: tuple[tuple[int, int, int], ...]
    """For each tensor its step, its block, and the version of the conditioning that it was made with."""
    loads: tuple[tuple[int, int], ...] = ()
    """From which blocks on which load held."""
    loads_known_from: int = 0
    """The loads of blocks before this one are not known."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Tensor:
    """What a header says of a tensor."""

    dtype: str
    shape: tuple[int, ...]
    data_offsets: tuple[int, int]


_FACTS: TypeAdapter[tuple[ExportedFacts]] = TypeAdapter(tuple[ExportedFacts], config=STRICT)
_HEADER: TypeAdapter[dict[str, dict[str, str] | _Tensor]] = TypeAdapter(
    dict[str, dict[str, str] | _Tensor], config=ConfigDict(strict=True, extra="forbid")
)


# --- out --------------------------------------------------------------------------------------------------------------


def pieces(snapshot: Snapshot, form: Form) -> tuple[bytes, ...]:
    """The bytes of the file, of which only the first are new; on any thread."""
    keys = sorted(snapshot.latents, key=lambda key: (key[1], key[0]))
    shapes = [form.shape(step, block) for block, step in keys]
    sizes = [_FLOAT_BYTES * math.prod(shape) for shape in shapes]
    wrong = next(
        ((key, size) for key, size in zip(keys, sizes, strict=True) if len(snapshot.latents[key]) != size), None
    )
    if wrong is not None:
        (block, step), size = wrong
        raise InternalFault(f"the latents of block {block} have {len(snapshot.latents[block, step])} bytes, not {size}")
    facts = ExportedFacts(
        format=FORMAT,
        record=replace(snapshot.record, tokens_sha256=()),
        cues=snapshot.cues,
        acknowledged=snapshot.acknowledged,
        versions=tuple((step, block, snapshot.versions[block, step]) for block, step in keys),
        loads=snapshot.loads,
        loads_known_from=snapshot.loads_known_from,
    )
    header: dict[str, object] = {"__metadata__": {ENTRY: strict_json(_FACTS, facts, "session").decode()}}
    ends = accumulate(sizes)
    for (block, step), shape, size, end in zip(keys, shapes, sizes, ends, strict=True):
        header[f"latents/{step}/{block}"] = {"dtype": _DTYPE, "shape": shape, "data_offsets": (end - size, end)}
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % _LENGTH_BYTES)
    return (len(text).to_bytes(_LENGTH_BYTES, "little") + text, *(snapshot.latents[key] for key in keys))


def parts(of: Sequence[bytes], size: int) -> Iterator[bytes]:
    """The same bytes in parts of `size`, the last of which may be shorter."""
    held: list[bytes] = []
    room = size
    for piece in of:
        start = 0
        while start < len(piece):
            taken = piece[start : start + room]
            held.append(taken)
            start, room = start + len(taken), room - len(taken)
            if not room:
                yield b"".join(held)
                held, room = [], size
    if held:
        yield b"".join(held)


# --- in ---------------------------------------------------------------------------------------------------------------


FormOf = Callable[[SessionRecord], Form]
"""InvalidField if the session is of nothing that is served."""


def read(data: bytes | bytearray, form_of: FormOf) -> Snapshot:
    """The session in a file; InvalidField names what is wrong. Of the record only the form is looked at, and the recipe
    by `form_of`."""
    text, begin = _header_text(data)
    try:
        header = _HEADER.validate_json(text)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(["header", *map(str, first["loc"][:1])])
        raise InvalidField(where[:100], "(not shown)", f"that of a safetensors file ({first['msg']})") from None
    metadata = header.pop("__metadata__", None)
    if not isinstance(metadata, dict) or metadata.keys() != {ENTRY}:
        found = sorted(metadata)[:3] if isinstance(metadata, dict) else None
        raise InvalidField("header.__metadata__", found, f"one entry, {ENTRY!r}: a file that Export has written")
    facts = _facts(metadata[ENTRY])
    latents = dict(_latents(header, memoryview(data)[begin:], form_of(facts.record)))
    return Snapshot(
        record=facts.record,
        cues=facts.cues,
        acknowledged=facts.acknowledged,
        latents=latents,
        versions=_versions(facts, latents),
        loads=facts.loads,
        loads_known_from=facts.loads_known_from,
    )


def _header_text(data: bytes | bytearray) -> tuple[bytes, int]:
    """The header, and where it ends."""
    if len(data) < _LENGTH_BYTES:
        raise InvalidField("data", f"{len(data)} bytes", f"a safetensors file, of {_LENGTH_BYTES} bytes or more")
    length = int.from_bytes(data[:_LENGTH_BYTES], "little")
    most = min(HEADER_BYTES, len(data) - _LENGTH_BYTES)
    if length > most:
        raise InvalidField("header", f"{length} bytes", f"at most {most} bytes in this file")
    end = _LENGTH_BYTES + length
    return bytes(data[_LENGTH_BYTES:end]), end


def _facts(text: str) -> ExportedFacts:
    found = re.match(r'\{"format":([0-9]{1,9}),', text)
    if found is None or int(found[1]) != FORMAT:
        raise InvalidField("format", text[:20], f"{FORMAT}, that of this version of Longtake")
    return read_strict(_FACTS, text.encode("utf-8", "surrogatepass"), "session")


def _latents(header: Mapping[str, object], data: memoryview, form: Form) -> Iterator[tuple[tuple[int, int], bytes]]:
    ends = {0}
    starts: set[int] = set()
    for name, tensor in header.items():
        place = _NAME.fullmatch(name)
        if place is None or not isinstance(tensor, _Tensor) or not form.allows(*map(int, place.groups())):
            raise InvalidField("header", name[:100], f"tensors latents/STEP/BLOCK with steps 1 to {form.steps}")
        if tensor.dtype != _DTYPE:
            raise InvalidField(f"{name}.dtype", tensor.dtype[:20], _DTYPE)
        shape = form.shape(*map(int, place.groups()))
        size = _FLOAT_BYTES * math.prod(shape)
        if tensor.shape != shape:
            raise InvalidField(f"{name}.shape", tensor.shape[:8], f"{shape}, the latents of a block of this model")
        start, end = tensor.data_offsets
        if end > len(data):
            raise InvalidField("data", f"{len(data)} bytes", f"{end} bytes or more, by its header: the file was cut")
        if not 0 <= start < end or end - start != size or start in starts:
            raise InvalidField(f"{name}.data_offsets", (start, end), f"{size} bytes that no other tensor has")
        starts.add(start)
        ends.add(end)
        latents = bytes(data[start:end])
        if not np.isfinite(np.frombuffer(latents, "<f4")).all():
            raise InvalidField(name, "NaN or infinity", "finite numbers")
        yield (int(place[2]), int(place[1])), latents
    if ends != starts | {len(data)}:  # each begins where another one ends, so none overlap and nothing is left
        raise InvalidField("data", f"{len(data)} bytes", f"{len(header)} tensors, one behind the other, and no more")


def _versions(facts: ExportedFacts, latents: Mapping[tuple[int, int], bytes]) -> dict[tuple[int, int], int]:
    versions = {(block, step): version for step, block, version in facts.versions}
    if versions.keys() != latents.keys() or len(versions) != len(facts.versions):
        raise InvalidField("session.versions", f"{len(facts.versions)} entries", "one for each tensor")
    return versions
