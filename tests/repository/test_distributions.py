"""What a package index would get: a wheel and a source distribution with all that is theirs, and nothing else."""

from __future__ import annotations

import re
import shutil
import subprocess
import tomllib
import zipfile
from email import message_from_string
from pathlib import Path

from tests.repository.conftest import built_wheel

ROOT = Path(__file__).resolve().parents[2]
RELATIVE = re.compile(r"\]\((?!https?:)[^)]*\)|\b(?:src|href)=[\"'](?!https?:)")
"""A link or picture that leads nowhere outside the repository."""


def names(wheel: Path) -> set[str]:
    return {name for name in zipfile.ZipFile(wheel).namelist() if not name.endswith("/RECORD")}


def test_no_tool_and_no_test_is_installed(wheel: Path) -> None:
    packages = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["packages"]
    code = [Path(name) for name in names(wheel) if name.endswith((".py", ".pyi"))]
    assert {path.parent.as_posix() for path in code} == {package.replace(".", "/") for package in packages}
    assert [path for path in code if re.search(r"(^|_)tests?(_|$)|conftest|generate$", path.stem)] == []
    assert [name for name in names(wheel) if name.endswith(".proto") or name.startswith("protos")] == []


def test_the_source_distribution_makes_the_same_wheel(sdist: Path, wheel: Path, tmp_path: Path) -> None:
    source = shutil.copytree(sdist, tmp_path / "source")  # building leaves a folder there
    assert names(built_wheel(source, tmp_path)) == names(wheel)


def test_the_source_distribution_holds_what_generated_code_is_made_of_and_no_part_of_the_tests(sdist: Path) -> None:
    held = {path.relative_to(sdist).as_posix() for path in sdist.rglob("*") if path.is_file()}
    tops = {name.split("/")[0] for name in held}
    assert {"LICENSE", "NOTICE", "README.md", "CHANGELOG.md", "SECURITY.md", "CONTRIBUTING.md"} <= tops
    listed = subprocess.run(["git", "ls-files", "protos"], cwd=ROOT, check=True, capture_output=True, text=True).stdout
    protos = {name for name in listed.split() if name.endswith(".proto")}
    assert protos and {name for name in held if name.startswith("protos/")} == protos
    assert not tops & {"tests", "benchmarks", "deploy", "docs", "examples", "node_modules", "build"}


def test_what_an_index_shows_has_no_link_into_the_repository(wheel: Path) -> None:
    archive = zipfile.ZipFile(wheel)
    (file,) = (name for name in archive.namelist() if name.endswith(".dist-info/METADATA"))
    metadata = message_from_string(archive.read(file).decode())
    text = metadata.get_payload()
    assert isinstance(text, str) and "longtake serve" in text and "Client" in text
    assert metadata["Description-Content-Type"] == "text/markdown"
    assert RELATIVE.findall(text) == []
    assert RELATIVE.findall((ROOT / "README.md").read_text()) != [], "such links are found"
    licences = {name.rpartition("/")[2] for name in archive.namelist() if "/licenses/" in name}
    assert licences == {"LICENSE", "NOTICE"} and metadata["License-Expression"] == "Apache-2.0"


def test_the_images_hold_the_licence() -> None:
    stages = re.split(r"^FROM ", (ROOT / "deploy/Dockerfile").read_text(), flags=re.MULTILINE)
    installs = [stage for stage in stages if re.search(r"pip install .* \.$", stage, re.MULTILINE)]
    assert len(installs) == 2 and all("COPY LICENSE NOTICE ./" in stage for stage in installs)
