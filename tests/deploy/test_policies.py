"""What the pods of a cell may do, what evicts them, and who reaches whom."""

from __future__ import annotations

import copy
import tomllib
from collections.abc import Callable
from typing import Any

import pytest

from cluster.config import parse_config
from tests.deploy.manifests import (
    NAMESPACE,
    OVERLAY_NAMES,
    Document,
    config_text,
    matches,
    of_kind,
    one,
    overlay,
    pod,
    pods,
    require_helm,
)

ROLES = {"frontend", "head", "denoise", "decode"}
"""Of every cell; some have pods for text workers, too."""


@pytest.fixture(params=OVERLAY_NAMES)
def documents(request: pytest.FixtureRequest) -> list[Document]:
    require_helm()
    return copy.deepcopy(list(overlay(request.param)))


# --- pods -------------------------------------------------------------------------------------------------------------


def writes(spec: Document, container: Document) -> list[Document]:
    """The volumes that a container may write to."""
    volumes = {volume["name"]: volume for volume in spec["volumes"]}
    return [volumes[mount["name"]] for mount in container["volumeMounts"] if not mount.get("readOnly")]


FAULTS: dict[str, Callable[[Document, Document], bool]] = {
    "it may run as root": lambda spec, container: (
        spec["securityContext"].get("runAsNonRoot") is not True or spec["securityContext"].get("runAsUser", 0) == 0
    ),
    "it has no seccomp profile": lambda spec, container: (
        spec["securityContext"].get("seccompProfile") != {"type": "RuntimeDefault"}
    ),
    "it may gain privileges": lambda spec, container: (
        container["securityContext"].get("allowPrivilegeEscalation") is not False
        or container["securityContext"].get("privileged") is not False
    ),
    "its root can be written": lambda spec, container: (
        container["securityContext"].get("readOnlyRootFilesystem") is not True
    ),
    "it has capabilities": lambda spec, container: (
        container["securityContext"].get("capabilities") != {"drop": ["ALL"]}
    ),
    "it is told of Kubernetes' API": lambda spec, container: spec.get("automountServiceAccountToken") is not False,
    "it is told of other Services": lambda spec, container: spec.get("enableServiceLinks") is not False,
    "it shares a namespace with its host": lambda spec, container: any(
        spec.get(name) for name in ("hostNetwork", "hostPID", "hostIPC")
    ),
    "it sees a path of its host": lambda spec, container: any("hostPath" in volume for volume in spec["volumes"]),
    "its use is not limited": lambda spec, container: any(
        not {"cpu", "memory"} <= container["resources"].get(kind, {}).keys() for kind in ("limits", "requests")
    ),
    "it has not every probe": lambda spec, container: any(
        probe not in container for probe in ("startupProbe", "readinessProbe", "livenessProbe")
    ),
    "its image is not one version": lambda spec, container: (
        ":" not in container["image"] or container["image"].endswith(":latest")
    ),
    "volumes and mounts differ": lambda spec, container: (
        {mount["name"] for mount in container["volumeMounts"]} != {volume["name"] for volume in spec["volumes"]}
    ),
    "it keeps what it writes": lambda spec, container: any(
        "emptyDir" not in volume for volume in writes(spec, container)
    ),
    "what it writes is not limited": lambda spec, container: any(
        "emptyDir" in volume and "sizeLimit" not in volume["emptyDir"] for volume in writes(spec, container)
    ),
    "a secret stands in the open": lambda spec, container: any(
        "TOKEN" in entry["name"] and not entry["name"].endswith(("_FILE", "_PATH")) for entry in container["env"]
    ),
}
"""What Kubernetes' profile "restricted" bars, and rules of our own."""


def faults(spec: Document) -> list[str]:
    (container,) = spec["containers"]
    return [fault for fault, holds in FAULTS.items() if holds(spec, container)]


def test_every_pod_keeps_the_rules(documents: list[Document]) -> None:
    found = {each.role: faults(each.spec) for each in pods(documents)}
    assert found.keys() - {"text"} == ROLES
    assert not any(found.values()), found


