"""What users get: a client that runs in whatever folder they work in, and types that their checker sees."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import venv
import zipfile
from importlib import metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.cluster.frontend.toy import toy_cell_in_thread
from tests.users_folder import NAMES, fill

ROOT = Path(__file__).resolve().parents[2]
SCRIPT = """
import longtake.v1 as v1
from longtake.client import Client, SegmentEvent, StreamOptions, SyncClient
from longtake.v1 import longtake_pb2 as pb


async def name(client: Client) -> None:
    reveal_type((await client.get_model()).limits.max_sessions)


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
    return fill(tmp_path)


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
    for name in NAMES:
        assert f"this is the {name} of a user" in run_in(users_folder, "-c", f"import {name}").stderr


def distributions(name: str) -> dict[str, metadata.Distribution]:
    """A distribution and all that a plain install of it brings, by name."""
    found: dict[str, metadata.Distribution] = {}
    waiting = [Requirement(name)]
    while waiting:
        wanted = waiting.pop()
        if canonicalize_name(wanted.name) in found or (wanted.marker and not wanted.marker.evaluate({"extra": ""})):
            continue
        found[canonicalize_name(wanted.name)] = one = metadata.distribution(wanted.name)
        waiting += map(Requirement, one.requires or ())
    return found


def link(distribution: metadata.Distribution, packages: Path) -> None:
    """Put what a distribution consists of into a folder of packages."""
    for top in {file.parts[0] for file in distribution.files or () if file.parts[0] != ".."}:
        target = packages / top
        if not target.exists():
            target.symlink_to(Path(str(distribution.locate_file(top))))


@pytest.fixture(scope="session", params=["wheel", "editable"])
def python(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An interpreter that has what `pip install` brings, from the wheel or editable, and nothing else."""
    folder = tmp_path_factory.mktemp(request.param)
    venv.create(folder, symlinks=True)
    (packages,) = folder.glob("lib/python*/site-packages")
    if request.param == "wheel":
        zipfile.ZipFile(request.getfixturevalue("wheel")).extractall(packages)
    else:
        (packages / "longtake.pth").write_text(str(ROOT))
    for name, distribution in distributions("longtake").items():
        if name != "longtake":
            link(distribution, packages)
    return folder / "bin/python"


def checked(python: Path, folder: Path, script: str) -> str:
    """What mypy says of a script of the user of an interpreter."""
    (folder / "script.py").write_text(script)
    options = ("--strict", "--python-executable", str(python), "--cache-dir", str(python.parents[1] / "mypy"))
    command = [sys.executable, "-m", "mypy", *options, "script.py"]
    environment = {key: value for key, value in os.environ.items() if key not in ("PYTHONPATH", "MYPYPATH")}
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True).stdout


def bare(python: Path, folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """A program of the user's interpreter, which is told nothing of this checkout."""
    environment = {key: value for key, value in os.environ.items() if key not in ("PYTHONPATH", "MYPYPATH")}
    command = [str(python), *arguments]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)


@pytest.mark.slow
def test_the_light_client_runs_with_what_a_plain_install_brings(python: Path, users_folder: Path) -> None:
    for absent in ("torch", "ray", "numpy", "pydantic", "pytest"):
        assert "No module named" in bare(python, users_folder, "-c", f"import {absent}").stderr
    loaded = "import sys, longtake.client, longtake.cli.main; print(*sys.modules)"
    modules = set(bare(python, users_folder, "-c", loaded).stdout.split())
    assert "longtake.client" in modules and not modules & set(NAMES)
    assert "Commands:" in bare(python, users_folder, "-m", "longtake", "--help").stdout
    assert "[limits]" in bare(python, users_folder, "-m", "longtake", "config").stdout
    with toy_cell_in_thread() as cell:
        stream = ("stream", "a red ball", "--duration", "2s", "--server", cell.target, "-o", "own.mp4")
        done = bare(python, users_folder, "-m", "longtake", *stream)
    assert done.returncode == 0, done.stderr
    assert (users_folder / "own.mp4").stat().st_size > 0


@pytest.mark.slow
def test_a_command_of_the_server_says_what_to_install(python: Path, users_folder: Path) -> None:
    done = bare(python, users_folder, "-m", "longtake", "serve")
    assert done.returncode != 0 and "longtake[server]" in done.stderr and "Traceback" not in done.stderr


@pytest.mark.slow
def test_an_installed_longtake_has_types(python: Path, users_folder: Path) -> None:
    """Also without the types of gRPC and protobuf, and beside a user's folders of our names."""
    said = checked(python, users_folder, SCRIPT)
    assert "Success" in said and said.count("Revealed type") == 4, said
    assert "Any" not in said


@pytest.mark.slow
def test_a_users_mistakes_are_seen_by_their_checker(python: Path, tmp_path: Path) -> None:
    said = checked(python, tmp_path, WRONG)
    assert said.count("error:") == 3, said
