"""The dashboards: fresh, whole, typed against Grafana's own schema, and asking only for what is declared."""

from __future__ import annotations

import copy
import json
import re
import subprocess
from collections import Counter
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest
import yaml

from longtake.core.errors import Contradiction, InvalidField
from monitoring import declarations as metrics
from monitoring.alerting.records import Records, TimeScale
from monitoring.boards.dashboards import DASHBOARDS, FOLDER, documents
from monitoring.boards.panels import PLAIN, grafana
from monitoring.boards.panels import panel as made
from monitoring.boards.promql import Scope, duration
from monitoring.boards.tables import OVERVIEW, THROUGHPUT
from monitoring.declarations import BY_NAME, METRICS
from monitoring.generated import bring, stale
from tests.npm import node_modules

PACKAGES = {"@grafana/schema": "13.2.3", "typescript": "5.9.3"}
TYPES = Path(__file__).parent / "grafana.ts"
MONITORING = Path(__file__).resolve().parents[2] / "monitoring"
SCOPE = Scope("5m")
Json = dict[str, Any]


def test_the_committed_dashboards_are_those_the_code_makes() -> None:
    assert stale(documents(), FOLDER) == []


def test_files_that_are_old_missing_or_too_many_are_seen_and_mended(tmp_path: Path) -> None:
    wanted = {tmp_path / "one.json": "1\n", tmp_path / "two.json": "2\n"}
    (tmp_path / "one.json").write_text("0\n")
    (tmp_path / "more.json").write_text("3\n")
    assert [path.name for path in stale(wanted, tmp_path)] == ["more.json", "one.json", "two.json"]
    assert bring(wanted, tmp_path, check=True) == 1
    assert (tmp_path / "more.json").exists()
    assert bring(wanted, tmp_path, check=False) == 0
    assert stale(wanted, tmp_path) == []
    assert bring(wanted, tmp_path, check=True) == 0


def test_every_metric_is_shown_or_ruled_on() -> None:
    shown = {metric.name for page in DASHBOARDS for panel in page.panels for metric in panel.metrics}
    assert {metric.name for metric in METRICS} - shown == set()


def test_every_declared_metric_is_exported_under_a_name_of_its_own() -> None:
    declared = re.findall(r'^[A-Z_]+ = Metric\("(\w+)"', Path(metrics.__file__).read_text(), flags=re.MULTILINE)
    assert [metric.name for metric in METRICS] == declared
    assert len(BY_NAME) == len(declared) > 50


def test_no_query_asks_for_what_is_not_declared() -> None:
    with pytest.raises(InvalidField, match=r"label of longtake_blocks_total: 'worker'.*pace or cell"):
        SCOPE.rate(metrics.BLOCKS, "worker")
    with pytest.raises(InvalidField, match="label of longtake_pages: 'kind'"):
        SCOPE.sum(metrics.PAGES, kind="free")
    with pytest.raises(Contradiction, match="longtake_pages contradicts a counter"):
        SCOPE.rate(metrics.PAGES)
    with pytest.raises(Contradiction, match="longtake_blocks_total contradicts a histogram"):
        SCOPE.quantile(0.5, metrics.BLOCKS)
    with pytest.raises(Contradiction, match="longtake_blocks_total contradicts a gauge"):
        SCOPE.sum(metrics.BLOCKS)
    with pytest.raises(Contradiction, match="one axis"):
        made("two units", PLAIN, SCOPE.rate(metrics.BLOCKS), SCOPE.sum(metrics.JOURNAL), advice="")


@pytest.mark.parametrize(
    ("length_s", "text"), [(0.2, "200ms"), (1.5, "1500ms"), (30, "30s"), (90, "90s"), (300, "5m"), (259_200, "3d")]
)
def test_times_are_written_in_the_greatest_unit_that_divides_them(length_s: float, text: str) -> None:
    assert duration(length_s) == text


def once(counter: str) -> str:
    """The rate of a counter of cells, counted once by however many jobs it is scraped."""
    each = f"sum by (namespace, cell, job) (rate(longtake_{counter}_total[5m]))"
    return f"max by (namespace, cell) ({each})"


