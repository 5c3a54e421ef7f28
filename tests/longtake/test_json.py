"""JSON of the command line: one style, whichever command prints it."""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path

import click
import pytest

from longtake.cli.json_lines import json_line
from longtake.cli.main import cli, run
from longtake.client import Client, StreamOptions, SyncClient
from longtake.core.plan.presets import PRESETS
from longtake.v1 import longtake_pb2 as pb
from tests.cluster.frontend.toy import ToyCell, toy_cell_in_thread

BIG = (1 << 64) - 1
OF_THE_STREAM = {"stream", "render", "watch"}
"""Their JSON is tested with them."""
ASKED: dict[str, Callable[[ToyCell, Path], list[str]]] = {
    "status": lambda cell, folder: ["--server", cell.target],
    "sessions": lambda cell, folder: ["--server", cell.target],
    "model": lambda cell, folder: ["--server", cell.target],
    "top": lambda cell, folder: ["--server", cell.target, "--once", "--interval", "100ms"],
    "recipes": lambda cell, folder: ["--server", cell.target],
    "plan": lambda cell, folder: [next(iter(PRESETS))],
    "token": lambda cell, folder: [],
    "import": lambda cell, folder: [str(folder / "session"), "--server", cell.target],
}
"""What every command with --json is asked."""


@pytest.fixture
def cell() -> Iterator[ToyCell]:
    with toy_cell_in_thread(delay_s=0.002) as running:
        yield running


def with_json() -> set[str]:
    """The commands that print JSON if they are asked to."""
    assert isinstance(cli, click.Group)
    return {name for name, command in cli.commands.items() if any("--json" in each.opts for each in command.params)}


def test_every_command_with_json_is_tried_here() -> None:
    assert with_json() - OF_THE_STREAM == set(ASKED)


def check(value: object, where: str) -> None:
    """Names in snake_case, no number in quotes, no constant in capitals."""
    match value:
        case dict():
            for key, each in value.items():
                assert re.fullmatch(r"[a-z][a-z0-9_]*", key), f"{where}.{key}"
                check(each, f"{where}.{key}")
        case list():
            for each in value:
                check(each, where)
        case str():
            assert not re.fullmatch(r"-?[0-9]+(\.[0-9]+)?", value), f"{where} = {value!r}"
            assert not re.fullmatch(r"[A-Z]+(_[A-Z]+)+", value), f"{where} = {value!r}"


@pytest.mark.parametrize("command", sorted(ASKED))
def test_json_is_a_line_in_snake_case_with_numbers_as_numbers(
    command: str, cell: ToyCell, capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def imported(client: Client, parts: object) -> pb.ImportResponse:
        return pb.ImportResponse(session_id="a1", resume_token=b"\xab\xcd", block=7)

    monkeypatch.setattr(Client, "import_session", imported)
    (tmp_path / "session").touch()
    with SyncClient(cell.target) as client, client.stream("red", StreamOptions(seed=BIG, window=1)):
        assert run([command, "--json", *ASKED[command](cell, tmp_path)]) == 0
    (line,) = capsys.readouterr().out.splitlines()
    document = json.loads(line, parse_constant=lambda name: pytest.fail(f"{name} is no JSON"))
    check(document, command)
    if command == "sessions":
        (session,) = document["sessions"]
        assert (session["seed"], session["pace"]) == (BIG, "fast")
    if command == "status":
        assert document["workers"][0]["role"] == "denoise" and document["drains_in_s"] is None


def test_what_a_newer_server_sends_and_json_has_not_is_written_nevertheless() -> None:
    worker = pb.Worker(worker_id="d0", op_s=float("inf"), role=pb.WORKER_ROLE_TEXT)
    document = json.loads(json_line({"bytes": b"\x01\xff", "worker": worker}))
    assert (document["bytes"], document["worker"]["op_s"], document["worker"]["role"]) == ("01ff", None, "text")
    with pytest.raises(TypeError, match="object has no form in JSON"):
        json_line(object())


# --- what else the commands of a server say ---------------------------------------------------------------------------


def test_a_server_that_drains_is_not_said_to_drain_since_it_started(
    cell: ToyCell, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    answered = Client.get_status

    async def draining(client: Client) -> pb.GetStatusResponse:
        status = await answered(client)
        status.draining, status.uptime_s, status.draining_for_s, status.drains_in_s = True, 3600, 12, 48
        return status

    monkeypatch.setattr(Client, "get_status", draining)
    assert run(["status", "--server", cell.target]) == 0
    first = capsys.readouterr().out.splitlines()[0]
    assert first == "draining for 0:00:12, 0:00:48 left, up for 1:00:00, 0 of 64 sessions"


@pytest.mark.parametrize("tenant", ["acme", "a.b", "0-1_2"])
def test_the_lines_of_a_token_are_toml_that_the_server_takes(tenant: str, capsys: pytest.CaptureFixture[str]) -> None:
    from cluster.access.tenants import parse_tenants

    assert run(["token", "--tenant", tenant, "--id", "laptop.2", "--days", "36500"]) == 0
    said = capsys.readouterr()
    caller = parse_tenants(tomllib.loads(said.err)).of_token(said.out.strip())
    assert caller is not None and (caller.tenant, caller.credential) == (tenant, "token laptop.2")


@pytest.mark.parametrize("name", ['a b"c', "Acme", "", "-a", "a" * 64, "a\n", "ä"])
def test_a_name_that_the_server_would_refuse_is_refused(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    for option in ("--tenant", "--id"):
        assert run(["token", option, name]) == 2
        said = capsys.readouterr()
        assert said.out == "" and option in said.err and "1 to 63 small letters" in said.err


# --- help -------------------------------------------------------------------------------------------------------------


def test_every_variable_of_the_environment_stands_in_the_help(capsys: pytest.CaptureFixture[str]) -> None:
    assert isinstance(cli, click.Group)
    seen = set()
    for name, command in cli.commands.items():
        variables = {each.envvar for each in command.params if isinstance(each.envvar, str)}
        run([name, "--help"])
        text = "".join(capsys.readouterr().out.split())
        assert all(variable in text for variable in variables), name
        seen |= variables
    assert {"LONGTAKE_SERVER", "LONGTAKE_TOKEN_FILE", "LONGTAKE_TLS", "LONGTAKE_CA", "LONGTAKE_LOG_LEVEL"} <= seen


# --- configurations that ship -----------------------------------------------------------------------------------------


def shipped() -> list[str]:
    """Their names."""
    return sorted(path.stem for path in (Path(__file__).parents[2] / "deploy/config").glob("*.toml"))


@pytest.mark.parametrize("name", shipped())
def test_a_shipped_configuration_is_printed_as_it_is_and_can_be_served(
    name: str, capsysbinary: pytest.CaptureFixture[bytes], tmp_path: Path
) -> None:
    from cluster.config import load_config

    assert run(["config", name]) == 0
    printed = capsysbinary.readouterr().out
    assert printed == (Path(__file__).parents[2] / f"deploy/config/{name}.toml").read_bytes()
    (tmp_path / "mine.toml").write_bytes(printed)
    load_config(tmp_path / "mine.toml")
    run(["config", "--help"])
    assert name.encode() in capsysbinary.readouterr().out


def test_the_default_configuration_says_what_a_server_does_without_one(capsys: pytest.CaptureFixture[str]) -> None:
    from cluster.config import ServerConfig, parse_config

    assert run(["config"]) == 0
    assert parse_config(tomllib.loads(capsys.readouterr().out)) == ServerConfig()
