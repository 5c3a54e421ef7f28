"""Panels and dashboards as plain data, and the JSON that Grafana reads of them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from enum import Enum

from longtake.core.errors import Contradiction
from monitoring.boards.promql import CELL, NAMESPACE, WHOSE, Expression, Scope, Unit, distinct
from monitoring.declarations import UPTIME, Metric

_Json = dict[str, object]

SEEN = Scope("$__rate_interval", f'{NAMESPACE}=~"$namespace",{CELL}=~"$cell"')
"""What panels look at: the cells that are chosen on the dashboard, with rates over Grafana's own window."""
DATA_SOURCE: _Json = {"type": "prometheus", "uid": "${datasource}"}
_WIDTH = 24
_SCHEMA_VERSION = 41
_COLOURS = ("green", "orange", "red")


class Chart(Enum):
    """How a panel draws its lines."""

    LINES = "lines"
    NUMBER = "number"
    NOW = "now"
    """A number that is asked for this moment only: for queries over long times."""
    NAMES = "names"
    """A table of the labels of each series, whose value says nothing."""
    BARS = "bars"
    HEAT = "heat"


@dataclass(frozen=True, slots=True, kw_only=True)
class Style:
    """What a panel is to the eye."""

    chart: Chart = Chart.LINES
    bounds: tuple[float, ...] = ()
    """The values from which it looks doubtful, and then bad; if they fall, less is worse. Bad is red and means that
    somebody should act: what is full and healthy has no second bound."""
    stacked: bool = False
    width: int = 8
    height: int = 8
    none: str = ""
    """What is said where there is nothing to show; empty: what Grafana says."""
    top: float | None = None
    """The greatest value that is shown; None leaves it to the data."""


PLAIN = Style()
STACKED = Style(stacked=True)


@dataclass(frozen=True, slots=True)
class Line:
    """One query of a panel."""

    query: Expression
    note: str = ""
    """A word that tells it from the panel's other lines."""

    @property
    def legend(self) -> str:
        """The labels of its values, and the note."""
        if self.query.labels == ("le",):
            return "{{le}}"
        return " ".join([*(f"{{{{{label}}}}}" for label in (*WHOSE, *self.query.labels)), *filter(None, [self.note])])


@dataclass(frozen=True, slots=True, kw_only=True)
class Panel:
    """One picture: what it asks, how it shows it, and what to do when it looks bad."""

    title: str
    style: Style
    lines: tuple[Line, ...]
    advice: str
    """How the panel looks when something is wrong, and what to do then."""

    def __post_init__(self) -> None:
        units = distinct(line.query.unit for line in self.lines)
        if len(units) != 1:
            raise Contradiction(f"panel {self.title!r}", f"units {units}", "a panel has one axis")

    @property
    def unit(self) -> Unit:
        """The unit of all its lines."""
        return self.lines[0].query.unit

    @property
    def metrics(self) -> tuple[Metric, ...]:
        """The metrics that it asks for, each once."""
        return distinct(metric for line in self.lines for metric in line.query.metrics)


def panel(title: str, style: Style, *shown: Expression | Line, advice: str) -> Panel:
    """A panel of queries; a bare query becomes a line without a note."""
    lines = tuple(each if isinstance(each, Line) else Line(each) for each in shown)
    return Panel(title=title, style=style, lines=lines, advice=advice)


@dataclass(frozen=True, slots=True)
class Row:
    """Panels under one heading, from left to right, then down."""

    title: str
    """Empty: there is no heading."""
    panels: tuple[Panel, ...]
    collapsed: bool = False
    """Whether only the heading is shown until somebody opens it: then nothing of it is asked either."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Dashboard:
    """A page of panels."""

    uid: str
    title: str
    description: str
    rows: tuple[Row, ...]

    @property
    def panels(self) -> tuple[Panel, ...]:
        """All of them, in the order shown."""
        return tuple(panel for row in self.rows for panel in row.panels)


def grafana(dashboard: Dashboard) -> _Json:
    """The dashboard as Grafana's JSON model."""
    return {
        "uid": dashboard.uid,
        "title": dashboard.title,
        "description": dashboard.description,
        "tags": ["longtake"],
        "schemaVersion": _SCHEMA_VERSION,
        "editable": True,
        "graphTooltip": 1,
        "refresh": "30s",
        "time": {"from": "now-1h", "to": "now"},
        "timezone": "browser",
        "links": [_other_dashboards()],
        "annotations": {"list": [_alerts()]},
        "templating": {"list": [_data_source_variable(), *map(_variable, (NAMESPACE, CELL))]},
        "panels": list(_laid_out(dashboard.rows)),
    }


