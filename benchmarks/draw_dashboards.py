"""Draws each dashboard from its panels' own queries, because no Grafana is to be had here: one picture each.

python -m benchmarks.draw_dashboards --seconds 150                 # a busy cell of its own, a Prometheus of its own
python -m benchmarks.draw_dashboards --prometheus http://127.0.0.1:9090 --seconds 3600

It draws what the queries answer, with the panels' units, bounds and legends, and areas as lines; how Grafana would
draw it, it cannot say.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import click
import matplotlib as mpl
from matplotlib import pyplot
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter
from tqdm import tqdm

from benchmarks.busy_cell import Cell, Clients, Running, running_cell
from benchmarks.prometheus import Curve, Prometheus, running_prometheus
from monitoring.boards.dashboards import DASHBOARDS
from monitoring.boards.panels import Chart, Dashboard, Line, Panel
from monitoring.boards.promql import WHOSE, Unit

FOLDER = Path(__file__).resolve().parent.parent / "docs" / "pictures"
NOTICE = "drawn by a script from the panels' queries, not Grafana"
COLUMNS = 24
PANEL_HEIGHT, ROW_HEIGHT = 2.3, 0.35
LEGEND_LINES = 6
_EVERY = "1s"
_RATE_WINDOW = "10s"
_BYTES = ((2**30, "GiB"), (2**20, "MiB"), (2**10, "KiB"))
_SUFFIXES = {Unit.PER_SECOND: "/s", Unit.BYTES_PER_SECOND: "/s", Unit.NONE: "", Unit.BYTES: ""}


def written(value: float, unit: Unit) -> str:
    """A value with its unit, as short as on an axis."""
    if unit is Unit.SHARE:
        return f"{100 * value:.3g} %"
    if unit is Unit.SECONDS:
        return f"{1e6 * value:.3g} µs" if 0 < abs(value) < 1e-3 else _seconds(value)
    if unit in (Unit.BYTES, Unit.BYTES_PER_SECOND):
        size, name = next(((size, name) for size, name in _BYTES if abs(value) >= size), (1, "B"))
        return f"{value / size:.3g} {name}{_SUFFIXES[unit]}"
    return f"{value:.4g}{_SUFFIXES[unit]}"


def _seconds(value: float) -> str:
    return f"{1000 * value:.3g} ms" if 0 < abs(value) < 1 else f"{value:.3g} s"


class Page:
    """One dashboard's picture."""

    def __init__(self, prometheus: Prometheus, begin_s: float, end_s: float) -> None:
        self._prometheus = prometheus
        self._begin_s = begin_s
        self._end_s = end_s

    def draw(self, dashboard: Dashboard) -> Figure:
        """All panels in their places."""
        places = list(_places(dashboard))
        height = places[-1][1] + 1.2
        figure = pyplot.figure(figsize=(16, height), dpi=65)
        figure.text(0.01, 1 - 0.35 / height, dashboard.title, fontsize=15, weight="bold")
        figure.text(0.99, 1 - 0.35 / height, NOTICE, fontsize=10, ha="right", color="firebrick")
        for what, bottom, left, width in places:
            y = 1 - (bottom + 0.55) / height
            if isinstance(what, str):
                figure.text(0.01, y, what, fontsize=12, weight="bold", color="dimgray")
                continue
            inner = (PANEL_HEIGHT - 0.75) / height
            axes = figure.add_axes((left / COLUMNS + 0.035, y + 0.25 / height, width / COLUMNS - 0.05, inner))
            self._panel(axes, what)
        return figure

    def _panel(self, axes: Axes, panel: Panel) -> None:
        axes.set_title(panel.title, fontsize=9, loc="left", pad=3)
        axes.tick_params(labelsize=7)
        answers = [(line, self._ask(line)) for line in panel.lines]
        match panel.style.chart:
            case Chart.LINES:
                self._lines(axes, panel, answers)
            case Chart.HEAT:
                self._heat(axes, answers[0][1])
            case Chart.BARS:
                self._bars(axes, panel, answers)
            case Chart.NUMBER | Chart.NOW | Chart.NAMES:
                self._numbers(axes, panel, answers)

    def _ask(self, line: Line) -> list[Curve]:
        query = (
            line.query.text.replace("$__rate_interval", _RATE_WINDOW).replace("$namespace", ".*").replace("$cell", ".*")
        )
        step_s = max(1.0, (self._end_s - self._begin_s) / 200)
        return self._prometheus.over(query, self._begin_s, self._end_s, step_s)

    def _lines(self, axes: Axes, panel: Panel, answers: list[tuple[Line, list[Curve]]]) -> None:
        found = [(line, curve) for line, curves in answers for curve in curves]
        # Those that rest at zero come last, so that the legend has room for the others.
        found.sort(key=lambda one: -max(abs(value) for _, value in one[1].points))
        for line, curve in found:
            at = [moment - self._begin_s for moment, _ in curve.points]
            axes.plot(at, [value for _, value in curve.points], linewidth=0.9, label=_legend(line, curve))
        colours = ("tab:orange", "tab:red")
        low, high = axes.get_ylim()
        for bound, colour in zip(panel.style.bounds, colours, strict=False):
            if low <= bound <= high * 1.5:
                axes.axhline(bound, color=colour, linewidth=0.7, linestyle="--")
        axes.set_xlim(0, self._end_s - self._begin_s)
        if panel.unit in (Unit.SHARE, Unit.BYTES):
            axes.set_ylim(bottom=0)
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: written(value, panel.unit)))
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g} s"))
        axes.grid(alpha=0.25)
        handles, labels = axes.get_legend_handles_labels()
        if len(labels) > LEGEND_LINES:
            labels = [*labels[: LEGEND_LINES - 1], f"… and {len(labels) - LEGEND_LINES + 1} more"]
        if labels:
            axes.legend(handles[: len(labels)], labels, fontsize=6, loc="best", framealpha=0.6)
        else:
            axes.text(0.5, 0.5, "no data", transform=axes.transAxes, ha="center", color="gray")

    def _heat(self, axes: Axes, curves: list[Curve]) -> None:
        """Buckets are cumulative: what a band holds is its own rate without that of the band below."""
        ordered = sorted(curves, key=lambda curve: float(curve.labels["le"]))
        below: dict[float, float] = {}
        for height, curve in enumerate(ordered):
            at = [moment - self._begin_s for moment, _ in curve.points]
            own = [max(0.0, value - below.get(moment, 0.0)) for moment, value in curve.points]
            below = dict(curve.points)
            axes.scatter(at, [height] * len(at), c=own, cmap="Oranges", marker="s", s=12, vmin=0)
        axes.set_yticks(range(0, len(ordered), 2), [curve.labels["le"] for curve in ordered[::2]])
        axes.set_xlim(0, self._end_s - self._begin_s)

    def _bars(self, axes: Axes, panel: Panel, answers: list[tuple[Line, list[Curve]]]) -> None:
        """The newest values below each other, each with its name in front."""
        shown = _newest(answers)[::-1]
        names = [f"{legend}  {written(value, panel.unit)}" for legend, value in shown]
        axes.barh(range(len(shown)), [value for _, value in shown], height=0.6, color="lightsteelblue")
        axes.set_yticks(range(len(shown)), names, fontsize=7)
        axes.set_xlim(0, panel.style.top)
        axes.set_ylim(-0.6, max(2, len(shown)) - 0.4)
        axes.tick_params(axis="y", length=0, pad=-6)
        for label in axes.get_yticklabels():
            label.set_horizontalalignment("left")
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: written(value, panel.unit)))

    def _numbers(self, axes: Axes, panel: Panel, answers: list[tuple[Line, list[Curve]]]) -> None:
        axes.set_axis_off()
        shown = _newest(answers)
        if not shown:
            axes.text(0.5, 0.5, panel.style.none or "no data", fontsize=10, ha="center", va="center", color="gray")
        for place, (legend, value) in enumerate(shown[:4]):
            y = 1 - (place + 0.6) / max(1, min(4, len(shown)))
            if panel.style.chart is Chart.NAMES:
                axes.text(0.5, y, legend, fontsize=10, ha="center", va="center")
                continue
            text, colour = written(value, panel.unit), _colour(panel, value)
            axes.text(0.5, y, text, fontsize=17, ha="center", va="center", color=colour)
            axes.text(0.5, y - 0.25, legend, fontsize=7, ha="center", va="center", color="gray")


