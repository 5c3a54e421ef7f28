"""The chart: what it renders is valid, what is wrong is refused, and the server understands its configuration."""

from __future__ import annotations

import copy
import json
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import jsonschema
import kubernetes_validate
import pytest
import yaml
from cloudcoil.models.cert_manager.v1 import Certificate, Issuer
from cloudcoil.models.prometheus_operator.v1 import PrometheusRule, ServiceMonitor
from pydantic import BaseModel

from cluster.config import LIMITS_KEYS, ServerConfig, parse_config
from cluster.launch.ray_placing import nodes_of
from cluster.net.exposure import check_exposure
from deploy.render import CHART, OVERLAYS, OWNED, helm, rendering, stale
from longtake.core.limits import Limits
from longtake.core.work import Role
from tests.deploy.manifests import (
    MINORS,
    OPEN,
    OVERLAY_NAMES,
    PODS,
    Document,
    config_text,
    merged,
    of_kind,
    one,
    overlay,
    path,
    pod,
    render,
    require_helm,
    unknown,
    validate,
)

CRD = path("../shared/crds/kuberay-1.7.0-rayclusters.yaml")
MODELS: dict[str, type[BaseModel]] = {
    "Certificate": Certificate, "Issuer": Issuer, "PrometheusRule": PrometheusRule, "ServiceMonitor": ServiceMonitor,
}  # fmt: skip
"""The definitions of cert-manager and of Prometheus' operator, as models in a package."""


@pytest.fixture(autouse=True)
def _helm() -> None:
    require_helm()


GPU = {"config": {"model": {"device": "cuda", "dtype": "bfloat16"}}}
MATRIX: dict[str, dict[str, Any]] = {
    "as it comes": {},
    "cuda": GPU,
    "chains": merged(GPU, {"workers": {"denoise": {"layerSplit": 2, "replicas": 4, "perPod": 4}}}),
    "chains over pods": merged(GPU, {"workers": {"denoise": {"layerSplit": 4, "perPod": 1, "chainsInOnePod": False}}}),
    "text": {"workers": {"text": {"replicas": 3, "perPod": 2}}},
    "text on GPUs": merged(GPU, {"config": {"model": {"text_device": "cuda"}}, "workers": {"text": {"replicas": 1}}}),
    "tls": {"tls": {"secretName": "public"}, "page": {"enabled": True}},
    "a public certificate": {"tls": {"secretName": "public", "privateCa": False}, "drain": {"server": "x.org:50051"}},
    "mtls": {"tls": {"secretName": "public", "clientCa": True}},
    "tls made here": {"tls": {"certManager": {"enabled": True, "issuerRef": {"kind": "Issuer", "name": "x"}}}},
    "tenants": {"auth": {"tenantsSecret": "tenants"}, "drain": {"tokenSecret": "operator"},
                "tls": {"secretName": "public"}, "config": {"auth": {"allow_anonymous": False}}},
    "tenants behind a proxy": {"auth": {"tenantsSecret": "tenants"},
                               "config": {"auth": {"allow_anonymous": False, "allow_unencrypted": True}}},
    "link secrets": {"link": {"certManager": {"enabled": False}, "engineSecret": "e", "workerSecret": "w"}},
    "no link certificates": {"link": {"certManager": {"enabled": False}},
                             "config": {"link": {"network_trusted": True}}},
    "no policies": {"networkPolicy": {"enabled": False}, "podDisruptionBudget": {"enabled": False}},
    "existing account": {"serviceAccount": {"create": False, "name": "mine"}, "ray": {"authSecret": "token"}},
    "no grace": {"drain": {"graceSeconds": 0}, "frontend": {"updateStrategy": "RollingUpdate"}},
    "models": {"modelVolume": {"persistentVolumeClaim": {"claimName": "m"}}, "service": {"type": "LoadBalancer"}},
    "journal": {"journalVolume": {"persistentVolumeClaim": {"claimName": "j"}}},
    "a slice of a GPU": merged(GPU, {"gpu": {"resource": "nvidia.com/mig-3g.40gb"},
                                     "workers": {"denoise": {"perPod": 1}}}),
    "settings of all pods": {"pods": PODS, "ray": {"labels": {"kueue.x-k8s.io/queue-name": "video"}}},
    "weights from an image": {"modelVolume": {"image": {"reference": "registry.example/weights:1"}}},
    "digests": {"image": {"frontend": {"digest": f"sha256:{'0' * 64}"}, "worker": {"digest": f"sha256:{'1' * 64}"}}},
    "a route": {"route": {"enabled": True, "parentRefs": [{"name": "public", "namespace": "gateways"}],
                          "hostnames": ["video.example.org"], "unnamed": {"otherCells": ["south-longtake"]}}},
    "monitoring": {"metrics": {"serviceMonitor": {"enabled": True}, "shared": {"enabled": True}}},
}  # fmt: skip


