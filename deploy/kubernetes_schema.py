"""Kubernetes' own definitions of what the values hold as manifests hold it, so that a misspelt key is refused."""

from __future__ import annotations

import json
from collections.abc import Iterator
from importlib.resources import files
from typing import Any

MINOR = "1.35"
"""The oldest minor version that the chart's renderings are checked against: newer fields would be dropped there."""
_CORE = "io.k8s.api.core.v1"
_NETWORKING = "io.k8s.api.networking.v1"
_META = "io.k8s.apimachinery.pkg.apis.meta.v1"
_QUANTITY = "io.k8s.apimachinery.pkg.api.resource.Quantity"
_TAKEN = (
    f"{_CORE}.Affinity", f"{_CORE}.Container", f"{_CORE}.EnvFromSource", f"{_CORE}.EnvVar", f"{_CORE}.Toleration",
    f"{_CORE}.TopologySpreadConstraint", f"{_CORE}.Volume", f"{_CORE}.VolumeMount",
    f"{_NETWORKING}.NetworkPolicyEgressRule", f"{_NETWORKING}.NetworkPolicyPeer",
)  # fmt: skip


def _having(field: str, value: str) -> dict[str, Any]:
    """What holds for an object whose field has a value."""
    return {"required": [field], "properties": {field: {"const": value}}}


_PULL = ["Always", "IfNotPresent", "Never"]
_ENUMS = {
    (f"{_CORE}.Toleration", "effect"): ["NoSchedule", "PreferNoSchedule", "NoExecute"],
    (f"{_CORE}.Toleration", "operator"): ["Exists", "Equal"],
    (f"{_CORE}.TopologySpreadConstraint", "whenUnsatisfiable"): ["DoNotSchedule", "ScheduleAnyway"],
    (f"{_CORE}.NodeSelectorRequirement", "operator"): ["In", "NotIn", "Exists", "DoesNotExist", "Gt", "Lt"],
    (f"{_META}.LabelSelectorRequirement", "operator"): ["In", "NotIn", "Exists", "DoesNotExist"],
    (f"{_CORE}.EmptyDirVolumeSource", "medium"): ["", "Memory", "HugePages", "HugePages-2Mi", "HugePages-1Gi"],
    (f"{_CORE}.ImageVolumeSource", "pullPolicy"): _PULL,
    (f"{_CORE}.Container", "imagePullPolicy"): _PULL,
    (f"{_CORE}.Container", "restartPolicy"): ["Always"],
    (f"{_CORE}.VolumeMount", "mountPropagation"): ["None", "HostToContainer"],
    (f"{_NETWORKING}.NetworkPolicyPort", "protocol"): ["TCP", "UDP", "SCTP"],
}
_FIELDS: dict[tuple[str, str], dict[str, Any]] = {
    (f"{_CORE}.EnvVar", "name"): {"type": "string", "pattern": "^[-._a-zA-Z][-._a-zA-Z0-9]*$"},
    (f"{_CORE}.TopologySpreadConstraint", "maxSkew"): {"type": "integer", "minimum": 1},
    (f"{_CORE}.PreferredSchedulingTerm", "weight"): {"type": "integer", "minimum": 1, "maximum": 100},
    (f"{_CORE}.WeightedPodAffinityTerm", "weight"): {"type": "integer", "minimum": 1, "maximum": 100},
    (f"{_CORE}.ImageVolumeSource", "reference"): {"type": "string", "minLength": 1},
    (f"{_META}.LabelSelector", "matchLabels"): {"$ref": "#/$defs/labelsOfNodes"},
    (f"{_NETWORKING}.IPBlock", "cidr"): {"type": "string", "pattern": "^[0-9a-fA-F.:]+/[0-9]{1,3}$"},
}
_TOGETHER: dict[str, list[dict[str, Any]]] = {
    f"{_CORE}.Toleration": [
        {"if": _having("operator", "Exists"), "then": {"properties": {"value": {"enum": ["", None]}}}},
        {"if": {"required": ["tolerationSeconds"]}, "then": _having("effect", "NoExecute")},
        {"if": {"not": {"required": ["key"]}}, "then": _having("operator", "Exists")},
    ],
    f"{_CORE}.EnvVar": [{"not": {"required": ["value", "valueFrom"]}}],
    f"{_CORE}.EnvFromSource": [{"oneOf": [{"required": ["configMapRef"]}, {"required": ["secretRef"]}]}],
    f"{_NETWORKING}.NetworkPolicyPeer": [
        {"not": {"required": ["ipBlock", "podSelector"]}}, {"not": {"required": ["ipBlock", "namespaceSelector"]}},
    ],
}  # fmt: skip
"""What the API server checks and its definitions do not say: values, single fields, and what may stand together."""


def definitions() -> dict[str, Any]:
    """By the name of their type, with those that they refer to, for `$defs` of the chart's schema.

    Each is closed, as the API server is under strict validation, and has no words. A volume's source is one of its own,
    `io.k8s.api.core.v1.VolumeSource`: a volume without its name.
    """
    folder = files("kubernetes_validate") / "kubernetes-json-schema" / f"v{MINOR}.0-local-strict"
    known = json.loads((folder / "_definitions.json").read_text())["$defs"]
    made: dict[str, Any] = {}
    waiting = list(_TAKEN)
    while waiting:
        name = waiting.pop()
        if name not in made:
            made[name] = {"$ref": "#/$defs/quantity"} if name == _QUANTITY else _bare(known[name])
            waiting += _referred(made[name])
    for (name, field), allowed in _ENUMS.items():
        made[name]["properties"][field] = {"enum": allowed}
    for (name, field), schema in _FIELDS.items():
        made[name]["properties"][field] = schema
    for name, rules in _TOGETHER.items():
        made[name]["allOf"] = rules
    source = json.loads(json.dumps(made[f"{_CORE}.Volume"]))
    del source["properties"]["name"], source["required"]
    made[f"{_CORE}.VolumeSource"] = source
    return dict(sorted(made.items()))


def _bare(schema: Any) -> Any:  # noqa: ANN401 -- JSON, of any shape
    """`schema` without descriptions and formats, with references that hold within one document."""
    if isinstance(schema, list):
        return [_bare(item) for item in schema]
    if not isinstance(schema, dict):
        return schema.replace("/api/_definitions.json#", "#") if isinstance(schema, str) else schema
    kept = {
        key: value for key, value in schema.items() if key not in ("description", "format") or isinstance(value, dict)
    }
    return {key: _bare(value) for key, value in kept.items() if not key.startswith("x-")}


def _referred(schema: object) -> Iterator[str]:
    """The names of the definitions that a schema refers to."""
    if isinstance(schema, dict):
        for key, value in schema.items():
            if key == "$ref" and isinstance(value, str):
                name = value.rpartition("/")[2]
                if name.startswith("io.k8s."):
                    yield name
            else:
                yield from _referred(value)
    elif isinstance(schema, list):
        for item in schema:
            yield from _referred(item)
