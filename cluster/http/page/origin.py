"""Who may speak to the page from a browser: its own pages only; and what each answer tells browsers to forbid."""

from __future__ import annotations

from collections.abc import Mapping
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from starlette.websockets import WebSocketClose

from longtake.net.addresses import Address

LOCAL_NAMES = frozenset(("localhost", "127.0.0.1", "::1"))
HEADERS: Mapping[str, str] = {
    "content-security-policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; "
    "connect-src 'self'; media-src blob:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; "
    "require-trusted-types-for 'script'; trusted-types 'none'",
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "permissions-policy": "camera=(), geolocation=(), microphone=()",
    "cache-control": "no-cache",
}


class SameOrigin:
    """Passes on what comes from the page's own origin.

    Where only this machine can connect, the page must also be called by a local name: otherwise any page on the web
    whose name is made to resolve to this machine would be of the same origin.
    """

    def __init__(self, app: ASGIApp, address: Address) -> None:
        self._app = app
        self._names = LOCAL_NAMES | {address.host} if address.is_local else None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request or one WebSocket."""

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).update(HEADERS)
            await send(message)

        refusal = self._refusal(scope)
        if not refusal:
            await self._app(scope, receive, send_with_headers)
        elif scope["type"] == "websocket":
            await WebSocketClose(reason=refusal)(scope, receive, send)
        else:
            await PlainTextResponse(refusal, status_code=403)(scope, receive, send_with_headers)

    def _refusal(self, scope: Scope) -> str:
        headers = Headers(scope=scope)
        host = headers.get("host", "")
        if self._names is not None and _name(host) not in self._names:
            return f"host: {host!r} is not allowed; allowed: {', '.join(sorted(self._names))}"
        origin = headers.get("origin")
        if origin is None:
            return "origin: a WebSocket must tell it" if scope["type"] == "websocket" else ""
        return "" if _place(origin) == host else f"origin: {origin!r} is not allowed; allowed: that of this page"


def _place(origin: str) -> str | None:
    """HOST:PORT of an origin; None for what is none, such as `null`."""
    try:
        parts = urlsplit(origin)
    except ValueError:
        return None
    return parts.netloc if parts.scheme in ("http", "https") and parts.netloc else None


def _name(host: str) -> str | None:
    try:
        return urlsplit(f"//{host}").hostname
    except ValueError:
        return None
