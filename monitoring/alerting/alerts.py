"""What is worth telling a person: few alerts, each with a section of docs/runbook.md under its name.

A page wakes somebody: clients are being failed now and a person can help. A ticket waits for the morning.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum

from monitoring import declarations as metrics
from monitoring.alerting.records import DAY_S, HOUR_S, MINUTE_S, REALTIME, Records
from monitoring.boards.promql import Expression
from monitoring.declarations import ALLOWED_LATE, ENOUGH_LATE

_FULL = "pages|slots|time|sessions"
_BAD_CREDENTIALS = "no_credentials|wrong_credentials"
_MEBIBYTE = 2.0**20


class Severity(Enum):
    """Whom an alert reaches, and when."""

    PAGE = "page"
    TICKET = "ticket"


@dataclass(frozen=True, slots=True, kw_only=True)
class Alert:
    """A condition and what to say of it; `{{ … }}` in the texts is filled in by Prometheus."""

    name: str
    severity: Severity
    query: Expression
    for_s: float
    """How long the condition must hold."""
    summary: str
    description: str


def alerts(records: Records) -> Iterator[Alert]:
    """All alerts, on records of the same times."""
    yield from _late_blocks(records)
    yield from _service(records)
    yield from _start(records)
    yield from _certificates(records)
    yield from _disk(records)
    yield from _output(records)
    yield from _texts(records)
    yield from _losses(records)
    yield from _hangs(records)
    yield from _bad_workers(records)
    yield from _room(records)
    yield from _clients(records)


def _late_blocks(records: Records) -> Iterator[Alert]:
    """Burn rates: how many times faster than allowed the objective's allowance is used up, over two windows each."""
    burns = (
        # Name, severity, times the allowance, windows, for: 2 % of a month's allowance in an hour, 5 % in 6 hours, …
        ("Fast", Severity.PAGE, 14.4, HOUR_S, 5 * MINUTE_S, 2 * MINUTE_S),
        ("Slow", Severity.PAGE, 6.0, 6 * HOUR_S, 30 * MINUTE_S, 15 * MINUTE_S),
        ("Lasting", Severity.TICKET, 1.0, 3 * DAY_S, 6 * HOUR_S, HOUR_S),
    )
    for name, severity, times, long_s, short_s, for_s in burns:
        bound = times * ALLOWED_LATE
        # A short stream, or a cell's first minutes, when both windows see the same few blocks, are no trend.
        floor = ENOUGH_LATE / bound * records.times.factor
        several = records.times.scope(long_s).increase(metrics.BLOCKS, **REALTIME).at_least(floor)
        late = records.late(long_s).series.above(bound) & records.late(short_s).series.above(bound)
        yield Alert(
            name=f"LongtakeLateBlocks{name}",
            severity=severity,
            query=late & several,
            for_s=for_s,
            summary="Realtime streams of cell {{ $labels.cell }} get their blocks late",
            description="{{ $value | humanizePercentage }} of realtime blocks left late; the objective allows "
            f"{ALLOWED_LATE:.1%} over 30 days. Screens of clients run dry.",
        )


def _service(records: Records) -> Iterator[Alert]:
    ten = records.times.scope(10 * MINUTE_S)
    yield Alert(
        name="LongtakeDown",
        severity=Severity.PAGE,
        query=ten.answering().equals(0),
        for_s=3 * MINUTE_S,
        summary="Cell {{ or $labels.cell $labels.instance }} does not answer",
        description="Prometheus is told to scrape it, and for minutes none of its targets has answered.",
    )
    open_lately = records.sessions.series.over("max_over_time", records.times.text(10 * MINUTE_S)).above(0)
    yield Alert(
        name="LongtakeCrashed",
        severity=Severity.PAGE,
        query=records.restarts(10 * MINUTE_S).above(0) & open_lately,
        for_s=0,
        summary="The server of cell {{ $labels.cell }} ended without a drain and was started again",
        description="Every stream broke off with it; those that a journal on disk holds go on, the others are lost.",
    )
    ended = ten.increase(metrics.SESSIONS_CLOSED, ending="lost|failed")
    yield Alert(
        name="LongtakeSessionsLost",
        severity=Severity.PAGE,
        query=ended.at_least(3) & (ended / ten.increase(metrics.SESSIONS_CLOSED)).above(0.01),
        for_s=0,
        summary="Streams of cell {{ $labels.cell }} were ended by our fault",
        description='{{ $value | printf "%.0f" }} sessions ended as lost or failed within ten minutes.',
    )