def _laid_out(rows: Iterable[Row]) -> Iterator[_Json]:
    number, top = 0, 0
    for row in rows:
        first = number + 1 + bool(row.title)
        panels = list(_placed(row.panels, first, top + bool(row.title)))
        if row.title:
            at = {"h": 1, "w": _WIDTH, "x": 0, "y": top}
            inside = panels if row.collapsed else []
            heading = {"title": row.title, "collapsed": row.collapsed, "gridPos": at, "panels": inside}
            yield {"id": number + 1, "type": "row", **heading}
            top += 1
        number = first + len(panels) - 1
        if not row.collapsed:
            yield from panels
            top += _height(row.panels)


def _placed(panels: Iterable[Panel], number: int, top: int) -> Iterator[_Json]:
    """From left to right, then down; those beside each other have one height."""
    for line in _lines(panels):
        left = 0
        for panel in line:
            style = panel.style
            yield {"id": number, "gridPos": {"h": style.height, "w": style.width, "x": left, "y": top}, **_panel(panel)}
            number, left = number + 1, left + style.width
        top += line[0].style.height


def _lines(panels: Iterable[Panel]) -> list[list[Panel]]:
    """Which of them lie beside each other."""
    lines: list[list[Panel]] = [[]]
    for panel in panels:
        if sum(each.style.width for each in lines[-1]) + panel.style.width > _WIDTH:
            lines.append([])
        lines[-1].append(panel)
    return lines


def _height(panels: Iterable[Panel]) -> int:
    return sum(line[0].style.height for line in _lines(panels))


def _panel(panel: Panel) -> _Json:
    said = " ".join(metric.help for metric in panel.metrics)
    return {
        "type": _PLUGINS[panel.style.chart],
        "title": panel.title,
        "description": f"{panel.advice}\n\nMade from: {said}",
        "datasource": DATA_SOURCE,
        "targets": [_target(panel, place, line) for place, line in enumerate(panel.lines)],
        "fieldConfig": {"defaults": _defaults(panel), "overrides": []},
        "options": _OPTIONS[panel.style.chart],
    }


def _target(panel: Panel, place: int, line: Line) -> _Json:
    now = panel.style.chart is Chart.NOW
    return {
        "refId": chr(ord("A") + place),
        "datasource": DATA_SOURCE,
        "expr": line.query.text,
        "legendFormat": line.legend,
        "format": "heatmap" if panel.style.chart is Chart.HEAT else "time_series",
        "range": not now,
        "instant": now,
        "editorMode": "code",
    }


def _defaults(panel: Panel) -> _Json:
    style = panel.style
    unit = Unit.SECONDS if style.chart is Chart.HEAT else panel.unit
    shown: _Json = {"unit": unit.value, "thresholds": _thresholds(style.bounds)}
    if style.chart is not Chart.HEAT:
        shown["color"] = {"mode": "palette-classic" if style.chart is Chart.LINES else "thresholds"}
    if style.chart is Chart.LINES:
        shown["custom"] = {
            "drawStyle": "line",
            "lineWidth": 1,
            "fillOpacity": 30 if style.stacked else 0,
            "showPoints": "never",
            "spanNulls": False,
            "stacking": {"mode": "normal" if style.stacked else "none", "group": "A"},
            "thresholdsStyle": {"mode": "line" if style.bounds else "off"},
        }
    if panel.unit in (Unit.SHARE, Unit.BYTES):
        shown["min"] = 0
    if style.top is not None:
        shown["max"] = style.top
    if style.none:
        shown["noValue"] = style.none
    return shown


