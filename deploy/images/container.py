"""One container of runc, as strict as the chart's pods: root read-only, no capabilities, no new privileges."""

from __future__ import annotations

import contextlib
import json
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from deploy.images.outcomes import Wrong

Spec = dict[str, Any]

_MASKED = ("/proc/acpi", "/proc/kcore", "/proc/keys", "/proc/latency_stats", "/proc/timer_list", "/proc/sched_debug",
           "/proc/scsi", "/sys/firmware")  # fmt: skip
_READ_ONLY = ("/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger")
START_S = 20.0
_HOSTS = "127.0.0.1 localhost\n127.0.1.1 longtake\n"


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """How an image says that it is to be run."""

    environment: tuple[str, ...]
    user: str
    folder: str
    command: tuple[str, ...]
    """Entry point and arguments."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended:
    """A command that ran in a container."""

    status: int
    out: str
    err: str


def process(setting: Setting, command: Sequence[str]) -> Spec:
    """The `process` of OCI's runtime specification, with nothing allowed."""
    uid, _, gid = setting.user.partition(":")
    return {
        "terminal": False,
        "user": {"uid": int(uid), "gid": int(gid)},
        "args": list(command),
        "env": list(setting.environment),
        "cwd": setting.folder,
        "capabilities": {name: [] for name in ("bounding", "effective", "inheritable", "permitted", "ambient")},
        "noNewPrivileges": True,
    }


def specification(setting: Setting, *, root: Path, name: str, files: Mapping[Path, str], shared_bytes: int) -> Spec:
    """OCI's runtime specification: a network of its own with loopback alone, `files` read-only, /tmp in memory."""
    shared = ["nosuid", "noexec", "nodev", "mode=1777", f"size={shared_bytes}"]
    mounts: list[Spec] = [
        {"destination": "/proc", "type": "proc", "source": "proc", "options": ["nosuid", "noexec", "nodev"]},
        {"destination": "/dev", "type": "tmpfs", "source": "tmpfs", "options": ["nosuid", "mode=755", "size=65536k"]},
        {"destination": "/dev/shm", "type": "tmpfs", "source": "shm", "options": shared},
        {"destination": "/sys", "type": "sysfs", "source": "sysfs", "options": ["nosuid", "noexec", "nodev", "ro"]},
        {"destination": "/tmp", "type": "tmpfs", "source": "tmpfs", "options": ["nosuid", "nodev", "mode=1777"]},
    ]
    mounts += [
        {"destination": place, "type": "bind", "source": str(file), "options": ["bind", "ro", "nosuid", "nodev"]}
        for file, place in files.items()
    ]
    return {
        "ociVersion": "1.0.2",
        "process": process(setting, setting.command),
        "root": {"path": str(root), "readonly": True},
        "hostname": "longtake",
        "mounts": mounts,
        "linux": {
            "namespaces": [{"type": kind} for kind in ("pid", "network", "ipc", "uts", "mount")],
            "cgroupsPath": f"/{name}",
            "maskedPaths": list(_MASKED),
            "readonlyPaths": list(_READ_ONLY),
        },
    }


@dataclass(slots=True, kw_only=True)
class Container:
    """A container that is run below a scratch folder."""

    name: str
    scratch: Path
    setting: Setting
    root: Path
    """The file system of the image, mounted."""
    files: Mapping[Path, str] = field(default_factory=dict)
    """Files of this machine by where they are seen."""
    shared_bytes: int = 512 * 2**20
    _run: subprocess.Popen[bytes] | None = None

    @property
    def log(self) -> Path:
        """What its first process writes."""
        return self.scratch / "log"

    def start(self) -> None:
        """Start its first process; Wrong if it does not run."""
        self.scratch.mkdir(parents=True, exist_ok=True)
        hosts = self.scratch / "hosts"
        hosts.write_text(_HOSTS)
        files = {hosts: "/etc/hosts", **self.files}
        spec = specification(self.setting, root=self.root, name=self.name, files=files, shared_bytes=self.shared_bytes)
        (self.scratch / "config.json").write_text(json.dumps(spec))
        with self.log.open("wb") as log:
            command = [*self._runc(), "run", "--bundle", str(self.scratch), self.name]
            self._run = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT)
        deadline_s = time.monotonic() + START_S
        while not self._is_running():
            if (status := self._run.poll()) is not None:
                raise Wrong(f"it ended with status {status} at once:\n{self.said()}")
            if time.monotonic() > deadline_s:
                raise Wrong(f"it does not run after {START_S:g} s:\n{self.said()}")
            time.sleep(0.05)

    def said(self, lines: int = 20) -> str:
        """The end of its log."""
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-lines:])

    def status(self) -> int | None:
        """The exit status of its first process; None while it runs."""
        return self._started().poll()

    def execute(self, command: Sequence[str], timeout_s: float = 120.0) -> Ended:
        """Run a command in it, held to the same as its first process; Wrong if that takes too long."""
        described = self.scratch / "process.json"
        described.write_text(json.dumps(process(self.setting, command)))
        run = [*self._runc(), "exec", "--process", str(described), self.name]
        try:
            done = subprocess.run(run, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=timeout_s)
        except subprocess.TimeoutExpired:
            raise Wrong(f"{' '.join(command[:2])} did not end within {timeout_s:g} s:\n{self.said()}") from None
        return Ended(status=done.returncode, out=done.stdout, err=done.stderr)

    def terminate(self, within_s: float) -> tuple[int, float]:
        """SIGTERM to its first process: its exit status, and the seconds until then; Wrong if it goes on."""
        begun_s = time.monotonic()
        subprocess.run([*self._runc(), "kill", self.name, "TERM"], check=True, capture_output=True)
        try:
            status = self._started().wait(within_s)
        except subprocess.TimeoutExpired:
            raise Wrong(f"still running {within_s:g} s after SIGTERM:\n{self.said()}") from None
        return status, time.monotonic() - begun_s

    @contextlib.contextmanager
    def running(self) -> Iterator[Container]:
        """Start it, and have nothing left of it afterwards."""
        try:
            self.start()
            yield self
        finally:
            subprocess.run([*self._runc(), "delete", "--force", self.name], capture_output=True)
            if self._run is not None:
                self._run.wait()

    def _is_running(self) -> bool:
        asked = subprocess.run([*self._runc(), "state", self.name], capture_output=True, text=True)
        return asked.returncode == 0 and json.loads(asked.stdout)["status"] == "running"

    def _runc(self) -> list[str]:
        return ["runc", "--root", str(self.scratch.parent / "runc")]

    def _started(self) -> subprocess.Popen[bytes]:
        assert self._run is not None
        return self._run