BREAKS: dict[str, Callable[[Document], object]] = {
    "it may run as root": lambda spec: spec["securityContext"].update(runAsUser=0),
    "it has no seccomp profile": lambda spec: spec["securityContext"].pop("seccompProfile"),
    "it may gain privileges": lambda spec: spec["containers"][0]["securityContext"].pop("allowPrivilegeEscalation"),
    "its root can be written": lambda spec: spec["containers"][0]["securityContext"].pop("readOnlyRootFilesystem"),
    "it has capabilities": lambda spec: spec["containers"][0]["securityContext"].pop("capabilities"),
    "it is told of Kubernetes' API": lambda spec: spec.pop("automountServiceAccountToken"),
    "it is told of other Services": lambda spec: spec.pop("enableServiceLinks"),
    "it shares a namespace with its host": lambda spec: spec.update(hostNetwork=True),
    "it sees a path of its host": lambda spec: spec["volumes"][0].update(hostPath={"path": "/"}),
    "its use is not limited": lambda spec: spec["containers"][0]["resources"]["limits"].pop("memory"),
    "it has not every probe": lambda spec: spec["containers"][0].pop("livenessProbe"),
    "its image is not one version": lambda spec: spec["containers"][0].update(image="longtake:latest"),
    "volumes and mounts differ": lambda spec: spec["volumes"].append({"name": "more", "emptyDir": {}}),
    "it keeps what it writes": lambda spec: spec["containers"][0]["volumeMounts"][-1].pop("readOnly"),
    "what it writes is not limited": lambda spec: spec["volumes"][0]["emptyDir"].pop("sizeLimit"),
    "a secret stands in the open": lambda spec: spec["containers"][0]["env"].append(
        {"name": "A_TOKEN", "valueFrom": {"secretKeyRef": {"name": "x", "key": "y"}}}
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_each_rule_can_be_broken(fault: str) -> None:
    spec = copy.deepcopy(pod(overlay("h200-4"), "frontend").spec)
    BREAKS[fault](spec)
    assert fault in faults(spec)


def test_only_the_engine_knows_tenants_and_the_clients_certificate_and_each_side_its_own_link(
    documents: list[Document],
) -> None:
    secrets = {
        each.role: {volume["secret"]["secretName"] for volume in each.spec["volumes"] if "secret" in volume}
        for each in pods(documents)
    }
    assert secrets["head"] == set()
    assert secrets["denoise"] == secrets["decode"] == secrets.get("text", secrets["decode"])
    assert len(secrets["denoise"]) == 1
    assert secrets["denoise"].isdisjoint(secrets["frontend"])


def test_a_drain_fits_into_the_time_that_a_pod_has(documents: list[Document]) -> None:
    front = pod(documents, "frontend")
    command = front.container["lifecycle"]["preStop"]["exec"]["command"]
    assert command[:3] == ["longtake", "drain", "--grace"]
    grace_s = int(command[3].removesuffix("s"))
    # What follows the grace: blocks that have begun, clients' last reads, the Ray node's leave.
    from cluster.launch.ray_node import LEAVE_S
    from cluster.serve import DRAIN_S, GRACE_S

    assert front.spec["terminationGracePeriodSeconds"] >= grace_s + DRAIN_S + GRACE_S + LEAVE_S


def test_there_is_one_engine_and_nothing_scales_it(documents: list[Document]) -> None:
    assert one(documents, "StatefulSet")["spec"]["replicas"] == 1
    kinds = {document["kind"] for document in documents}
    assert kinds.isdisjoint({"HorizontalPodAutoscaler", "ScaledObject", "Deployment"})
    assert "enableInTreeAutoscaling" not in one(documents, "RayCluster")["spec"]


def test_ray_asks_for_a_token_and_shows_no_dashboard(documents: list[Document]) -> None:
    cluster = one(documents, "RayCluster")
    assert cluster["spec"]["authOptions"]["mode"] == "token"
    head = cluster["spec"]["headGroupSpec"]["rayStartParams"]
    assert (head["num-cpus"], head["include-dashboard"]) == ("0", "false")
    front = pod(documents, "frontend")
    environment = {entry["name"]: entry for entry in front.container["env"]}
    assert "RAY_AUTH_TOKEN" not in environment, "every process below would show it"
    folder, _, file = environment["RAY_AUTH_TOKEN_PATH"]["value"].rpartition("/")
    (volume,) = [mount["name"] for mount in front.container["volumeMounts"] if mount["mountPath"] == folder]
    (secret,) = [each["secret"] for each in front.spec["volumes"] if each["name"] == volume]
    assert secret["secretName"] == cluster["metadata"]["name"]
    assert secret["items"] == [{"key": "auth_token", "path": file}]
    assert secret["defaultMode"] == 0o440


def test_all_nodes_of_ray_use_the_ports_that_are_let_through(documents: list[Document]) -> None:
    ray = one(documents, "RayCluster")["spec"]
    joined = dict(option.removeprefix("--").split("=") for option in pod(documents, "frontend").container["args"])
    for group in (ray["headGroupSpec"], *ray["workerGroupSpecs"]):
        assert joined.items() <= group["rayStartParams"].items()


# --- services and disruption ------------------------------------------------------------------------------------------


def test_every_service_finds_the_engine_and_a_port_that_it_has(documents: list[Document]) -> None:
    services = of_kind(documents, "Service")
    assert len(services) == 3
    for service in services:
        found = [each for each in pods(documents) if matches({"matchLabels": service["spec"]["selector"]}, each.labels)]
        assert [each.role for each in found] == ["frontend"]
        names = {port["name"] for port in found[0].container["ports"]}
        assert {port["targetPort"] for port in service["spec"]["ports"]} <= names


def test_no_eviction_takes_a_part_of_a_cell(documents: list[Document]) -> None:
    ray = {group["groupName"]: group["replicas"] for group in one(documents, "RayCluster")["spec"]["workerGroupSpecs"]}
    kept = {}
    for budget in of_kind(documents, "PodDisruptionBudget"):
        (role,) = [each.role for each in pods(documents) if matches(budget["spec"]["selector"], each.labels)]
        kept[role] = budget["spec"]["minAvailable"]
        # An engine that drains is not ready, and has streams; a Ray pod that is not ready has nothing.
        policy = "IfHealthyBudget" if role == "frontend" else "AlwaysAllow"
        assert budget["spec"]["unhealthyPodEvictionPolicy"] == policy
    assert kept == {"frontend": 1, "head": 1} | ray


# --- who reaches whom -------------------------------------------------------------------------------------------------

STRANGERS: dict[str, tuple[str, dict[str, str]]] = {
    "client": (NAMESPACE, {"app": "player"}),
    "prometheus": ("monitoring", {"app": "prometheus"}),
    "dns": ("kube-system", {"k8s-app": "kube-dns"}),
    "elsewhere": ("other", {"app": "anything"}),
    "internet": ("", {}),
}


class Network:
    """What the NetworkPolicies of a release let through, as Kubernetes adds them up."""

    def __init__(self, documents: list[Document]) -> None:
        self._policies = [document["spec"] for document in of_kind(documents, "NetworkPolicy")]
        self._at = dict(STRANGERS) | {each.role: (NAMESPACE, dict(each.labels)) for each in pods(documents)}

    def open(self, sender: str, receiver: str, port: int, protocol: str = "TCP") -> bool:
        """Whether a connection is let out by one side and in by the other."""
        return self._lets(sender, "Egress", "to", receiver, port, protocol) and self._lets(
            receiver, "Ingress", "from", sender, port, protocol
        )

    def _lets(self, own: str, direction: str, side: str, other: str, port: int, protocol: str) -> bool:
        namespace, labels = self._at[own]
        holding = [
            policy
            for policy in self._policies
            if namespace == NAMESPACE and direction in policy["policyTypes"] and matches(policy["podSelector"], labels)
        ]
        if not holding:
            return True  # no policy of ours is about this pod
        return any(
            self._about(rule.get(side), other) and _names(rule.get("ports"), port, protocol)
            for policy in holding
            for rule in policy.get(direction.lower()) or ()
        )

    def _about(self, peers: list[Document] | None, other: str) -> bool:
        namespace, labels = self._at[other]
        if peers is None:
            return True
        return any(
            "ipBlock" not in peer
            and (
                matches(peer["namespaceSelector"], {"kubernetes.io/metadata.name": namespace})
                if "namespaceSelector" in peer
                else namespace == NAMESPACE
            )
            and matches(peer.get("podSelector", {}), labels)
            for peer in peers
        )


def _names(ports: list[Document] | None, port: int, protocol: str) -> bool:
    return ports is None or any(
        each.get("protocol", "TCP") == protocol and each["port"] <= port <= (each.get("endPort") or each["port"])
        for each in ports
    )


Edges = set[tuple[str, str, int]]


def edges(document: dict[str, Any]) -> tuple[Edges, Edges]:
    """Connections that must be open, and some that must not, by a cell's configuration."""
    config = parse_config(document)
    grpc, link, meeting = config.listen.port, config.link.port, config.link.meeting_port
    metrics = int(config.metrics.address.rpartition(":")[2])
    free = 43_210
    needed = {("client", "frontend", grpc), ("frontend", "frontend", grpc), ("prometheus", "frontend", metrics)}
    if config.http.address:
        needed.add(("client", "frontend", int(config.http.address.rpartition(":")[2])))
    texts = {"text"} if config.cluster.text_nodes else set[str]()
    for worker in {"denoise", "decode"} | texts:
        needed |= {(worker, "frontend", link), (worker, "frontend", meeting), (worker, "head", 6379)}
        needed |= {(worker, other, free) for other in ("denoise", "decode") if worker != "text"}  # torch.distributed
        needed |= {(other, worker, port) for other in ("frontend", "head") for port in (6380, 10_500)}
        needed |= {(worker, "frontend", port) for port in (6380, 10_500)}
    needed |= {("frontend", "head", 6379), ("head", "frontend", 6380)}
    barred = {(stranger, role, port) for stranger in STRANGERS for role in ROLES | texts
              for port in (6379, 6380, 10_500, link, meeting, free)}  # fmt: skip
    barred |= {(role, stranger, 443) for stranger in STRANGERS for role in ROLES | texts}
    barred |= {edge for text in texts for edge in ((text, "denoise", free), ("decode", text, free))}
    barred |= {(stranger, "frontend", grpc) for stranger in ("prometheus", "elsewhere", "internet")}
    barred |= {(stranger, "frontend", metrics) for stranger in ("client", "elsewhere", "denoise", "internet")}
    barred |= {("head", "frontend", link), ("frontend", "denoise", free), ("denoise", "frontend", metrics)}
    return needed, barred


def test_parts_of_a_cell_reach_each_other_and_nobody_else_does(documents: list[Document]) -> None:
    network = Network(documents)
    needed, barred = edges(tomllib.loads(config_text(documents)))
    assert [edge for edge in sorted(needed) if not network.open(*edge)] == []
    assert [edge for edge in sorted(barred) if network.open(*edge)] == []
    assert all(network.open(role, "dns", 53, protocol) for role in ROLES for protocol in ("UDP", "TCP"))


@pytest.mark.parametrize("part", ["egress", "frontend", "head", "workers", "tensors"])
def test_every_policy_is_needed(part: str) -> None:
    """Without any one of them something is closed that must be open."""
    documents = copy.deepcopy(list(overlay("h200-4")))
    documents.remove(one(documents, "NetworkPolicy", f"cell-longtake-{part}"))
    network = Network(documents)
    needed, barred = edges(tomllib.loads(config_text(documents)))
    assert any(not network.open(*edge) for edge in needed)
    assert not any(network.open(*edge) for edge in barred), "the net below them holds"


def test_below_all_policies_lies_one_that_denies_everything_to_every_pod(documents: list[Document]) -> None:
    deny = one(documents, "NetworkPolicy", "cell-longtake-deny")["spec"]
    assert all(matches(deny["podSelector"], each.labels) for each in pods(documents))
    assert deny.keys() == {"podSelector", "policyTypes"}
    assert set(deny["policyTypes"]) == {"Ingress", "Egress"}
