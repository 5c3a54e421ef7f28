"""TLS on the public port: who can connect, who is who by certificate, and certificates that change under way."""

from __future__ import annotations

import contextlib
import logging
import socket
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import grpc
import pytest
import trustme
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from cluster.access import guard
from cluster.config import ServerConfig, TlsSection, parse_config
from cluster.net.exposure import check_exposure
from cluster.net.tls import CertificateFiles
from longtake.client import Client, StreamOptions
from longtake.client.credentials import Credentials
from longtake.core.errors import Contradiction, InvalidField
from tests.cluster.access.asking import ends, open_one, refusal, upto_segments
from tests.cluster.access.doors import GuardedCell, House, guarded_cell

SPIFFE = "spiffe://cluster.local/ns/acme/sa/player"
MEMBERS = f"""
[[tenants.acme.certificates]]
id = "player"
name = "URI:{SPIFFE}"
[[tenants.umbrella.certificates]]
id = "screen"
name = "DNS:screen.umbrella.example"
role = "viewer"
[[tenants.umbrella.certificates]]
id = "old"
name = "CN:old client"
[[tenants.umbrella.certificates]]
id = "trap"
name = "CN:trap"
"""


@dataclass
class Pki:
    """A folder with the server's certificate, and the CA that signs the clients'."""

    folder: Path

    def __post_init__(self) -> None:
        self.ca = trustme.CA()
        self.ca.cert_pem.write_to_path(str(self.folder / "ca.pem"))
        self.renew(self.ca)

    def renew(self, ca: trustme.CA) -> None:
        """Give the server another certificate."""
        made = ca.issue_cert("localhost", "127.0.0.1")
        made.cert_chain_pems[0].write_to_path(str(self.folder / "server.pem"))
        made.private_key_pem.write_to_path(str(self.folder / "server.key"))

    def section(self, *, clients: bool = False) -> TlsSection:
        return TlsSection(
            certificate=str(self.folder / "server.pem"),
            key=str(self.folder / "server.key"),
            client_ca=str(self.folder / "ca.pem") if clients else "",
        )

    def certificate(
        self, *names: str, common: str = "", ca: trustme.CA | None = None, until: datetime | None = None
    ) -> Credentials:
        """What a client with a certificate of these names shows; it trusts the CA of the server."""
        key, cert = signed_certificate(ca or self.ca, names, common, until or datetime.now(UTC) + timedelta(days=1))
        number = len(list(self.folder.glob("client-*.pem")))
        files = self.folder / f"client-{number}.pem", self.folder / f"client-{number}.key"
        files[0].write_bytes(cert)
        files[1].write_bytes(key)
        return Credentials(ca=self.folder / "ca.pem", certificate=files[0], key=files[1])

    def credentials(self, token: str = "") -> Credentials:
        """Of a client without a certificate."""
        return Credentials(token=token, ca=self.folder / "ca.pem")


def signed_certificate(ca: trustme.CA, names: tuple[str, ...], common: str, until: datetime) -> tuple[bytes, bytes]:
    """Key and certificate of a client; a name with `://` is a URI, another one a host."""
    issuer = x509.load_pem_x509_certificate(ca.cert_pem.bytes())
    signer = serialization.load_pem_private_key(ca.private_key_pem.bytes(), None)
    assert isinstance(signer, ec.EllipticCurvePrivateKey)
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common)] if common else [])
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer.subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(until - timedelta(days=2))
        .not_valid_after(until)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH]), critical=False)
    )
    if names:
        others = [x509.UniformResourceIdentifier(name) if "://" in name else x509.DNSName(name) for name in names]
        builder = builder.add_extension(x509.SubjectAlternativeName(others), critical=not common)
    certificate = builder.sign(signer, hashes.SHA256())
    secret = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    return secret, certificate.public_bytes(serialization.Encoding.PEM)


@pytest.fixture
def pki(tmp_path: Path) -> Pki:
    return Pki(tmp_path)


@pytest.fixture
def house(tmp_path: Path) -> House:
    return House(tmp_path, more=MEMBERS)


