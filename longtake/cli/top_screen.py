"""A frame of `longtake top` as lines of text: what fits the terminal, the most important first."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta

from rich.text import Text

from longtake.cli.top_figures import Figures, PaceFigures, SessionFigures, WorkerFigures

_GAP = "  "
_BAR = 10
_UNKNOWN = "-"
_ALWAYS = 10
"""How long the column stays that names a row, and the one by which rows are sorted."""
_ENGINE_FULL = 0.8
"""From this share of its time on, the engine holds up workers (the alert LongtakeEngineOverloaded)."""
_FEWEST = 3
"""This many workers are shown, however low the terminal is."""


@dataclass(frozen=True, slots=True)
class Column:
    """One column of a table: its head, its cells (text and style), and how soon it goes where there is no room."""

    head: str
    cells: tuple[tuple[str, str], ...]
    keep: int
    """How long the column stays when there is too little room: those with the smallest numbers go first."""
    right: bool = True

    @property
    def width(self) -> int:
        return max(len(self.head), *(len(text) for text, _ in self.cells)) if self.cells else len(self.head)


def lines(frame: Figures, *, width: int, height: int | None, sort: str) -> list[Text]:
    """The frame within `width` columns and `height` rows; None: all sessions are shown."""
    shown = [*_header(frame), Text()]
    shown += [*table(_paces(frame.paces), width), Text()]
    most = len(frame.workers) if height is None else max(_FEWEST, height // 2)
    shown += [*table(_workers(frame.workers[:most]), width), *_left_out(len(frame.workers) - most), Text()]
    room = len(frame.sessions) if height is None else max(0, height - len(shown) - 1)
    if room < len(frame.sessions):
        room = max(0, room - 1)  # for the line that says how many are left out
    if frame.sessions:
        shown += table(_sessions(frame.sessions[:room], sort), width)
    shown += _left_out(len(frame.sessions) - room)
    for line in shown:
        line.truncate(width, overflow="ellipsis")
    return shown if height is None else shown[:height]


def _left_out(count: int) -> list[Text]:
    return [Text(f"… and {count} more", style="dim")] if count > 0 else []


def table(columns: Sequence[Column], width: int) -> list[Text]:
    """A table of as many columns as fit."""
    kept = list(columns)
    while len(kept) > 1 and sum(column.width + len(_GAP) for column in kept) - len(_GAP) > width:
        kept.remove(min(kept, key=lambda column: column.keep))
    rows = [_row([(column.head, "bold") for column in kept], kept)]
    rows += [_row(cells, kept) for cells in zip(*(column.cells for column in kept), strict=True)]
    return rows


def _row(cells: Sequence[tuple[str, str]], columns: Sequence[Column]) -> Text:
    line = Text()
    for (text, style), column in zip(cells, columns, strict=True):
        line.append(text.rjust(column.width) if column.right else text.ljust(column.width), style=style)
        line.append(_GAP)
    line.rstrip()
    return line


def _header(frame: Figures) -> list[Text]:
    state, style = "serving", "green"
    if frame.draining:
        left = "" if frame.drains_in_s is None else f", {_time(frame.drains_in_s)} left"
        state, style = f"draining{left}", "yellow"
    first = Text.assemble(
        (frame.cell or "longtake", "bold"), " ", (state, style),
        f"  up {_time(frame.uptime_s)}  {frame.sessions_open} of {frame.max_sessions} sessions",
        f", {frame.sessions_queued} queued" if frame.sessions_queued else "",
    )  # fmt: skip
    second = Text(f"{frame.blocks_per_s:.2f} blocks/s{_of_limit(frame)}", style="bold")
    third = Text(f"{frame.pictures_per_s:.1f} pictures/s = {frame.realtime_factor:.2f} x real time")
    if frame.engine_share is not None:
        third.append(
            f", engine {_percent(frame.engine_share)} busy", "red" if frame.engine_share > _ENGINE_FULL else ""
        )
    return [first, second, third, *(Text(warning, style="yellow") for warning in frame.warnings)]


def _of_limit(frame: Figures) -> str:
    """How near that is to the most that is possible, and whose limit it is; nothing while that is not known."""
    if frame.limit_blocks_per_s is None:
        return ""
    if frame.limit_share is None:
        return f": there are {frame.limited_by}"
    return f", {_percent(frame.limit_share)} of the {frame.limit_blocks_per_s:.2f} that {frame.limited_by} can do"


def _paces(paces: tuple[PaceFigures, ...]) -> list[Column]:
    def column(head: str, keep: int, *texts: str) -> Column:
        return Column(head, tuple((text, "") for text in texts), keep, head != "pace")

    return [
        column("pace", 9, *(pace.pace for pace in paces)),
        column("sessions", 8, *(str(pace.sessions) for pace in paces)),
        column("blocks/s", 7, *(f"{pace.blocks_per_s:.2f}" for pace in paces)),
        column("pictures/s", 5, *(f"{pace.pictures_per_s:.1f}" for pace in paces)),
        column("Mbit/s", 3, *(f"{pace.bytes_per_s * 8e-6:.1f}" for pace in paces)),
        Column("late now", tuple((_percent(pace.late_share), "red" if pace.late_share else "") for pace in paces), 6),
        Column("least slack", tuple(_slack(pace.least_slack_s) for pace in paces), 6),
        column("blocks", 2, *(str(pace.blocks) for pace in paces)),
        column("late", 2, *(str(pace.late_blocks) for pace in paces)),
        column("opened", 1, *(str(pace.opened) for pace in paces)),
        column("refused", 4, *(str(pace.refused) for pace in paces)),
    ]


def _workers(workers: tuple[WorkerFigures, ...]) -> list[Column]:
    def column(head: str, keep: int, *texts: str) -> Column:
        return Column(head, tuple((text, "") for text in texts), keep, head not in ("worker", "role", "used"))

    return [
        column("worker", 9, *(worker.worker for worker in workers)),
        column("role", 3, *(worker.role for worker in workers)),
        column("busy", 8, *(_percent(worker.utilisation) for worker in workers)),
        column("reserved", 6, *(_percent(worker.reserved) for worker in workers)),
        column("op ms", 7, *(_UNKNOWN if worker.op_s is None else f"{worker.op_s * 1000:.1f}" for worker in workers)),
        column("batch", 5, *(_number(worker.batch, 1) for worker in workers)),
        column("used", 4, *(_used(worker) for worker in workers)),
        column("sessions", 2, *(str(worker.sessions) for worker in workers)),
        column("ready", 6, *(str(worker.ready) for worker in workers)),
        column("in flight", 1, *(str(worker.in_flight) for worker in workers)),
    ]


def _sessions(sessions: tuple[SessionFigures, ...], sort: str) -> list[Column]:
    def column(head: str, keep: int, *texts: str) -> Column:
        left = head in ("session", "tenant", "state", "waits for", "pace", "prompt")
        sorts = head == sort  # the column that sorts is seen, however narrow the terminal
        cells = tuple((text, "") for text in texts)
        return Column(f"{head}*" if sorts else head, cells, _ALWAYS if sorts else keep, not left)

    slack = "slack*" if sort == "slack" else "slack"
    return [
        column("session", _ALWAYS, *(session.session for session in sessions)),
        column("state", 9, *(session.state for session in sessions)),
        column("waits for", 5, *(", ".join(session.holds) or _UNKNOWN for session in sessions)),
        column("pace", 4, *(session.pace for session in sessions)),
        column("block", 5, *(str(session.block) for session in sessions)),
        column("pictures/s", 7, *(_number(session.pictures_per_s, 1) for session in sessions)),
        Column(slack, tuple(_slack(session.slack_s) for session in sessions), _ALWAYS if sort == "slack" else 8),
        column("lag", 6, *(str(session.lag) for session in sessions)),
        column("window", 2, *(str(session.window) for session in sessions)),
        column("age", 3, *(_time(session.age_s) for session in sessions)),
        column("tenant", 1, *(session.tenant or _UNKNOWN for session in sessions)),
    ]


def _used(worker: WorkerFigures) -> str:
    return f"{_bar(worker)} {worker.used}/{worker.capacity}" if worker.capacity else _UNKNOWN


def _bar(worker: WorkerFigures) -> str:
    """A bar that shows how full something is; it is empty, or full, only where that is exactly so."""
    full = round(_BAR * worker.used / worker.capacity)
    full = min(max(full, int(worker.used > 0)), _BAR - int(worker.used < worker.capacity))
    return "█" * full + "░" * (_BAR - full)


def _slack(slack_s: float | None) -> tuple[str, str]:
    if slack_s is None:
        return _UNKNOWN, ""
    return f"{slack_s:+.2f} s", "red" if slack_s < 0 else ""


def _percent(share: float | None) -> str:
    return _UNKNOWN if share is None else f"{100 * share:.0f} %"


def _number(value: float | None, places: int) -> str:
    return _UNKNOWN if value is None else f"{value:.{places}f}"


def _time(seconds: float) -> str:
    return str(timedelta(seconds=round(seconds)))
