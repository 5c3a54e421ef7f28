"""As much of a Kubernetes API server as `lookup` in a chart asks: which kinds there are, and objects that are given."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import yaml

from tests.deploy.manifests import Document

_KINDS = {
    ("v1", "ConfigMap"): "configmaps",
    ("v1", "Pod"): "pods",
    ("v1", "Service"): "services",
    ("v1", "ServiceAccount"): "serviceaccounts",
    ("apps/v1", "StatefulSet"): "statefulsets",
    ("cert-manager.io/v1", "Certificate"): "certificates",
    ("cert-manager.io/v1", "Issuer"): "issuers",
    ("networking.k8s.io/v1", "NetworkPolicy"): "networkpolicies",
    ("policy/v1", "PodDisruptionBudget"): "poddisruptionbudgets",
    ("ray.io/v1", "RayCluster"): "rayclusters",
    ("monitoring.coreos.com/v1", "PrometheusRule"): "prometheusrules",
}


@contextmanager
def cluster_with(objects: Sequence[Document], folder: Path) -> Iterator[Path]:
    """The path of a kubeconfig for a server that has `objects`, each in a namespace, and answers reads alone."""
    answers = _discovery() | _objects(objects)

    class Answer(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            found = answers.get(self.path.partition("?")[0])
            body = json.dumps(found or {"kind": "Status", "apiVersion": "v1", "status": "Failure", "reason": "NotFound",
                                        "code": 404}).encode()  # fmt: skip
            self.send_response(200 if found else 404)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Answer)
    serving = threading.Thread(target=server.serve_forever)
    serving.start()
    try:
        config = folder / "kubeconfig"
        config.write_text(yaml.safe_dump({
            "apiVersion": "v1", "kind": "Config", "current-context": "here",
            "clusters": [{"name": "here", "cluster": {"server": f"http://127.0.0.1:{server.server_port}"}}],
            "contexts": [{"name": "here", "context": {"cluster": "here", "user": "nobody"}}],
            "users": [{"name": "nobody", "user": {}}],
        }))  # fmt: skip
        yield config
    finally:
        server.shutdown()
        serving.join()
        server.server_close()


def _discovery() -> dict[str, Document]:
    """What a server says of itself and of its kinds, by path."""
    groups = {}
    made: dict[str, Document] = {
        "/version": {"major": "1", "minor": "36", "gitVersion": "v1.36.2"},
        "/api": {"kind": "APIVersions", "versions": ["v1"]},
    }
    for version in {version for version, _ in _KINDS}:
        group, _, name = version.rpartition("/")
        served = [
            {"name": plural, "singularName": kind.lower(), "namespaced": True, "kind": kind, "verbs": ["get", "list"]}
            for (own, kind), plural in _KINDS.items()
            if own == version
        ]
        made[_root(version)] = {
            "kind": "APIResourceList",
            "apiVersion": "v1",
            "groupVersion": version,
            "resources": served,
        }
        if group:
            one = {"groupVersion": version, "version": name}
            groups[group] = {"name": group, "versions": [one], "preferredVersion": one}
    made["/apis"] = {"kind": "APIGroupList", "apiVersion": "v1", "groups": [*groups.values()]}
    return made


def _objects(objects: Sequence[Document]) -> dict[str, Document]:
    """Each object by its path, and the lists of their namespaces by theirs."""
    made: dict[str, Document] = {}
    for each in objects:
        version, kind = each["apiVersion"], each["kind"]
        folder = f"{_root(version)}/namespaces/{each['metadata']['namespace']}/{_KINDS[version, kind]}"
        made[f"{folder}/{each['metadata']['name']}"] = each
        listed = made.setdefault(folder, {"apiVersion": version, "kind": f"{kind}List", "metadata": {}, "items": []})
        listed["items"].append(each)
    return made


def _root(version: str) -> str:
    return f"/apis/{version}" if "/" in version else f"/api/{version}"
