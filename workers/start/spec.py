"""What one worker is to be, and how a launcher tells it to a process of its own: as a line of JSON."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from enum import Enum
from pathlib import Path
from typing import TextIO

from longtake.core.errors import InvalidField
from longtake.core.work import Role, WorkerId
from workers.json_values import record
from workers.link_trust import LinkFiles
from workers.messages import Seat
from workers.models.api import Compute

_MAX_LINE = 65_536


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerSpec:
    """Name, role, size, model and device of one worker; the same however it is started."""

    worker: WorkerId
    """Unique in the cell."""
    role: Role
    capacity: int
    """Pages (denoise) or decoder slots (decode)."""
    model: Path
    """A model directory that this worker can read."""
    compute: Compute = field(default_factory=Compute)
    max_batch: int = 1
    """Ops that one forward of a denoise worker may serve at most; what pays and is exact, it measures."""
    meeting_point: str = ""
    """Where workers find each other (workers.peers), host:port; empty: this one is alone."""
    seat: Seat | None = None
    """The worker's place in a chain that holds the model together; None: it holds all of it."""
    profiles: str = ""
    """Folder for what start-up measurements found (workers.start.profile_cache); empty: measure at every start."""
    link_files: LinkFiles | None = None
    """With which it shows the engine what it is, on this worker's machine; None: the link is not encrypted."""

    def __post_init__(self) -> None:
        for name, count, allowed in (
            ("worker.capacity", self.capacity, "1 or more pages or decoder slots"),
            ("worker.max_batch", self.max_batch, "1 or more ops"),
        ):
            if count < 1:
                raise InvalidField(name, count, allowed)
        if self.seat is not None and not 0 <= self.seat.rank < self.seat.length:
            raise InvalidField("worker.seat.rank", self.seat.rank, f"0 to {self.seat.length - 1}, one less than length")

    @property
    def replica(self) -> WorkerId:
        """The name under which the engine knows the worker, or the chain that it is part of."""
        return self.worker if self.seat is None else self.seat.replica


def to_line(spec: WorkerSpec) -> str:
    """The specification as one line of JSON, its end included, that `read_spec` reads."""
    return json.dumps(asdict(spec), default=_plain) + "\n"


def read_spec(lines: TextIO) -> WorkerSpec | None:
    """The next line as a specification; None at the end of the input. InvalidField names what is wrong."""
    line = lines.readline(_MAX_LINE)
    if not line.strip():
        return None
    try:
        table = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise InvalidField(
            "worker", str(error), f"a JSON object in one line of less than {_MAX_LINE} characters"
        ) from None
    return record(WorkerSpec, table, "worker")


def _plain(value: object) -> object:
    return value.value if isinstance(value, Enum) else str(value)