def _start(records: Records) -> Iterator[Alert]:
    yield Alert(
        name="LongtakeNotStarted",
        severity=Severity.TICKET,
        # Over some minutes, for one that is ended and tried again is not there all the time.
        query=records.times.scope(5 * MINUTE_S).highest(metrics.STARTED).equals(0),
        for_s=30 * MINUTE_S,
        summary="Cell {{ $labels.cell }} has not begun to serve",
        description="For half an hour it has been starting: not all of its workers were ever there.",
    )


def _certificates(records: Records) -> Iterator[Alert]:
    scope = records.times.scope(5 * MINUTE_S)
    ends = scope.least(metrics.CERTIFICATE_NOT_AFTER, "certificate")
    life = ends - scope.least(metrics.CERTIFICATE_NOT_BEFORE, "certificate")
    terms = (
        # Name, severity, how long before the end, and the share of its life: some are made to live for a day.
        ("Soon", Severity.TICKET, 14 * DAY_S, 0.25),
        ("Now", Severity.PAGE, DAY_S, 0.125),
    )
    for name, severity, left_s, share in terms:
        usual = ends.ahead().at_least_of(life.times(share))
        yield Alert(
            name=f"LongtakeCertificateEnds{name}",
            severity=severity,
            query=ends.ahead().less_than(left_s).unless(usual),
            for_s=15 * MINUTE_S,
            summary="The certificate {{ $labels.certificate }} of cell {{ $labels.cell }} ends",
            description="In {{ $value | humanizeDuration }} (negative: it has ended). Who connects then is refused.",
        )


def _disk(records: Records) -> Iterator[Alert]:
    two, hour = records.times.scope(2 * MINUTE_S), records.times.scope(HOUR_S)
    yield Alert(
        name="LongtakeJournalInTrouble",
        severity=Severity.PAGE,
        query=two.most(metrics.DISK_TROUBLE).at_least(1),
        for_s=MINUTE_S,
        summary="The journal of cell {{ $labels.cell }} cannot be written",
        description="New streams and cues are refused; streams that are open go on, and would not outlive the server.",
    )
    missing = two.increase(metrics.LINES_DROPPED, log="audit").above(0)
    yield Alert(
        name="LongtakeAuditInTrouble",
        severity=Severity.TICKET,
        query=two.most(metrics.AUDIT_TROUBLE).at_least(1).or_else(missing),
        for_s=MINUTE_S,
        summary="The audit log of cell {{ $labels.cell }} cannot be written",
        description="What callers do waits to be written, and then is not; with auth.audit_required they are refused.",
    )
    yield Alert(
        name="LongtakeStreamsDiverge",
        severity=Severity.TICKET,
        query=hour.increase(metrics.DIVERGENCES).above(0),
        for_s=0,
        summary="Streams of cell {{ $labels.cell }} are not what they were before the restart",
        description='{{ $value | printf "%.0f" }} blocks computed again within an hour differ from those on disk.',
    )


