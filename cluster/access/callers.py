"""Who calls, and what they may: one table of rights for every method, tokens, and the call that is being served.

A plain SHA-256 is right for tokens of 256 random bits. Slow hashes such as scrypt make guessing dear where secrets are
few, as passwords are; nobody guesses one of 2^256, and a slow hash would give every stranger a way to burn the server's
time.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextvars import ContextVar
from dataclasses import dataclass
from enum import StrEnum
from hashlib import sha256
from secrets import token_urlsafe

from longtake.core.errors import InternalFault, LongtakeError, NotAllowed
from longtake.core.work import SessionId

DEFAULT_TENANT = "default"
"""The tenant that owns everything where nobody is asked who they are."""


class CallerRole(StrEnum):
    """What somebody may do; each role may also do what the roles before it may."""

    VIEWER = "viewer"
    """Look at the sessions of the own tenant."""
    CLIENT = "client"
    """Open streams, and end those of the own tenant."""
    OPERATOR = "operator"
    """See and end the sessions of all tenants, look at the cluster, shut it down."""


_EVERYBODY = frozenset(CallerRole)
_CLIENTS = frozenset({CallerRole.CLIENT, CallerRole.OPERATOR})
_OPERATORS = frozenset({CallerRole.OPERATOR})

LONGTAKE = "/longtake.v1.LongtakeService/"
HEALTH_CHECK = "/grpc.health.v1.Health/Check"
"""Open to all: the probes of Kubernetes have no credentials, and it tells one bit."""

RIGHTS: Mapping[str, frozenset[CallerRole]] = {
    LONGTAKE + "Stream": _CLIENTS,
    LONGTAKE + "Watch": _EVERYBODY,
    LONGTAKE + "GetModel": _EVERYBODY,
    LONGTAKE + "GetSession": _EVERYBODY,
    LONGTAKE + "ListSessions": _EVERYBODY,
    LONGTAKE + "CloseSession": _CLIENTS,
    LONGTAKE + "GetStatus": _OPERATORS,
    LONGTAKE + "WatchOps": _EVERYBODY,
    LONGTAKE + "Drain": _OPERATORS,
    LONGTAKE + "Export": _CLIENTS,
    LONGTAKE + "Import": _OPERATORS,
    LONGTAKE + "HandOver": _OPERATORS,
    # These two are streams, which somebody unknown could open until no call is left for others.
    "/grpc.health.v1.Health/Watch": _EVERYBODY,
    "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo": _EVERYBODY,
    "/grpc.health.v1.Health/List": _EVERYBODY,
}
"""Who may call each method; nobody may call a method that is missing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Caller:
    """Somebody whose credentials hold."""

    tenant: str
    role: CallerRole
    credential: str
    """Which of the tenant's credentials it was, as people read it: `token laptop`, `certificate pod`, `oidc alice`."""
    key: str = ""
    """The key of the credential in the tenants file; empty if it is in none."""
    expires_s: float | None = None
    """When the credential ceases to hold, in seconds since 1970."""

    def may_see(self, owner: str | None) -> bool:
        """Whether sessions of the tenant `owner` (None: nobody knows whose) are there for this caller at all."""
        return self.role is CallerRole.OPERATOR or owner == self.tenant

    def check_operator(self, what: str) -> None:
        """NotAllowed if this caller is no operator; `what` is what they want."""
        if self.role is not CallerRole.OPERATOR:
            raise NotAllowed(f"{what}: a {self.role.value} may not; allowed: {CallerRole.OPERATOR.value}")

    def check(self, method: str) -> None:
        """NotAllowed if this caller may not call the method."""
        roles = RIGHTS.get(method, frozenset())
        if self.role not in roles:
            allowed = " or ".join(role.value for role in CallerRole if role in roles) or "nobody"
            raise NotAllowed(f"{method.rpartition('/')[2]}: a {self.role.value} may not; allowed: {allowed}")


EVERYBODY = Caller(tenant=DEFAULT_TENANT, role=CallerRole.OPERATOR, credential="none")
"""The caller of every call where nobody is asked who they are."""


@dataclass(slots=True, eq=False)
class Call:
    """One call that is being served."""

    caller: Caller
    method: str
    peer: str
    session: SessionId | None = None
    """The session that the call has opened."""
    forks: bool = False
    """Whether it has opened the session as a fork of another one."""
    error: LongtakeError | None = None
    """Why the call is made to end."""
    is_complete: bool = False
    """Whether its last frame is told: it has gone well, whatever its client does then."""


_CALL: ContextVar[Call] = ContextVar("longtake_call")


def enter(call: Call) -> None:
    """Note that this task, and the tasks it starts, serve `call` from here on."""
    _CALL.set(call)


def current_call() -> Call:
    """The call that is being served here."""
    call = _CALL.get(None)
    if call is None:
        raise InternalFault("nobody was asked who calls")
    return call


PREFIX = "lt_"
"""Every token begins with this, so that it is recognised where it should not be: in a repository or in a log."""
_RANDOM_BYTES = 32


def new_token() -> str:
    """A token that nobody has yet and nobody will guess."""
    return PREFIX + token_urlsafe(_RANDOM_BYTES)


def hash_of(token: str) -> str:
    """What stands in the tenants file for a token."""
    return f"sha256:{sha256(token.encode()).hexdigest()}"
