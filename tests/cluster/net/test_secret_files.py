"""Secrets that others can read are warned of, and such as others can write are refused."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from cluster.config import ServerConfig, parse_config
from cluster.net.files import warn_of_readable_secrets
from longtake.core.errors import InvalidField

FIELDS = ("tls.key", "link.key", "auth.tenants", "RAY_AUTH_TOKEN_PATH")


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ServerConfig:
    for field in FIELDS:
        (tmp_path / field).write_text("secret")
        (tmp_path / field).chmod(0o600)
    monkeypatch.setenv("RAY_AUTH_TOKEN_PATH", str(tmp_path / "RAY_AUTH_TOKEN_PATH"))
    return parse_config({
        "tls": {"certificate": "c.pem", "key": str(tmp_path / "tls.key")},
        "link": {"certificate": "c.pem", "key": str(tmp_path / "link.key"), "ca": "ca.pem"},
        "auth": {"tenants": str(tmp_path / "auth.tenants")},
    })  # fmt: skip


@pytest.mark.parametrize("field", FIELDS)
def test_a_secret_that_everybody_reads_is_warned_of(
    config: ServerConfig, tmp_path: Path, caplog: pytest.LogCaptureFixture, field: str
) -> None:
    with caplog.at_level(logging.WARNING):
        for quiet in (0o600, 0o640):  # a group is how Kubernetes hands files to one container
            (tmp_path / field).chmod(quiet)
            warn_of_readable_secrets(config)
        assert caplog.messages == []
        (tmp_path / field).chmod(0o644)
        warn_of_readable_secrets(config)
    (message,) = caplog.messages
    assert message.startswith(f"{field}: every user of this machine may read")
    assert "secret" not in message.replace(str(tmp_path), "")


@pytest.mark.parametrize("field", FIELDS)
def test_a_secret_that_everybody_writes_is_refused(config: ServerConfig, tmp_path: Path, field: str) -> None:
    (tmp_path / field).chmod(0o602)
    with pytest.raises(InvalidField, match=f"{field}: .* chmod 600"):
        warn_of_readable_secrets(config)


def test_a_token_that_ray_left_in_the_home_folder_is_a_secret_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.delenv("RAY_AUTH_TOKEN", raising=False)
    monkeypatch.delenv("RAY_AUTH_TOKEN_PATH", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    token = tmp_path / ".ray" / "auth_token"
    token.parent.mkdir()
    token.write_text("secret")
    token.chmod(0o644)
    with caplog.at_level(logging.WARNING):
        warn_of_readable_secrets(parse_config({"cluster": {"launch": "subprocess"}}))
        monkeypatch.setenv("RAY_AUTH_TOKEN", "direct")
        warn_of_readable_secrets(parse_config({}))
        assert caplog.messages == [], "it is not used"
        monkeypatch.delenv("RAY_AUTH_TOKEN")
        warn_of_readable_secrets(parse_config({}))
    assert caplog.messages == [f"Ray's token: every user of this machine may read {token}; chmod 600 it"]
    token.chmod(0o666)
    with pytest.raises(InvalidField, match=r"Ray's token: .* chmod 600"):
        warn_of_readable_secrets(parse_config({}))


def test_files_that_are_absent_are_left_to_who_reads_them(config: ServerConfig, tmp_path: Path) -> None:
    for field in FIELDS:
        (tmp_path / field).unlink()
    warn_of_readable_secrets(config)
