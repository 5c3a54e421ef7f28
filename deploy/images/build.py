"""deploy/Dockerfile as it is, built on the base of this machine: what the image says of itself, and must not hold."""

from __future__ import annotations

import re
import subprocess
import time
import tomllib
from dataclasses import dataclass
from pathlib import Path

from deploy.images import base
from deploy.images.container import Setting
from deploy.images.outcomes import Unable, Wrong
from deploy.images.pip_settings import PipSettings
from deploy.images.storage import ISOLATION, Failed, Image, Storage, volumes

ROOT = Path(__file__).resolve().parents[2]
DOCKERFILE = ROOT / "deploy/Dockerfile"
PINS = ROOT / "constraints.txt"
LABELS = "org.opencontainers.image."
SOURCE = "https://example.org/longtake.git"
"""What is told as the address of the source here; who publishes an image tells the real one."""
_CONF = Path("/etc/pip.conf")
_SHORT_OF = ("no space left on device", "disk quota exceeded", "cannot allocate memory", "out of memory")
_FETCHED = "setuptools"
"""A small package of those that are pinned."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sources:
    """Where a build gets packages from."""

    pip: PipSettings
    torch_index: str
    """Where torch comes from; empty: where all else does."""
    conf: Path
    """A file with the settings of pip."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Built:
    """An image of the Dockerfile."""

    name: str
    image: Image
    root: Path
    """Its file system, mounted."""
    build_s: float


def try_machine(storage: Storage, sources: Sources) -> Path:
    """Where the base's file system lies; Unable if a build, an index or a container does not work here with it.

    They are tried with the base image alone and with the same options, so it says nothing about the Dockerfile.
    """
    pin = re.search(rf"^{_FETCHED}==.+$", PINS.read_text(), re.MULTILINE)
    assert pin is not None, f"{_FETCHED} is not pinned"
    fetch = f"python -m venv /tmp/venv && /tmp/venv/bin/pip download --quiet --no-deps -d /tmp {pin[0]}"
    try:
        container, root = storage.mounted(base.NAME)
        options = [*ISOLATION, *volumes(sources.pip.paths), "--volume", f"{sources.conf}:{_CONF}:ro"]
        storage.buildah("fetching a package", "run", *options, container, "--", "sh", "-c", fetch)
    except Failed as failed:
        raise Unable(f"a step of a build does not work here, or no package can be fetched:\n{failed}") from None
    setting = Setting(environment=("PATH=/usr/bin:/bin",), user="1000:1000", folder="/", command=("sleep", "60"))
    trial = storage.tools.container("trial", setting, root)
    try:
        with trial.running():
            done = trial.execute(["true"])
    except Wrong as wrong:
        raise Unable(f"containers do not work here: {wrong}") from None
    if done.status != 0:
        raise Unable(f"containers do not work here: {done.err}")
    return root


def build(storage: Storage, sources: Sources, target: str, base_root: Path) -> Built:
    """Build one target; Wrong if it cannot be built where a build works."""
    name = f"localhost/longtake-{target}:test"
    arguments = {
        "PYTHON_IMAGE": base.NAME,
        "REVISION": revision(),
        "SOURCE": SOURCE,
        "TORCH_INDEX": sources.torch_index,
    }
    options: list[str | Path] = [*ISOLATION, "--pull-never", "--file", DOCKERFILE, "--target", target, "--tag", name]
    options += [word for key, value in arguments.items() if value for word in ("--build-arg", f"{key}={value}")]
    options += ["--secret", f"id=pip,src={sources.conf}", *volumes(sources.pip.paths)]
    begun_s = time.monotonic()
    try:
        storage.buildah(f"building {target}", "build", *options, ROOT)
    except Failed as failed:
        # A machine that has become full, or lost its network, is not the Dockerfile's fault.
        if any(sign in str(failed).lower() for sign in _SHORT_OF):
            raise Unable(f"{target} cannot be built here:\n{failed}") from None
        try_machine(storage, sources)
        raise Wrong(f"{target} cannot be built:\n{failed}") from None
    build_s = time.monotonic() - begun_s
    _container, root = storage.mounted(name)
    image = storage.image(name)
    faults = [*wrong_labels(image, arguments["REVISION"]), *traces(image.description, sources.pip, root, base_root)]
    if faults:
        raise Wrong(f"{target}: {'; '.join(faults)}")
    return Built(name=name, image=image, root=root, build_s=build_s)


def revision() -> str:
    """The commit of this checkout, or that there is none."""
    asked = subprocess.run(["git", "rev-parse", "HEAD"], cwd=ROOT, capture_output=True, text=True)
    return asked.stdout.strip() or "unknown"


def wrong_labels(image: Image, commit: str) -> list[str]:
    """What the labels do not say."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    wanted = {
        "version": project["version"],
        "licenses": project["license"],
        "revision": commit,
        "source": SOURCE,
        "base.name": base.NAME,
    }
    found = {name: image.labels.get(LABELS + name) for name in wanted}
    faults = [f"label {name} is {found[name]}, not {value}" for name, value in wanted.items() if found[name] != value]
    return faults if image.labels.get(LABELS + "title") else [*faults, "there is no label title"]


def traces(description: str, pip: PipSettings, root: Path, base_root: Path) -> list[str]:
    """What of this machine, and of where packages came from, is to be seen in an image, and is not of its base."""
    told = [f"its description names {word}" for word in pip.told if word in description]
    places = [path.relative_to("/") for path in (_CONF, *pip.paths)]
    return told + [f"it has /{path}" for path in places if _seen(root / path) not in (None, _seen(base_root / path))]


def _seen(path: Path) -> object:
    if path.is_dir():
        return sorted(each.name for each in path.iterdir())
    return path.read_bytes() if path.exists() else None
