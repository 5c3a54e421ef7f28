"""PromQL made from declared metrics by a handful of functions: sums, rates, shares and quantiles, always per cell.

A metric that is not declared cannot be named, a label that it does not bear is refused, and so is a rate of a gauge.
A cell is told from others by its namespace too, and what several scrape jobs tell of one cell counts once: of their
sums the greatest is taken.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from enum import Enum
from typing import TypeVar

from longtake.core.errors import Contradiction, InvalidField
from monitoring.declarations import GAUGE, Instrument, Metric

NAMESPACE, CELL = "namespace", "cell"
WHOSE = (NAMESPACE, CELL)
"""What tells cells apart; on Kubernetes two namespaces may each have a cell of one name, elsewhere there are none."""
JOB, INSTANCE = "job", "instance"
UP = Metric("up", GAUGE, (JOB, INSTANCE), "By Prometheus itself: whether a target answered its last scrape.")
ALERTS = Metric("ALERTS", GAUGE, ("alertname", "severity", "alertstate"), "By Prometheus itself: 1 for each alert.")
_JOBS = f'{JOB}=~".*longtake.*"'
_DURATIONS = ((86_400_000, "d"), (3_600_000, "h"), (60_000, "m"), (1_000, "s"), (1, "ms"))


class Unit(Enum):
    """Units that Grafana knows."""

    NONE = "short"
    SECONDS = "s"
    BYTES = "bytes"
    SHARE = "percentunit"
    PER_SECOND = "cps"
    BYTES_PER_SECOND = "Bps"


_RATES = {
    Unit.NONE: Unit.PER_SECOND,
    Unit.SECONDS: Unit.SHARE,
    Unit.BYTES: Unit.BYTES_PER_SECOND,
}  # seconds a second are a share of time


@dataclass(frozen=True, slots=True)
class Expression:
    """PromQL text, the unit of its value and the metrics in it."""

    text: str
    unit: Unit
    metrics: tuple[Metric, ...]
    labels: tuple[str, ...] = ()
    """The labels that the value has beside those that tell cells apart."""

    def __truediv__(self, other: Expression) -> Expression:
        """The share that this is of another expression of the same labels."""
        unit = Unit.SHARE if self.unit is other.unit else self.unit
        return self._joined("/", other, unit)

    def over_each(self, other: Expression) -> Expression:
        """The share that this is of each value of another expression, which has more labels than this."""
        text = f"{_closed(self.text)} / {self._matched(other)} group_right () {_closed(other.text)}"
        unit = Unit.SHARE if self.unit is other.unit else self.unit
        return Expression(text, unit, self.metrics + other.metrics, other.labels)

    def of_each(self, info: Expression) -> Expression:
        """This, once for each 1 of an expression that has more labels, with all of them."""
        text = f"{_closed(self.text)} * {self._matched(info)} group_right () {_closed(info.text)}"
        return Expression(text, self.unit, self.metrics + info.metrics, info.labels)

    def __add__(self, other: Expression) -> Expression:
        """The sum of two expressions of the same labels."""
        return self._joined("+", other, self.unit)

    def __sub__(self, other: Expression) -> Expression:
        """The difference of two expressions of the same labels."""
        return self._joined("-", other, self.unit)

    def __and__(self, other: Expression) -> Expression:
        """This, where the other has a value too for the same cell and the labels that both have."""
        return self._joined(f"and {self._matched(other)}", other, self.unit)

    def unless(self, other: Expression) -> Expression:
        """This, where the other has no value for the same cell and the labels that both have."""
        return self._joined(f"unless {self._matched(other)}", other, self.unit)

    def or_else(self, other: Expression) -> Expression:
        """This, and the other where this has no value; both have the same labels."""
        return self._joined("or", other, self.unit)

    def above(self, bound: float) -> Expression:
        """This, where it is greater."""
        return replace(self, text=f"{_closed(self.text)} > {bound:.10g}")

    def at_least(self, bound: float) -> Expression:
        """This, where it is not smaller."""
        return replace(self, text=f"{_closed(self.text)} >= {bound:.10g}")

    def at_most(self, bound: float) -> Expression:
        """This, where it is not greater."""
        return replace(self, text=f"{_closed(self.text)} <= {bound:.10g}")

    def less_than(self, bound: float) -> Expression:
        """This, where it is smaller."""
        return replace(self, text=f"{_closed(self.text)} < {bound:.10g}")

    def at_least_of(self, other: Expression) -> Expression:
        """This, where it is not less than another expression of the same labels."""
        return self._joined(">=", other, self.unit)

    def below(self, other: Expression) -> Expression:
        """This, where it is less than another expression of the same labels."""
        return self._joined("<", other, self.unit)

    def equals(self, value: float) -> Expression:
        """This, where it is exactly that."""
        return replace(self, text=f"{_closed(self.text)} == {value:.10g}")

    def least_of_jobs(self) -> Expression:
        """Of an expression for each scrape job, what all of them agree on."""
        return replace(self, text=f"min by ({', '.join(WHOSE)}) ({self.text})", labels=())

    def rest(self) -> Expression:
        """One minus a share: what it leaves of the whole."""
        if self.unit is not Unit.SHARE:
            raise InvalidField("expression", self.text, "a share")
        return replace(self, text=f"1 - {_closed(self.text)}")

    def ahead(self) -> Expression:
        """How long it is from now to a point of time; less than 0: since."""
        return replace(self, text=f"{_closed(self.text)} - time()")

    def times(self, factor: float) -> Expression:
        """This, so many times."""
        return replace(self, text=f"{_closed(self.text)} * {factor:.10g}")

    def over(self, function: str, window: str) -> Expression:
        """A function of a series over a window, such as `delta` or `min_over_time`."""
        return replace(self, text=f"{function}({self.text}[{window}])")

    def _matched(self, other: Expression) -> str:
        return f"on({', '.join([*WHOSE, *(label for label in self.labels if label in other.labels)])})"

    def _joined(self, operator: str, other: Expression, unit: Unit) -> Expression:
        text = f"{_closed(self.text)} {operator} {_closed(other.text)}"
        return Expression(text, unit, self.metrics + other.metrics, self.labels)


@dataclass(frozen=True, slots=True)
class Scope:
    """Where expressions look: the cells, and the window of rates."""

    window: str
    cells: str = ""
    """Matchers for all selectors; empty means every cell."""

    def answering(self) -> Expression:
        """1 for each cell that answers scrapes, 0 for one that does not, as long as Prometheus is told to scrape it.

        A target without a label `cell` stands for itself.
        """
        named, nameless = self._targets(f'{CELL}!=""'), self._targets(f'{CELL}=""')
        text = f"max by ({', '.join(WHOSE)}) ({named}) or max by ({NAMESPACE}, {INSTANCE}) ({nameless})"
        return Expression(text, Unit.NONE, (UP,), (INSTANCE,))

    def firing(self, severity: str) -> Expression:
        """1 for each alert of that severity that fires."""
        matchers = ('alertname=~"Longtake.+"', 'alertstate="firing"', f'severity="{severity}"', self.cells)
        text = f"max by ({', '.join((*WHOSE, 'alertname'))}) (ALERTS{{{','.join(filter(None, matchers))}}})"
        return Expression(text, Unit.NONE, (ALERTS,), ("alertname",))

    def latest(self, metric: Metric, **labels: str) -> Expression:
        """The gauge itself, with all its labels."""
        return self.most(metric, *metric.labels, **labels)

    def sum(self, metric: Metric, *by: str, **labels: str) -> Expression:
        """The gauge summed for each cell and label of `by`."""
        _must_be(metric, Instrument.GAUGE)
        inner = self._selector(metric, metric.name, labels)
        return Expression(_summed(_known(metric, by), inner), _unit(metric), (metric,), by)

    def most(self, metric: Metric, *by: str, **labels: str) -> Expression:
        """The greatest of the gauge for each cell and label of `by`."""
        return self._aggregated("max", metric, by, labels)

    def least(self, metric: Metric, *by: str, **labels: str) -> Expression:
        """The smallest of the gauge for each cell and label of `by`."""
        return self._aggregated("min", metric, by, labels)

    def lately(self, function: str, metric: Metric, *by: str, **labels: str) -> Expression:
        """A function such as `avg_over_time` of the gauge over the window, then summed."""
        _must_be(metric, Instrument.GAUGE)
        inner = f"{function}({self._selector(metric, metric.name, labels)}[{self.window}])"
        return Expression(_summed(_known(metric, by), inner), _unit(metric), (metric,), by)

    def highest(self, metric: Metric) -> Expression:
        """The greatest that the gauge was within the window."""
        _must_be(metric, Instrument.GAUGE)
        inner = f"max_over_time({self._selector(metric, metric.name, {})}[{self.window}])"
        return Expression(f"max by ({', '.join(WHOSE)}) ({inner})", _unit(metric), (metric,))

    def as_jobs_saw_it(self, metric: Metric) -> Expression:
        """The gauge as each scrape job saw it last within the window, the least where a cell's server was replaced."""
        _must_be(metric, Instrument.GAUGE)
        inner = f"last_over_time({self._selector(metric, metric.name, {})}[{self.window}])"
        return Expression(f"min by ({', '.join((*WHOSE, JOB))}) ({inner})", _unit(metric), (metric,), (JOB,))

    def rate(self, metric: Metric, *by: str, **labels: str) -> Expression:
        """How fast the counter grows, a second, for each cell and label of `by`."""
        _must_be(metric, Instrument.COUNTER)
        return self._counted("rate", metric, metric.name, by, labels)

    def increase(self, metric: Metric, *by: str, **labels: str) -> Expression:
        """By how much the counter grew in the window, for each cell and label of `by`."""
        _must_be(metric, Instrument.COUNTER)
        return self._counted("increase", metric, metric.name, by, labels)

    def occasions(self, metric: Metric, *by: str, **labels: str) -> Expression:
        """How often the counter was seen to grow in the window: what happens at once counts once, a new start never."""
        _must_be(metric, Instrument.COUNTER)
        series = f"{self._selector(metric, metric.name, labels)}[{self.window}]"
        return Expression(
            _summed(_known(metric, by), f"changes({series}) - resets({series})"), Unit.NONE, (metric,), by
        )

    def seen(self, metric: Metric, *by: str, **labels: str) -> Expression:
        """How many values a second the histogram got."""
        _must_be(metric, Instrument.HISTOGRAM)
        counted = self._counted("rate", metric, f"{metric.name}_count", by, labels)
        return replace(counted, unit=Unit.PER_SECOND)

    def spent(self, metric: Metric, *by: str, **labels: str) -> Expression:
        """The sum of the histogram's values, a second."""
        _must_be(metric, Instrument.HISTOGRAM)
        return self._counted("rate", metric, f"{metric.name}_sum", by, labels)

    def average(self, metric: Metric, *by: str, **labels: str) -> Expression:
        """The mean of the histogram's values in the window."""
        quotient = self.spent(metric, *by, **labels) / self.seen(metric, *by, **labels)
        return replace(quotient, unit=_unit(metric))

    def quantile(self, share: float, metric: Metric, *by: str, **labels: str) -> Expression:
        """The value that this share of the histogram's values in the window does not exceed."""
        buckets = self.buckets(metric, *by, **labels)
        text = f"histogram_quantile({share:g}, {buckets.text})"
        return replace(buckets, text=text, unit=_unit(metric), labels=by)

    def buckets(self, metric: Metric, *by: str, **labels: str) -> Expression:
        """The rate of each bucket, for a heat map."""
        _must_be(metric, Instrument.HISTOGRAM)
        return self._counted("rate", metric, f"{metric.name}_bucket", (*by, "le"), labels)

    def _aggregated(self, operator: str, metric: Metric, by: tuple[str, ...], labels: dict[str, str]) -> Expression:
        _must_be(metric, Instrument.GAUGE)
        inner = self._selector(metric, metric.name, labels)
        text = f"{operator} by ({', '.join((*WHOSE, *_known(metric, by)))}) ({inner})"
        return Expression(text, _unit(metric), (metric,), by)

    def _counted(
        self, function: str, metric: Metric, series: str, by: tuple[str, ...], labels: dict[str, str]
    ) -> Expression:
        inner = f"{function}({self._selector(metric, series, labels)}[{self.window}])"
        unit = _RATES[_unit(metric)] if function == "rate" else _unit(metric)
        _known(metric, tuple(name for name in by if name != "le"))
        return Expression(_summed(by, inner), unit, (metric,), by)

    def _targets(self, matcher: str) -> str:
        return f"up{{{','.join(filter(None, (_JOBS, matcher, self.cells)))}}}"

    def _selector(self, metric: Metric, series: str, labels: dict[str, str]) -> str:
        _known(metric, labels)
        matchers = [self.cells] if self.cells else []
        matchers += [f'{name}{"=~" if "|" in value else "="}"{value}"' for name, value in labels.items()]
        return f"{series}{{{','.join(matchers)}}}" if matchers else series


