"""The chart's values: what a cluster would refuse is refused before, by its name, and what it takes is taken."""

from __future__ import annotations

from typing import Any

import pytest

from tests.deploy.manifests import OPEN, merged, one, pod, render, require_helm, validate


@pytest.fixture(autouse=True)
def _helm() -> None:
    require_helm()


def denoise(**settings: object) -> dict[str, Any]:
    return {"workers": {"denoise": settings}}


def frontend(**settings: object) -> dict[str, Any]:
    return {"frontend": settings}


def memory(amount: object) -> dict[str, Any]:
    return frontend(resources={"memory": amount})


def cpu(amount: object) -> dict[str, Any]:
    return frontend(resources={"cpu": amount})


CUDA = {"config": {"model": {"device": "cuda"}}}
MODELS = {"config": {"model": {"path": "/models/wan"}}}
INIT = {"name": "weights", "image": "weights:1"}

REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "unknown value": ({"worker": {}}, "worker"),
    "unknown key of the configuration": ({"config": {"limits": {"max_sesions": 4}}}, "max_sesions"),
    "key that the chart sets": ({"config": {"cluster": {"launch": "subprocess"}}}, "launch"),
    "section that the chart sets": ({"config": {"listen": {"port": 1}}}, "listen"),
    "type": ({"config": {"limits": {"max_sessions": "64"}}}, "max_sessions"),
    "range": (denoise(replicas=0), "/workers/denoise/replicas"),
    "latest": ({"image": {"worker": {"tag": "latest"}}}, "/image/worker/tag"),
    "a tag in the repository": ({"image": {"worker": {"repository": "longtake:1"}}}, "/image/worker/repository"),
    "capitals in the repository": ({"image": {"worker": {"repository": "Longtake"}}}, "/image/worker/repository"),
    "a digest that is none": ({"image": {"worker": {"digest": "sha256:12"}}}, "/image/worker/digest"),
    # volumes
    "host path": ({"modelVolume": {"hostPath": {"path": "/"}}}, "modelVolume.hostPath"),
    "nfs": ({"modelVolume": {"nfs": {"server": "s", "path": "/"}}}, "modelVolume.nfs"),
    "iscsi": ({"modelVolume": {"iscsi": {"targetPortal": "p", "iqn": "i", "lun": 0}}}, "modelVolume.iscsi"),
    "nfs among more volumes": (
        {"pods": {"extraVolumes": [{"name": "x", "nfs": {"server": "s", "path": "/"}}]}},
        "extraVolumes.x.nfs",
    ),
    "misspelt volume": ({"modelVolume": {"emptyDirr": {}}}, "emptyDirr"),
    "misspelt in a volume": ({"modelVolume": {"emptyDir": {"sizelimit": "1Gi"}}}, "sizelimit"),
    "a claim without a name": ({"modelVolume": {"persistentVolumeClaim": {"readOnly": True}}}, "claimName"),
    "two volumes": ({"modelVolume": {"csi": {"driver": "d"}, "emptyDir": {}}}, "/modelVolume"),
    "a journal on the node's own disk": ({"journalVolume": {"hostPath": {"path": "/"}}}, "journalVolume.hostPath"),
    "a journal in an image": ({"journalVolume": {"image": {"reference": "r:1"}}}, "journalVolume.image"),
    "a journal that cannot be written": (
        {"journalVolume": {"persistentVolumeClaim": {"claimName": "j", "readOnly": True}}},
        "journalVolume.persistentVolumeClaim.readOnly",
    ),
    "a journal elsewhere": ({"config": {"journal": {"path": "/tmp"}}}, "journal"),
    # files
    "a model without a volume": (MODELS, "modelVolume"),
    "all of /models without a volume": ({"config": {"model": {"path": "/models"}}}, "config.model.path"),
    "a model without a volume in some pods": (
        merged(MODELS, frontend(extraVolumes=[{"name": "m", "emptyDir": {}}],
                                extraVolumeMounts=[{"name": "m", "mountPath": "/models"}])),
        "workers.decode",
    ),
    "a model at no place": ({"config": {"model": {"path": "models/wan"}}}, "config.model.path"),
    "a recording on the root": ({"config": {"recording": {"file": "/var/log/record"}}}, "config.recording.file"),
    "an audit log on the root": ({"config": {"auth": {"audit": "/audit"}}}, "config.auth.audit"),
    "profiles on the root": ({"config": {"cluster": {"profiles": "/profiles"}}}, "config.cluster.profiles"),
    "profiles where they are read only": (
        {"config": {"cluster": {"profiles": "/models/profiles"}}, "modelVolume": {"emptyDir": {}}},
        "config.cluster.profiles",
    ),
    # ports
    "port below 1024": ({"service": {"port": 443}}, "/service/port"),
    "a port twice": ({"service": {"port": 9464}}, "service.port"),
    "a port of Ray": ({"link": {"port": 6379}}, "link.port"),
    "a port of Ray's agent": ({"page": {"port": 52365}}, "page.port"),
    "a port of Ray's workers": ({"metrics": {"port": 10500}}, "metrics.port"),
    # amounts
    "memory that is none": (memory("4Q"), "/frontend/resources/memory"),
    "memory with a space": (memory("4 Gi"), "/frontend/resources/memory"),
    "no memory": (memory("0Gi"), "/frontend/resources/memory"),
    "no memory at all": (memory("0.0Gi"), "/frontend/resources/memory"),
    "a thousandth of a byte": (memory("500m"), "/frontend/resources/memory"),
    "four bytes": (memory(4), "/frontend/resources/memory"),
    "cores that are none": (cpu("two"), "/frontend/resources/cpu"),
    "no core": (cpu("0"), "/frontend/resources/cpu"),
    "less than no core": (cpu("-1"), "/frontend/resources/cpu"),
    "a core in too many parts": (cpu("0.0001"), "/frontend/resources/cpu"),
    "shared memory": (denoise(sharedMemory="lots"), "/workers/denoise/sharedMemory"),
    # workers
    "GPUs for nobody": (merged(CUDA, denoise(replicas=4, perPod=3)), "workers.denoise.perPod"),
    "GPUs for nobody beside decoders": (
        merged(CUDA, {"workers": {"decode": {"replicas": 3, "perPod": 2}}}),
        "workers.decode.perPod",
    ),
    "GPUs for nobody in chains": (merged(CUDA, denoise(layerSplit=2, replicas=3, perPod=4)), "workers.denoise.perPod"),
    "two slices for one process": (
        merged(CUDA, {"gpu": {"resource": "nvidia.com/mig-3g.40gb"}}),
        "workers.denoise.perPod",
    ),
    "a GPU of no vendor": ({"gpu": {"resource": "gpu"}}, "/gpu/resource"),
    "text workers without a GPU": ({"config": {"model": {"text_device": "cuda"}}}, "workers.text.replicas"),
    "text workers that are two things": ({"config": {"cluster": {"text_workers": 2}}}, "text_workers"),
    "a chain over two pods": (denoise(layerSplit=4, perPod=2), "workers.denoise.perPod"),
    # pods
    "misspelt setting": (denoise(nodeSelectors={}), "nodeSelectors"),
    "misspelt toleration": (denoise(tolerations=[{"kye": "gpu"}]), "kye"),
    "a toleration that is none": (denoise(tolerations=[{"key": "gpu", "operator": "Exist"}]), "operator"),
    "a toleration of everything with a value": (denoise(tolerations=[{"key": "a", "operator": "Exists", "value": "b"}]),
                                                "/workers/denoise/tolerations/0"),
    "a toleration for a while of what evicts nobody": (denoise(tolerations=[{"key": "a", "tolerationSeconds": 5}]),
                                                       "/workers/denoise/tolerations/0"),
    "a volume in no medium": ({"modelVolume": {"emptyDir": {"medium": "memory"}}}, "/modelVolume/emptyDir/medium"),
    "an image pulled at no time": (
        {"modelVolume": {"image": {"reference": "x:1", "pullPolicy": "Sometimes"}}},
        "/modelVolume/image/pullPolicy",
    ),
    "an environment that is two things": (
        frontend(extraEnv=[{"name": "A", "value": "b", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}}]),
        "/frontend/extraEnv/0",
    ),
    "an environment without a name": (frontend(extraEnv=[{"name": "A=B", "value": "c"}]), "/frontend/extraEnv/0/name"),
    "an environment from nowhere": (frontend(extraEnvFrom=[{"prefix": "A_"}]), "/frontend/extraEnvFrom/0"),
    "a probe of what ends": (frontend(initContainers=[INIT | {"livenessProbe": {"exec": {"command": ["x"]}}}]),
                             "livenessProbe"),
    "misspelt affinity": ({"pods": {"affinity": {"nodeAffinities": {}}}}, "nodeAffinities"),
    "misspelt spread": (denoise(topologySpreadConstraints=[{"maxSkeww": 1}]), "maxSkeww"),
    "misspelt environment": (frontend(extraEnv=[{"name": "A", "valeu": "b"}]), "valeu"),
    "the chart's own environment": (frontend(extraEnv=[{"name": "POD_IP", "value": "b"}]), "POD_IP"),
    "an environment twice": (
        {"pods": {"extraEnv": [{"name": "A", "value": "b"}]}} | frontend(extraEnv=[{"name": "A", "value": "c"}]),
        "frontend.extraEnv",
    ),
    "misspelt source of an environment": (frontend(extraEnvFrom=[{"secretReff": {"name": "x"}}]), "secretReff"),
    "the chart's own volume": (frontend(extraVolumes=[{"name": "tmp", "emptyDir": {}}]), "frontend.extraVolumes"),
    "the chart's own place": (
        frontend(extraVolumeMounts=[{"name": "tmp", "mountPath": "/etc/longtake"}]),
        "frontend.extraVolumeMounts",
    ),
    "a mount of nothing": (frontend(extraVolumeMounts=[{"name": "x", "mountPath": "/y"}]), "frontend.extraVolume"),
    "a mount nowhere": (frontend(extraVolumeMounts=[{"name": "tmp", "mountPath": "x"}]), "mountPath"),
    "an init container's mount of nothing": (
        frontend(initContainers=[INIT | {"volumeMounts": [{"name": "x", "mountPath": "/x"}]}]),
        "frontend.initContainers.weights.volumeMounts",
    ),
    "an init container that may do all": (
        frontend(initContainers=[INIT | {"securityContext": {"privileged": True}}]),
        "privileged",
    ),
    "an init container that is root": (
        frontend(initContainers=[INIT | {"securityContext": {"runAsUser": 0}}]),
        "runAsUser",
    ),
    "an init container without an image": (frontend(initContainers=[{"name": "weights"}]), "image"),
    "misspelt init container": (frontend(initContainers=[INIT | {"comand": ["x"]}]), "comand"),
    "an init container twice": (frontend(initContainers=[INIT, INIT]), "frontend.initContainers"),
    "a label that is none": ({"pods": {"podLabels": {"team": "a b"}}}, "/pods/podLabels/team"),
    "the chart's own label": ({"pods": {"podLabels": {"longtake-cell": "other"}}}, "/pods/podLabels/longtake-cell"),
    "a label's name that is none": (denoise(podLabels={"a b": "c"}), "/workers/denoise/podLabels"),
    "a node's label that is none": (denoise(nodeSelector={"pool": "a b"}), "/workers/denoise/nodeSelector/pool"),
    "an annotation that is no text": ({"pods": {"podAnnotations": {"a": 1}}}, "/pods/podAnnotations/a"),
    "a runtime that is none": ({"pods": {"runtimeClassName": "NVIDIA"}}, "/pods/runtimeClassName"),
    "a scheduler that is none": ({"pods": {"schedulerName": "a b"}}, "/pods/schedulerName"),
    # names
    "a dot in a Secret's name": ({"tls": {"secretName": "a..b"}}, "/tls/secretName"),
    "an underscore in a class": ({"ray": {"head": {"priorityClassName": "a_b"}}}, "/ray/head/priorityClassName"),
    "a name that no host has": (
        {"tls": {"certManager": {"enabled": True, "issuerRef": {"name": "x"}, "dnsNames": ["a b"]}}},
        "dnsNames",
    ),
    # who may call, and whom
    "nobody may call": ({"networkPolicy": {"clients": []}}, "clients"),
    "a peer that is none": ({"networkPolicy": {"clients": [{"podSelektor": {}}]}}, "podSelektor"),
    "a peer that is two": (
        {"networkPolicy": {"clients": [{"ipBlock": {"cidr": "10.0.0.0/8"}, "podSelector": {}}]}},
        "/networkPolicy/clients/0",
    ),
    "an address that is no range": ({"networkPolicy": {"clients": [{"ipBlock": {"cidr": "10.0.0.1"}}]}}, "cidr"),
    "a selector of what no label can be": (
        {"networkPolicy": {"clients": [{"podSelector": {"matchLabels": {"a": "b c"}}}]}},
        "/networkPolicy/clients/0/podSelector/matchLabels/a",
    ),
    "a rule that is none": ({"networkPolicy": {"extraEgress": [{"too": []}]}}, "too"),
    "two certificates": ({"tls": {"secretName": "a", "certManager": {"enabled": True}}}, "tls.secretName"),
    "no issuer": ({"tls": {"certManager": {"enabled": True}}}, "tls.certManager.issuerRef"),
    "client CA without TLS": ({"tls": {"clientCa": True}}, "tls.clientCa"),
    "tokens in the open": ({"auth": {"tenantsSecret": "t"}}, "auth.tenantsSecret"),
    "a secret in the open": ({"link": {"certManager": {"enabled": False}}}, "link.certManager.enabled"),
    "a drain that finds nobody": ({"tls": {"secretName": "public", "privateCa": False}}, "drain.server"),
    "half a link": ({"link": {"certManager": {"enabled": False}, "engineSecret": "e"}}, "link.engineSecret"),
    "everybody by accident": ({"config": {"auth": {"allow_anonymous": False}}}, "auth.tenantsSecret"),
    "no account": ({"serviceAccount": {"create": False}}, "serviceAccount.name"),
    "a route from nowhere": ({"route": {"enabled": True}}, "route.parentRefs"),
    "a route from what is none": ({"route": {"enabled": True, "parentRefs": [{"nmae": "x"}]}}, "nmae"),
    "an eviction policy that is none": (
        {"podDisruptionBudget": {"unhealthyPodEvictionPolicy": "Never"}},
        "unhealthyPodEvictionPolicy",
    ),
    # the cell's name
    "long name": ({"fullnameOverride": "x" * 41}, "fullnameOverride"),
    "a name with a dot": ({"fullnameOverride": "north.eu"}, "north.eu"),
    "a name that begins with a digit": ({"fullnameOverride": "2north"}, "2north"),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_wrong_values_are_refused_by_name(name: str) -> None:
    values, named = REFUSED[name]
    with pytest.raises(RuntimeError) as refused:
        render(merged(OPEN, values))
    said = str(refused.value)
    assert named in said
    if "schema" not in said:  # a sentence of the chart's: of one line, after where helm was
        (sentence,) = [line for line in said.splitlines() if "execution error" in line]
        assert named in sentence.rpartition("): ")[2]


