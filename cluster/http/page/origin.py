"""Who may speak to the page from a browser: its own pages only; and what each answer tells browsers to forbid."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from longtake.net.addresses import Address
from longtake.net.origins import WebOrigin, WrongOrigin, parse_origin, place_of

LOCAL_NAMES = frozenset(("localhost", "127.0.0.1", "::1"))
HEADERS: Mapping[str, str] = {
    "content-security-policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; "
    "connect-src 'self'; media-src 'self' blob:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; "
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

    Where only this machine can connect, the page must also be called by a local name, or that of a proxy: otherwise any
    page on the web whose name is made to resolve to this machine would be of the same origin.
    """

    def __init__(self, app: ASGIApp, address: Address, origins: Collection[WebOrigin] = ()) -> None:
        """`origins` are the public ones, if the page is behind a proxy; without any, it is called as it is reached."""
        self._app = app
        self._origins = frozenset(origins)
        public = {origin.place.host for origin in origins}
        self._names = LOCAL_NAMES | {address.host} | public if address.is_local else None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request or one WebSocket."""

        async def send_with_headers(message: Message) -> None:
            if message["type"] in ("http.response.start", "websocket.http.response.start"):
                own = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    own.setdefault(name, value)
            await send(message)

        refusal = self._refusal(scope)
        if refusal:
            await PlainTextResponse(refusal, status_code=403)(scope, receive, send_with_headers)
        else:
            await self._app(scope, receive, send_with_headers)

    def _refusal(self, scope: Scope) -> str:
        headers = Headers(scope=scope)
        host = headers.get("host", "")
        if self._names is not None and _name(host) not in self._names:
            return _not_allowed("host", host, ", ".join(sorted(self._names)))
        origin = headers.get("origin")
        if origin is None:
            return "origin: a WebSocket must tell it" if scope["type"] == "websocket" else ""
        if self._origins:
            allowed = ", ".join(sorted(map(str, self._origins)))
            return "" if _origin(origin) in self._origins else _not_allowed("origin", origin, allowed)
        if self._is_own(origin, host, scope["scheme"]):
            return ""
        return _not_allowed("origin", origin, "that of this page; set http.origins where a proxy stands before it")

    def _is_own(self, text: str, host: str, scheme: str) -> bool:
        """Whether an origin is the address under which the page is called. One who cannot see a proxy's TLS does not
        know that the scheme is wrong; over TLS of its own the page does."""
        origin = _origin(text)
        if origin is None or (scheme in ("https", "wss") and origin.scheme != "https"):
            return False
        try:
            return place_of(host, origin.scheme) == origin.place
        except WrongOrigin:
            return False


def _not_allowed(what: str, value: str, allowed: str) -> str:
    return f"{what}: {value!r} is not allowed; allowed: {allowed}"


def _origin(text: str) -> WebOrigin | None:
    try:
        return parse_origin(text)
    except WrongOrigin:
        return None


def _name(host: str) -> str | None:
    try:
        return place_of(host, "http").host
    except WrongOrigin:
        return None
