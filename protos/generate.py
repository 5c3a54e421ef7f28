"""Generates the Python code of every .proto file: `python -m protos.generate`, or `--check` whether it is fresh."""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
SUFFIXES = ("_pb2.py", "_pb2.pyi", "_pb2_grpc.py", "_pb2_grpc.pyi")


PROTOS = ROOT / "protos"


def sources() -> list[Path]:
    """Every .proto file, relative to protos/."""
    return sorted(path.relative_to(PROTOS) for path in PROTOS.rglob("*.proto"))


def generated(source: Path) -> list[Path]:
    """The files made from `source`, relative to the root of the repository: the path names the Python package."""
    return [source.with_name(source.stem + suffix) for suffix in SUFFIXES]


def generate(target: Path) -> None:
    """Writes the generated files of all sources below `target`."""
    # protoc finds the plugin of mypy-protobuf (it types the stubs) beside the interpreter, activated or not.
    environment = os.environ | {"PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}"}
    subprocess.run(
        [
            sys.executable,
            "-m",
            "grpc_tools.protoc",
            f"-I{PROTOS}",
            f"--python_out={target}",
            f"--pyi_out={target}",
            f"--grpc_python_out={target}",
            f"--mypy_grpc_out=quiet:{target}",
            *map(str, sources()),
        ],
        check=True,
        cwd=PROTOS,
        env=environment,
    )


def stale() -> list[Path]:
    """Committed files that differ from what their source generates now."""
    with tempfile.TemporaryDirectory() as scratch:
        target = Path(scratch)
        generate(target)
        files = [file for source in sources() for file in generated(source)]
        return [file for file in files if _content(ROOT / file) != _content(target / file)]


def _content(file: Path) -> bytes | None:
    return file.read_bytes() if file.exists() else None


def main() -> int:
    parser = argparse.ArgumentParser(description="Generate the Python code of the .proto files.")
    parser.add_argument("--check", action="store_true", help="change nothing; fail if a generated file is not fresh")
    if not parser.parse_args().check:
        generate(ROOT)
        return 0
    files = stale()
    if files:
        sys.stderr.write("not fresh, run `python -m protos.generate`: " + ", ".join(map(str, files)) + "\n")
    return 1 if files else 0


if __name__ == "__main__":
    sys.exit(main())