def test_expressions_keep_their_order_whatever_is_joined() -> None:
    blocks, late = SCOPE.rate(metrics.BLOCKS), SCOPE.rate(metrics.LATE_BLOCKS)
    assert ((blocks + late) / blocks).text == (f"({once('blocks')} + {once('late_blocks')}) / {once('blocks')}")
    assert (late / blocks).rest().above(0.5).text == (f"(1 - ({once('late_blocks')} / {once('blocks')})) > 0.5")
    workers = SCOPE.sum(metrics.WORKERS, "role")
    assert "and on(namespace, cell, role)" in (workers & SCOPE.sum(metrics.WORKERS_EXPECTED, "role")).text
    assert "and on(namespace, cell)" in (workers & blocks).text
    assert Records(TimeScale()).memory[0].series.labels == ("store",)


# --- the shape of the JSON ------------------------------------------------------------------------------------------


def pages() -> list[Json]:
    return [json.loads(text) for text in documents().values()]


def shown(page: Json) -> list[Json]:
    """All panels, also those of rows that are collapsed, as they lie when every row is open."""
    opened, down = [], 0
    for panel in page["panels"]:
        inside = panel.get("panels", [])
        opened += [moved_down(one, down) for one in (panel, *inside)]
        down += max((one["gridPos"]["y"] + one["gridPos"]["h"] for one in inside), default=0) - (
            panel["gridPos"]["y"] + 1 if inside else 0
        )
    return opened


def moved_down(panel: Json, rows: int) -> Json:
    return panel | {"gridPos": panel["gridPos"] | {"y": panel["gridPos"]["y"] + rows}}


def defects(page: Json) -> list[str]:
    """What is wrong with a page, beyond what types can say."""
    found = []
    panels = shown(page)
    for number, count in Counter(panel["id"] for panel in panels).items():
        if count > 1:
            found.append(f"id {number} is used {count} times")
    for one, other in combinations(panels, 2):
        if overlap(one["gridPos"], other["gridPos"]):
            found.append(f"{one['title']!r} lies on {other['title']!r}")
    variables = {variable["name"]: variable for variable in page["templating"]["list"]}
    if variables["datasource"]["type"] != "datasource" or variables["datasource"]["query"] != "prometheus":
        found.append("no variable for the data source")
    if "label_values(longtake_uptime_seconds, cell)" not in variables["cell"]["query"]["query"]:
        found.append("no variable for the cell")
    for panel in panels:
        where = panel["gridPos"]
        if where["x"] + where["w"] > 24:
            found.append(f"{panel['title']!r} is wider than the page")
        if panel["type"] != "row":
            found += panel_defects(panel)
    return found


def overlap(one: Json, other: Json) -> bool:
    apart = (
        one["x"] + one["w"] <= other["x"]
        or other["x"] + other["w"] <= one["x"]
        or one["y"] + one["h"] <= other["y"]
        or other["y"] + other["h"] <= one["y"]
    )
    return not apart


def panel_defects(panel: Json) -> list[str]:
    found = []
    if not panel["fieldConfig"]["defaults"].get("unit"):
        found.append(f"{panel['title']!r} has no unit")
    if len(panel["description"]) < 60:
        found.append(f"{panel['title']!r} does not say what to do")
    legends = [target["legendFormat"] for target in panel["targets"]]
    if len(set(legends)) < len(legends):
        found.append(f"{panel['title']!r} has two lines of one name")
    for target in panel["targets"]:
        if target["datasource"]["uid"] != "${datasource}":
            found.append(f"{panel['title']!r} names a data source")
        if target["expr"].count('cell=~"$cell"') < target["expr"].count("longtake_"):
            found.append(f"{panel['title']!r} asks all cells")
    bounds = [step["value"] for step in panel["fieldConfig"]["defaults"]["thresholds"]["steps"]]
    if bounds[0] is not None or bounds[1:] != sorted(bounds[1:]):
        found.append(f"{panel['title']!r} has thresholds out of order")
    return found


@pytest.mark.parametrize("page", pages(), ids=lambda page: page["uid"])
def test_pages_have_no_structural_defect(page: Json) -> None:
    assert defects(page) == []


def test_uids_titles_and_panels_are_unique() -> None:
    assert len({page["uid"] for page in pages()}) == len(pages())
    titles = [panel.title for page in DASHBOARDS for panel in page.panels]
    assert len(titles) == len(set(titles))


