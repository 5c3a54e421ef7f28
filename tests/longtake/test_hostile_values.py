"""Every option of every command is given what nobody means: a sentence that names it, and never a stack trace."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from importlib import resources
from pathlib import Path
from typing import NoReturn

import click
import pytest

from longtake.cli.main import cli, run
from longtake.core.errors import Unavailable

HOSTILE = {
    "empty": "",
    "blank": "   ",
    "no text": "\udcff\udcfe",
    "huge": "1" + "0" * 30,
    "digits": "9" * 5000,
    "no number": "nan",
    "endless": "inf",
    "below zero": "-1",
    "half a number": "0x",
    "two lines": "a\nb",
    "written from the right": "\u202egnp.a",
    "a colour": "\x1b[31m",
    "upwards": "../..",
    "a folder": "/tmp",
    "a device that never ends": "/dev/zero",
    "very long": "x" * 5000,
    "zero byte": "a\0b",
}
NOWHERE = "127.0.0.1:1"
"""Where nobody listens."""
NOT_HERE = "the test lets nothing begin"
HARMLESS = ("no server at ", NOT_HERE)
"""How a command ends whose values are all right."""
POCKET = Path(str(resources.files("pocket"))) / "weights"
CLEAN = str(resources.files("longtake.recipes") / "clean.toml")
QUICK_S = 10.0


def commands(command: click.Command, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    """All commands, those of groups included, with the words that call them."""
    if isinstance(command, click.Group):
        for name, inner in command.commands.items():
            yield from commands(inner, (*path, name))
    else:
        yield path, command


def parameters() -> Iterator[tuple[tuple[str, ...], click.Command, click.Parameter]]:
    """Every option that takes a value, and every argument."""
    for path, command in commands(cli):
        for parameter in command.params:
            if not (isinstance(parameter, click.Option) and parameter.is_flag):
                yield path, command, parameter


def call(path: tuple[str, ...], command: click.Command, parameter: click.Parameter, value: str) -> list[str]:
    """The arguments that give `value` to one parameter, and to others what they need."""
    options, arguments = [], []
    for other in command.params:
        if isinstance(other, click.Argument) and (other.required or other is parameter):
            arguments.append(value if other is parameter else harmless_argument(other))
    recipe = "wan-hiar" if path == ("convert",) else "clean"
    usual = {"server": NOWHERE, "duration": "1s", "output": "a.out", "recipe": recipe}
    for other in command.params:
        if other is parameter and isinstance(other, click.Option):
            name = max(other.opts, key=len)
            options.append(f"{name}={value}")
        elif other.name in usual and not isinstance(other, click.Argument):
            options.append(f"{max(other.opts, key=len)}={usual[other.name or '']}")
    if path == ("top",):
        options.append("--once")  # otherwise it goes on asking for ever
    return [*path, *options, "--", *arguments]


def harmless_argument(argument: click.Argument) -> str:
    """A value for an argument beside the one that is tried."""
    return {"file": __file__, "sources": str(POCKET), "path": CLEAN}.get(argument.name or "", "a")


def names(command: click.Command, parameter: click.Parameter) -> tuple[str, ...]:
    """How a sentence may name it."""
    beside = ("SOURCE",) if command.name == "convert" else ()  # of which nothing can be made here
    if isinstance(parameter, click.Option):
        return (*parameter.opts, *beside)
    return (parameter.human_readable_name.upper().rstrip("."), parameter.make_metavar(click.Context(cli)))


@pytest.fixture
def nothing_begins(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Everything is checked, and no worker is started."""
    import cluster.render
    import cluster.serve
    import longtake.cli.demo

    def refuse(*_: object, **__: object) -> NoReturn:
        raise Unavailable(NOT_HERE)

    monkeypatch.setattr(cluster.serve, "launcher_for", refuse)
    monkeypatch.setattr(cluster.render, "in_process_engine", refuse)
    monkeypatch.setattr(longtake.cli.demo, "local_server", refuse)
    for name in [name for name in os.environ if name.startswith("LONGTAKE_")]:
        monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)


def check(arguments: list[str], capsys: pytest.CaptureFixture[str], may_name: tuple[str, ...]) -> None:
    """One sentence that names what is wrong, if anything is, and soon."""
    begun_s = time.monotonic()
    status = run(arguments)
    assert time.monotonic() - begun_s < QUICK_S
    said = capsys.readouterr().err
    assert "Traceback" not in said
    assert all(letter.isprintable() or letter == "\n" for letter in said)
    if status == 0:
        return
    logged = [line for line in said.splitlines() if " longtake." not in line]
    *usage, sentence = logged
    assert len(usage) in (0, 2, 3) and (not usage or usage[0].startswith("Usage: ")), said
    assert len(sentence) < 600
    if status == 2:
        assert any(name in sentence for name in may_name), sentence
    else:
        assert status == 1 and any(way in sentence for way in (*HARMLESS, *may_name)), sentence


PARAMETERS = list(parameters())


@pytest.mark.parametrize("number", range(len(PARAMETERS)), ids=[f"{' '.join(p)} {o.name}" for p, _, o in PARAMETERS])
@pytest.mark.usefixtures("nothing_begins")
def test_a_hostile_value_is_refused_in_a_sentence_that_names_its_option(
    number: int, capsys: pytest.CaptureFixture[str]
) -> None:
    path, command, parameter = PARAMETERS[number]
    for value in HOSTILE.values():
        check(call(path, command, parameter, value), capsys, names(command, parameter))


VARIABLES = sorted(
    {
        (parameter.envvar, parameter.opts[0])
        for _, _, parameter in PARAMETERS
        if isinstance(parameter, click.Option) and isinstance(parameter.envvar, str)
    }
)


@pytest.mark.parametrize(("variable", "option"), VARIABLES)
@pytest.mark.usefixtures("nothing_begins")
def test_a_hostile_value_in_the_environment_is_refused_alike(
    variable: str, option: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    called = ["serve"] if option == "--log-level" else ["status"]
    if option not in ("--server", "--log-level"):
        called += ["--server", NOWHERE]
    for value in HOSTILE.values():
        if "\0" not in value:  # which no environment can hold
            monkeypatch.setenv(variable, value)
            check(called, capsys, (option,))


@pytest.mark.usefixtures("nothing_begins")
def test_a_hostile_token_in_the_environment_is_refused(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for value in HOSTILE.values():
        if "\0" not in value:
            monkeypatch.setenv("LONGTAKE_TOKEN", value)
            check(["status", "--server", NOWHERE], capsys, ("token",))
