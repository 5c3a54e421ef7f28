"""TLS of the page: the same files as gRPC's port, and as there read again for new connections when they change."""

from __future__ import annotations

import logging
import ssl
from pathlib import Path

from cluster.config import TlsSection
from cluster.net.files import Watched
from cluster.net.tls import CertificateFiles
from longtake.core.errors import InvalidField

_log = logging.getLogger("longtake.page")


class PageTls:
    """What a browser's connection is encrypted with."""

    def __init__(self, section: TlsSection) -> None:
        """Read the files; InvalidField names the key, and the file, that is wrong."""
        self._section = section
        named = (section.certificate, section.key, section.client_ca)
        self._files = Watched(Path(name) for name in named if name)
        self._current = self._load()

    def context(self) -> ssl.SSLContext:
        """The context for a server that keeps only one: each handshake takes what the files hold by then."""
        outer = self._current
        outer.sni_callback = self._choose
        return outer

    def _choose(self, connection: ssl.SSLObject, name: str | None, outer: ssl.SSLContext) -> None:
        if self._files.changed():
            try:
                self._current = self._load()
            except (InvalidField, OSError) as error:  # also while files are being replaced
                _log.error("the certificate stays as it is: %s", error)
        connection.context = self._current

    def _load(self) -> ssl.SSLContext:
        section = self._section
        CertificateFiles(section)  # says better what is wrong
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.load_cert_chain(section.certificate, section.key, password="")
        if section.client_ca:
            context.verify_mode = ssl.CERT_REQUIRED
            context.load_verify_locations(section.client_ca)
        return context