def test_structural_defects_are_seen() -> None:
    page = grafana(THROUGHPUT)
    found = []
    for path, value in {
        ("panels", 1, "gridPos", "x"): 3,
        ("panels", 2, "id"): 2,
        ("panels", 1, "fieldConfig", "defaults", "unit"): "",
        ("panels", 1, "targets", 0, "expr"): "longtake_blocks_total",
        ("panels", 1, "targets", 0, "datasource", "uid"): "prometheus",
        ("panels", 4, "gridPos", "w"): 20,
        ("templating", "list", 0, "type"): "query",
    }.items():
        broken: Any = copy.deepcopy(page)
        spot = broken
        for step in path[:-1]:
            spot = spot[step]
        spot[path[-1]] = value
        found += defects(broken)[:1]
    assert found == [
        "'Blocks a second' lies on 'Share of the limit'",
        "id 2 is used 2 times",
        "'Blocks a second' has no unit",
        "'Blocks a second' asks all cells",
        "'Blocks a second' names a data source",
        "'Pictures sent' is wider than the page",
        "no variable for the data source",
    ]


def test_provisioning_points_at_prometheus_and_at_a_folder_of_dashboards() -> None:
    grafana_folder = MONITORING / "grafana"
    source = yaml.safe_load((grafana_folder / "datasources/longtake.yaml").read_text())
    assert source["apiVersion"] == 1
    assert [(one["type"], one["url"]) for one in source["datasources"]] == [("prometheus", "http://prometheus:9090")]
    provider = yaml.safe_load((grafana_folder / "dashboards/longtake.yaml").read_text())
    assert [(one["type"], one["folder"]) for one in provider["providers"]] == [("file", "Longtake")]
    scraped_every = yaml.safe_load((MONITORING / "prometheus.yaml").read_text())["global"]["scrape_interval"]
    assert source["datasources"][0]["jsonData"]["timeInterval"] == scraped_every


# --- what boards are for -------------------------------------------------------------------------------------------

SCREEN = 24
"""Rows of Grafana's grid that a screen of 1080 lines shows below its menus."""
RED = {
    "Age of the oldest dispatch",
    "Audit log in trouble",
    "Cells that answer",
    "Pages that fire",
    "Left of 30 days' allowance",
    "Workers, of those expected",
    "Share of late blocks",
    "Until the first segment",
    "Real-time factor of realtime streams",
    "Late blocks of realtime streams",
    "Slack of realtime blocks",
    "First segment, 95th percentile",
    "Time until whole again",
    "Oldest write that waits",
    "In trouble",
    "Slowness",
    "Classes of numerics",
    "Share of time in the engine's steps",
    "Time of a step",
    "Events that wait",
    "Time for metrics",
    "Certificates end in",
}
"""Panels that can be red: each shows that clients are failed, or soon will be, and somebody can help."""
FULLNESS = {
    metrics.LIMIT,
    metrics.SESSIONS_LIMIT,
    metrics.RESERVED,
    metrics.PAGES,
    metrics.DECODER_SLOTS,
    metrics.BUSY,
    metrics.QUEUE_WAIT,
    metrics.OPENS_REFUSED,
}
"""Metrics that are high in a cell that is full and healthy."""


def colour(panel: Json, value: float) -> str:
    """The colour in which a panel shows a value."""
    steps = panel["fieldConfig"]["defaults"]["thresholds"]["steps"]
    chosen: str = [step["color"] for step in steps if step["value"] is None or value >= step["value"]][-1]
    return chosen


def test_the_overview_is_one_screen_of_at_most_ten_panels() -> None:
    panels = grafana(OVERVIEW)["panels"]
    assert isinstance(panels, list)
    assert len(panels) <= 10
    assert {panel["type"] for panel in panels} <= {"stat", "timeseries", "bargauge"}
    assert max(panel["gridPos"]["y"] + panel["gridPos"]["h"] for panel in panels) <= SCREEN


def test_every_board_opens_with_little_more_than_a_screen() -> None:
    for page in pages():
        heights = [panel["gridPos"]["y"] + panel["gridPos"]["h"] for panel in page["panels"]]
        assert max(heights) <= 1.25 * SCREEN, page["uid"]
    folded = [len(panel["panels"]) for page in pages() for panel in page["panels"] if panel.get("collapsed")]
    assert len(folded) == 8 and all(folded)


