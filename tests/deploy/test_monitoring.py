"""What a release brings for Prometheus and Grafana: what `monitoring/` made, by one switch, and no clash of two."""

from __future__ import annotations

import json
import tomllib

import yaml

from deploy.render import CHART
from monitoring.alerting.records import TimeScale
from monitoring.alerting.rules import RUNBOOK
from monitoring.alerting.rules import documents as rules_as_made
from monitoring.boards.dashboards import documents as boards_as_made
from tests.deploy.manifests import (
    OPEN,
    Document,
    config_text,
    matches,
    of_kind,
    one,
    overlay,
    pods,
    render,
    require_helm,
)
from workers.site import NODE, POD


def shared(name: str) -> tuple[dict[str, object], dict[str, Document], list[Document]]:
    """Rules by their objects' names, dashboards by their files', and all objects, of a release that has them."""
    documents = render(OPEN | {"metrics": {"shared": {"enabled": True}}}, release=name)
    rules = {each["metadata"]["name"]: each["spec"] for each in of_kind(documents, "PrometheusRule")}
    shown = [each for each in of_kind(documents, "ConfigMap") if "grafana_dashboard" in each["metadata"]["labels"]]
    sizes_bytes = [len(json.dumps(each["data"]).encode()) for each in shown]
    assert max(sizes_bytes) < 2**20, "the most that a ConfigMap may hold"
    return rules, {file: json.loads(text) for each in shown for file, text in each["data"].items()}, documents


def test_rules_and_dashboards_reach_the_cluster_as_monitoring_made_them() -> None:
    require_helm()
    rules, boards, _ = shared("cell")
    made = {f"cell-longtake-{file.stem}": yaml.safe_load(text)
            for file, text in rules_as_made(CHART, TimeScale(), RUNBOOK).items()}  # fmt: skip
    drawn = {file.stem: json.loads(text) for file, text in boards_as_made().items()}
    assert rules == made != {}
    assert {file.removeprefix("video-cell-longtake-").removesuffix(".json") for file in boards} == drawn.keys() != set()
    for name, board in drawn.items():
        written = json.dumps(boards[f"video-cell-longtake-{name}.json"])
        uid = json.loads(written)["uid"]
        assert uid.endswith(f"-{name}") and len(uid) <= 40, "the most that Grafana takes"
        mark = uid.removeprefix("longtake-").removesuffix(f"-{name}")
        assert json.loads(written.replace(f"longtake-{mark}-", "longtake-")) == board


def test_rules_and_dashboards_are_one_switch_which_one_release_has() -> None:
    require_helm()
    kinds = {"PrometheusRule", "ServiceMonitor"}
    assert kinds.isdisjoint(each["kind"] for each in render(OPEN))
    for part in ("rules", "dashboards"):
        documents = render(OPEN | {"metrics": {"shared": {"enabled": True, part: {"enabled": False}}}})
        assert bool(of_kind(documents, "PrometheusRule")) == (part != "rules")
        assert (len(of_kind(documents, "ConfigMap")) > 1) == (part != "dashboards")


def test_what_two_releases_bring_does_not_clash_even_where_both_have_the_switch_on() -> None:
    require_helm()
    (_, first, one_release), (_, second, other_release) = shared("north"), shared("south")
    assert first.keys().isdisjoint(second), "files of one folder, of which an uninstalled release takes its own"
    uids = [{board["uid"] for board in boards.values()} for boards in (first, second)]
    assert uids[0].isdisjoint(uids[1]) and len(uids[0]) == len(first)
    names = [{(each["kind"], each["metadata"]["name"]) for each in documents}
             for documents in (one_release, other_release)]  # fmt: skip
    assert names[0].isdisjoint(names[1])


def test_prometheus_finds_the_metrics_service() -> None:
    documents = list(overlay("h200-4"))
    monitor = one(documents, "ServiceMonitor")["spec"]
    found = [each for each in of_kind(documents, "Service") if matches(monitor["selector"], each["metadata"]["labels"])]
    assert [each["metadata"]["name"] for each in found] == ["cell-longtake-metrics"]
    assert [port["name"] for port in found[0]["spec"]["ports"]] == [end["port"] for end in monitor["endpoints"]]
    # What the alerts ask of `up`, which Prometheus makes: the job's name, and whose target it is.
    assert "longtake" in found[0]["metadata"]["labels"][monitor["jobLabel"]]
    cell = tomllib.loads(config_text(documents))["metrics"]["cell"]
    for endpoint in monitor["endpoints"]:
        assert endpoint["honorLabels"] is True
        assert endpoint["relabelings"] == [{"targetLabel": "cell", "replacement": cell}]


def test_workers_are_told_their_pod_and_their_node() -> None:
    asked = {}
    for each in pods(list(overlay("h200-4"))):
        (container,) = each.spec["containers"]
        fields = {
            e["name"]: e["valueFrom"]["fieldRef"]["fieldPath"] for e in container["env"] if e["name"] in (NODE, POD)
        }
        asked[each.role] = fields
    assert set(map(str, asked.values())) == {str({NODE: "spec.nodeName", POD: "metadata.name"})}