def _places(dashboard: Dashboard) -> Iterator[tuple[str | Panel, float, float, float]]:
    """Headings and panels with their bottom, left and width; inches down, columns across."""
    top = 0.0
    for row in dashboard.rows:
        if row.title:
            top += ROW_HEIGHT
            yield row.title, top, 0, COLUMNS
        left = 0
        top += PANEL_HEIGHT
        for panel in row.panels:
            if left + panel.style.width > COLUMNS:
                top, left = top + PANEL_HEIGHT, 0
            yield panel, top, left, panel.style.width
            left += panel.style.width


def _newest(answers: list[tuple[Line, list[Curve]]]) -> list[tuple[str, float]]:
    """The last value of each curve, with its legend."""
    return [(_legend(line, curve), curve.points[-1][1]) for line, curves in answers for curve in curves]


def _legend(line: Line, curve: Curve) -> str:
    text = line.legend
    for label in (*WHOSE, *line.query.labels):
        text = text.replace(f"{{{{{label}}}}}", curve.labels.get(label, ""))
    return text.strip()


def _colour(panel: Panel, value: float) -> str:
    if not panel.style.bounds:
        return "black"
    falling = panel.style.bounds[0] > panel.style.bounds[-1]
    passed = sum(value < bound if falling else value >= bound for bound in panel.style.bounds)
    return ("tab:green", "tab:orange", "tab:red")[passed]


