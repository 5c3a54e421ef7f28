"""`longtake serve` with TLS, tenants and an audit log, and the command line as its user: as people will use them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import trustme

from cluster.access.callers import hash_of, new_token
from longtake.client import StreamOptions
from longtake.client.credentials import Credentials
from longtake.client.events import SegmentEvent
from longtake.client.stream import DIALS
from longtake.client.sync import SyncClient

ROOT = Path(__file__).resolve().parent.parent.parent.parent
PROMPT = "a red ball swaying at night"
CONFIG = """
[model]
device = "simulated:2ms"
[cluster]
launch = "in-process"
[listen]
host = "0.0.0.0"
port = 0
[tls]
certificate = "server.pem"
key = "server.key"
[auth]
tenants = "tenants.toml"
audit = "audit.jsonl"
"""


@dataclass
class Guarded:
    """A server process and what its users have."""

    folder: Path
    port: int
    tokens: dict[str, str]

    def run(self, *arguments: str, token: str = "", ca: bool = True) -> subprocess.CompletedProcess[str]:
        """A command of the user, told of server and token by the environment."""
        environment = {name: value for name, value in os.environ.items() if not name.startswith("LONGTAKE_")}
        environment |= {"PYTHONPATH": str(ROOT), "LONGTAKE_SERVER": f"localhost:{self.port}"}
        environment |= {"LONGTAKE_CA": "ca.pem"} if ca else {}
        environment |= {"LONGTAKE_TOKEN": token} if token else {}
        command = [sys.executable, "-m", "longtake", *arguments]
        return subprocess.run(command, cwd=self.folder, env=environment, capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Guarded]:
    folder = tmp_path_factory.mktemp("guarded")
    ca = trustme.CA()
    made = ca.issue_cert("localhost")
    ca.cert_pem.write_to_path(str(folder / "ca.pem"))
    made.cert_chain_pems[0].write_to_path(str(folder / "server.pem"))
    made.private_key_pem.write_to_path(str(folder / "server.key"))
    tokens = {"acme": new_token(), "umbrella": new_token()}
    (folder / "tenants.toml").write_text(
        "\n".join(
            f'[[tenants.{tenant}.tokens]]\nid = "t"\nhash = "{hash_of(token)}"' for tenant, token in tokens.items()
        )
    )
    (folder / "server.toml").write_text(CONFIG)
    with (folder / "server.log").open("w") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "longtake", "serve", "server.toml"],
            cwd=folder, env=os.environ | {"PYTHONPATH": str(ROOT)}, stdout=subprocess.PIPE, stderr=log, text=True,
        )  # fmt: skip
        try:
            assert process.stdout is not None
            ready = process.stdout.readline()
            assert ready.startswith("ready: "), (folder / "server.log").read_text()
            yield Guarded(folder, int(ready.split("0.0.0.0:")[1].split()[0]), tokens)
        finally:
            process.terminate()
            process.communicate(timeout=60)


def test_a_stream_with_the_token_and_none_without(server: Guarded) -> None:
    asked = ("stream", PROMPT, "--duration", "2s", "--codec", "mjpeg", "-o", "out.mjpeg")
    wrong = new_token()
    for token, ca, told in (("", True, "UNAUTHENTICATED"), (wrong, True, "UNAUTHENTICATED"),
                            (server.tokens["acme"], False, "UNAVAILABLE")):  # fmt: skip
        refused = server.run(*asked, token=token, ca=ca)
        assert refused.returncode == 1 and told in refused.stderr, refused.stderr
        assert not (server.folder / "out.mjpeg").exists()
    good = server.run(*asked, token=server.tokens["acme"])
    assert good.returncode == 0, good.stderr
    assert (server.folder / "out.mjpeg").stat().st_size > 0
    with (
        SyncClient(
            f"localhost:{server.port}",
            credentials=Credentials(token=server.tokens["acme"], ca=server.folder / "ca.pem"),
        ) as client,
        client.stream(PROMPT, StreamOptions(codec="mjpeg", window=1)) as stream,
    ):
        mine = server.run("sessions", "--json", token=server.tokens["acme"])
        (session,) = json.loads(mine.stdout)["sessions"]
        assert (session["session_id"], session["tenant"]) == (stream.opened.session_id, "acme")
        theirs = server.run("sessions", "--json", token=server.tokens["umbrella"])
        assert json.loads(theirs.stdout)["sessions"] == []
        closing = server.run("close", "--", stream.opened.session_id, token=server.tokens["umbrella"])
        assert closing.returncode == 2 and "is not open here" in closing.stderr
        count = 0
        while count < 3:  # it goes on
            count += isinstance(next(stream), SegmentEvent)
    audit = (server.folder / "audit.jsonl").read_text()
    actions = [(line.get("tenant"), line["action"], line["outcome"]) for line in map(json.loads, audit.splitlines())]
    assert actions.count(("acme", "open", "OK")) == 2
    # A client whose call ended before it took the first frame asks again, as gRPC then forgets why.
    assert 2 <= actions.count((None, "call", "UNAUTHENTICATED")) <= 2 * DIALS
    assert actions.count(("umbrella", "close", "NOT_FOUND")) == 1
    assert (server.folder / "audit.jsonl").stat().st_mode & 0o077 == 0
    log = (server.folder / "server.log").read_text()
    assert "opened, seed" in log
    for secret in (*server.tokens.values(), wrong, PROMPT, "swaying"):
        assert secret not in log + audit


@pytest.mark.parametrize(
    ("section", "named"),
    [
        ("[listen]\nhost = '0.0.0.0'", "auth.tenants"),
        ("[listen]\nhost = '0.0.0.0'\n[auth]\ntenants = 'x'", "tls.certificate"),
        ("[auth]\ntenants = 'missing.toml'", "auth.tenants"),
        ("[tls]\ncertificate = 'missing.pem'\nkey = 'missing.key'", "tls.certificate"),
        ("[auth]\naudit = '/missing/audit.jsonl'", "auth.audit"),
    ],
)
def test_a_server_that_would_be_open_or_half_guarded_does_not_start(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], section: str, named: str
) -> None:
    from longtake.cli.main import run

    (tmp_path / "server.toml").write_text(
        f"[model]\ndevice = 'simulated:2ms'\n[cluster]\nlaunch = 'in-process'\n{section}"
    )
    assert run(["serve", str(tmp_path / "server.toml"), "--port", "0"]) == 2
    told = capsys.readouterr()
    assert named in told.err and told.out == ""
