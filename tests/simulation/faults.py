"""What befalls a cell: workers that die, stop or are cut off, at a chosen moment of something that a worker does."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import NamedTuple

from longtake.core.effects import EncodeText, Give, LoadImage, PrepareStream, Stow, Take
from longtake.core.recipe.ops import Kind, Op
from longtake.core.scheduler import Scheduler
from longtake.core.work import SessionId
from tests.core.support.parts import op_of
from workers.messages import Decode, Down, EncodeGiven, Task

OPS = tuple(kind.value for kind in Kind)
DISK = ("name", "write truth", "sync truth", "write latents", "sync latents", "cut", "remove")
"""What the writer of the journal does on its disk."""
PART = "given"
"""To encode a part of what a client gave; its block is the number of the part."""
ERRANDS = ("encode", "prepare", "stow", "give", "take", "load")
"""What workers do beside that and ops."""
RENEWAL = "renew"
"""An op that commits a block anew because a prompt has changed, whatever else it is."""


class Job(NamedTuple):
    """Something that a worker does for one session."""

    session: SessionId
    what: str
    """One of OPS, ERRANDS or DISK, or RENEWAL, or PART."""
    step: int = 0
    block: int = 0
    """Both 0 for an errand; on a disk, and of renewals, it counts how often that was done for the session."""


def jobs_of(message: Down) -> tuple[Job, ...]:
    """What a message tells a worker to do; nothing if nobody could miss it."""
    match message:
        case Task(order=Decode() as order):
            return (Job(order.work.session, Kind.DECODE.value, 0, order.work.block),)
        case Task(order=tuple() as batch):
            ops = [(item.work.session, op_of(item.work)) for item in batch]
            return tuple(Job(session, op.kind.value, op.step, op.block) for session, op in ops)
        case EncodeText():
            return (Job(message.conditioning.session, "encode"),)
        case PrepareStream():
            return (Job(message.session, "prepare"),)
        case EncodeGiven():
            return (Job(message.session, PART, 0, message.order.part),)
        case Stow() | Give() | Take() | LoadImage():
            return (Job(message.session, "load" if isinstance(message, LoadImage) else type(message).__name__.lower()),)
        case _:
            return ()


def is_renewal(scheduler: Scheduler, job: Job) -> bool:
    """Whether it is an op of a renewal that is under way."""
    session = scheduler.cell.sessions.get(job.session)
    if session is None or job.what not in (Kind.COMMIT.value, Kind.DENOISE.value):
        return False
    op = Op(Kind(job.what), job.step, job.block)
    return session.progress.again.renews(session.graph.number_of(op)) and session.renewal(op) is not None


class Phase(Enum):
    """Moments of a job."""

    BEFORE = "before"
    """Its worker is about to begin it."""
    AFTER = "after"
    """It is done, and its report has not left the worker."""
    REPORT = "report"
    """Its report is on its way."""
    TAKEN = "taken in"
    """The engine has handled its report: latents are journalled, pages sealed, a segment is emitted."""


class Moment(NamedTuple):
    """A moment of one job for one client."""

    client: int
    what: str
    step: int
    block: int
    phase: Phase


DECODER, TEXTER, SERVER = -1, -2, -3
"""The victims that are no lanes."""


class Trouble(Enum):
    """What happens to a worker, or (the last one, and DIES) to the server."""

    DIES = "dies"
    """Its process ends, and with it all it held; it is started again."""
    STOPS = "stops"
    """Its process does nothing for a while."""
    STALLS = "link stalls"
    """Nothing arrives from it or at it for a while; it works on."""
    POWER = "loses power"
    """Its machine does: what was not synced may be gone, or torn."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """One kill point."""

    at: Moment | int
    """When it strikes; a number: so many moments, of any job, after the fault before it."""
    client: int
    """Whose worker is struck."""
    victim: int
    """The worker that holds this lane then; DECODER: the one that holds the decoder slot; TEXTER: one that encodes
    prompts; SERVER: the server itself."""
    trouble: Trouble
    lasts_s: float
    """Until it is back, or goes on."""


@dataclass(slots=True)
class Plan:
    """The faults of one run, one after the other."""

    faults: tuple[Fault, ...]
    struck: list[tuple[Fault, Moment]] = field(default_factory=list)
    """Those that have struck, and when."""
    _since: int = 0
    """Moments since the last one."""
    _renewals: Counter[tuple[int, Phase]] = field(default_factory=Counter)
    """How many ops of renewals have come to a phase, by client."""

    def told(self, moment: Moment, *, renews: bool) -> Moment:
        """The moment as it is called: that of an op that renews a lane by its number, if the next fault waits for one
        of these."""
        if not renews:
            return moment
        number = self._renewals[moment.client, moment.phase]
        self._renewals[moment.client, moment.phase] += 1
        left = self.faults[len(self.struck) :]
        waits = bool(left) and isinstance(left[0].at, Moment) and left[0].at.what == RENEWAL
        return Moment(moment.client, RENEWAL, 0, number, moment.phase) if waits else moment

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


class KillPoints:
    """How many faults have struck each victim at each moment."""

    def __init__(self) -> None:
        self.hits: Counter[tuple[str, str]] = Counter()

    def add(self, fault: Fault, moment: Moment) -> None:
        """Count a fault that has struck."""
        victim = {DECODER: "decoder", TEXTER: "texter", SERVER: "server"}.get(fault.victim, f"lane {fault.victim}")
        self.hits[victim, _column(moment.what, moment.phase)] += 1

    def __str__(self) -> str:
        ops = [_column(what, phase) for what in OPS for phase in Phase]
        disk = [_column(what, phase) for what in DISK for phase in (Phase.BEFORE, Phase.AFTER)]
        return "\n".join(map(self._table, (ops, (*ERRANDS, PART, RENEWAL), disk)))

    def _table(self, columns: Sequence[str]) -> str:
        rows = sorted({row for row, _ in self.hits}, key=lambda row: (not row.startswith("lane"), row))
        lines = [" " * 8 + "".join(f"{name:>{_width(name)}}" for name in columns)]
        lines += [
            f"{row:8}" + "".join(f"{self.hits[row, column]:{_width(column)}}" for column in columns) for row in rows
        ]
        return "\n".join(lines)


def _width(column: str) -> int:
    return max(12, len(column) + 2)


def _column(what: str, phase: Phase) -> str:
    """The moment as the table names it."""
    if what in (*ERRANDS, PART, RENEWAL):
        return what
    named = {("C", Phase.TAKEN): "seal", ("V", Phase.TAKEN): "emit"}
    return named.get((what, phase), f"{phase.value} {what}")
