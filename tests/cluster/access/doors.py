"""A toy cell behind a guarded door: two tenants with tokens of every role, quotas, an audit log, TLS if asked for."""

from __future__ import annotations

import json
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc

from cluster.access.audit import Audit
from cluster.access.callers import hash_of, new_token
from cluster.access.identity import Access
from cluster.access.oidc import OidcVerifier
from cluster.access.tenancy import Tenancy
from cluster.access.tenants import TenantsFile
from cluster.frontend.offer import WireLimits
from longtake.client import Client
from longtake.client.credentials import Credentials
from tests.cluster.frontend.toy import Door, ToyCell, toy_cell

ROLES = ("viewer", "client", "operator")


@dataclass
class House:
    """The tenants file of `acme` and `umbrella`, a token for each role of each, and what is written of calls."""

    folder: Path
    quotas: dict[str, str] = field(default_factory=dict)
    """TOML of the section `quota`, by tenant."""
    more: str = ""
    """TOML at the end of the file."""
    audit_required: bool = False
    tokens: dict[str, str] = field(default_factory=dict)
    """By `tenant role`."""

    def __post_init__(self) -> None:
        self.tokens = {f"{tenant} {role}": new_token() for tenant in ("acme", "umbrella") for role in ROLES}
        self.write()

    @property
    def file(self) -> Path:
        return self.folder / "tenants.toml"

    def write(
        self, *, without: str = "", role_of: dict[str, str] | None = None, expires: dict[str, str] | None = None
    ) -> None:
        """The file, perhaps without a token, with another role or an expiry of one."""
        lines = []
        for tenant in ("acme", "umbrella"):
            lines += [f"[tenants.{tenant}]", f"[tenants.{tenant}.quota]", self.quotas.get(tenant, "")]
            for role in ROLES:
                name = f"{tenant} {role}"
                if name != without:
                    given = (role_of or {}).get(name, role)
                    lines += [f"[[tenants.{tenant}.tokens]]", f'id = "{role}"', f'role = "{given}"',
                              f'hash = "{hash_of(self.tokens[name])}"']  # fmt: skip
                if name in (expires or {}):
                    lines.append(f"expires = {(expires or {})[name]}")
        text = "\n".join([*lines, self.more])
        new = self.folder / "new.toml"
        new.write_text(text)
        new.rename(self.file)

    def tenancy(self, oidc: OidcVerifier | None = None, clock: Callable[[], float] = time.time) -> Tenancy:
        """What is behind the door."""
        access = Access(TenantsFile(self.file), oidc, clock)
        return Tenancy(access, Audit(str(self.folder / "audit.jsonl"), clock, required=self.audit_required))

    def audited(self) -> list[dict[str, Any]]:
        """The lines of the audit log."""
        return [json.loads(line) for line in (self.folder / "audit.jsonl").read_text().splitlines()]


@dataclass
class GuardedCell:
    """A running cell and the keys to it."""

    cell: ToyCell
    house: House
    tenancy: Tenancy

    def refusals(self) -> dict[str, int]:
        """How many were not let in, by why."""
        return {reason.value: count for reason, count in self.cell.engine.tally.refused_calls.items() if count}

    def client(self, who: str) -> Client:
        """A client with the token of `tenant role`."""
        return Client(self.cell.target, credentials=Credentials(token=self.house.tokens[who]))


@asynccontextmanager
async def guarded_cell(
    house: House,
    *,
    oidc: OidcVerifier | None = None,
    tls: grpc.ServerCredentials | None = None,
    clock: Callable[[], float] = time.time,
    wire: WireLimits | None = None,
    segment_bytes: int = 0,
    delay_s: float = 0.0,
) -> AsyncIterator[GuardedCell]:
    """A toy cell that asks who calls."""
    tenancy = house.tenancy(oidc, clock)
    try:
        async with toy_cell(
            door=Door(tenancy=tenancy, tls=tls), wire=wire, segment_bytes=segment_bytes, delay_s=delay_s
        ) as cell:
            yield GuardedCell(cell, house, tenancy)
    finally:
        tenancy.audit.close()
