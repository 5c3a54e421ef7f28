"""Where a worker says that it runs."""

from __future__ import annotations

import socket
from types import SimpleNamespace

import pytest
import torch

from workers.messages import Site
from workers.site import site_of, site_with


def test_on_kubernetes_the_pod_says_its_node_and_its_name() -> None:
    environment = {"NODE_NAME": "gpu-node-3", "POD_NAME": "cell-denoise-x7"}
    assert site_of(torch.device("cpu"), environment) == Site(node="gpu-node-3", pod="cell-denoise-x7", device="cpu")


def test_elsewhere_it_is_this_machine() -> None:
    assert site_with("simulated", {}) == Site(node=socket.gethostname(), pod="", device="simulated")


def test_a_gpu_has_the_name_that_the_driver_has_for_it(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[torch.device] = []

    def properties(device: torch.device) -> SimpleNamespace:
        asked.append(device)
        return SimpleNamespace(uuid="8c1f7d3e-0000-1111-2222-333344445555")

    monkeypatch.setattr(torch.cuda, "get_device_properties", properties)
    found = site_of(torch.device("cuda", 1), {})
    assert found.device == "GPU-8c1f7d3e-0000-1111-2222-333344445555"
    assert asked == [torch.device("cuda", 1)]
