"""The router before several cells with what docs/scaling.md adds to it: TLS on both sides, and callers' tokens."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import grpc
import pytest
import trustme
import yaml

from longtake.client import Client, SegmentEvent, StreamOptions
from longtake.client.credentials import Credentials
from longtake.client.errors import ClientError
from longtake.net.cells import cell_of
from tests.cluster.access.doors import House
from tests.cluster.frontend.carried import counting_cell
from tests.cluster.frontend.reading import upto
from tests.cluster.frontend.toy import Door
from tests.deploy.router import ROOT, Config, Router, committed, endpoints, envoy, placed, router

OPEN = StreamOptions(window=1, reconnect_s=0.0)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Where the router's files lie; without Envoy the test is skipped before anything is started."""
    envoy()
    return tmp_path


def snippets() -> tuple[Config, Config]:
    """What the page says is added to the file: in the listener's filter chain, and in the cluster."""
    page = (ROOT / "docs/scaling.md").read_text()
    found = [yaml.safe_load(text) for text in re.findall(r"^```yaml\n(.*?)^```", page, re.MULTILINE | re.DOTALL)]
    chain, cluster = (one for one in found if "transport_socket" in one)
    return chain, cluster


def encrypted(config: Config, folder: Path) -> Config:
    """The configuration with both, which look for their files in this folder; the cells are asked by a name."""
    chain, cluster = yaml.safe_load(yaml.safe_dump(list(snippets())).replace("/etc/router", str(folder)))
    config["static_resources"]["listeners"][0]["filter_chains"][0].update(chain)
    config["static_resources"]["clusters"][0].update(cluster, dns_lookup_family="V4_ONLY")
    for address in endpoints(config).values():
        address["address"] = "localhost"
    return config


def write_certificates(folder: Path, *, trusted: trustme.CA) -> None:
    """The router's own certificate, the CA that its clients trust, and the one that it trusts the cells by."""
    clients = trustme.CA()
    own = clients.issue_cert("127.0.0.1")
    own.private_key_pem.write_to_path(str(folder / "tls.key"))
    for part in own.cert_chain_pems:
        part.write_to_path(str(folder / "tls.crt"), append=True)
    clients.cert_pem.write_to_path(str(folder / "ca.pem"))
    trusted.cert_pem.write_to_path(str(folder / "cells-ca.crt"))


@asynccontextmanager
async def encrypted_cells(house: House, signer: trustme.CA, name: str) -> AsyncIterator[Router]:
    """Two cells with a certificate for this name, who ask for tokens, and the router."""
    made, tenancy = signer.issue_cert(name), house.tenancy()
    chain = b"".join(part.bytes() for part in made.cert_chain_pems)
    tls = grpc.ssl_server_credentials([(made.private_key_pem.bytes(), chain)])
    async with (
        counting_cell(door=Door(tenancy=tenancy, tls=tls, cell="east")) as east,
        counting_cell(door=Door(tenancy=tenancy, tls=tls, cell="west")) as west,
    ):
        ports = {"east": east.server.port, "west": west.server.port}
        async with router(encrypted(placed(committed(), ports), house.folder), house.folder) as way:
            yield way
    tenancy.audit.close()


async def test_callers_are_known_by_their_tokens(folder: Path) -> None:
    signer, house = trustme.CA(), House(folder)
    write_certificates(folder, trusted=signer)
    async with encrypted_cells(house, signer, "localhost") as way:
        shown = {who: Credentials(token=token, ca=folder / "ca.pem") for who, token in house.tokens.items()}
        async with (
            Client(way.target, credentials=shown["acme client"]) as acme,
            Client(way.target, credentials=shown["umbrella client"]) as umbrella,
            acme.stream("red", OPEN) as stream,
        ):
            await upto(stream, SegmentEvent)
            assert cell_of(stream.session_id) in ("east", "west")
            for _ in range(20):
                assert (await acme.get_session(stream.session_id)).tenant == "acme"
                with pytest.raises(ClientError) as caught:
                    await umbrella.get_session(stream.session_id)
                assert caught.value.code is grpc.StatusCode.NOT_FOUND
        async with Client(way.target, credentials=Credentials(ca=folder / "ca.pem")) as nobody:
            with pytest.raises(ClientError) as caught:
                await nobody.get_model()
            assert caught.value.code is grpc.StatusCode.UNAUTHENTICATED


@pytest.mark.parametrize(("name", "is_trusted"), [("elsewhere", True), ("localhost", False)])
async def test_tokens_go_to_no_cell_that_is_not_known_for_one(folder: Path, name: str, is_trusted: bool) -> None:
    """One with another name, and one whose certificate is another authority's."""
    signer, house = trustme.CA(), House(folder)
    write_certificates(folder, trusted=signer if is_trusted else trustme.CA())
    async with encrypted_cells(house, signer, name) as way:
        credentials = Credentials(token=house.tokens["acme client"], ca=folder / "ca.pem")
        async with Client(way.target, credentials=credentials, timeout_s=30.0) as client:
            with pytest.raises(ClientError) as caught:
                await client.get_model()
            assert caught.value.code is grpc.StatusCode.UNAVAILABLE
        assert house.audited() == []