def _thresholds(bounds: tuple[float, ...]) -> _Json:
    falling = len(bounds) > 1 and bounds[0] > bounds[-1]
    colours = _COLOURS[: len(bounds) + 1]
    if falling:
        bounds, colours = bounds[::-1], colours[::-1]
    values: tuple[float | None, ...] = (None, *bounds)
    steps = [{"color": colour, "value": value} for colour, value in zip(colours, values, strict=True)]
    return {"mode": "absolute", "steps": steps}


_NUMBERS: _Json = {"calcs": ["lastNotNull"], "fields": "", "values": False}
_STAT: _Json = {
    "reduceOptions": _NUMBERS,
    "orientation": "auto",
    "colorMode": "value",
    "justifyMode": "auto",
    "wideLayout": True,
    "showPercentChange": False,
    "percentChangeColorMode": "standard",
}
_PLUGINS = {
    Chart.LINES: "timeseries",
    Chart.NUMBER: "stat",
    Chart.NOW: "stat",
    Chart.NAMES: "stat",
    Chart.BARS: "bargauge",
    Chart.HEAT: "heatmap",
}
_OPTIONS: dict[Chart, _Json] = {
    Chart.LINES: {
        "legend": {"displayMode": "list", "placement": "bottom", "showLegend": True, "calcs": []},
        "tooltip": {"mode": "multi", "sort": "desc"},
    },
    Chart.NUMBER: {**_STAT, "graphMode": "area", "textMode": "auto"},
    Chart.NOW: {**_STAT, "graphMode": "none", "textMode": "auto"},
    Chart.NAMES: {**_STAT, "graphMode": "none", "textMode": "name"},
    Chart.BARS: {
        "reduceOptions": _NUMBERS,
        "orientation": "horizontal",
        "displayMode": "basic",
        "valueMode": "color",
        "namePlacement": "auto",
        "showUnfilled": True,
        "sizing": "auto",
        "minVizHeight": 16,
        "minVizWidth": 8,
        "maxVizHeight": 300,
        "legend": {"displayMode": "list", "placement": "bottom", "showLegend": False, "calcs": []},
    },
    Chart.HEAT: {
        "calculate": False,
        "cellGap": 1,
        "color": {
            "mode": "scheme",
            "scheme": "Oranges",
            "scale": "exponential",
            "exponent": 0.5,
            "fill": "dark-orange",
            "reverse": False,
            "steps": 64,
        },
        "exemplars": {"color": "rgba(255,0,255,0.7)"},
        "filterValues": {"le": 1e-9},
        "legend": {"show": True},
        "rowsFrame": {"layout": "auto"},
        "showValue": "never",
        "tooltip": {"mode": "single", "showColorScale": False, "yHistogram": True},
        "yAxis": {"axisPlacement": "left", "reverse": False, "unit": Unit.SECONDS.value},
    },
}


def _data_source_variable() -> _Json:
    return {
        "name": "datasource",
        "label": "Data source",
        "type": "datasource",
        "query": "prometheus",
        "includeAll": False,
        "multi": False,
        "hide": 0,
        "refresh": 1,
    }


def _variable(label: str) -> _Json:
    return {
        "name": label,
        "label": label.capitalize(),
        "type": "query",
        "datasource": DATA_SOURCE,
        "query": {"query": f"label_values({UPTIME.name}, {label})", "refId": f"{label}s"},
        "includeAll": True,
        "allValue": ".*",
        "multi": True,
        "current": {"text": ["All"], "value": ["$__all"], "selected": True},
        "hide": 0,
        "refresh": 2,
        "sort": 7,
    }


def _alerts() -> _Json:
    """Marks on every panel where an alert fires."""
    return {
        "name": "Alerts",
        "datasource": DATA_SOURCE,
        "enable": True,
        "iconColor": "red",
        "target": {
            "refId": "alerts",
            "expr": f'ALERTS{{alertname=~"Longtake.+", alertstate="firing", {SEEN.cells}}}',
        },
    }


def _other_dashboards() -> _Json:
    return {
        "title": "Longtake",
        "type": "dashboards",
        "tags": ["longtake"],
        "asDropdown": True,
        "includeVars": True,
        "keepTime": True,
        "targetBlank": False,
        "icon": "external link",
        "tooltip": "",
        "url": "",
    }
