"""A start-up check of addresses against TLS and authentication: what must not be open to other machines."""

from __future__ import annotations

from cluster.config import ServerConfig
from cluster.net.addresses import address_in
from longtake.core.errors import Contradiction
from longtake.net.addresses import is_this_machine


def check_exposure(config: ServerConfig) -> None:
    """Contradiction names the keys that would let strangers call, or let tokens be read on their way."""
    _check_tls(config)
    auth = config.auth
    if auth.oidc.issuer and not auth.tenants:
        reason = "the issuer says who somebody is, the tenants file what they may"
        raise Contradiction(f"auth.oidc.issuer = {auth.oidc.issuer}", "auth.tenants is empty", reason)
    if auth.audit_required and not auth.audit:
        reason = "only of a file is it known whether lines are written"
        raise Contradiction("auth.audit_required = true", "auth.audit is empty", reason)
    for key, host in _hosts(config).items():
        if is_this_machine(host):
            continue
        if not auth.tenants and not auth.allow_anonymous:
            reason = "other machines could call unasked; set auth.tenants, or auth.allow_anonymous"
            raise Contradiction(f"{key} = {host}", "auth.tenants is empty", reason)
        if auth.tenants and not config.tls.certificate and not auth.allow_unencrypted:
            reason = "tokens could be read on their way; set tls.certificate, or auth.allow_unencrypted behind a proxy"
            raise Contradiction(f"{key} = {host}", "tls.certificate is empty", reason)


def _check_tls(config: ServerConfig) -> None:
    tls = config.tls
    if bool(tls.certificate) is not bool(tls.key):
        given, missing = ("certificate", "key") if tls.certificate else ("key", "certificate")
        raise Contradiction(f"tls.{given} is set", f"tls.{missing} is empty", "they are of use only together")
    if tls.client_ca and not tls.certificate:
        reason = "clients are asked for certificates over TLS only"
        raise Contradiction(f"tls.client_ca = {tls.client_ca}", "tls.certificate is empty", reason)


def _hosts(config: ServerConfig) -> dict[str, str]:
    """The hosts at which clients connect, by the key that names each."""
    hosts = {"listen.host": config.listen.host}
    if config.http.address:
        hosts["http.address"] = address_in(config.http.address, field="http.address", host=config.listen.host).host
    return hosts
