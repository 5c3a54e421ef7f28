"""What `longtake top` shows, as numbers: rates and shares from two looks at a server, some seconds apart."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from longtake.cli.values import word
from longtake.v1 import longtake_pb2 as pb


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """What a server said at one time."""

    at_s: float
    """The time of the look on this machine's monotonic clock."""
    status: pb.GetStatusResponse
    sessions: tuple[pb.Session, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerFigures:
    """The figures of one worker; None for what is not known, or not for the time between these looks."""

    worker: str
    role: str
    capacity: int
    """Pages or decoder slots; 0 of text workers, which have neither."""
    used: int
    sessions: int
    utilisation: float | None
    """The share of time that it spent on ops, by its own clock; it may pass 1 where an op is longer than a look. None
    of text workers, whose time is not counted."""
    reserved: float | None
    """The share of its time that REALTIME sessions reserve; None of text workers, on which nothing is reserved."""
    op_s: float | None
    batch: float | None
    """Ops that shared a dispatch, on average."""
    ready: int
    in_flight: int


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionFigures:
    """One session."""

    session: str
    tenant: str
    state: str
    holds: tuple[str, ...]
    """Why no further block begins now; empty: one may begin."""
    pace: str
    block: int
    """The block that begins next."""
    pictures_per_s: float | None
    slack_s: float | None
    lag: int
    """Segments sent and not acknowledged."""
    window: int
    age_s: float
    prompt: str


@dataclass(frozen=True, slots=True, kw_only=True)
class PaceFigures:
    """All streams of one pace; counts since the server started."""

    pace: str
    sessions: int
    blocks: int
    blocks_per_s: float
    late_blocks: int
    late_share: float | None
    """The share of the blocks between the looks that were late."""
    pictures_per_s: float
    bytes_per_s: float
    opened: int
    refused: int
    least_slack_s: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Figures:
    """A whole frame."""

    cell: str
    uptime_s: float
    draining: bool
    drains_in_s: float | None
    sessions_open: int
    sessions_queued: int
    """Sessions that wait for a place; they are not among the open ones."""
    max_sessions: int
    over_s: float
    """How far apart the looks are."""
    blocks_per_s: float
    pictures_per_s: float
    realtime_factor: float
    """Pictures a second over those that one stream plays: as many streams could be served in real time."""
    limit_blocks_per_s: float | None
    """The most that the cell can do at its workers' present times; None while that is not known."""
    limited_by: str
    """Who can do no more: a worker, or how many of which role; empty while that is not known."""
    limit_share: float | None
    """The share of it that was done."""
    engine_share: float | None
    """The share of time that the engine's one thread spent on events; None if the server does not say."""
    paces: tuple[PaceFigures, ...]
    workers: tuple[WorkerFigures, ...]
    warnings: tuple[str, ...]
    """What an operator should know, a sentence each."""
    sessions: tuple[SessionFigures, ...]
    """The sessions, the worst first; see SORTS."""


def _by_slack(session: SessionFigures) -> tuple[float, int]:
    return (float("inf") if session.slack_s is None else session.slack_s, -session.lag)


SORTS: dict[str, Callable[[SessionFigures], tuple[float | str, float]]] = {
    "slack": _by_slack,
    "lag": lambda session: (-session.lag, -session.age_s),
    "pictures/s": lambda session: (session.pictures_per_s or 0.0, -session.age_s),
    "age": lambda session: (-session.age_s, 0),
    "tenant": lambda session: (session.tenant, -session.age_s),
}
"""What sessions can be sorted by; the first is usual."""


def same_server(before: Look, now: Look) -> bool:
    """Whether counts go on between the looks: a server that was started again counts from 0."""
    return before.status.cell == now.status.cell and before.status.uptime_s < now.status.uptime_s


def figures(before: Look, now: Look, *, pictures_per_s: float, sort: str = "slack") -> Figures:
    """What happened between two looks at the same server; one stream plays `pictures_per_s`."""
    over_s = now.at_s - before.at_s
    paces = tuple(_pace(total, before, over_s) for total in now.status.totals)
    blocks_per_s = sum(pace.blocks_per_s for pace in paces)
    pictures = sum(pace.pictures_per_s for pace in paces)
    limit = now.status.limit_blocks_per_s if now.status.HasField("limit_blocks_per_s") else None
    engine_s = now.status.engine_busy_s - before.status.engine_busy_s
    earlier = {session.session_id: session for session in before.sessions}
    sessions = [_session(session, earlier.get(session.session_id), over_s) for session in now.sessions]
    workers = {worker.worker_id: worker for worker in before.status.workers}
    status = now.status
    return Figures(
        cell=status.cell,
        uptime_s=status.uptime_s,
        draining=status.draining,
        drains_in_s=status.drains_in_s if status.HasField("drains_in_s") else None,
        sessions_open=status.sessions,
        sessions_queued=status.sessions_queued,
        max_sessions=status.max_sessions,
        over_s=over_s,
        blocks_per_s=blocks_per_s,
        pictures_per_s=pictures,
        realtime_factor=pictures / pictures_per_s,
        limit_blocks_per_s=limit,
        limited_by=status.limited_by,
        limit_share=blocks_per_s / limit if limit else None,
        engine_share=engine_s / over_s if now.status.engine_busy_s else None,
        paces=paces,
        workers=tuple(_worker(worker, workers.get(worker.worker_id), over_s) for worker in status.workers),
        warnings=warnings(status),
        sessions=tuple(sorted(sessions, key=SORTS[sort])),
    )


def _pace(total: pb.PaceTotals, before: Look, over_s: float) -> PaceFigures:
    earlier = next((other for other in before.status.totals if other.pace == total.pace), pb.PaceTotals())
    blocks = total.blocks - earlier.blocks
    return PaceFigures(
        pace=word(pb.Pace.Name(total.pace)),
        sessions=total.sessions,
        blocks=total.blocks,
        blocks_per_s=blocks / over_s,
        late_blocks=total.late_blocks,
        late_share=(total.late_blocks - earlier.late_blocks) / blocks if blocks else None,
        pictures_per_s=(total.pictures - earlier.pictures) / over_s,
        bytes_per_s=(total.bytes - earlier.bytes) / over_s,
        opened=total.opened,
        refused=total.refused,
        least_slack_s=total.least_slack_s if total.HasField("least_slack_s") else None,
    )


def warnings(status: pb.GetStatusResponse) -> tuple[str, ...]:
    """A sentence for each thing that is not as it should be: what is late, and workers that give different bits."""
    told = []
    if status.sessions_late:
        count = f"{status.sessions_late} realtime session{' is' if status.sessions_late == 1 else 's are'} late"
        by = f", limited by {status.limited_by}" if status.limited_by else ""
        told.append(f"{count}{by}: no further one is let in")
    elif status.HasField("reservable"):
        told.append(
            f"realtime sessions were late: they may reserve {100 * status.reservable:.0f} % of each worker's time, "
            "and more while they are on time"
        )
    classes: dict[str, set[str]] = {}
    for worker in status.workers:
        classes.setdefault(word(pb.WorkerRole.Name(worker.role)), set()).add(worker.numerics)
    told += [
        f"{role} workers do not all give the same bits: {len(found)} classes of numerics"
        for role, found in classes.items()
        if len(found) > 1
    ]
    return tuple(told)


def _worker(worker: pb.Worker, earlier: pb.Worker | None, over_s: float) -> WorkerFigures:
    # One that joined again since counts from 0: nothing can be said of the time between.
    goes_on = earlier is not None and earlier.dispatched <= worker.dispatched and earlier.busy_s <= worker.busy_s
    passes = worker.passes - earlier.passes if earlier is not None and goes_on else 0
    encodes = worker.role == pb.WORKER_ROLE_TEXT
    return WorkerFigures(
        worker=worker.worker_id,
        role=word(pb.WorkerRole.Name(worker.role)),
        capacity=0 if encodes else worker.capacity,
        used=0 if encodes else worker.capacity - worker.free,
        sessions=worker.sessions,
        utilisation=None if encodes or earlier is None or not goes_on else (worker.busy_s - earlier.busy_s) / over_s,
        reserved=None if encodes else worker.reserved,
        op_s=worker.op_s or None,
        batch=(worker.ops - earlier.ops) / passes if earlier is not None and passes > 0 else None,
        ready=worker.ready,
        in_flight=worker.in_flight,
    )


def holds(session: pb.Session) -> tuple[str, ...]:
    """Why no further block of a session begins now, in words."""
    return tuple(word(pb.Hold.Name(hold)) for hold in session.holds)


def _session(session: pb.Session, earlier: pb.Session | None, over_s: float) -> SessionFigures:
    rate = None if earlier is None else (session.pictures_sent - earlier.pictures_sent) / over_s
    return SessionFigures(
        session=session.session_id,
        tenant=session.tenant,
        state=word(pb.SessionState.Name(session.state)),
        holds=holds(session),
        pace=word(pb.Pace.Name(session.pace)),
        block=session.blocks_begun,
        pictures_per_s=rate,
        slack_s=session.slack_s if session.HasField("slack_s") else None,
        lag=max(0, session.segments_sent - session.segments_acknowledged),
        window=session.window,
        age_s=session.age_s,
        prompt=session.current_prompt or session.prompt,
    )