@pytest.fixture(scope="module", params=[*MATRIX, *OVERLAY_NAMES])
def documents(request: pytest.FixtureRequest) -> list[Document]:
    require_helm()
    if request.param in MATRIX:
        return render(merged(OPEN, MATRIX[request.param]))
    return list(overlay(request.param))


def test_helm_lint_finds_nothing() -> None:
    for name in OVERLAY_NAMES:
        assert "0 chart(s) failed" in helm("lint", "--strict", str(CHART), "--values", str(OVERLAYS / f"{name}.yaml"))


def test_what_is_made_from_other_files_is_fresh() -> None:
    assert stale() == [], "run `make rendered`"


def test_kubernetes_takes_every_object(documents: list[Document]) -> None:
    for document in documents:
        validate(document)


def test_a_misspelt_field_is_noticed() -> None:
    """The check above can fail."""
    service = copy.deepcopy(one(render(OPEN), "Service", "cell-longtake"))
    service["spec"]["selektor"] = service["spec"].pop("selector")
    for minor in MINORS:
        with pytest.raises(kubernetes_validate.ValidationError):
            kubernetes_validate.validate(service, minor, strict=True)


def closed(schema: object) -> object:
    """A schema in which no object has properties that it does not list."""
    if isinstance(schema, list):
        return [closed(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    made = {key: closed(value) for key, value in schema.items()}
    if "properties" in schema and not schema.get("x-kubernetes-preserve-unknown-fields"):
        made.setdefault("additionalProperties", False)
    return made


@pytest.fixture(scope="module")
def ray_cluster() -> jsonschema.Draft202012Validator:
    if not CRD.exists():
        pytest.skip(f"{CRD.name} of KubeRay is not in ../shared/crds")
    versions = yaml.load(CRD.read_text(), Loader=yaml.CSafeLoader)["spec"]["versions"]
    (v1,) = [version for version in versions if version["name"] == "v1"]
    # Neither an autoscaler of Kubernetes nor KEDA can scale it: they need the subresource `scale`.
    assert v1["subresources"] == {"status": {}}
    schema = closed(v1["schema"]["openAPIV3Schema"])
    assert isinstance(schema, dict)
    schema["properties"]["metadata"] = {"type": "object"}
    return jsonschema.Draft202012Validator(schema)


def test_kuberay_takes_the_cluster(documents: list[Document], ray_cluster: jsonschema.Draft202012Validator) -> None:
    found = one(documents, "RayCluster")
    ray_cluster.validate(found)
    group = found["spec"]["workerGroupSpecs"][0]
    group["minReplica"] = group.pop("minReplicas")
    assert len([*ray_cluster.iter_errors(found)]) == 2, "one is missing, one is unknown"
    group["minReplicas"] = group.pop("minReplica")


def dropped(document: Document) -> list[str]:
    model = MODELS[document["kind"]].model_validate(document)
    return unknown(document, model.model_dump(mode="json", by_alias=True))


def test_other_operators_take_their_objects(documents: list[Document]) -> None:
    for document in documents:
        if document["kind"] in MODELS:
            assert dropped(document) == []


def test_an_operators_object_with_a_misspelt_key_is_noticed() -> None:
    monitor = one(render(merged(OPEN, MATRIX["monitoring"])), "ServiceMonitor")
    monitor["spec"]["endpoints"][0]["intervall"] = "1s"
    monitor["spec"]["selektor"] = monitor["spec"].pop("selector")
    try:
        lost = dropped(monitor)
    except ValueError as error:
        lost = [str(error)]
    assert lost


# --- the server's configuration ---------------------------------------------------------------------------------------


def test_the_server_understands_its_configuration(documents: list[Document]) -> None:
    config = parse_config(tomllib.loads(config_text(documents)))
    check_exposure(config)  # what the server checks when it starts
    assert config.link.network_trusted or config.link.certificate
    ray = one(documents, "RayCluster")
    assert config.cluster.ray_address == f"{ray['metadata']['name']}-head-svc.video.svc:6379"
    container = pod(documents, "frontend").container
    ports = {port["name"]: port["containerPort"] for port in container["ports"]}
    assert ports["grpc"] == config.listen.port
    assert (ports["link"], ports["meeting"]) == (config.link.port, config.link.meeting_port)
    assert config.metrics.address == f"0.0.0.0:{ports['metrics']}"
    assert config.http.address == (f"0.0.0.0:{ports['page']}" if "page" in ports else "")
    mounted = [mount["mountPath"] for mount in container["volumeMounts"]]
    assert config.journal.path == ("/var/lib/longtake/journal" if "/var/lib/longtake" in mounted else "")
    files = [config.tls.certificate, config.tls.key, config.tls.client_ca, config.auth.tenants,
             config.link.certificate, config.link.key, config.link.ca]  # fmt: skip
    for file in files:
        assert not file or any(file.startswith(f"{folder}/") for folder in mounted), file


def test_every_pool_of_the_configuration_has_its_nodes_and_room_for_its_workers(documents: list[Document]) -> None:
    whole = parse_config(tomllib.loads(config_text(documents)))
    config, model = whole.cluster, whole.model
    groups = {group["groupName"]: group for group in one(documents, "RayCluster")["spec"]["workerGroupSpecs"]}
    pools = {
        "denoise": (config.denoise_nodes, config.denoise_workers * config.layer_split, model.device),
        "decode": (config.decode_nodes, config.decode_workers, model.device),
        "text": (config.text_nodes, config.text_workers, model.text_device),
    }
    assert groups.keys() == {name for name, (labels, _, _) in pools.items() if labels}
    assert config.text_nodes or (config.text_workers, model.text_device) == (1, "cpu"), "one, beside decode workers"
    for name, group in groups.items():
        labels, workers, device = pools[name]
        assert group["labels"] == labels == nodes_of(Role(name), config)
        (container,) = group["template"]["spec"]["containers"]
        room = int(group["rayStartParams"]["num-cpus"])  # a worker takes a tenth of one
        gpus = sum(count for name, count in container["resources"]["limits"].items() if name.startswith("nvidia.com/"))
        assert bool(gpus) == (device == "cuda")
        assert int(group["rayStartParams"]["num-gpus"]) == gpus, "Ray counts what its own eyes see otherwise"
        room = gpus or room
        assert group["replicas"] == group["minReplicas"] == group["maxReplicas"]
        assert room * group["replicas"] >= workers > room * (group["replicas"] - 1)
        assert not gpus or gpus * group["replicas"] == workers, "no GPU for nobody"
        if name == "denoise" and config.chains_on_one_node:
            assert room % config.layer_split == 0


def test_every_key_of_the_configuration_is_the_charts_or_the_operators() -> None:
    schema = json.loads((CHART / "values.schema.json").read_text())["properties"]["config"]["properties"]
    for section, field in ServerConfig.model_fields.items():
        annotation = field.annotation
        keys = set(LIMITS_KEYS) if annotation is Limits else set()
        if not keys:
            assert isinstance(annotation, type) and issubclass(annotation, BaseModel)
            keys = set(annotation.model_fields)
        left = set(schema.get(section, {"properties": {}})["properties"])
        assert left.isdisjoint(OWNED.get(section, ()))
        assert left | OWNED.get(section, frozenset()) == keys, section


def test_values_of_every_type_reach_the_server() -> None:
    values = {"config": {"auth": {"allow_anonymous": True, "oidc": {"issuer": 'https://x/"y"<&>'}},
                         "limits": {"park_after_s": 0.5, "max_sessions": 1_000_000},
                         "cluster": {"packed": ["realtime", "fast"], "fused_passes": True}}}  # fmt: skip
    config = parse_config(tomllib.loads(config_text(render(values))))
    assert config.auth.oidc.issuer == 'https://x/"y"<&>'
    assert (config.limits.park_after_s, config.limits.max_sessions) == (0.5, 1_000_000)
    assert (config.cluster.packed, config.cluster.fused_passes) == (("realtime", "fast"), True)


def test_several_cells_share_a_namespace() -> None:
    """No object of two releases has the same name, and no selector of one finds a pod of the other."""
    first, second = (render(merged(OPEN, {"fullnameOverride": name})) for name in ("north", "south"))
    names = [{(each["kind"], each["metadata"]["name"]) for each in documents} for documents in (first, second)]
    assert names[0].isdisjoint(names[1])
    others = [pod(second, role).labels for role in ("frontend", "head", "denoise", "decode")]
    for service in of_kind(first, "Service"):
        selector = service["spec"]["selector"].items()
        assert not any(selector <= labels.items() for labels in others)


def test_yamllint_finds_nothing(tmp_path: Path) -> None:
    folder = path("deploy")
    files = [*folder.glob("overlays/*.yaml"), *folder.glob("weights/*.yaml")]
    files += [CHART / "values.yaml", CHART / "Chart.yaml"]
    for name in OVERLAY_NAMES:
        files.append(tmp_path / f"{name}.yaml")
        files[-1].write_text(rendering(OVERLAYS / f"{name}.yaml"))
    assert len(files) >= 2 * len(OVERLAY_NAMES) + 2
    command = [sys.executable, "-m", "yamllint", "--strict", "-c", str(folder / "yamllint.yaml")]
    found = subprocess.run([*command, *map(str, files)], capture_output=True, text=True)
    assert found.returncode == 0, found.stdout
