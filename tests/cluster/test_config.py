"""A configuration file is right as a whole or refused with the key, the value and what is allowed."""

from __future__ import annotations

from pathlib import Path

import pytest

from cluster.config import ServerConfig, load_config, parse_config
from longtake.core.errors import Contradiction, InvalidField
from longtake.core.flow import Pace
from longtake.core.limits import Limits


def test_an_empty_document_is_the_default() -> None:
    assert parse_config({}) == ServerConfig()
    assert parse_config({}).core_limits.default_window == 4


def test_a_client_may_come_back_for_longer_where_its_stream_is_on_disk() -> None:
    on_disk = {"journal": {"path": "/var/lib/longtake"}}
    assert parse_config({}).core_limits.detached_s == 600
    assert parse_config({"journal": {"path": ""}}).core_limits.detached_s == 600
    assert parse_config(on_disk).core_limits.detached_s == 24 * 3600
    assert parse_config(on_disk | {"limits": {"max_queued": 3}}).limits == Limits(max_queued=3, detached_s=86_400.0)
    assert parse_config(on_disk | {"limits": {"detached_s": 600}}).core_limits.detached_s == 600


@pytest.mark.parametrize(
    ("document", "field", "allowed"),
    [
        ({"journal": {"path": 3}}, "journal.path", "a text in quotes"),
        ({"journal": {"path": "j"}, "limits": 3}, "limits", "a table: a line [limits], and its keys below"),
        ({"listn": {}}, "listn", "model, cluster, listen, limits"),
        ({"listen": {"prot": 1}}, "listen.prot", "host, port"),
        ({"listen": {"port": "80"}}, "listen.port", "a whole number"),
        ({"listen": {"port": 70000}}, "listen.port", "65535"),
        ({"listen": {"port": True}}, "listen.port", "a whole number"),
        ({"cluster": {"launch": "docker"}}, "cluster.launch", "'ray', 'subprocess' or 'in-process'"),
        ({"cluster": {"denoise_workers": 0}}, "cluster.denoise_workers", "1 or more"),
        ({"cluster": {"layer_split": 0}}, "cluster.layer_split", "1 or more"),
        ({"cluster": {"max_batch": 0}}, "cluster.max_batch", "1 or more"),
        ({"cluster": 3}, "cluster", "a table: a line [cluster]"),
        ({"limits": {"park_after_s": -1.0}}, "limits.park_after_s", "0 or more"),
        ({"limits": {"max_queued": -1}}, "limits.max_queued", "0 or more"),
        ({"limits": {"max_window": 1025}}, "limits.max_window", "1024 or less"),
        ({"limits": {"load_limit": 0.5}}, "limits.load_limit", "max_sessions, default_window, max_window, max_pending"),
        ({"limits": 3}, "limits", "a table: a line [limits], and its keys below"),
    ],
)
def test_a_wrong_key_is_named_with_its_value_and_what_is_allowed(
    document: dict[str, object], field: str, allowed: str
) -> None:
    with pytest.raises(InvalidField) as caught:
        parse_config(document)
    assert caught.value.field == field
    assert allowed in caught.value.allowed


@pytest.mark.parametrize(
    "document",
    [
        {"limits": {"default_window": 40, "max_window": 8}},
        {"model": {"device": "simulated:60ms"}, "cluster": {"layer_split": 2}},
    ],
)
def test_keys_that_contradict_each_other_are_both_named(document: dict[str, object]) -> None:
    with pytest.raises(Contradiction, match=r"model.device.*|limits.max_window"):
        parse_config(document)


def test_the_limits_that_are_set_are_the_schedulers_and_the_others_keep_their_defaults() -> None:
    document = {"limits": {"max_window": 8, "park_after_s": 5}, "cluster": {"packed": ["bulk"], "fused_passes": True}}
    expected = Limits(max_window=8, park_after_s=5.0, packed=frozenset({Pace.FAST}), fused_passes=True)
    assert parse_config(document).core_limits == expected


def test_the_shipped_configurations_are_valid() -> None:
    files = sorted(Path("deploy/config").glob("*.toml"))
    assert files
    for file in files:
        load_config(file)


def test_a_file_that_is_not_toml_or_not_there_is_named(tmp_path: Path) -> None:
    broken = tmp_path / "broken.toml"
    broken.write_text("a = ")
    for path in (broken, tmp_path / "missing.toml"):
        with pytest.raises(InvalidField, match=path.name):
            load_config(path)


def test_a_simulated_device_holds_no_layers_that_could_be_split() -> None:
    document = {"cluster": {"layer_split": 2}, "model": {"device": "simulated:60ms"}}
    with pytest.raises(Contradiction, match=r"cluster\.layer_split = 2 contradicts model\.device = simulated:60ms"):
        parse_config(document)
