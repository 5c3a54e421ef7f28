"""The protocol files: generated code is fresh, buf is content, and every field is commented."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from protos import generate

BUF = Path(sys.executable).parent / "buf"
needs_buf = pytest.mark.skipif(not BUF.exists(), reason="buf is not installed (package buf-bin)")


def buf(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([BUF, *arguments], cwd=folder, capture_output=True, text=True, check=False)


def test_generated_code_is_fresh() -> None:
    assert generate.stale() == []


def test_stale_code_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copytree(generate.ROOT / "protos", tmp_path / "protos")
    monkeypatch.setattr(generate, "ROOT", tmp_path)
    monkeypatch.setattr(generate, "PROTOS", tmp_path / "protos")
    source = tmp_path / "protos/longtake/v1/longtake.proto"
    source.write_text(source.read_text().replace("uint64 segment = 1;", "uint64 segment = 2;"))
    assert Path("longtake/v1/longtake_pb2.py") in generate.stale()


@needs_buf
def test_buf_lint_and_format_find_nothing() -> None:
    for arguments in (("lint",), ("format", "--diff", "--exit-code")):
        result = buf(generate.ROOT / "protos", *arguments)
        assert result.returncode == 0, result.stdout + result.stderr


@needs_buf
def test_buf_finds_a_field_without_comment_and_a_bad_enum(tmp_path: Path) -> None:
    shutil.copytree(generate.ROOT / "protos", tmp_path / "protos")
    source = tmp_path / "protos/longtake/v1/longtake.proto"
    text = source.read_text()
    source.write_text(text.replace("  // Why.\n", "").replace("PACE_UNSPECIFIED = 0", "PACE_NONE = 0"))
    found = buf(tmp_path / "protos", "lint").stdout
    assert 'Field "ending" should have a non-empty comment' in found
    assert "PACE_NONE" in found


@needs_buf
def test_buf_finds_a_change_that_breaks_clients(tmp_path: Path) -> None:
    shutil.copytree(generate.ROOT / "protos", tmp_path / "protos")
    source = tmp_path / "protos/longtake/v1/longtake.proto"
    source.write_text(source.read_text().replace("uint64 segment = 1;", "uint32 segment = 1;"))
    result = buf(tmp_path / "protos", "breaking", "--against", str(generate.ROOT / "protos"))
    assert result.returncode != 0
    assert "changed type" in result.stdout
