"""When the certificates end that this server shows to others, or by which it knows them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509

from cluster.config import LinkSection, TlsSection
from cluster.net.files import Watched
from cluster.net.tls import CertificateFiles
from longtake.core.errors import InvalidField


@dataclass(frozen=True, slots=True, kw_only=True)
class Validity:
    """From when until when a certificate is valid, in seconds of Unix time."""

    not_before_s: float
    not_after_s: float


class CertificateDates:
    """The dates of the files in use: those for clients are read again when they change, the link's are not."""

    def __init__(self, tls: TlsSection, link: LinkSection) -> None:
        """Read them; a file without a certificate has no date, for who uses it says that better."""
        self._tls = tls
        self._watched = Watched(Path(path) for path in (tls.certificate, tls.key, tls.client_ca) if path)
        self._of_link = dict(_dates({"link.certificate": link.certificate, "link.ca": link.ca}))
        self._of_clients = self._read()

    def look(self) -> Mapping[str, Validity]:
        """By the configuration's key: of each file the certificate that ends first. Looks at the files; for threads."""
        if self._watched.changed():
            try:
                CertificateFiles(self._tls)
            except InvalidField:
                pass  # connections go on with what they had, and so do the dates
            else:
                self._of_clients = self._read()
        return self._of_link | self._of_clients

    def _read(self) -> dict[str, Validity]:
        return dict(_dates({"tls.certificate": self._tls.certificate, "tls.client_ca": self._tls.client_ca}))


def _dates(paths: Mapping[str, str]) -> Iterator[tuple[str, Validity]]:
    for name, path in paths.items():
        try:
            found = x509.load_pem_x509_certificates(Path(path).read_bytes()) if path else []
        except (OSError, ValueError):
            continue
        if found:
            first = min(found, key=lambda one: one.not_valid_after_utc)
            yield (
                name,
                Validity(
                    not_before_s=first.not_valid_before_utc.timestamp(),
                    not_after_s=first.not_valid_after_utc.timestamp(),
                ),
            )
