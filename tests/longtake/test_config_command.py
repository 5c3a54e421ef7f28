"""`longtake config`: what it prints is the default, whole, and the file that the documents name."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from pydantic import BaseModel

from cluster.config import ServerConfig, load_config
from longtake.cli.main import run
from longtake.core.limits import Limits

ROOT = Path(__file__).resolve().parents[2]


def keys(section: object) -> set[str]:
    if isinstance(section, Limits):
        return {setting.name for setting in Limits.settings()}
    assert isinstance(section, BaseModel)
    return set(type(section).model_fields)


@pytest.fixture
def printed(capsys: pytest.CaptureFixture[str]) -> str:
    assert run(["config"]) == 0
    return capsys.readouterr().out


def test_it_is_what_serve_does_without_a_file(printed: str, tmp_path: Path) -> None:
    (tmp_path / "my.toml").write_text(printed)
    assert load_config(tmp_path / "my.toml") == ServerConfig()


def test_it_has_every_key(printed: str) -> None:
    for name, section in ServerConfig():
        (part,) = re.findall(rf"^\[{name}\](.*?)(?=^\[|\Z)", printed, re.MULTILINE | re.DOTALL)
        missing = {key for key in keys(section) if not re.search(rf"^(# )?{key} = ", part, re.MULTILINE)}
        assert missing == set(), f"{name} in deploy/config/pocket.toml"


def test_it_is_the_file_that_lies_with_the_others(printed: str) -> None:
    assert printed == (ROOT / "deploy/config/pocket.toml").read_text(encoding="utf-8")
