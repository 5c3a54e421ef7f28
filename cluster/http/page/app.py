"""What the page answers: its files, the model, the sessions, the WebSocket of a stream, and video at an address."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection
from pathlib import Path

from grpc import StatusCode
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, Response
from starlette.routing import Mount, Route, WebSocketRoute
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp
from starlette.websockets import WebSocket

from cluster.http.page.answers import HTTP_STATUSES, Json, error_message, invalid_message, model_json, session_json
from cluster.http.page.origin import SameOrigin
from cluster.http.page.sockets import Connect, serve_socket
from cluster.http.page.video import Videos
from longtake.client import Client
from longtake.client.errors import ClientError
from longtake.core.errors import InvalidField
from longtake.net.addresses import Address
from longtake.net.origins import WebOrigin

STATIC = Path(__file__).parent / "static"
_FAULT = 500


def page_app(connect: Connect, address: Address, origins: Collection[WebOrigin] = ()) -> ASGIApp:
    """The page as an ASGI application; `connect` makes a client of the service with a browser's token."""

    async def index(request: Request) -> Response:
        return FileResponse(STATIC / "index.html", media_type="text/html")

    async def model(request: Request) -> Response:
        return await _answer(request, connect, _model)

    async def sessions(request: Request) -> Response:
        return await _answer(request, connect, _sessions)

    async def stream(socket: WebSocket) -> None:
        await serve_socket(socket, connect)

    videos = Videos(connect)
    routes = [
        Route("/", index, methods=["GET"]),
        Route("/api/model", model, methods=["GET"]),
        Route("/api/sessions", sessions, methods=["GET"]),
        WebSocketRoute("/api/stream", stream),
        Route("/stream.mp4", videos.stream, methods=["GET", "HEAD"]),
        Route("/sessions/{session_id}.mp4", videos.session, methods=["GET", "HEAD"]),
        Mount("/static", StaticFiles(directory=STATIC)),
    ]
    return SameOrigin(Starlette(routes=routes), address, origins)


async def _model(client: Client) -> Json:
    return model_json(await client.get_model())


async def _sessions(client: Client) -> Json:
    return {"sessions": [session_json(session) for session in await client.list_sessions()]}


async def _answer(request: Request, connect: Connect, ask: Callable[[Client], Awaitable[Json]]) -> Response:
    scheme, _, token = request.headers.get("authorization", "").partition(" ")
    try:
        async with connect(token.strip() if scheme.lower() == "bearer" else "") as client:
            return JSONResponse(await ask(client))
    except InvalidField as error:
        return JSONResponse(invalid_message(error), status_code=HTTP_STATUSES[StatusCode.INVALID_ARGUMENT])
    except ClientError as error:
        headers = {"www-authenticate": "Bearer"} if error.code is StatusCode.UNAUTHENTICATED else None
        return JSONResponse(error_message(error), status_code=HTTP_STATUSES.get(error.code, _FAULT), headers=headers)
