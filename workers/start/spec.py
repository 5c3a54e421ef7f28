"""What one worker is to be, and how a launcher tells it to a process of its own: as a line of JSON."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from enum import Enum
from pathlib import Path
from typing import TextIO

from longtake.core.errors import InvalidField
from longtake.core.plan.memory import CONTEXT_BYTES, PROCESS_BYTES, Occupant
from longtake.core.recipe.recipe import Recipe
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
    """Its name, unique in the cell."""
    role: Role
    capacity: int
    """Pages (denoise) or decoder slots (decode)."""
    model: Path
    """A model directory that this worker can read."""
    compute: Compute = field(default_factory=Compute)
    max_batch: int = 1
    """The most ops that one forward of a denoise worker may serve; the worker measures what pays and is exact."""
    recipes: tuple[Recipe, ...] = ()
    """Those that sessions may be made by beside the model's own: a denoise worker measures their shapes as well."""
    meeting_point: str = ""
    """Where workers find each other (workers.peers), as host:port; empty if this one is alone."""
    seat: Seat | None = None
    """The worker's place in a chain that holds the model together; None if it holds all of it."""
    profiles: str = ""
    """Folder for start-up measurements (workers.start.profile_cache); if it is empty, each start measures."""
    link_files: LinkFiles | None = None
    """Files on its machine that prove to the engine what it is; None if the link is not encrypted."""

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

    @property
    def on_gpu(self) -> bool:
        """Whether it needs a GPU."""
        return self.compute.device.startswith("cuda")

    @property
    def occupant(self) -> Occupant:
        """What planning must know of it, so that the memory it takes can be counted."""
        return Occupant(
            worker=self.worker,
            role=self.role,
            chain_length=1 if self.seat is None else self.seat.length,
            value_bytes=self.compute.torch_dtype.itemsize,
            max_batch=self.max_batch,
            process_bytes=CONTEXT_BYTES if self.on_gpu else PROCESS_BYTES,
        )


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