@pytest.mark.parametrize("release", ["north.eu", "2north", "4gpu", "a" * 32])
def test_a_release_whose_name_no_service_can_have_is_refused_unless_the_cell_is_called_otherwise(release: str) -> None:
    with pytest.raises(RuntimeError, match=f"the name {release}-longtake .*set fullnameOverride"):
        render(OPEN, release=release)
    documents = render(OPEN | {"fullnameOverride": "north"}, release=release)
    assert one(documents, "StatefulSet")["metadata"]["name"] == "north"
    for document in documents:
        validate(document)


ODD = ["true", "null", "on", "1e3", "123", "0x1f"]
"""Names that YAML takes for something else, where nobody quotes them."""


@pytest.mark.parametrize("name", ODD)
def test_names_stay_names_whatever_yaml_takes_them_for(name: str) -> None:
    group = {"priorityClassName": name, "runtimeClassName": name, "schedulerName": name,
             "podLabels": {"team": name}, "podAnnotations": {"a": name}, "nodeSelector": {"pool": name},
             "extraEnv": [{"name": "A", "value": name}]}  # fmt: skip
    values = merged(OPEN, {
        "pods": group, "tls": {"secretName": name}, "auth": {"tenantsSecret": name}, "drain": {"tokenSecret": name},
        "ray": {"authSecret": name, "labels": {"queue": name}}, "serviceAccount": {"create": True, "name": name},
        "link": {"certManager": {"enabled": False}, "engineSecret": name, "workerSecret": name},
        "image": {"worker": {"repository": name, "tag": name}},
        "metrics": {"serviceMonitor": {"enabled": True, "labels": {"release": name}},
                    "shared": {"enabled": True, "dashboards": {"folder": name}}},
        "route": {"enabled": True, "parentRefs": [{"name": name}], "hostnames": ["x.example"]},
    } | ({"fullnameOverride": name} if name[0].isalpha() else {}))  # fmt: skip
    documents = render(values)
    for document in documents:
        validate(document)
        texts(document["metadata"])
    ray = one(documents, "RayCluster")
    assert ray["spec"]["authOptions"]["secretName"] == ray["metadata"]["labels"]["queue"] == name
    assert pod(documents, "denoise").spec["serviceAccountName"] == name
    assert one(documents, "GRPCRoute")["spec"]["parentRefs"] == [{"name": name}]


