"""docs/operations.md names only what exists: commands and their options, keys, values, files, headings."""

from __future__ import annotations

import re
from pathlib import Path

import click
import pytest
import yaml
from pydantic import BaseModel

from cluster.config import ServerConfig
from deploy.render import CHART
from longtake.cli.main import cli
from longtake.core.limits import Limits
from tests.deploy.commands import commands, understood
from tests.deploy.manifests import path, pod, pods, render, require_helm

PAGES = ("docs/operations.md", "docs/decisions/kubernetes.md")


def is_key(name: str) -> bool:
    section: type[BaseModel] = ServerConfig
    for part in name.split("."):
        if part not in section.model_fields:
            return False
        annotation = section.model_fields[part].annotation
        if annotation is Limits:
            return name in {"limits", *(f"limits.{setting.name}" for setting in Limits.settings())}
        section = annotation if isinstance(annotation, type) and issubclass(annotation, BaseModel) else BaseModel
    return True


def is_value(name: str) -> bool:
    values = yaml.safe_load((CHART / "values.yaml").read_text())
    for part in name.split("."):
        if not isinstance(values, dict) or part not in values:
            return False
        values = values[part]
    return True


@pytest.mark.parametrize("page", PAGES)
def test_every_command_is_one(page: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = path(page).read_text()
    for words in commands(text):
        if words[0] == "longtake":
            for name in (word for word in words if re.fullmatch(r"[\w-]+\.(toml|safetensors)", word)):
                (tmp_path / name).touch()  # as the commands before it would have
            monkeypatch.chdir(tmp_path)
            try:
                understood(words)
            except (click.UsageError, KeyError) as error:
                pytest.fail(f"{' '.join(words)}: {error}")
        monkeypatch.chdir(path(""))
        for word in words:
            if word.startswith("deploy/"):
                assert path(word).exists(), word


@pytest.mark.parametrize("page", PAGES)
def test_every_name_in_code_is_a_key_a_value_or_a_file(page: str) -> None:
    text = re.sub(r"```.*?```", "", path(page).read_text(), flags=re.DOTALL)
    names = re.findall(r"`([^`\n]+)`", text)
    dotted = [name for name in names if re.fullmatch(r"[a-z][A-Za-z_]*(\.[a-zA-Z_]+)+", name)]
    assert len(dotted) > 3
    wrong = [name for name in dotted if not (is_key(name) or is_value(name) or path(name).exists())]
    files = [name for name in names if re.fullmatch(r"[\w./-]+/[\w./-]+", name) and not name.startswith("/")]
    wrong += [name for name in files if not path(name).exists()]
    commands_named = [name.split() for name in names if name.startswith("longtake ")]
    wrong += [" ".join(words) for words in commands_named if words[1] not in cli.commands]
    links = [link for link in re.findall(r"\]\(([^)#]+)\)", text) if "://" not in link]
    wrong += [link for link in links if not (path(page).parent / link).exists()]
    assert wrong == []


def test_a_wrong_name_is_noticed() -> None:
    assert is_key("auth.oidc.issuer") and is_value("metrics.shared.dashboards.enabled")
    assert not is_key("limits.max_sesions") and not is_value("workers.denoise.replica")
    with pytest.raises(click.UsageError):
        understood(["longtake", "drain", "--graze", "5s"])
    with pytest.raises(KeyError):
        understood(["longtake", "frob"])


def test_a_pod_that_is_to_end_can_run_its_command() -> None:
    require_helm()
    values = {"auth": {"tenantsSecret": "t"}, "tls": {"secretName": "s"}, "drain": {"tokenSecret": "o"}}
    container = pod(render(values), "frontend").container
    understood(container["lifecycle"]["preStop"]["exec"]["command"])
    environment = {entry["name"]: entry.get("value", "") for entry in container["env"]}
    known = {name for option in cli.commands["drain"].params if option.envvar for name in [option.envvar]}
    ours = {name for name in environment if name.startswith("LONGTAKE_")}
    assert ours == {"LONGTAKE_SERVER", "LONGTAKE_CA", "LONGTAKE_TOKEN_FILE"} <= known
    mounted = tuple(f"{mount['mountPath']}/" for mount in container["volumeMounts"])
    assert environment["LONGTAKE_CA"].startswith(mounted) and environment["LONGTAKE_TOKEN_FILE"].startswith(mounted)
    assert len([*pods(render(values))]) == 4
