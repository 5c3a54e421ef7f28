"""How much memory devices have, read without taking any of it.

Host memory is that of the machine, or what is left below the limits of the control groups this process is in, such as
a container's. GPUs are asked by a short-lived process (`python -m workers.start.device_memory`), because whoever asks
CUDA gets a context, which takes half a gigabyte for as long as its process lives; and because CUDA knows them under
every name that a worker can be given. Its own context is missing from what it reports free.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

from longtake.core.errors import Unavailable
from longtake.core.plan.memory import Memory
from workers.start.child import environment

HOST = "host memory"
"""The device that all workers on CPUs share."""
ReadMemory = Callable[[Sequence[str]], Mapping[str, Memory]]
"""Tells the memory of devices by name: HOST, or GPUs as CUDA_VISIBLE_DEVICES names them."""
READ_S = 120.0
"""How long reading may take: a driver that was not in use needs seconds, and so does torch."""


def read_memory(devices: Sequence[str]) -> dict[str, Memory]:
    """The memory of devices as it is now (ReadMemory); Unavailable if a GPU does not tell."""
    gpus = list(dict.fromkeys(device for device in devices if device != HOST))
    found = dict(zip(gpus, _gpus(gpus), strict=True)) if gpus else {}
    return found | ({HOST: host_memory()} if HOST in devices else {})


def host_memory(root: Path = Path("/")) -> Memory:
    """What this machine has, and what is free of it below every limit that holds for this process."""
    try:
        lines = (root / "proc/meminfo").read_text().splitlines()
    except OSError:  # other than Linux
        total = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
        return Memory(total_bytes=total, free_bytes=total)
    kilobytes = {name: int(rest.split()[0]) for name, _, rest in (line.partition(":") for line in lines)}
    limits = list(_limits(root))
    return Memory(
        total_bytes=min([kilobytes["MemTotal"] * 1024, *(limit for limit, _ in limits)]),
        free_bytes=max(0, min([kilobytes["MemAvailable"] * 1024, *(limit - used for limit, used in limits)])),
    )


def _limits(root: Path) -> Iterator[tuple[int, int]]:
    """Limit and use of each control group that this process is in, those around it included, of both versions."""
    try:
        groups = (root / "proc/self/cgroup").read_text().splitlines()
    except OSError:
        return
    for group in groups:
        _, kinds, path = group.split(":", 2)
        if kinds and "memory" not in kinds.split(","):
            continue
        mount = root / "sys/fs/cgroup" / ("memory" if kinds else "")
        names = ("memory.limit_in_bytes", "memory.usage_in_bytes") if kinds else ("memory.max", "memory.current")
        folder = mount / path.lstrip("/")
        # In a container the path may be the host's, which is not there: the container's own group is at the top then.
        for level in (folder, *folder.parents):
            limit, used = _number(level / names[0]), _number(level / names[1])
            if limit is not None and used is not None:
                yield limit, max(0, used - _cache(level / "memory.stat"))
            if level == mount:
                break


def _number(path: Path) -> int | None:
    """None if there is no such file, or it says "max"."""
    try:
        return int(path.read_text())
    except (OSError, ValueError):
        return None


def _cache(stat: Path) -> int:
    """Of the use, what files take that nobody has used of late: it is given back when memory is needed."""
    try:
        numbers = dict(line.split() for line in stat.read_text().splitlines())
    except (OSError, ValueError):
        return 0
    return int(numbers.get("total_inactive_file", numbers.get("inactive_file", 0)))


def _gpus(names: Sequence[str]) -> list[Memory]:
    command = [sys.executable, "-P", "-m", "workers.start.device_memory"]
    who = f"GPU {', '.join(names)}"
    try:
        asked = subprocess.run(
            command, env=environment(",".join(names)), capture_output=True, text=True, timeout=READ_S, check=True
        )
        found = [Memory(free_bytes=int(free), total_bytes=int(total)) for free, total in json.loads(asked.stdout)]
    except subprocess.CalledProcessError as error:
        why = (error.stderr.strip().splitlines() or ["it said nothing"])[-1]
        raise Unavailable(f"{who} did not tell its memory: {why}") from None
    except (OSError, subprocess.TimeoutExpired, ValueError, TypeError) as error:
        raise Unavailable(f"{who} did not tell its memory: {error}") from None
    if len(found) != len(names):
        raise Unavailable(f"{who}: CUDA finds {len(found)} of these")
    return found


def main() -> int:
    """Print free and total bytes of each GPU that this process sees, as JSON."""
    import torch

    found = [torch.cuda.mem_get_info(device) for device in range(torch.cuda.device_count())]
    sys.stdout.write(json.dumps(found) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
