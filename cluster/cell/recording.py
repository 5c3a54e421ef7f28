"""Recordings: everything that an engine was told, in a file from which its decisions can be made again.

Theory of operation. The first line says what the scheduler was made of. Each further line is an event, in the order in
which the engine stepped them. All lines are JSON. The scheduler is deterministic: a fresh one that handles the same
events has the same effects, so an incident becomes a unit test. Events only refer to latents, pictures and encoded
prompts. But they hold the prompts as texts, so only the owner of the file may read it.

The engine's loop only puts events into a queue; a thread writes them. A recording never overwrites a file, so a server
that starts again keeps what was recorded before. It ends when it is as long as it may be, when the disk fails and when
the disk cannot keep up; the server goes on without it.
"""

from __future__ import annotations

import functools
import logging
import operator
import os
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from queue import SimpleQueue
from typing import Annotated, Any, BinaryIO, get_args

from pydantic import ConfigDict, Discriminator, Tag, TypeAdapter, ValidationError

from longtake.core.effects import Effect
from longtake.core.errors import InvalidField
from longtake.core.events import Event
from longtake.core.limits import Limits
from longtake.core.recipe.geometry import Geometry
from longtake.core.recipe.recipe import Recipe
from longtake.core.scheduler import Scheduler

FORMAT = 1
LIMIT_BYTES = 256 << 20
"""How long a recording may be: enough for more than a day of a cell that does nothing, and for hours of a busy one."""
_MOST_WAITING = 100_000
"""How many events may wait to be written."""
_CLOSE_S = 5.0
"""How long the server waits for these events to be written when it ends."""

_log = logging.getLogger("longtake.recording")


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordedCell:
    """What the scheduler of a recorded engine was made of."""

    recipe: Recipe
    geometry: Geometry
    limits: Limits
    recipes: dict[str, Recipe] = field(default_factory=dict)
    """Those that sessions may ask for, by name."""
    version: str = ""
    """The version of the server that recorded it."""
    format: int = FORMAT

    def scheduler(self) -> Scheduler:
        """A scheduler as it was before the first event."""
        scheduler = Scheduler(self.recipe, self.geometry, self.limits)
        for name, recipe in self.recipes.items():
            scheduler.serve(name, recipe)
        return scheduler


def _kind_of(event: object) -> str:
    return str(event["event"]) if isinstance(event, dict) else type(event).__name__


_CONFIG = ConfigDict(ser_json_inf_nan="constants", ser_json_bytes="base64", val_json_bytes="base64")
_TAGGED: Any = functools.reduce(operator.or_, (Annotated[kind, Tag(kind.__name__)] for kind in get_args(Event)))
_EVENTS: TypeAdapter[Event] = TypeAdapter(Annotated[_TAGGED, Discriminator(_kind_of)], config=_CONFIG)
_CELLS: TypeAdapter[tuple[RecordedCell]] = TypeAdapter(tuple[RecordedCell], config=_CONFIG)


def _line_of(event: Event) -> bytes:
    return b'{"event":"' + type(event).__name__.encode() + b'",' + _EVENTS.dump_json(event)[1:]


class InboxRecording:
    """A recorder that writes a recording; if there is a file already, the new one gets its name and a number."""

    def __init__(self, path: Path, cell: RecordedCell, *, limit_bytes: int = LIMIT_BYTES, field: str = "path") -> None:
        """InvalidField about `field` if there can be no such file."""
        self._left_bytes = limit_bytes
        self._waiting: SimpleQueue[Event | None] = SimpleQueue()
        self._ended = False
        try:
            file, self.path = _new_file(path)
        except OSError as error:
            raise InvalidField(field, str(path), f"a file that can be written ({error.strerror})") from None
        _log.info("recording into %s", self.path)
        self._thread = threading.Thread(target=self._run, args=(file, cell), name="recording", daemon=True)
        self._thread.start()

    def fold(self, event: Event, effects: Sequence[Effect]) -> None:
        """See monitoring.folding.recorder.Recorder. Effects follow from the events."""
        if self._ended:
            return
        self._waiting.put(event)
        if self._waiting.qsize() > _MOST_WAITING:
            self._end("the disk does not keep up")

    def close(self) -> None:
        """Write what waits, and no more."""
        self._waiting.put(None)
        self._thread.join(_CLOSE_S)

    def _run(self, file: BinaryIO, cell: RecordedCell) -> None:
        try:
            with file:
                self._write(file, _CELLS.dump_json((cell,))[1:-1])
                while not self._ended and (event := self._waiting.get()) is not None:
                    self._write(file, _line_of(event))
                    if self._waiting.empty():
                        file.flush()
        except (OSError, ValueError) as error:  # ValueError: text that is no Unicode
            self._end(str(error))
        while not self._waiting.empty():
            self._waiting.get()

    def _write(self, file: BinaryIO, line: bytes) -> None:
        self._left_bytes -= len(line) + 1
        if self._left_bytes < 0:
            self._end("it is as long as it may be")
        else:
            file.write(line + b"\n")

    def _end(self, why: str) -> None:
        if not self._ended:
            self._ended = True
            _log.warning("recording %s ends, the server goes on: %s", self.path, why)


def _new_file(path: Path) -> tuple[BinaryIO, Path]:
    """A file that was not there before, and its name: `path`, or `path` with .2, .3 and so on at its end."""
    free, number = path, 1
    while True:
        try:
            return os.fdopen(os.open(free, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600), "wb"), free
        except FileExistsError:
            number += 1
            free = path.with_name(f"{path.name}.{number}")


def read(path: Path) -> tuple[RecordedCell, Iterator[Event]]:
    """What the scheduler was made of, and the events in order; InvalidField names the line that is wrong.

    A last line that was not wholly written is left out.
    """
    try:
        with path.open("rb") as file:
            first = file.readline()
    except OSError as error:
        raise InvalidField("recording", str(path), f"a readable file ({error.strerror})") from None
    try:
        (cell,) = _CELLS.validate_json(b"[" + first + b"]")
    except ValidationError as error:
        raise InvalidField(f"{path}, line 1", first[:80], f"what a scheduler is made of ({_why(error)})") from None
    if cell.format != FORMAT:
        raise InvalidField(f"{path}, line 1: format", cell.format, str(FORMAT))
    return cell, _events(path)


def _events(path: Path) -> Iterator[Event]:
    with path.open("rb") as file:
        file.readline()
        for number, line in enumerate(file, start=2):
            if not line.endswith(b"\n"):
                return
            try:
                yield _EVENTS.validate_json(line)
            except ValidationError as error:
                raise InvalidField(f"{path}, line {number}", line[:80], f"an event ({_why(error)})") from None


def _why(error: ValidationError) -> str:
    first: Any = error.errors()[0]
    return f"{'.'.join(map(str, first['loc']))}: {first['msg']}"