async def load(cell: Running, seconds: float) -> None:
    """Streams of every kind; after half of the time all workers die, and clients begin anew."""
    clients = Clients(cell.address)
    clients.live(4)
    clients.sleepers(1, asleep_s=6.0)
    clients.slow(1, silent_s=4.0)
    try:
        await clients.until_opened(6)  # bulk streams would take their places
        clients.bulk(3, pictures=1200)
        clients.bulk(3, pictures=200)
        clients.observers(1)
        for second in tqdm(range(math.ceil(seconds)), unit="s", desc="load"):
            await asyncio.sleep(1)
            if second == math.ceil(seconds / 4):
                clients.live(3)
            if second == math.ceil(seconds / 2):
                cell.kill_workers()
    finally:
        await clients.stop()


@contextlib.contextmanager
def loaded_prometheus(seconds: float) -> Iterator[Prometheus]:
    """One that has watched a busy cell for so long."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        with (
            running_cell(folder, Cell()) as cell,
            running_prometheus(folder, cell.metrics, rules=(), every=_EVERY, cell=Cell().name) as prometheus,
        ):
            asyncio.run(load(cell, seconds))
            yield prometheus


@click.command()
@click.option("--prometheus", "url", default="", help="One that has data; by default one of its own on a busy cell.")
@click.option("--seconds", default=150.0, show_default=True, help="How much of the past is drawn.")
@click.option("--folder", default=FOLDER, type=click.Path(path_type=Path), show_default=True)
def main(url: str, seconds: float, folder: Path) -> None:
    """Draw the dashboards as PNG files."""
    mpl.use("agg")
    folder.mkdir(parents=True, exist_ok=True)
    with contextlib.nullcontext(Prometheus(url)) if url else loaded_prometheus(seconds) as prometheus:
        end_s = time.time()
        page = Page(prometheus, end_s - seconds, end_s)
        for dashboard in DASHBOARDS:
            figure = page.draw(dashboard)
            path = folder / f"{dashboard.uid}.png"
            figure.savefig(path, pil_kwargs={"optimize": True})
            pyplot.close(figure)
            click.echo(path)


if __name__ == "__main__":
    main()
