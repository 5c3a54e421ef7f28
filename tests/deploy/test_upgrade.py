"""What an upgrade does to a cell that runs: it ends no stream, and is refused where it would."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.deploy.cluster_with import cluster_with
from tests.deploy.commands import commands
from tests.deploy.manifests import (
    NAMESPACE,
    OPEN,
    Document,
    config_text,
    merged,
    of_kind,
    one,
    path,
    pod,
    render,
    require_helm,
)

RUNNING = merged(OPEN, {"workers": {"denoise": {"replicas": 8}, "decode": {"replicas": 3}, "text": {"replicas": 2}}})
"""Four pods of denoise workers, three of decode and two of text workers."""


@pytest.fixture(autouse=True)
def _helm() -> None:
    require_helm()


def there(documents: list[Document], release: str = "cell") -> list[Document]:
    """The objects of a release as a cluster has them, marked by helm as its own, with the engine's pod."""
    made = [copy.deepcopy(each) for each in documents if each["kind"] in ("RayCluster", "ConfigMap", "PrometheusRule")]
    for each in made:
        each["metadata"]["annotations"] = each["metadata"].get("annotations", {}) | {
            "meta.helm.sh/release-name": release, "meta.helm.sh/release-namespace": NAMESPACE,
        }  # fmt: skip
    template = one(documents, "StatefulSet")["spec"]["template"]
    engine = {"apiVersion": "v1", "kind": "Pod", "spec": template["spec"]}
    engine["metadata"] = template["metadata"] | {"name": f"{one(documents, 'StatefulSet')['metadata']['name']}-0"}
    for each in (*made, engine):
        each["metadata"]["namespace"] = NAMESPACE
    return [*made, engine]


def upgraded(before: list[Document], values: Mapping[str, Any], folder: Path, release: str = "cell") -> list[Document]:
    """What helm makes of values where a cluster has the objects of a release; RuntimeError if it refuses."""
    with cluster_with(there(before), folder) as config:
        arguments = ("--dry-run=server", "--disable-openapi-validation", "--kubeconfig", str(config))
        return render(values, *arguments, release=release)


FEWER: dict[str, tuple[dict[str, Any], str]] = {
    "replicas": ({"workers": {"denoise": {"replicas": 6}}}, r"workers\.denoise\.replicas: 3 pods instead of 4"),
    "more in one pod": ({"workers": {"denoise": {"perPod": 4}}}, r"workers\.denoise\.replicas: 2 pods instead of 4"),
    "decoders": ({"workers": {"decode": {"replicas": 1}}}, r"workers\.decode\.replicas: 1 pods instead of 3"),
    "text workers": ({"workers": {"text": {"replicas": 1}}}, r"workers\.text\.replicas: 1 pods instead of 2"),
    "a whole group": ({"workers": {"text": {"replicas": 0}}}, r"workers\.text\.replicas: 0 pods instead of 2"),
    "another name": ({"fullnameOverride": "north"}, r"fullnameOverride: this release's cell is called cell-longtake"),
}


@pytest.mark.parametrize("name", FEWER)
def test_an_upgrade_that_would_delete_pods_with_streams_is_refused_unless_it_is_allowed(
    name: str, tmp_path: Path
) -> None:
    change, said = FEWER[name]
    before = render(RUNNING)
    with pytest.raises(RuntimeError, match=f"{said}.*workers.allowShrink"):
        upgraded(before, merged(RUNNING, change), tmp_path)
    allowed = upgraded(before, merged(RUNNING, change, {"workers": {"allowShrink": True}}), tmp_path)
    assert one(allowed, "RayCluster") == one(render(merged(RUNNING, change)), "RayCluster")


