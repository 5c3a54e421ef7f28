"""What befalls a cell: workers that die, stop or are cut off, at a chosen moment of a chosen op."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from enum import Enum
from typing import NamedTuple

from longtake.core.recipe.graph import Kind


class Phase(Enum):
    """Moments in the life of an op."""

    BEFORE = "before"
    """Its worker is about to begin it."""
    AFTER = "after"
    """It is done, and its report has not left the worker."""
    REPORT = "report"
    """Its report is on its way."""
    TAKEN = "taken in"
    """The engine has handled its report: latents are journalled, pages sealed, a segment is emitted."""


class Moment(NamedTuple):
    """A moment of one op of one client's stream."""

    client: int
    kind: Kind
    step: int
    block: int
    phase: Phase

    @property
    def column(self) -> str:
        """The moment as the table of kill points names it."""
        return COLUMNS[self.kind, self.phase]


COLUMNS = {
    (kind, phase): {("C", "taken in"): "seal", ("V", "taken in"): "emit"}.get(
        (kind.value, phase.value), f"{phase.value} {kind.value}"
    )
    for kind in Kind
    for phase in Phase
}
"""The columns of the table of kill points."""

DECODER = -1
"""The victim that is no lane."""


class Trouble(Enum):
    """What happens to a worker."""

    DIES = "dies"
    """Its process ends, and with it all it held; it is started again."""
    STOPS = "stops"
    """Its process does nothing for a while."""
    STALLS = "link stalls"
    """Nothing arrives from it or at it for a while; it works on."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """One kill point."""

    at: Moment | int
    """When it strikes; a number: so many moments, of any op, after the fault before it."""
    client: int
    """Whose worker is struck."""
    victim: int
    """The worker that holds this lane then; DECODER: the one that holds the decoder slot."""
    trouble: Trouble
    lasts_s: float
    """Until it is back, or goes on."""

    @property
    def row(self) -> str:
        """The victim as the table of kill points names it."""
        return "decoder" if self.victim == DECODER else f"lane {self.victim}"


@dataclass(slots=True)
class Plan:
    """The faults of one run, one after the other."""

    faults: tuple[Fault, ...]
    struck: list[tuple[Fault, Moment]] = field(default_factory=list)
    """Those that have struck, and when."""
    _since: int = 0
    """Moments since the last one."""

    def due(self, moment: Moment) -> Fault | None:
        """The fault that strikes at this moment."""
        if len(self.struck) == len(self.faults):
            return None
        fault = self.faults[len(self.struck)]
        self._since += 1
        is_due = fault.at == moment if isinstance(fault.at, Moment) else self._since >= fault.at
        return fault if is_due else None

    def strike(self, fault: Fault, moment: Moment) -> None:
        """Note that it has struck."""
        self.struck.append((fault, moment))
        self._since = 0


def table(hits: Counter[tuple[str, str]]) -> str:
    """How many seeds have hit each kill point, by victim and moment."""
    columns = list(COLUMNS.values())
    rows = sorted({row for row, _ in hits}, key=lambda row: (row == "decoder", row))
    lines = [" " * 8 + "".join(f"{name:>12}" for name in columns)]
    lines += [f"{row:8}" + "".join(f"{hits[row, column]:12}" for column in columns) for row in rows]
    return "\n".join(lines)