def _output(records: Records) -> Iterator[Alert]:
    three, two = records.times.scope(3 * MINUTE_S), records.times.scope(2 * MINUTE_S)
    may_run = three.lately("min_over_time", metrics.SESSIONS, state="running") - three.lately(
        "max_over_time", metrics.STALLED_SESSIONS
    )
    yield Alert(
        name="LongtakeNothingComesOut",
        severity=Severity.PAGE,
        query=may_run.above(0) & three.rate(metrics.BLOCKS).at_most(0),
        for_s=2 * MINUTE_S,
        summary="Cell {{ $labels.cell }} has running streams and sends no block",
        description='{{ $value | printf "%.0f" }} sessions run with credit, and not one block left for minutes.',
    )
    behind = two.lately("min_over_time", metrics.ENGINE_INBOX).above(1000)
    yield Alert(
        name="LongtakeEngineOverloaded",
        severity=Severity.PAGE,
        query=records.engine_busy.series.above(0.8).or_else(behind),
        for_s=5 * MINUTE_S,
        summary="The engine of cell {{ $labels.cell }} does not keep up",
        description="Its one thread is busy more than 80 % of the time, or over 1000 events wait for it.",
    )
    yield Alert(
        name="LongtakeFirstSegmentSlow",
        severity=Severity.TICKET,
        query=records.first_segment.series_of('pace="realtime"').above(10.0),
        for_s=15 * MINUTE_S,
        summary="Realtime streams of cell {{ $labels.cell }} take long to begin",
        description="One in twenty waits more than {{ $value | humanizeDuration }} for its first segment.",
    )


def _texts(records: Records) -> Iterator[Alert]:
    yield Alert(
        name="LongtakePromptsWait",
        severity=Severity.TICKET,
        query=records.times.scope(5 * MINUTE_S).most(metrics.OLDEST_PROMPT).above(60.0),
        for_s=5 * MINUTE_S,
        summary="Prompts of cell {{ $labels.cell }} wait long for a text worker",
        description="The oldest has waited {{ $value | humanizeDuration }}: cues take hold late, streams begin late.",
    )


def _losses(records: Records) -> Iterator[Alert]:
    half_hour, quarter = records.times.scope(30 * MINUTE_S), records.times.scope(15 * MINUTE_S)
    here, expected = quarter.sum(metrics.WORKERS, "role"), quarter.sum(metrics.WORKERS_EXPECTED, "role")
    yield Alert(
        name="LongtakeNoWorkers",
        severity=Severity.PAGE,
        query=expected.above(0).unless(here.above(0)),
        for_s=2 * MINUTE_S,
        summary="Cell {{ $labels.cell }} has no {{ $labels.role }} worker",
        description='None of {{ $value | printf "%.0f" }} is joined: no stream can begin or go on.',
    )
    yield Alert(
        name="LongtakeWorkersMissing",
        severity=Severity.TICKET,
        query=here.below(expected),
        for_s=10 * MINUTE_S,
        summary="Cell {{ $labels.cell }} has fewer {{ $labels.role }} workers than it should",
        description='Only {{ $value | printf "%.0f" }} are joined, and the launcher has not brought back the others.',
    )
    yield Alert(
        name="LongtakeWorkersLostAgain",
        severity=Severity.PAGE,
        # A machine whose eight workers are lost with it is one occasion.
        query=half_hour.occasions(metrics.WORKERS_LOST, "role").at_least(3),
        for_s=0,
        summary="{{ $labels.role }} workers of cell {{ $labels.cell }} are lost again and again",
        description='On {{ $value | printf "%.0f" }} occasions within half an hour; streams stop each time.',
    )
    yield Alert(
        name="LongtakeStreamsWaitForRoom",
        severity=Severity.PAGE,
        query=quarter.sum(metrics.RECOVERING, way="waited").above(0),
        for_s=2 * MINUTE_S,
        summary="Streams of cell {{ $labels.cell }} stand still and wait for room",
        description='{{ $value | printf "%.0f" }} lost a part of their state with a worker: their screens are dark.',
    )


def _hangs(records: Records) -> Iterator[Alert]:
    two, half_hour = records.times.scope(2 * MINUTE_S), records.times.scope(30 * MINUTE_S)
    yield Alert(
        name="LongtakeWorkerHangs",
        severity=Severity.TICKET,
        query=two.most(metrics.OLDEST_DISPATCH, "worker").above(60.0),
        for_s=MINUTE_S,
        summary="Worker {{ $labels.worker }} of cell {{ $labels.cell }} does not finish what it was given",
        description="It has been at one dispatch for {{ $value | humanizeDuration }}: streams on it stand still.",
    )
    yield Alert(
        name="LongtakeWorkersHung",
        severity=Severity.TICKET,
        query=half_hour.increase(metrics.WORKERS_LOST, "role", cause="hang|silence").above(0),
        for_s=0,
        summary="{{ $labels.role }} workers of cell {{ $labels.cell }} hung, and were given up",
        description='{{ $value | printf "%.0f" }} within half an hour; each is ended, and a new process started.',
    )