def texts(metadata: dict[str, Any]) -> None:
    for each in (metadata["name"], *metadata["labels"].values(), *metadata.get("annotations", {}).values()):
        assert isinstance(each, str), metadata


TAKEN: dict[str, dict[str, Any]] = {
    "half a core": cpu("0.5"),
    "half a core as a number": cpu(0.5),
    "cores as a number": cpu(4),
    "millicores": cpu("1500m"),
    "decimal memory": memory("8G"),
    "a part of memory": memory("1.5Gi"),
    "bytes": memory("8589934592"),
    "bytes as a number": memory(8589934592),
    "an exponent": memory("8e9"),
    "memory in thousands": memory("8000000k"),
    "parts of shared memory": denoise(sharedMemory="0.5Gi"),
    "a claim": {"modelVolume": {"persistentVolumeClaim": {"claimName": "m", "readOnly": True}}},
    "an image": {"modelVolume": {"image": {"reference": "registry/weights:1", "pullPolicy": "IfNotPresent"}}},
    "a driver": {"modelVolume": {"csi": {"driver": "x.example", "volumeAttributes": {"bucket": "b"}}}},
    "a claim of the pod's own": {"journalVolume": {"ephemeral": {"volumeClaimTemplate": {"spec": {
        "accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "20Gi"}}}}}}},
    "an empty one": {"journalVolume": {"emptyDir": {"sizeLimit": "20Gi"}}},
    "a model on a volume": merged(MODELS, {"modelVolume": {"emptyDir": {}}}),
    "a model by other volumes": merged(MODELS, {"pods": {
        "extraVolumes": [{"name": "m", "emptyDir": {}}],
        "extraVolumeMounts": [{"name": "m", "mountPath": "/models/wan", "readOnly": True}]}}),
    "a model in the image": {"config": {"model": {"path": "/opt/weights"}}},
    "files that can be written": {
        "config": {"recording": {"file": "/tmp/record"}, "auth": {"audit": "/var/lib/longtake/audit"},
                   "cluster": {"profiles": "/tmp/profiles"}},
        "journalVolume": {"persistentVolumeClaim": {"claimName": "j"}}},
    "files on a volume of one's own": {
        "config": {"cluster": {"profiles": "/profiles/wan"}},
        "pods": {"extraVolumes": [{"name": "p", "persistentVolumeClaim": {"claimName": "p"}}],
                 "extraVolumeMounts": [{"name": "p", "mountPath": "/profiles"}]}},
    "as many GPUs as workers": merged(CUDA, denoise(replicas=4, perPod=2)),
    "cores for one more": denoise(replicas=4, perPod=3),
    "a slice each": merged(CUDA, {"gpu": {"resource": "nvidia.com/mig-3g.40gb"}}, denoise(perPod=1)),
    "another vendor": merged(CUDA, {"gpu": {"resource": "amd.com/gpu"}}),
    "a registry with a port": {"image": {"worker": {"repository": "registry.example:5000/video/longtake_worker"}}},
    "an init container": frontend(initContainers=[INIT | {"securityContext": {"runAsUser": 65534}}]),
    "a helper beside it": frontend(initContainers=[
        INIT | {"restartPolicy": "Always", "startupProbe": {"exec": {"command": ["x"]}}}]),
    "tolerations of every kind": denoise(tolerations=[
        {"operator": "Exists"}, {"key": "a", "value": "b"}, {"key": "a", "operator": "Exists", "effect": "NoSchedule"},
        {"key": "a", "operator": "Equal", "value": "b", "effect": "NoExecute", "tolerationSeconds": 60}]),
    "a name with dots": {"tls": {"secretName": "a.b-c.d"}},
    "peers of every kind": {"networkPolicy": {
        "clients": [{"ipBlock": {"cidr": "10.0.0.0/8", "except": ["10.1.0.0/16"]}}],
        "extraEgress": [{"to": [{"ipBlock": {"cidr": "1.2.3.4/32"}}], "ports": [{"port": 443, "protocol": "TCP"}]}]}},
}  # fmt: skip


@pytest.mark.parametrize("name", TAKEN)
def test_what_a_cluster_takes_is_taken(name: str) -> None:
    for document in render(merged(OPEN, TAKEN[name])):
        validate(document)


def test_a_number_of_bytes_stays_one() -> None:
    container = pod(render(merged(OPEN, memory(8589934592))), "frontend").container
    assert int(float(container["resources"]["limits"]["memory"])) == 8589934592
