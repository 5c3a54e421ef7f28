"""The page's server, beside the gRPC server on the same event loop: its port, its way to the service, its end."""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path
from urllib.parse import quote

import uvicorn

from cluster.config import ServerConfig
from cluster.http.connections import BoundedHttp, http_config
from cluster.http.page.app import page_app
from cluster.http.page.connections import MAX_MESSAGE_BYTES, BoundedWebSocket
from cluster.http.page.tls import PageTls
from cluster.net.addresses import address_in, listen
from cluster.net.listener import HttpListener
from longtake.client import Client
from longtake.client.credentials import Credentials
from longtake.core.errors import InvalidField
from longtake.net.addresses import Address
from longtake.net.origins import parse_origin

FIELD = "http.address"
GRACE_S = 2
"""How long browsers may take to read what they were sent last."""
PING_S = 20.0
"""How often a browser is asked whether it is there, and how long it may take to answer."""
_SOCKET = "page.sock"
_MAX_PATH_BYTES = 107
"""The longest path of a unix socket."""


class Page:
    """A page that listens; it answers after `begin`."""

    def __init__(self, address: Address, config: ServerConfig, folder: Path) -> None:
        self._scheme = "https" if config.tls.certificate else "http"
        self.target = f"unix:{quote(str(folder / _SOCKET))}"  # to gRPC it is a URI
        """The socket on which the gRPC server must listen for the page, in a folder that only this user can enter."""
        with contextlib.ExitStack() as on_error:
            listening = on_error.enter_context(listen(address, field=FIELD))
            self._address = Address(host=address.host, port=listening.getsockname()[1])
            self._listener = HttpListener(settings(self.target, self._address, config), listening)
            on_error.pop_all()

    @property
    def url(self) -> str:
        """The address to open in a browser."""
        return f"{self._scheme}://{self._address}/"

    def begin(self) -> None:
        """Answer, from now on; the gRPC server must listen at `target`."""
        self._listener.begin()

    async def end(self) -> None:
        """Close every connection and the port."""
        await self._listener.end()


@contextlib.asynccontextmanager
async def page_for(config: ServerConfig) -> AsyncIterator[Page | None]:
    """The page that `config` asks for, if it does; InvalidField if its address or its certificate is of no use."""
    if not config.http.address:
        yield None
        return
    address = address_in(config.http.address, field=FIELD, host=config.listen.host)
    folder = Path(tempfile.mkdtemp(prefix="longtake-"))  # only its owner can enter it
    try:
        spare_bytes = _MAX_PATH_BYTES - len(os.fsencode(folder / _SOCKET))
        if spare_bytes < 0:
            most_bytes = len(os.fsencode(folder.parent)) + spare_bytes
            allowed = f"a path of at most {most_bytes} bytes: a socket is to lie below it"
            raise InvalidField("TMPDIR", str(folder.parent), allowed)
        page = Page(address, config, folder)
        try:
            yield page
        finally:
            await page.end()
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _client(target: str, token: str) -> Client:
    """A client that uses a browser's token; InvalidField if that is no token."""
    try:
        return Client(target, credentials=Credentials(token=token))
    except ValueError:
        raise InvalidField("token", "(not shown)", "printable ASCII without spaces") from None


def settings(target: str, address: Address, config: ServerConfig) -> uvicorn.Config:
    """How the page at `address` is served; `target` is the gRPC server that it is a client of."""
    encryption = PageTls(config.tls) if config.tls.certificate else None
    made = http_config(
        page_app(partial(_client, target), address, [parse_origin(text) for text in config.http.origins]),
        http=BoundedHttp,
        ws=BoundedWebSocket,
        ws_max_size=MAX_MESSAGE_BYTES,
        ws_ping_interval=PING_S,
        ws_ping_timeout=PING_S,
        ws_per_message_deflate=False,
        timeout_graceful_shutdown=GRACE_S,
        ssl_context_factory=(lambda _, default: encryption.context()) if encryption else None,
    )
    made.load()
    return made