Value = TypeVar("Value")


def distinct(values: Iterator[Value]) -> tuple[Value, ...]:
    """Each value once, in the order in which they first came."""
    return tuple(dict.fromkeys(values))


def duration(length_s: float) -> str:
    """A time as Prometheus writes it, in the greatest unit that it is a multiple of; not less than a millisecond."""
    length_ms = max(1, round(length_s * 1000))
    return next(f"{length_ms // unit_ms}{name}" for unit_ms, name in _DURATIONS if length_ms % unit_ms == 0)


def _unit(metric: Metric) -> Unit:
    base = metric.name.removesuffix("_total")
    if base.endswith(("_per_second", "_rate")):
        return Unit.PER_SECOND
    if base.endswith("_ratio"):
        return Unit.SHARE
    if base.endswith("_seconds"):
        return Unit.SECONDS
    return Unit.BYTES if base.endswith("_bytes") else Unit.NONE


def _must_be(metric: Metric, instrument: Instrument) -> None:
    if metric.instrument is not instrument:
        raise Contradiction(metric.name, f"a {instrument.value}", f"it is a {metric.instrument.value}")


def _summed(by: tuple[str, ...], inner: str) -> str:
    """The sum for each cell and label of `by`, counted once however many scrape jobs tell it.

    Within a job it is a sum, for a server that was replaced goes on as another instance.
    """
    each = f"sum by ({', '.join((*WHOSE, JOB, *by))}) ({inner})"
    return f"max by ({', '.join((*WHOSE, *by))}) ({each})"


Names = TypeVar("Names", bound=Iterable[str])


def _known(metric: Metric, names: Names) -> Names:
    for name in names:
        if name not in metric.labels:
            raise InvalidField(f"label of {metric.name}", name, " or ".join((*metric.labels, CELL)))
    return names


def _closed(text: str) -> str:
    """The text in parentheses, unless it is a single operand already."""
    depth, plain = 0, True
    for sign in text:
        depth += (sign in "({[") - (sign in ")}]")
        plain = plain and (depth > 0 or sign in ")}]" or sign.isalnum() or sign in "_:.")
    aggregated = text.startswith(("sum by (", "avg by (", "max by (", "min by ("))
    return text if plain or (aggregated and _single(text)) else f"({text})"


def _single(text: str) -> bool:
    """Whether an aggregation is all there is: no operator follows its two pairs of parentheses."""
    depth, closed = 0, 0
    for place, sign in enumerate(text):
        depth += (sign == "(") - (sign == ")")
        if sign == ")" and depth == 0:
            closed += 1
            if closed == 2:
                return place == len(text) - 1
    return False
