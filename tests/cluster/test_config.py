"""A configuration file is right as a whole or refused with the key, the value and what is allowed."""

from __future__ import annotations

import datetime
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from cluster.config import ServerConfig, load_config, parse_config
from cluster.toml_files import Section
from longtake.core.errors import Contradiction, InvalidField, InvalidFields
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
    document = {"limits": {"max_window": 8, "park_after_s": 5}, "cluster": {"packed": ["fast"], "fused_passes": True}}
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


def test_all_that_is_wrong_is_said_at_once() -> None:
    document = {"limits": 5, "listen": {"port": "80", "prot": 1}, "cluster": {"launch": "docker"}}
    with pytest.raises(InvalidFields) as caught:
        parse_config(document)
    said = [error.field for error in caught.value.errors]
    assert sorted(said) == ["cluster.launch", "limits", "listen.port", "listen.prot"]


def paths_of_types(section: type[Section] = ServerConfig, before: str = "") -> Iterator[str]:
    """Every key of the configuration, sections included."""
    for name, field in section.model_fields.items():
        yield f"{before}{name}"
        if isinstance(field.annotation, type) and issubclass(field.annotation, Section):
            yield from paths_of_types(field.annotation, f"{before}{name}.")
    if section is ServerConfig:
        yield from (f"limits.{key.name}" for key in Limits.settings())


@pytest.mark.parametrize("value", [{"a": "b"}, [[1]], "a\0b", 10**30, float("nan"), datetime.datetime(2030, 1, 1)])
def test_whatever_stands_at_a_key_is_refused_in_the_words_of_the_file(value: object) -> None:
    refused = 0
    for path in paths_of_types():
        *tables, key = path.split(".")
        document: dict[str, object] = {key: value}
        for table in reversed(tables):
            document = {table: document}
        try:
            parse_config(document)
        except (InvalidField, InvalidFields) as error:
            refused += 1
            said = str(error)
            assert path in said and "allowed" in said
            assert not re.search(r"Section|Input|dictionary|instance|pydantic|validat|\\n", said), said
        except Contradiction as error:
            assert path in str(error)
    assert refused > 60


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"\xff\xfeb\0", "in UTF-8 (byte 0 is not)"),
        (b"\x7fELF\x02\x01\x01\0\0", "a TOML file"),
        (b"a = " + 5000 * b"9", "a TOML file"),
        (b"a = " + 200_000 * b"[", "too deep"),
        (b"#" + (1 << 20) * b"x", "at most 1048576 bytes"),
        (None, "Is a directory"),
    ],
)
def test_what_is_no_toml_file_is_said(content: bytes | None, said: str, tmp_path: Path) -> None:
    path = tmp_path / "some.toml"
    if content is None:
        path.mkdir()
    else:
        path.write_bytes(content)
    with pytest.raises(InvalidField) as caught:
        load_config(path, field="CONFIG")
    assert str(caught.value).startswith("CONFIG: ") and said in str(caught.value)


def test_a_file_from_an_editor_that_marks_utf_8_is_read(tmp_path: Path) -> None:
    path = tmp_path / "some.toml"
    path.write_bytes("\ufeff[listen]\r\nport = 7\r\n".encode())
    assert load_config(path).listen.port == 7


def test_a_simulated_device_holds_no_layers_that_could_be_split() -> None:
    document = {"cluster": {"layer_split": 2}, "model": {"device": "simulated:60ms"}}
    with pytest.raises(Contradiction, match=r"cluster\.layer_split = 2 contradicts model\.device = simulated:60ms"):
        parse_config(document)


@pytest.mark.parametrize("cell", ["", "a.b", "A", "-a", "a-", "a b", "a/b", "ä", "a\n", "x" * 64])
def test_a_cell_is_called_what_may_stand_before_the_dot_of_a_session(cell: str) -> None:
    with pytest.raises(InvalidField, match=r"metrics\.cell"):
        parse_config({"metrics": {"cell": cell}})
    assert parse_config({"metrics": {"cell": "x" * 63}}).metrics.cell == "x" * 63
