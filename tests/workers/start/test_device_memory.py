"""Memory of devices: what the kernel says, below every limit of a container; and GPUs, asked by another process."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
import torch

from longtake.core.errors import Unavailable
from longtake.core.plan.memory import Memory
from workers.start import device_memory
from workers.start.child import VISIBLE
from workers.start.device_memory import HOST, host_memory, read_memory

GB = 10**9


def machine(root: Path, groups: str, files: dict[str, str]) -> Path:
    """A machine of 64 GiB of which 48 are available, as its files say."""
    written = {"proc/meminfo": "MemTotal: 67108864 kB\nMemFree: 1 kB\nMemAvailable: 50331648 kB\n"}
    written |= {"proc/self/cgroup": groups} if groups else {}
    for name, text in (written | files).items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return root


def test_without_limits_the_machines_own_memory_counts(tmp_path: Path) -> None:
    whole = Memory(total_bytes=64 << 30, free_bytes=48 << 30)
    assert host_memory(machine(tmp_path / "bare", "", {})) == whole
    unlimited = {"sys/fs/cgroup/a/memory.max": "max\n", "sys/fs/cgroup/a/memory.current": "5\n"}
    assert host_memory(machine(tmp_path / "unlimited", "0::/a\n", unlimited)) == whole


def test_a_container_has_what_its_group_leaves_and_gets_caches_back(tmp_path: Path) -> None:
    files = {
        "sys/fs/cgroup/pod/memory.max": f"{20 * GB}\n",
        "sys/fs/cgroup/pod/memory.current": f"{12 * GB}\n",
        "sys/fs/cgroup/pod/memory.stat": f"anon {4 * GB}\ninactive_file {3 * GB}\nactive_file 7\n",
        "sys/fs/cgroup/pod/own/memory.max": f"{30 * GB}\n",
        "sys/fs/cgroup/pod/own/memory.current": f"{2 * GB}\n",
    }
    found = host_memory(machine(tmp_path, "0::/pod/own\n", files))
    assert found == Memory(total_bytes=20 * GB, free_bytes=11 * GB)  # that of the group around it is the smallest


def test_groups_of_the_first_version_count_and_so_does_one_that_is_mounted_as_the_root(tmp_path: Path) -> None:
    files = {
        "sys/fs/cgroup/memory/memory.limit_in_bytes": f"{8 * GB}\n",
        "sys/fs/cgroup/memory/memory.usage_in_bytes": f"{3 * GB}\n",
        "sys/fs/cgroup/memory/memory.stat": f"total_inactive_file {GB}\n",
    }
    found = host_memory(machine(tmp_path, "4:memory:/docker/4711\n3:cpu:/x\n", files))
    assert found == Memory(total_bytes=8 * GB, free_bytes=6 * GB)
    (tmp_path / "sys/fs/cgroup/memory/memory.usage_in_bytes").write_text(f"{12 * GB}\n")
    assert host_memory(tmp_path).free_bytes == 0


def test_this_machine_tells_its_memory() -> None:
    found = read_memory((HOST,))
    assert found.keys() == {HOST}
    assert 0 < found[HOST].free_bytes <= found[HOST].total_bytes


def interpreter(folder: Path, script: str) -> str:
    """Something in the place of Python, in which the reading process runs."""
    path = folder / "python"
    path.write_text(f"#!{sys.executable}\n{script}")
    path.chmod(0o700)
    return str(path)


def test_gpus_are_asked_together_under_the_names_they_have(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    script = (
        "import json, os, sys\n"
        "assert sys.argv[1:] == ['-P', '-m', 'workers.start.device_memory']\n"
        f"names = os.environ['{VISIBLE}'].split(',')\n"
        "print(json.dumps([[len(name) * 10**9, 80 * 10**9] for name in names]))\n"
    )
    monkeypatch.setattr(sys, "executable", interpreter(tmp_path, script))
    found = read_memory(("GPU-abc", HOST, "3", "GPU-abc"))
    assert found.keys() == {"GPU-abc", "3", HOST}
    assert found["3"] == Memory(total_bytes=80 * GB, free_bytes=GB)
    assert found["GPU-abc"].free_bytes == 7 * GB


@pytest.mark.parametrize(
    ("script", "why"),
    [
        ("raise SystemExit('no driver here')", "GPU 0, 1 did not tell its memory: no driver here"),
        ("print('[[1, 2]]')", "GPU 0, 1: CUDA finds 1 of these"),
        ("print('hello')", "GPU 0, 1 did not tell its memory"),
    ],
)
def test_a_gpu_that_does_not_tell_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str, why: str
) -> None:
    monkeypatch.setattr(sys, "executable", interpreter(tmp_path, script))
    with pytest.raises(Unavailable, match=why):
        read_memory(("0", "1"))


@pytest.mark.skipif(torch.cuda.is_available(), reason="there would be one")
def test_the_real_process_finds_no_gpu_where_there_is_none() -> None:
    with pytest.raises(Unavailable, match="CUDA finds 0 of these"):
        read_memory(("0",))


def test_what_it_prints_is_what_torch_says(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (device + 1, 80 * GB))
    assert device_memory.main() == 0
    assert json.loads(capsys.readouterr().out) == [[1, 80 * GB], [2, 80 * GB]]
