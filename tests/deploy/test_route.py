"""Calls through a Gateway: what is about a session reaches its cell, what opens one reaches a cell that takes it."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Mapping
from typing import Any

import pytest

from tests.deploy.manifests import OPEN, Document, config_text, merged, of_kind, one, render, require_helm
from tests.npm import node_modules
from tests.programs import required

GATEWAY = {"@kubernetes-models/gateway-api": "2.0.0"}
ROUTE: dict[str, Any] = {
    "enabled": True, "annotations": {"example.org/a": "b"}, "hostnames": ["video.example.org", "*.example.net"],
    "parentRefs": [{"name": "public", "namespace": "gateways", "sectionName": "https", "port": 443}],
}  # fmt: skip
VALIDATE = """
import fs from "fs";
import { GRPCRoute } from "@kubernetes-models/gateway-api/gateway.networking.k8s.io/v1";
for (const each of JSON.parse(fs.readFileSync(0))) {
  try { new GRPCRoute(each).validate(); console.log("taken"); } catch (error) { console.log(error.message); }
}
"""


@pytest.fixture(autouse=True)
def _helm() -> None:
    require_helm()


def cell(release: str, **unnamed: object) -> list[Document]:
    return render(merged(OPEN, {"route": ROUTE | {"unnamed": unnamed}}), release=release)


def reached(releases: Mapping[str, list[Document]], headers: Mapping[str, str]) -> set[str]:
    """The Services to which a Gateway sends a call: of the rules that match, those with most headers (Gateway API)."""
    rules = [(match.get("headers", []), rule["backendRefs"])
             for documents in releases.values()
             for rule in one(documents, "GRPCRoute")["spec"]["rules"]
             for match in rule.get("matches", [{}])
             if all(headers.get(header["name"]) == header["value"] for header in match.get("headers", []))]  # fmt: skip
    most = max((len(asked) for asked, _ in rules), default=0)
    return {backend["name"] for asked, backends in rules if len(asked) == most for backend in backends}


def test_a_call_reaches_the_cell_it_names_and_one_that_names_none_those_that_take_it() -> None:
    releases = {
        "north": cell("north", enabled=True, otherCells=["south-longtake"]),
        "south": cell("south", enabled=False),
    }
    for name, documents in releases.items():
        (written,) = [line for line in config_text(documents).splitlines() if line.startswith("cell = ")]
        own = json.loads(written.removeprefix("cell = "))  # what the engine calls itself, in the names of its sessions
        assert own == f"{name}-longtake"
        assert reached(releases, {"longtake-cell": own}) == {f"{name}-longtake-cell"}
    assert reached(releases, {}) == {"north-longtake", "south-longtake"}


def test_a_cell_that_drains_is_reached_by_its_name_and_by_no_call_that_opens() -> None:
    documents = cell("north", enabled=True)
    services = {each["metadata"]["name"]: each["spec"] for each in of_kind(documents, "Service")}
    (named,) = reached({"north": documents}, {"longtake-cell": "north-longtake"})
    (unnamed,) = reached({"north": documents}, {})
    assert services[named].get("publishNotReadyAddresses") and not services[unnamed].get("publishNotReadyAddresses")
    for rule in one(documents, "GRPCRoute")["spec"]["rules"]:
        for backend in rule["backendRefs"]:
            assert backend["port"] in {port["port"] for port in services[backend["name"]]["ports"]}


def test_without_the_switch_there_is_no_route() -> None:
    documents = render(OPEN)
    assert not of_kind(documents, "GRPCRoute") and len(of_kind(documents, "Service")) == 3


def test_the_gateway_api_takes_the_route() -> None:
    folder = node_modules(json.dumps({"private": True, "dependencies": GATEWAY})).parent
    route = one(cell("north", enabled=True, otherCells=["south-longtake"]), "GRPCRoute")
    wrong = json.loads(json.dumps(route))
    wrong["spec"]["rules"][0]["matches"][0]["headers"][0]["type"] = "exact"
    command = [required("node"), "--input-type=module", "-e", VALIDATE]
    found = subprocess.run(command, cwd=folder, input=json.dumps([route, wrong]), capture_output=True, text=True)
    first, second = found.stdout.splitlines()
    assert first == "taken" and "headers/0/type" in second, found.stderr
    # What it does not look at: keys that it knows not.
    spec = route["spec"]
    assert spec.keys() == {"parentRefs", "hostnames", "rules"} and spec["parentRefs"] == ROUTE["parentRefs"]
    assert {key for rule in spec["rules"] for key in rule} == {"matches", "backendRefs"}
    assert {key for rule in spec["rules"] for backend in rule["backendRefs"] for key in backend} == {"name", "port"}
