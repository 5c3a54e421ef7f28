"""When certificates end: of each file the first, of what is in use, and never of what does not fit."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import trustme

from cluster.config import LinkSection, TlsSection
from cluster.net.certificate_dates import CertificateDates, Validity

NOW = datetime.now(UTC).replace(microsecond=0)
DAY = timedelta(days=1)


def write(folder: Path, *, ends: datetime, key: bool = True) -> None:
    """Another certificate for the server; without `key`, the key stays that of the one before."""
    made = trustme.CA().issue_cert("localhost", not_before=ends - 90 * DAY, not_after=ends)
    made.cert_chain_pems[0].write_to_path(str(folder / "server.pem"))
    if key:
        made.private_key_pem.write_to_path(str(folder / "server.key"))


def tls(folder: Path, client_ca: str = "") -> TlsSection:
    return TlsSection(certificate=str(folder / "server.pem"), key=str(folder / "server.key"), client_ca=client_ca)


def days(validity: Validity) -> float:
    """From now to its end."""
    return (validity.not_after_s - NOW.timestamp()) / DAY.total_seconds()


def test_nothing_is_told_where_there_are_no_certificates() -> None:
    assert CertificateDates(TlsSection(), LinkSection()).look() == {}


def test_a_renewed_certificate_counts_as_soon_as_its_key_fits(tmp_path: Path) -> None:
    write(tmp_path, ends=NOW + 3 * DAY)
    dates = CertificateDates(tls(tmp_path), LinkSection())
    found = dates.look()["tls.certificate"]
    assert days(found) == 3
    assert found.not_before_s == (NOW - 87 * DAY).timestamp()
    write(tmp_path, ends=NOW + 60 * DAY, key=False)
    assert days(dates.look()["tls.certificate"]) == 3
    write(tmp_path, ends=NOW + 61 * DAY)
    assert days(dates.look()["tls.certificate"]) == 61
    (tmp_path / "server.pem").unlink()
    assert days(dates.look()["tls.certificate"]) == 61


def test_of_several_in_a_file_the_first_to_end_counts(tmp_path: Path) -> None:
    write(tmp_path, ends=NOW + 30 * DAY)
    issued = [trustme.CA().issue_cert(f"n{n}", not_after=NOW + n * DAY) for n in (40, 5, 50)]
    bundle = tmp_path / "bundle.pem"
    bundle.write_bytes(b"".join(each.cert_chain_pems[0].bytes() for each in issued))
    found = CertificateDates(tls(tmp_path, str(bundle)), LinkSection()).look()
    assert {name: days(each) for name, each in found.items()} == {"tls.certificate": 30, "tls.client_ca": 5}


def test_the_links_files_count_as_they_were_at_the_start(tmp_path: Path) -> None:
    write(tmp_path, ends=NOW + 30 * DAY)
    certificate, key = str(tmp_path / "server.pem"), str(tmp_path / "server.key")
    dates = CertificateDates(TlsSection(), LinkSection(certificate=certificate, key=key, ca=key))
    write(tmp_path, ends=NOW + 60 * DAY)
    assert {name: days(each) for name, each in dates.look().items()} == {"link.certificate": 30}