def test_red_means_act_and_a_full_cell_is_not_red() -> None:
    known = {panel["title"]: panel for page in pages() for panel in shown(page) if panel["type"] != "row"}
    reds = {
        title
        for title, panel in known.items()
        if "red" in {step["color"] for step in panel["fieldConfig"]["defaults"]["thresholds"]["steps"]}
    }
    assert reds == RED
    for panel in (panel for page in DASHBOARDS for panel in page.panels):
        if FULLNESS & set(panel.metrics):
            assert "red" not in {colour(known[panel.title], share) for share in (0.5, 0.96, 1.0, 900.0)}, panel.title


@pytest.mark.parametrize(
    ("title", "value", "expected"),
    [
        ("Cells that answer", 1, "green"),
        ("Cells that answer", 0, "red"),
        ("Pages that fire", 1, "red"),
        ("Tickets that fire", 1, "orange"),
        ("Left of 30 days' allowance", 0.6, "green"),
        ("Left of 30 days' allowance", 0.1, "orange"),
        ("Left of 30 days' allowance", -0.1, "red"),
        ("Workers, of those expected", 1, "green"),
        ("Workers, of those expected", 0.75, "orange"),
        ("Workers, of those expected", 0, "red"),
        ("Share of the limit", 1, "orange"),
        ("Certificates end in", 60 * 86_400, "green"),
        ("Certificates end in", 3600, "red"),
    ],
)
def test_colours_say_what_is_to_be_done(title: str, value: float, expected: str) -> None:
    (panel,) = [panel for page in pages() for panel in shown(page) if panel["title"] == title]
    assert colour(panel, value) == expected


# --- types ----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def compiler() -> Path:
    """The folder node_modules with TypeScript and Grafana's schema."""
    return node_modules(json.dumps({"private": True, "dependencies": PACKAGES}))


def type_errors(compiler: Path, folder: Path, texts: list[str]) -> str:
    """What TypeScript says of the dashboards."""
    constants = [f"export const page{number} = {text.rstrip()} satisfies Page;" for number, text in enumerate(texts)]
    (folder / "pages.ts").write_text("\n".join([TYPES.read_text(), *constants]))
    (folder / "node_modules").unlink(missing_ok=True)
    (folder / "node_modules").symlink_to(compiler)
    program = "node_modules/typescript/bin/tsc"
    options = ("--noEmit", "--strict", "--skipLibCheck", "--module", "nodenext", "--target", "es2022")
    done = subprocess.run(
        ["node", program, *options, "pages.ts"], cwd=folder, capture_output=True, text=True, timeout=100, check=False
    )
    assert done.returncode == 0 or "error TS" in done.stdout, done.stdout + done.stderr
    return done.stdout


def test_the_dashboards_are_of_grafanas_types(compiler: Path, tmp_path: Path) -> None:
    assert type_errors(compiler, tmp_path, list(documents().values())) == ""


def test_the_types_know_each_part_of_a_dashboard(compiler: Path, tmp_path: Path) -> None:
    mistakes = {
        '"drawStyle": "line"': '"drawStlye": "line"',
        '"stacking"': '"stack"',
        '"mode": "multi"': '"mode": "many"',
        '"legendFormat"': '"legend_format"',
        '"gridPos"': '"gridPost"',
        '"mode": "absolute"': '"mode": "relative"',
        '"colorMode"': '"colourMode"',
        '"minVizHeight"': '"minHeight"',
        '"refresh": "30s"': '"refesh": "30s"',
        '"includeAll"': '"include_all"',
        '"type": "stat"': '"type": "stats"',
    }
    texts = []
    for right, wrong in mistakes.items():
        text = documents()[FOLDER / "throughput.json"]
        assert right in text
        texts.append(text.replace(right, wrong, 1))
    said = type_errors(compiler, tmp_path, texts).splitlines()
    starts = [
        number
        for number, line in enumerate((tmp_path / "pages.ts").read_text().splitlines(), 1)
        if line.startswith("export const page")
    ]
    errors = [int(line.split("(")[1].split(",")[0]) for line in said if line.startswith("pages.ts(")]
    for number, (start, end) in enumerate(zip(starts, [*starts[1:], 10**9], strict=True)):
        assert any(start <= at < end for at in errors), list(mistakes.items())[number]
