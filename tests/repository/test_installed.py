"""What users get: a client that runs in whatever folder they work in, and types that their checker sees."""

from __future__ import annotations

import os
import re
import site
import subprocess
import sys
import venv
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
USERS_FOLDERS = ("protos", "workers", "cluster", "monitoring", "pocket", "benchmarks", "deploy", "tests")
"""Names that are ours in a checkout and may be anything where a user works."""
SCRIPT = """
import longtake.v1 as v1
from longtake.client import Client, SegmentEvent, StreamOptions, SyncClient
from longtake.v1 import longtake_pb2 as pb


async def sizes(client: Client, options: StreamOptions) -> list[int]:
    async with client.stream("a red ball", options) as stream:
        return [len(event.data) async for event in stream if isinstance(event, SegmentEvent)]


reveal_type(pb.Ack(segment=3).segment)
reveal_type(pb.Open().prompt)
reveal_type(SyncClient)
"""
WRONG = """
from longtake.client import Client
from longtake.v1 import longtake_pb2 as pb

pb.Ack(segment="3")
pb.Ack(segments=3)
Client(50051)
"""


@pytest.fixture
def users_folder(tmp_path: Path) -> Path:
    for name in USERS_FOLDERS:
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").write_text(f"raise RuntimeError('this is the {name} of a user')\n")
    return tmp_path


def run_in(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Python as a user runs it there: their folder comes before the installed packages."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.run([sys.executable, *arguments], cwd=folder, env=environment, capture_output=True, text=True)


@pytest.mark.parametrize(
    "arguments",
    [("-c", "import longtake.client, longtake.cli.main"), ("-m", "longtake", "--help")],
    ids=["client", "command line"],
)
def test_the_light_client_works_beside_a_users_folders_of_our_names(
    users_folder: Path, arguments: tuple[str, ...]
) -> None:
    found = run_in(users_folder, *arguments)
    assert found.returncode == 0, found.stderr


def test_what_the_readme_imports_is_there() -> None:
    lines = re.findall(r"^from longtake.+$", (ROOT / "README.md").read_text(), re.MULTILINE)
    assert lines
    script = "\n".join([*lines, "from longtake.client import SyncClient"])
    subprocess.run([sys.executable, "-c", script], check=True, cwd=ROOT)


def test_a_users_folders_would_be_found_first(users_folder: Path) -> None:
    for name in USERS_FOLDERS:
        assert f"this is the {name} of a user" in run_in(users_folder, "-c", f"import {name}").stderr


@pytest.fixture(scope="session", params=["wheel", "editable"])
def python(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An interpreter that has the wheel or an editable install, and the light client's dependencies."""
    folder = tmp_path_factory.mktemp(request.param)
    venv.create(folder, symlinks=True)
    (packages,) = folder.glob("lib/python*/site-packages")
    ways = [*site.getsitepackages()]
    if request.param == "wheel":
        zipfile.ZipFile(request.getfixturevalue("wheel")).extractall(packages)
    else:
        ways.append(str(ROOT))
    (packages / "more.pth").write_text("\n".join(ways))
    return folder / "bin/python"


def checked(python: Path, folder: Path, script: str) -> str:
    """What mypy says of a script of the user of an interpreter."""
    (folder / "script.py").write_text(script)
    options = ("--strict", "--python-executable", str(python), "--cache-dir", str(python.parents[1] / "mypy"))
    command = [sys.executable, "-m", "mypy", *options, "script.py"]
    environment = {key: value for key, value in os.environ.items() if key not in ("PYTHONPATH", "MYPYPATH")}
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True).stdout


@pytest.mark.slow
def test_an_installed_longtake_has_types(python: Path, tmp_path: Path) -> None:
    said = checked(python, tmp_path, SCRIPT)
    assert "Success" in said and said.count("Revealed type") == 3, said
    assert "Any" not in said


@pytest.mark.slow
def test_a_users_mistakes_are_seen_by_their_checker(python: Path, tmp_path: Path) -> None:
    said = checked(python, tmp_path, WRONG)
    assert said.count("error:") == 3, said
