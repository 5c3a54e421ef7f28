"""TLS of the ports for clients: certificate and key from PEM files, read again for new connections when they change."""

from __future__ import annotations

import logging
import ssl
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import grpc

from cluster.config import TlsSection
from cluster.net.files import Watched
from longtake.core.errors import InvalidField

_log = logging.getLogger("longtake.tls")


class CertificateFiles:
    """The files of the section `tls`, as they were when they last fitted together.

    Open connections keep what they were made with; gRPC asks before each new one.
    """

    def __init__(self, section: TlsSection) -> None:
        """Read them; InvalidField names the key, and the file, that is wrong."""
        self._paths = {
            name: Path(path)
            for name, path in (
                ("tls.certificate", section.certificate),
                ("tls.key", section.key),
                ("tls.client_ca", section.client_ca),
            )
            if path
        }
        self._files = Watched(self._paths.values())
        self._initial = self._load()
        self._looking = threading.Lock()

    def credentials(self) -> grpc.ServerCredentials:
        """The credentials of gRPC's port; with `tls.client_ca`, only clients with a certificate signed by it get in."""
        needs_client = "tls.client_ca" in self._paths
        refresh: Callable[[], Any] = self.refresh  # its type stub does not know that None means no change
        return grpc.dynamic_ssl_server_credentials(self._initial, refresh, needs_client)

    def refresh(self) -> grpc.ServerCertificateConfiguration | None:
        """What new connections get from now on; None if that is what they got before.

        gRPC calls this for every connection, from threads of its own, so it must not raise. Whatever is returned, gRPC
        sets up anew for all threads: that costs milliseconds, and under a flood of connections it has ended the
        process.
        """
        with self._looking:
            if not self._files.changed():
                return None
            try:
                changed = self._load()
            except InvalidField as error:
                # Also while files are being replaced: key and certificate do not fit for a moment.
                _log.error("the certificate stays as it is: %s", error)
                return None
        _log.info("the certificate was read again")
        return changed

    def _load(self) -> grpc.ServerCertificateConfiguration:
        text = {name: _read(name, path) for name, path in self._paths.items()}
        self._check()
        pair = [(text["tls.key"], text["tls.certificate"])]
        return grpc.ssl_server_certificate_configuration(pair, root_certificates=text.get("tls.client_ca"))

    def _check(self) -> None:
        """Check the files here: gRPC would tell only clients of an error, by failing their handshakes."""
        certificate, key = self._paths["tls.certificate"], self._paths["tls.key"]
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        try:
            # An empty password: an encrypted key is refused rather than asked for at the terminal.
            context.load_cert_chain(certificate, key, password="")
        except (ssl.SSLError, ValueError) as error:
            allowed = f"the unencrypted PEM key of {certificate} ({_reason(error)})"
            raise InvalidField("tls.key", str(key), allowed) from None
        if "tls.client_ca" in self._paths:
            path = self._paths["tls.client_ca"]
            try:
                context.load_verify_locations(path)
            except (ssl.SSLError, ValueError) as error:
                raise InvalidField("tls.client_ca", str(path), f"PEM certificates ({_reason(error)})") from None


def _reason(error: Exception) -> str:
    return error.reason if isinstance(error, ssl.SSLError) and error.reason else str(error)


def _read(name: str, path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise InvalidField(name, str(path), f"a readable PEM file ({error.strerror})") from None
