"""A Ray that does what anybody says is refused before a worker is placed on it."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import grpc
import pytest

from cluster.launch import ray_trust
from cluster.launch.ray_trust import check_doors, check_gcs, give_token, own_token
from longtake.core.errors import InvalidField
from tests.workers.model_dir import model_info
from workers.models.weights import save_info

ROOT = Path(__file__).resolve().parent.parent.parent.parent
TOKEN = "right"


class _Door(grpc.GenericRpcHandler):
    """Answers every method: everybody, or who has the token."""

    def __init__(self, token: str) -> None:
        self._token = token

    def service(self, call: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler[bytes, bytes]:
        shown = [value for key, value in call.invocation_metadata or () if key == "authorization"]

        def answer(request: bytes, context: grpc.ServicerContext) -> bytes:
            if self._token and shown != [f"Bearer {self._token}"]:
                context.abort(grpc.StatusCode.UNAUTHENTICATED, "no token")
            return b""

        return grpc.unary_unary_rpc_method_handler(answer)


@contextmanager
def door(token: str) -> Iterator[str]:
    """A gRPC server that asks for `token`; for none if it is empty."""
    server = grpc.server(ThreadPoolExecutor(2), handlers=[_Door(token)])
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        yield f"127.0.0.1:{port}"
    finally:
        server.stop(None)


@contextmanager
def dashboard(status: int) -> Iterator[str]:
    """An HTTP server that answers every GET with `status`."""

    class Answer(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status)
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Answer)
    serving = threading.Thread(target=server.serve_forever)
    serving.start()
    try:
        yield f"127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        serving.join()
        server.server_close()


def test_a_ray_that_asks_for_our_token_is_accepted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_AUTH_TOKEN", TOKEN)
    with door(TOKEN) as address:
        check_gcs(address)


def test_a_ray_that_does_what_anybody_says_is_refused() -> None:
    with door("") as address, pytest.raises(InvalidField, match=r"cluster\.ray_address: .*what anybody says.*=token"):
        check_gcs(address)


def test_a_ray_that_says_nothing_in_the_clear_is_refused() -> None:
    with pytest.raises(InvalidField, match="says UNAVAILABLE to a stranger"):
        check_gcs("127.0.0.1:1")


def test_another_rays_token_is_found_out_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_AUTH_TOKEN", "wrong")
    with door(TOKEN) as address, pytest.raises(InvalidField, match="it is another") as caught:
        check_gcs(address)
    assert "wrong" not in str(caught.value)


@pytest.mark.parametrize(("token", "refused"), [("", True), (TOKEN, False)])
def test_an_open_client_port_is_refused(monkeypatch: pytest.MonkeyPatch, token: str, refused: bool) -> None:
    with door(token) as address:
        monkeypatch.setattr(ray_trust, "CLIENT_PORT", int(address.rpartition(":")[2]))
        if not refused:
            check_doors("127.0.0.1:1", "")
            return
        with pytest.raises(InvalidField, match=f"asks at {address} for a token"):
            check_doors("127.0.0.1:1", "")


@pytest.mark.parametrize(("status", "refused"), [(200, True), (404, True), (401, False), (403, False)])
def test_a_dashboard_that_runs_anybodys_jobs_is_refused(
    monkeypatch: pytest.MonkeyPatch, status: int, refused: bool
) -> None:
    monkeypatch.setattr(ray_trust, "CLIENT_PORT", 1)
    with dashboard(status) as where:
        check_doors("127.0.0.1:1", where)  # only this machine reaches it
        monkeypatch.setenv("no_proxy", "*")
        where = where.replace("127.0.0.1", "0.0.0.0")  # the same door, by a name that is not the loopback's
        if not refused:
            check_doors("127.0.0.1:1", f"http://{where}/")
            return
        with pytest.raises(InvalidField, match=f"dashboard at {where} asks for a token"):
            check_doors("127.0.0.1:1", where)


def test_the_token_is_found_where_ray_finds_it(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("from a file\n")
    path = str(tmp_path / "token")
    assert own_token({"RAY_AUTH_TOKEN": "direct", "RAY_AUTH_TOKEN_PATH": path}) == "direct"
    assert own_token({"RAY_AUTH_TOKEN_PATH": path}) == "from a file"
    assert own_token({"RAY_AUTH_TOKEN_PATH": str(tmp_path / "absent")}) == ""


def test_an_environment_that_wants_no_tokens_is_named(tmp_path: Path) -> None:
    """Before a Ray is started; that one with tokens is accepted, every test with Ray shows."""
    save_info(tmp_path, model_info())
    config = tmp_path / "server.toml"
    config.write_text(
        f'[model]\npath = "{tmp_path}"\ndevice = "simulated:1ms"\n[cluster]\nlaunch = "ray"\n[listen]\nport = 0\n'
    )
    command = [sys.executable, "-m", "longtake", "serve", str(config)]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "RAY_AUTH_MODE": "disabled"}
    served = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=100)
    assert served.returncode == 2, served.stderr
    (line,) = [line for line in served.stderr.splitlines() if line.startswith("longtake: ")]
    assert line.startswith("longtake: RAY_AUTH_MODE (environment): 'disabled' is not allowed; allowed: token, or unset")
    assert "ready" not in served.stdout


def test_a_ray_of_ones_own_is_given_a_token_if_there_is_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    first: dict[str, str] = {}
    second: dict[str, str] = {}
    give_token(first)
    give_token(second)
    assert len(first["RAY_AUTH_TOKEN"]) >= 64 and first != second
    assert list(tmp_path.iterdir()) == []
    own = {"RAY_AUTH_TOKEN": "mine"}
    give_token(own)
    assert own == {"RAY_AUTH_TOKEN": "mine"}
    (tmp_path / ".ray").mkdir()
    (tmp_path / ".ray" / "auth_token").write_text("there\n")
    known: dict[str, str] = {}
    (tmp_path / ".ray" / "auth_token").chmod(0o600)
    give_token(known)
    assert known == {} and own_token(known) == "there"
    (tmp_path / ".ray" / "auth_token").chmod(0o644)  # as Ray makes it
    give_token(known)
    assert own_token(known) not in ("there", ""), "a secret that everybody can read is none"


def test_where_home_cannot_be_found_or_read_there_is_no_token(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Path, "home", lambda: (_ for _ in ()).throw(RuntimeError("no home")))
    assert own_token({}) == ""
    monkeypatch.setattr(Path, "home", lambda: Path("/proc/nonexistent"))
    assert own_token({}) == ""