def _bad_workers(records: Records) -> Iterator[Alert]:
    quarter = records.times.scope(15 * MINUTE_S)
    yield Alert(
        name="LongtakeStraggler",
        severity=Severity.TICKET,
        query=quarter.most(metrics.SLOWNESS, "worker").above(1.3),
        for_s=10 * MINUTE_S,
        summary="Worker {{ $labels.worker }} of cell {{ $labels.cell }} is slow",
        description='It takes {{ $value | printf "%.2f" }} times as long as its fellows.',
    )
    yield Alert(
        name="LongtakeNumericsMixed",
        severity=Severity.TICKET,
        query=quarter.most(metrics.NUMERICS_CLASSES, "role").above(1.0),
        for_s=30 * MINUTE_S,  # an update passes through it
        summary="{{ $labels.role }} workers of cell {{ $labels.cell }} do not all give the same bits",
        description='They are of {{ $value | printf "%.0f" }} classes: streams keep to one, prompts do not.',
    )
    yield Alert(
        name="LongtakeOpsFail",
        severity=Severity.TICKET,
        query=quarter.increase(metrics.WORKER_FAILURES, "worker").at_least(5),
        for_s=0,
        summary="Worker {{ $labels.worker }} of cell {{ $labels.cell }} fails at its work",
        description='{{ $value | printf "%.0f" }} dispatches or preparations failed within a quarter of an hour.',
    )


def _room(records: Records) -> Iterator[Alert]:
    times = records.times
    quarter = times.scope(15 * MINUTE_S)
    refused = quarter.increase(metrics.OPENS_REFUSED, pace="realtime", reason=_FULL)
    granted = quarter.increase(metrics.OPENS, **REALTIME)
    yield Alert(
        name="LongtakeRefusingRealtime",
        severity=Severity.TICKET,
        query=(refused / (refused + granted)).above(0.05) & refused.at_least(3),
        for_s=15 * MINUTE_S,
        summary="Cell {{ $labels.cell }} is full and refuses realtime streams",
        description="{{ $value | humanizePercentage }} of realtime Opens found no pages, slots, time or places.",
    )
    window = times.text(6 * HOUR_S)
    settled = quarter.sum(metrics.UPTIME).above(7 * HOUR_S * times.factor)
    idle = records.sessions.series.over("delta", window).at_most(0)
    yield Alert(
        name="LongtakeMemoryGrows",
        severity=Severity.TICKET,
        query=records.memory[0].series.over("delta", window).above(256 * _MEBIBYTE) & idle & settled,
        for_s=30 * MINUTE_S,
        summary="Memory of cell {{ $labels.cell }} grows without more sessions: {{ $labels.store }}",
        description="By {{ $value | humanize1024 }}B in six hours, with no more sessions than before.",
    )


def _clients(records: Records) -> Iterator[Alert]:
    five = records.times.scope(5 * MINUTE_S)
    stalled = five.sum(metrics.STALLED_SESSIONS, **REALTIME)
    running = five.sum(metrics.SESSIONS, pace="realtime", state="running")
    yield Alert(
        name="LongtakeClientsStall",
        severity=Severity.TICKET,
        query=(stalled / running).above(0.25) & stalled.at_least(3),
        for_s=15 * MINUTE_S,
        summary="Clients of cell {{ $labels.cell }} do not keep up",
        description="{{ $value | humanizePercentage }} of realtime sessions wait for their clients' credit.",
    )
    yield Alert(
        name="LongtakeCredentialsRefused",
        severity=Severity.TICKET,
        query=five.rate(metrics.CALLS_REFUSED, reason=_BAD_CREDENTIALS).above(1.0),
        for_s=5 * MINUTE_S,
        summary="Many calls to cell {{ $labels.cell }} show no or wrong credentials",
        description='{{ $value | printf "%.1f" }} calls a second were not let in: expired tokens, or somebody guesses.',
    )
