"""What every pod of a cell can be told: for all of them, and for those of one group."""

from __future__ import annotations

import pytest
import yaml

from deploy.render import CHART
from tests.deploy.manifests import OPEN, PODS, Pod, merged, one, pod, pods, render, require_helm

GROUPS = {"frontend": ("frontend",), "head": ("ray", "head"), "denoise": ("workers", "denoise"),
          "decode": ("workers", "decode"), "text": ("workers", "text")}  # fmt: skip
"""Where the values of a role's pods stand."""


@pytest.fixture(autouse=True)
def _helm() -> None:
    require_helm()


def of(role: str, **settings: object) -> dict[str, object]:
    values: dict[str, object] = dict(settings)
    for key in reversed(GROUPS[role]):
        values = {key: values}
    return values


def told(each: Pod) -> dict[str, object]:
    """What a pod has of the settings, by their names in the values."""
    container = each.container
    own = {"name", "emptyDir", "secret", "configMap"}
    return {
        "podLabels": {key: each.labels[key] for key in each.labels if key == "team"},
        "podAnnotations": dict(each.annotations),
        "extraEnv": [entry for entry in container["env"] if entry["name"] == "OMP_NUM_THREADS"],
        "extraEnvFrom": container["envFrom"],
        "extraVolumes": [volume for volume in each.spec["volumes"] if not volume.keys() <= own],
        "extraVolumeMounts": [mount for mount in container["volumeMounts"] if mount["name"] == "kernels"],
        "tmp": {volume["name"]: volume for volume in each.spec["volumes"]}["tmp"]["emptyDir"]["sizeLimit"],
        "initContainers": [
            {key: value for key, value in init.items() if key != "securityContext"}
            for init in each.spec["initContainers"]
        ],
    } | {
        key: each.spec[key]
        for key in ("nodeSelector", "tolerations", "affinity", "topologySpreadConstraints", "priorityClassName",
                    "runtimeClassName", "schedulerName")
    }  # fmt: skip


def test_every_setting_of_all_pods_reaches_every_pod() -> None:
    assert PODS.keys() == yaml.safe_load((CHART / "values.yaml").read_text())["pods"].keys()
    documents = render(merged(OPEN, {"pods": PODS, "workers": {"text": {"replicas": 1}}}))
    found = {each.role: told(each) for each in pods(documents)}
    assert found == dict.fromkeys(GROUPS, PODS)


@pytest.mark.parametrize("role", GROUPS)
def test_a_group_takes_the_same_settings_for_its_own_pods_alone(role: str) -> None:
    documents = render(merged(OPEN, {"workers": {"text": {"replicas": 1}}}, of(role, **PODS)))
    assert told(pod(documents, role)) == PODS
    for other in GROUPS.keys() - {role}:
        spec = pod(documents, other).spec
        assert spec.keys().isdisjoint({"initContainers", "runtimeClassName", "schedulerName", "nodeSelector"}), other
        assert "envFrom" not in pod(documents, other).container


def test_maps_are_merged_lists_joined_and_of_other_things_the_groups_own_count() -> None:
    first, second = {"key": "a", "operator": "Exists"}, {"key": "b", "operator": "Exists"}
    documents = render(merged(OPEN, {
        "pods": {"podLabels": {"team": "video", "tier": "low"}, "tolerations": [first], "priorityClassName": "low",
                 "affinity": {"podAntiAffinity": {}}, "tmp": "1Gi"},
        "workers": {"denoise": {"podLabels": {"tier": "high"}, "tolerations": [second], "priorityClassName": "high",
                                "affinity": {"nodeAffinity": {}}, "tmp": "2Gi"}},
    }))  # fmt: skip
    own, other = pod(documents, "denoise"), pod(documents, "decode")
    assert [(each.labels["team"], each.labels["tier"]) for each in (own, other)] == [
        ("video", "high"),
        ("video", "low"),
    ]
    assert (own.spec["tolerations"], other.spec["tolerations"]) == ([first, second], [first])
    assert (own.spec["priorityClassName"], other.spec["priorityClassName"]) == ("high", "low")
    assert (own.spec["affinity"], other.spec["affinity"]) == ({"nodeAffinity": {}}, {"podAntiAffinity": {}})
    assert [each.spec["volumes"][0]["emptyDir"] for each in (own, other)] == [
        {"sizeLimit": "2Gi"},
        {"sizeLimit": "1Gi"},
    ]


def test_init_containers_are_held_to_the_same_profile() -> None:
    documents = render(merged(OPEN, {"pods": {"initContainers": [
        {"name": "plain", "image": "x:1"}, {"name": "other", "image": "x:1", "securityContext": {"runAsUser": 65534}},
    ]}}))  # fmt: skip
    for each in pods(documents):
        plain, other = (init["securityContext"] for init in each.spec["initContainers"])
        assert plain == each.container["securityContext"]
        assert other == plain | {"runAsUser": 65534}


def test_pods_that_kuberay_makes_are_found_by_the_labels_that_all_objects_have() -> None:
    documents = render(OPEN)
    common = {"app.kubernetes.io/name": "longtake", "app.kubernetes.io/instance": "cell",
              "app.kubernetes.io/part-of": "longtake"}  # fmt: skip
    for each in pods(documents):
        assert common.items() <= each.labels.items()
        assert each.labels["app.kubernetes.io/component"] == each.role


def test_a_digest_goes_before_a_tag() -> None:
    digest = f"sha256:{'a' * 64}"
    values = {"image": {"worker": {"repository": "registry.example/worker", "tag": "1", "digest": digest}}}
    documents = render(merged(OPEN, values))
    assert pod(documents, "denoise").container["image"] == f"registry.example/worker@{digest}"
    assert pod(documents, "frontend").container["image"] == "longtake-frontend:0.1.0"


def test_queues_are_asked_for_by_labels_of_the_ray_cluster() -> None:
    labels = {
        "kueue.x-k8s.io/queue-name": "video",
        "ray.io/scheduler-name": "volcano",
        "volcano.sh/queue-name": "video",
    }
    ray = one(render(merged(OPEN, {"ray": {"labels": labels}})), "RayCluster")
    assert labels.items() <= ray["metadata"]["labels"].items()


def test_a_slice_of_a_gpu_is_asked_for_by_its_name() -> None:
    values = {"config": {"model": {"device": "cuda"}}, "gpu": {"resource": "nvidia.com/mig-1g.20gb"},
              "workers": {"denoise": {"perPod": 1}}}  # fmt: skip
    documents = render(merged(OPEN, values))
    for role in ("denoise", "decode"):
        limits = pod(documents, role).container["resources"]["limits"]
        assert limits.keys() == {"cpu", "memory", "nvidia.com/mig-1g.20gb"}
