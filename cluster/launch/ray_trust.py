"""Whether a Ray may be used: who can reach its ports must have its token, because Ray runs whatever it is told to.

Ray's own processes listen on all interfaces, also those of a local Ray. So before the first worker is placed, this
process calls them as a stranger would, and insists on being turned away.
"""

from __future__ import annotations

import os
import socket
import urllib.error
import urllib.request
from collections.abc import Mapping, MutableMapping
from secrets import token_hex

import grpc

from cluster.net.addresses import address_in
from cluster.net.files import everybody_reads, ray_token_file
from longtake.core.errors import InvalidField
from longtake.net.addresses import Address

TOKEN = "token"
CLIENT_PORT = 10001
"""The port at which the head of a cluster takes drivers from elsewhere, unless it is told otherwise."""
_ANSWER_S = 5.0
_TOKEN_BYTES = 32
_GCS_METHOD = "/ray.rpc.NodeInfoGcsService/CheckAlive"
_CLIENT_METHOD = "/ray.rpc.RayletDriver/ClusterInfo"
_JOBS = "/api/jobs/"
_CLOSED = (401, 403, None)
"""How a dashboard answers strangers if it is closed to them; None if they do not even reach it."""
_HOW = "start every node of it with RAY_AUTH_MODE=token, on Kubernetes with authOptions.mode: token"


def check_gcs(address: str) -> None:
    """InvalidField if the Ray at `address` (host:port) answers callers without a token, or does not know ours."""
    status = _status(address, _GCS_METHOD)
    if status is not grpc.StatusCode.UNAUTHENTICATED:
        said = "does what anybody says" if status is grpc.StatusCode.OK else f"says {status.name} to a stranger"
        raise InvalidField("cluster.ray_address", address, f"a Ray that asks for a token; this one {said}: {_HOW}")
    token = own_token(os.environ)
    if token and _status(address, _GCS_METHOD, token) is grpc.StatusCode.UNAUTHENTICATED:
        allowed = "a Ray whose token is in RAY_AUTH_TOKEN, RAY_AUTH_TOKEN_PATH or ~/.ray/auth_token; it is another"
        raise InvalidField("cluster.ray_address", address, allowed)


def check_doors(gcs_address: str, dashboard: str) -> None:
    """InvalidField if Ray's client port or its dashboard (host:port or empty), which runs jobs, is open to anybody."""
    host = address_in(gcs_address, field="cluster.ray_address").host
    client = str(Address(host=host, port=CLIENT_PORT))
    if _listens(client) and _status(client, _CLIENT_METHOD) is grpc.StatusCode.OK:
        raise InvalidField("cluster.ray_address", gcs_address, f"a Ray that asks at {client} for a token: {_HOW}")
    dashboard = dashboard.removeprefix("http://").rstrip("/")
    if dashboard and not _is_loopback(dashboard) and _http_status(dashboard) not in _CLOSED:
        allowed = f"a Ray whose dashboard at {dashboard} asks for a token, or listens on the loopback only: {_HOW}"
        raise InvalidField("cluster.ray_address", gcs_address, allowed)


def own_token(environment: Mapping[str, str]) -> str:
    """The token that Ray would use, found as Ray does; empty if there is none."""
    if "RAY_AUTH_TOKEN" in environment:
        return environment["RAY_AUTH_TOKEN"].strip()
    found = ray_token_file(environment)
    try:
        return found[1].read_text(encoding="utf-8").strip() if found is not None else ""
    except (OSError, ValueError):
        return ""


def give_token(environment: MutableMapping[str, str]) -> None:
    """Have a Ray that is started here take a token of this launch, if there is none yet that is a secret.

    Ray itself makes files of tokens that everybody may read: whoever can connect would have it run anything. And home
    may be of others, or not to be written at all.
    """
    found = ray_token_file(environment)
    if not own_token(environment) or (found is not None and everybody_reads(found[1])):
        environment["RAY_AUTH_TOKEN"] = token_hex(_TOKEN_BYTES)


def _status(address: str, method: str, token: str = "") -> grpc.StatusCode:
    """The status of a call without a message, made without a token or with one."""
    metadata = (("authorization", f"Bearer {token}"),) if token else ()
    # Not through a proxy of the environment: it is this very Ray that is asked.
    with grpc.insecure_channel(address, options=(("grpc.enable_http_proxy", 0),)) as channel:
        try:
            call: grpc.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary(method)
            call(b"", timeout=_ANSWER_S, metadata=metadata)
        except grpc.RpcError as error:
            assert isinstance(error, grpc.Call)
            return error.code()
    return grpc.StatusCode.OK


def _http_status(where: str) -> int | None:
    """The HTTP status for a stranger who asks for the list of jobs; None if nobody answers in HTTP."""
    try:
        direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        with direct.open(f"http://{where}{_JOBS}", timeout=_ANSWER_S) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        with error:
            return error.code
    except OSError:
        return None


def _listens(address: str) -> bool:
    where = address_in(address, field="cluster.ray_address")
    try:
        socket.create_connection((where.host, where.port), timeout=_ANSWER_S).close()
    except OSError:
        return False
    return True


def _is_loopback(address: str) -> bool:
    return address_in(address, field="cluster.ray_address", port=0).is_local