@pytest.fixture(autouse=True)
def quick_sweeps(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(guard, "SWEEP_S", 0.05)


@asynccontextmanager
async def tls_cell(house: House, section: TlsSection) -> AsyncIterator[GuardedCell]:
    async with guarded_cell(house, tls=CertificateFiles(section).credentials()) as guarded:
        yield guarded


async def test_a_token_over_tls_and_nothing_without_tls_or_with_another_ca(
    house: House, pki: Pki, tmp_path: Path
) -> None:
    token = house.tokens["acme client"]
    stranger = tmp_path / "stranger.pem"
    trustme.CA().cert_pem.write_to_path(str(stranger))
    async with tls_cell(house, pki.section()) as guarded:
        target = f"localhost:{guarded.cell.server.port}"
        async with Client(target, credentials=pki.credentials(token)) as client:
            await open_one(client, "")
        async with Client(target, credentials=pki.credentials()) as client:
            assert (await refusal(open_one(client, ""))).code is grpc.StatusCode.UNAUTHENTICATED
        for useless in (Credentials(token=token), Credentials(token=token, ca=stranger)):
            async with Client(target, credentials=useless) as client:
                assert (await refusal(open_one(client, ""))).code is grpc.StatusCode.UNAVAILABLE


async def test_a_certificate_says_who_its_client_is(house: House, pki: Pki) -> None:
    async with tls_cell(house, pki.section(clients=True)) as guarded:
        target = f"localhost:{guarded.cell.server.port}"
        async with (
            Client(target, credentials=pki.certificate(SPIFFE)) as player,
            player.stream("red", StreamOptions(window=1)) as stream,
        ):
            (session,) = await player.list_sessions()
            assert session.tenant == "acme"
            async with Client(target, credentials=pki.certificate("screen.umbrella.example")) as screen:
                assert await screen.list_sessions() == ()
                assert (await refusal(open_one(screen, ""))).code is grpc.StatusCode.PERMISSION_DENIED
            async with Client(target, credentials=pki.certificate(common="old client")) as old:
                await open_one(old, "")
            await upto_segments(stream, 1)
    credentials = {(line.get("tenant"), line.get("credential")) for line in house.audited()}
    assert credentials == {("acme", "certificate player"), ("umbrella", "certificate screen"),
                           ("umbrella", "certificate old")}  # fmt: skip


async def test_without_a_certificate_of_the_ca_nobody_connects(house: House, pki: Pki) -> None:
    token = house.tokens["acme operator"]
    other = trustme.CA()
    async with tls_cell(house, pki.section(clients=True)) as guarded:
        target = f"localhost:{guarded.cell.server.port}"
        past = datetime.now(UTC) - timedelta(days=1)
        for useless in (
            pki.credentials(token),
            pki.certificate(SPIFFE, ca=other),
            pki.certificate(SPIFFE, until=past),
        ):
            async with Client(target, credentials=useless) as client:
                assert (await refusal(open_one(client, ""))).code is grpc.StatusCode.UNAVAILABLE
    assert house.audited() == []


async def test_a_good_certificate_with_a_name_that_nobody_has_lets_nobody_in(house: House, pki: Pki) -> None:
    async with tls_cell(house, pki.section(clients=True)) as guarded:
        target = f"localhost:{guarded.cell.server.port}"
        for shown in (
            pki.certificate("other.example"),
            pki.certificate(SPIFFE + "/x"),
            # A common name beside other names is what anybody may have written there.
            pki.certificate("other.example", common="trap"),
            # A DNS name that reads like the name of another kind.
            pki.certificate(common=f"URI:{SPIFFE}"),
        ):
            async with Client(target, credentials=shown) as client:
                assert (await refusal(open_one(client, ""))).code is grpc.StatusCode.UNAUTHENTICATED


async def test_a_token_comes_before_the_certificate_of_its_connection(house: House, pki: Pki) -> None:
    async with tls_cell(house, pki.section(clients=True)) as guarded:
        shown = pki.certificate(SPIFFE)
        both = Credentials(
            token=house.tokens["umbrella operator"], ca=shown.ca, certificate=shown.certificate, key=shown.key
        )
        async with Client(f"localhost:{guarded.cell.server.port}", credentials=both) as client:
            await client.get_status()


async def test_a_stream_ends_when_its_certificate_is_struck_from_the_file(house: House, pki: Pki) -> None:
    async with (
        tls_cell(house, pki.section(clients=True)) as guarded,
        Client(f"localhost:{guarded.cell.server.port}", credentials=pki.certificate(SPIFFE)) as client,
        client.stream("red", StreamOptions(window=1)) as stream,
    ):
        await upto_segments(stream, 2)
        house.more = ""
        house.write()
        assert (await ends(stream)).code is grpc.StatusCode.UNAUTHENTICATED


async def test_a_new_certificate_serves_new_connections_and_streams_go_on(
    house: House, pki: Pki, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    token = house.tokens["acme client"]
    async with tls_cell(house, pki.section()) as guarded:
        target = f"localhost:{guarded.cell.server.port}"
        old = pki.credentials(token)
        async with (
            Client(target, credentials=old) as client,
            client.stream("red", StreamOptions(window=1)) as stream,
        ):
            await upto_segments(stream, 2)
            new, new_ca = trustme.CA(), tmp_path / "new-ca.pem"
            new.cert_pem.write_to_path(str(new_ca))
            # First the key alone, as if somebody were still copying: what is there goes on.
            new.issue_cert("localhost").private_key_pem.write_to_path(str(tmp_path / "server.key"))
            with caplog.at_level(logging.ERROR, "longtake.tls"):
                await get_model_anew(target, old)
            assert "tls.key" in caplog.text and "server.key" in caplog.text
            pki.renew(new)
            renewed = Credentials(token=token, ca=new_ca)
            await get_model_anew(target, renewed)
            assert (await refusal(get_model_anew(target, old))).code is grpc.StatusCode.UNAVAILABLE
            await upto_segments(stream, 5)
            (tmp_path / "server.pem").unlink()
            await get_model_anew(target, renewed)


async def get_model_anew(target: str, credentials: Credentials) -> None:
    """Over a connection of its own."""
    async with Client(target, credentials=credentials) as client:
        await client.get_model()


# --- start-up ---------------------------------------------------------------------------------------------------------


async def test_a_crowd_of_half_open_handshakes_changes_nothing_that_has_been_set_up(house: House, pki: Pki) -> None:
    """Files that did not change are set up once: anew for each connection, a flood of them ended the process."""
    files = CertificateFiles(pki.section())
    assert files.refresh() is None
    async with tls_cell(house, pki.section()) as cell:
        port = int(cell.cell.target.rpartition(":")[2])
        with contextlib.ExitStack() as held:
            for _ in range(300):
                half = held.enter_context(socket.create_connection(("127.0.0.1", port)))
                half.sendall(bytes.fromhex("1603010200010001fc0303"))
            await get_model_anew(cell.cell.target, pki.credentials(house.tokens["acme client"]))
    pki.renew(pki.ca)
    assert files.refresh() is not None
    assert files.refresh() is None


def test_files_that_do_not_fit_are_named_with_their_keys(pki: Pki, tmp_path: Path) -> None:
    section = pki.section(clients=True)
    other = tmp_path / "other.key"
    trustme.CA().issue_cert("localhost").private_key_pem.write_to_path(str(other))
    text = tmp_path / "text"
    text.write_text("no PEM")
    for key, path in (("certificate", "missing.pem"), ("key", "missing.pem"), ("client_ca", "missing.pem"),
                      ("key", str(other)), ("key", str(text)), ("client_ca", str(text))):  # fmt: skip
        with pytest.raises(InvalidField, match=rf"tls\.{key}: ") as wrong:
            CertificateFiles(section.model_copy(update={key: path}))
        assert path in str(wrong.value)


def config(text: Mapping[str, object]) -> ServerConfig:
    return parse_config(text)


HERE = ("127.0.0.1", "::1", "[::1]", "127.0.0.5", "localhost")
BEYOND = ("0.0.0.0", "[::]", "::", "10.0.0.1", "example.org", "")
AUTH = {"tenants": "tenants.toml"}
TLS = {"certificate": "server.pem", "key": "server.key"}


@pytest.mark.parametrize("host", HERE)
def test_on_this_machine_nobody_needs_to_be_asked_and_nothing_encrypted(host: str) -> None:
    check_exposure(config({"listen": {"host": host}}))
    check_exposure(config({"listen": {"host": host}, "auth": AUTH}))


@pytest.mark.parametrize("host", BEYOND)
def test_beyond_it_a_server_that_asks_nobody_does_not_start(host: str) -> None:
    listen = {"listen": {"host": host}}
    with pytest.raises(Contradiction, match=r"listen\.host = .* contradicts auth\.tenants is empty"):
        check_exposure(config(listen))
    with pytest.raises(Contradiction, match=r"auth\.tenants is empty"):
        check_exposure(config(listen | {"tls": TLS}))
    check_exposure(config(listen | {"auth": {"allow_anonymous": True}}))


@pytest.mark.parametrize("host", BEYOND)
def test_beyond_it_tokens_in_the_clear_are_not_taken(host: str) -> None:
    listen = {"listen": {"host": host}}
    with pytest.raises(Contradiction, match=r"listen\.host = .* contradicts tls\.certificate is empty"):
        check_exposure(config(listen | {"auth": AUTH}))
    check_exposure(config(listen | {"auth": AUTH, "tls": TLS}))
    check_exposure(config(listen | {"auth": AUTH | {"allow_unencrypted": True}}))


def test_the_page_is_held_to_the_same() -> None:
    with pytest.raises(Contradiction, match=r"http\.address = 0\.0\.0\.0"):
        check_exposure(config({"http": {"address": "0.0.0.0:8080"}}))
    check_exposure(config({"http": {"address": "127.0.0.1:8080"}}))
    check_exposure(config({"http": {"address": ":8080"}}))


@pytest.mark.parametrize(
    ("tls", "auth", "named"),
    [
        ({"certificate": "a"}, {}, "tls.key is empty"),
        ({"key": "a"}, {}, "tls.certificate is empty"),
        ({"client_ca": "a"}, {}, "tls.certificate is empty"),
        ({}, {"oidc": {"issuer": "https://issuer.example.org"}}, "auth.tenants is empty"),
    ],
)
def test_half_of_what_belongs_together_is_refused(tls: dict[str, object], auth: dict[str, object], named: str) -> None:
    with pytest.raises(Contradiction, match=named):
        check_exposure(config({"tls": tls, "auth": auth}))
