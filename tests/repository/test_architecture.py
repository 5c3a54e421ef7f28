"""The house's shape: what the wheel holds, what a light client imports, how long files are, whose numbers they name."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
PACKAGES = ("longtake", "workers", "cluster", "monitoring", "protos", "pocket", "benchmarks")


def sources() -> list[Path]:
    files = [path for package in PACKAGES for path in sorted((ROOT / package).rglob("*.py"))]
    return [path for path in files if not path.name.endswith(("_pb2.py", "_pb2_grpc.py"))]


def test_the_seven_names_of_the_design_are_at_the_top() -> None:
    for name in ("pyproject.toml", "cluster", "workers", "protos", "deploy", "tests", "monitoring"):
        assert (ROOT / name).exists(), name


def test_the_wheel_holds_every_package_its_weights_and_nothing_else(tmp_path: Path) -> None:
    command = [
        sys.executable,
        "-m",
        "pip",
        "wheel",
        "--quiet",
        "--no-deps",
        "--no-build-isolation",
        "-w",
        str(tmp_path),
    ]
    subprocess.run([*command, str(ROOT)], check=True, capture_output=True)
    names = zipfile.ZipFile(next(tmp_path.glob("*.whl"))).namelist()
    tops = {name.split("/")[0] for name in names if ".dist-info" not in name}
    assert tops == {"longtake", "workers", "cluster", "monitoring", "pocket"}
    packages = {str(Path(path).parent) for path in names if path.endswith("/__init__.py")}
    listed = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["packages"]
    assert packages == {name.replace(".", "/") for name in listed}
    page = [path.relative_to(ROOT).as_posix() for path in (ROOT / "cluster/http/page/static").iterdir()]
    assert len(page) >= 8
    for needed in ("pocket/weights/model.json", "pocket/weights/dit.safetensors", "pocket/weights/vae.safetensors",
                   "longtake/v1/longtake_pb2.pyi", "longtake/py.typed", *page):  # fmt: skip
        assert needed in names


def test_the_client_and_the_command_line_need_neither_torch_nor_ray() -> None:
    heavy = ("torch", "ray", "numpy", "av", "safetensors", "pydantic", "cluster", "workers", "pocket")
    code = f"import sys, longtake.client, longtake.cli.main; print([m for m in {heavy!r} if m in sys.modules])"
    found = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True, cwd=ROOT)
    assert found.stdout.strip() == "[]"


def test_worker_code_imports_no_ray_even_at_run_time() -> None:
    code = "import sys, workers.link.dial, workers.denoise.worker, workers.decode.worker; print('ray' in sys.modules)"
    found = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True, cwd=ROOT)
    assert found.stdout.strip() == "False"


def test_no_file_is_so_long_that_a_type_is_missing() -> None:
    lengths = {str(path.relative_to(ROOT)): len(path.read_text().splitlines()) for path in sources()}
    assert {path: lines for path, lines in lengths.items() if lines > 400} == {}


def test_no_number_of_one_model_stands_in_code() -> None:
    literal = re.compile(r"\b(1560|4680|32760|1536|8960)\b")
    code = [path for path in sources() if path.relative_to(ROOT).parts[0] in ("longtake", "workers", "cluster")]
    found = [str(path.relative_to(ROOT)) for path in code if literal.search(path.read_text())]
    assert found == ["longtake/core/plan/presets.py"], "recipes of published models stand in one file"
