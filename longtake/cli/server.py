"""The options by which every command that talks to a server is told which one, and what to show it."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import cast

import click

from longtake.cli import values
from longtake.client import Client
from longtake.client.credentials import Credentials

TOKEN_VARIABLE = "LONGTAKE_TOKEN"
_FILE = values.InputFile()
_MOST_BYTES = 1 << 16
"""Of a token, which a file of another kind is longer than."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Server:
    """A server and how to talk to it."""

    target: str
    option: str = "--server"
    """The option that named it."""
    credentials: Credentials = field(default_factory=Credentials)

    def client(self) -> Client:
        """A connection, to be used as an asynchronous context manager; UsageError if the credentials are of no use."""
        try:
            return Client(self.target, credentials=self.credentials)
        except ValueError as error:
            text = str(error)
            named = f"{self.option}: {text.removeprefix('server: ')}" if text.startswith("server: ") else text
            raise click.UsageError(named) from None


_OPTIONS = (
    click.option("--server", default="127.0.0.1:50051", envvar="LONGTAKE_SERVER", show_envvar=True, show_default=True,
                 metavar="HOST:PORT", help="The server to ask."),
    click.option("--token-file", type=_FILE, envvar="LONGTAKE_TOKEN_FILE", show_envvar=True,
                 help=f"A file with the token to show; the token itself may stand in {TOKEN_VARIABLE}."),
    click.option("--tls", is_flag=True, envvar="LONGTAKE_TLS", show_envvar=True,
                 help="Encrypt; the system's CAs must know the server."),
    click.option("--ca", type=_FILE, envvar="LONGTAKE_CA", show_envvar=True,
                 help="Encrypt; a PEM file of CAs that may have signed the server's certificate."),
    click.option("--certificate", type=_FILE, envvar="LONGTAKE_CERTIFICATE", show_envvar=True,
                 help="A PEM file with a certificate to show, for servers that ask for one …"),
    click.option("--key", type=_FILE, envvar="LONGTAKE_KEY", show_envvar=True, help="… and one with its key."),
)  # fmt: skip


def server_options(command: Callable[..., object]) -> Callable[..., object]:
    """Adds --server and its fellows; the command gets one `server: Server` of them."""

    @functools.wraps(command)
    def with_server(*, server: str, token_file: Path | None, tls: bool, **asked: object) -> object:
        files = {name: cast("Path | None", asked.pop(name)) for name in ("ca", "certificate", "key")}
        credentials = Credentials(token=_token(token_file), tls=tls, **files)
        return command(server=Server(target=server, credentials=credentials), **asked)

    decorated: Callable[..., object] = with_server
    for option in reversed(_OPTIONS):
        decorated = option(decorated)
    return decorated


def _token(path: Path | None) -> str:
    """No argument holds a token: everybody on the machine can read those."""
    if path is None:
        return os.environ.get(TOKEN_VARIABLE, "").strip()
    with path.open("rb") as file:
        content = file.read(_MOST_BYTES)
    try:
        return content.decode("utf-8-sig").strip()
    except UnicodeDecodeError:
        raise click.UsageError(f"--token-file: {str(path)!r} is not allowed; allowed: a file with a token") from None