def test_the_way_to_shrink_that_the_page_tells_is_one(tmp_path: Path) -> None:
    """Its upgrade deletes pods, is refused without what allows it, and is taken with it."""
    section = path("docs/operations.md").read_text().partition("### Fewer workers")[2].partition("\n## ")[0]
    (words,) = [words for words in commands(section) if words[:2] == ["helm", "upgrade"]]
    with_values, allowed = words[words.index("--set") :], ["--set", "workers.allowShrink=true"]
    assert with_values[-2:] == allowed
    values = yaml.safe_load(path(words[words.index("-f") + 1]).read_text())
    before = render(values, release=words[2])
    with cluster_with(there(before, words[2]), tmp_path) as config:
        there_now = ("--dry-run=server", "--disable-openapi-validation", "--kubeconfig", str(config))
        with pytest.raises(RuntimeError, match=r"workers\.denoise\.replicas: 1 pods instead of 2"):
            render(values, *there_now, *with_values[:-2], release=words[2])
        after = render(values, *there_now, *with_values, release=words[2])
    assert one(after, "RayCluster")["spec"]["workerGroupSpecs"][0]["replicas"] == 1


@pytest.mark.parametrize("page", ["docs/operations.md", "docs/weights.md"])
def test_every_upgrade_and_installation_of_the_pages_is_one(page: str) -> None:
    found = [
        words for words in commands(path(page).read_text()) if words[0] == "helm" and words[1] in ("install", "upgrade")
    ]
    assert found
    for _, _, release, chart, *options in found:
        assert chart == "deploy/chart/longtake"
        render(
            {}, *(str(path(option)) if option.startswith("deploy/") else option for option in options), release=release
        )


@pytest.mark.parametrize(
    "change", [{}, {"workers": {"denoise": {"replicas": 12}}}, {"workers": {"denoise": {"replicas": 7}}}]
)
def test_as_many_pods_or_more_are_let_pass(change: dict[str, Any], tmp_path: Path) -> None:
    wanted = one(render(merged(RUNNING, change)), "RayCluster")
    assert one(upgraded(render(RUNNING), merged(RUNNING, change), tmp_path), "RayCluster") == wanted


def test_a_smaller_release_beside_a_larger_one_is_let_pass(tmp_path: Path) -> None:
    found = upgraded(render(RUNNING), OPEN, tmp_path, release="south")
    assert one(found, "RayCluster")["metadata"]["name"] == "south-longtake"


def test_a_pod_that_runs_keeps_its_configuration_until_it_is_deleted(tmp_path: Path) -> None:
    """Nothing changes below it, and what its containers need to start again stays."""
    before = render(OPEN)
    changed = merged(OPEN, {"config": {"limits": {"max_sessions": 7}}})
    after = upgraded(before, changed, tmp_path)
    kept = {each["metadata"]["name"]: each for each in of_kind(after, "ConfigMap")}
    old = named(before)
    assert named(after) != old and kept.keys() == {old, named(after)}
    assert kept[old]["data"] == {"longtake.toml": config_text(before)}
    assert "max_sessions = 7" in kept[named(after)]["data"]["longtake.toml"]
    assert all(each["immutable"] for each in kept.values())
    # … and when the pod is of the new one, the old one goes.
    assert [each["metadata"]["name"] for each in of_kind(upgraded(after, changed, tmp_path), "ConfigMap")] == [
        named(after)
    ]


def test_a_configuration_has_the_name_of_its_content() -> None:
    same, other = render(OPEN | {"page": {"enabled": False}}), render(merged(OPEN, {"link": {"port": 50100}}))
    assert named(render(OPEN)) == named(same) != named(other)


def named(documents: list[Document]) -> str:
    """The configuration that the engine's pod has."""
    (name,) = [each["configMap"]["name"] for each in pod(documents, "frontend").spec["volumes"] if "configMap" in each]
    assert name in {each["metadata"]["name"] for each in of_kind(documents, "ConfigMap")}
    return str(name)


def test_rules_and_dashboards_are_refused_in_a_second_release(tmp_path: Path) -> None:
    both = merged(OPEN, {"metrics": {"shared": {"enabled": True}}})
    first = render(both)
    with pytest.raises(
        RuntimeError, match=r"metrics\.shared\.enabled: the release cell has rules and dashboards already"
    ):
        upgraded(first, both, tmp_path, release="south")
    assert of_kind(upgraded(first, both, tmp_path), "PrometheusRule"), "the first one keeps them"
    assert not of_kind(upgraded(first, OPEN, tmp_path, release="south"), "PrometheusRule")
