"""Where a worker runs, in the words that Kubernetes and NVIDIA's DCGM exporter have for it."""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping

import torch

from workers.messages import Site

NODE, POD = "NODE_NAME", "POD_NAME"
"""Variables of the environment in which the chart tells a pod its own name and its node's."""


def site_of(device: torch.device, environment: Mapping[str, str] = os.environ) -> Site:
    """The site of a worker on this device of this process."""
    return site_with(_name(device), environment)


def site_with(device: str, environment: Mapping[str, str] = os.environ) -> Site:
    """The site of a worker on a device of this name; outside of Kubernetes the node is this machine's name."""
    return Site(node=environment.get(NODE) or socket.gethostname(), pod=environment.get(POD, ""), device=device)


def _name(device: torch.device) -> str:
    """A GPU's UUID as `nvidia-smi -L` and DCGM write it; otherwise the kind of device."""
    if device.type != "cuda":
        return device.type
    return f"GPU-{torch.cuda.get_device_properties(device).uuid}"
