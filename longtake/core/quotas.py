"""What each tenant may have and has had: streams at once, prompts a minute, device time and bytes a day.

Days are those of UTC. Time comes in as `now_s`, seconds since 1970. Every question costs the same, however much was
asked before, and a tenant's account is a handful of numbers.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from longtake.core.errors import QuotaUsed
from longtake.core.scarcity import Scarcity, Shortage

DAY_S = 86_400
MINUTE_S = 60
STREAM_RETRY_S = 5.0
"""When to try again if another stream of the tenant must end first: nobody knows when, so the time is short."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Quota:
    """What one tenant may have; None means no limit."""

    streams: int | None = None
    """The calls of Stream that may be open at once, those in the queue included."""
    prompts_per_minute: int | None = None
    """The prompts of opens and cues together: this many at once, and this many a minute in the long run."""
    device_seconds_per_day: float | None = None
    """The time that workers take for the tenant's ops; of a shared forward, the tenant's share counts."""
    bytes_per_day: int | None = None
    """The bytes that are sent to the tenant's callers."""


@dataclass(slots=True)
class Account:
    """What one tenant has, and has had."""

    streams: int = 0
    prompts: float = 0.0
    """The tenant's recent prompts, as of `prompts_at_s`; they wear off at the rate at which prompts are granted."""
    prompts_at_s: float = 0.0
    """When `prompts` was last brought up to date."""
    day: int = 0
    """The day, counted from 1970, to which `device_s` and `sent_bytes` belong."""
    device_s: float = 0.0
    sent_bytes: int = 0


class Ledger:
    """The accounts of all tenants. What is refused changes nothing."""

    def __init__(self) -> None:
        self._accounts: dict[str, Account] = {}

    def account(self, tenant: str, now_s: float) -> Account:
        """The account as of now; a new day begins with nothing used."""
        account = self._accounts.setdefault(tenant, Account())
        day = int(now_s // DAY_S)
        if account.day != day:
            account.day, account.device_s, account.sent_bytes = day, 0.0, 0
        return account

    def open(self, tenant: str, quota: Quota, prompts: int, now_s: float) -> None:
        """Note that a stream begins with this many prompts; QuotaUsed if it may not. One `close` must follow."""
        used_up = self.used_up(tenant, quota, now_s)
        if used_up is not None:
            raise used_up
        account = self.account(tenant, now_s)
        if quota.streams is not None and account.streams >= quota.streams:
            reason = f"The tenant's quota of streams is used up: {account.streams} of {quota.streams} are open"
            shortage = Shortage(of="tenant", unit="streams", needed=1, free=0, limit=quota.streams)
            raise QuotaUsed(reason, Scarcity(retry_after_s=STREAM_RETRY_S, shortage=shortage))
        self.ask(tenant, quota, prompts, now_s)
        account.streams += 1

    def take_over(self, tenant: str, now_s: float) -> None:
        """Note that a stream goes on that the server before has let in. One `close` must follow."""
        self.account(tenant, now_s).streams += 1

    def close(self, tenant: str) -> None:
        """Note that a stream that was opened has ended."""
        self._accounts[tenant].streams -= 1

    def ask(self, tenant: str, quota: Quota, prompts: int, now_s: float) -> None:
        """Note that this many prompts are to be encoded; QuotaUsed tells when they may be."""
        limit = quota.prompts_per_minute
        if limit is None:
            return
        account = self.account(tenant, now_s)
        rate_per_s = limit / MINUTE_S
        # A clock that is set back lets nothing wear off, and keeps nothing from doing so afterwards.
        account.prompts_at_s = min(account.prompts_at_s, now_s)
        recent = max(0.0, account.prompts - (now_s - account.prompts_at_s) * rate_per_s)
        over = recent + prompts - limit
        # What has just been waited for is granted, whatever the last bits of the sums say.
        if over > 1e-6:
            free = max(0.0, limit - recent)
            shortage = Shortage(of="tenant", unit="prompts", needed=prompts, free=free, limit=limit)
            if prompts > limit:
                reason = f"The tenant's quota of prompts allows {limit} at once, and these are {prompts}"
                raise QuotaUsed(reason, Scarcity(shortage=shortage))
            reason = f"The tenant's quota of prompts is used up: {limit} a minute, {int(free)} left, {prompts} needed"
            raise QuotaUsed(reason, Scarcity(retry_after_s=over / rate_per_s, shortage=shortage))
        account.prompts, account.prompts_at_s = recent + prompts, now_s

    def charge_device(self, tenant: str, seconds: float, now_s: float) -> None:
        """Note how long workers took for the tenant."""
        self.account(tenant, now_s).device_s += seconds

    def charge_bytes(self, tenant: str, count_bytes: int, now_s: float) -> None:
        """Note how much was sent to the tenant's callers."""
        self.account(tenant, now_s).sent_bytes += count_bytes

    def used_up(self, tenant: str, quota: Quota, now_s: float) -> QuotaUsed | None:
        """Why the tenant gets nothing more today; None if it still does."""
        account = self.account(tenant, now_s)
        for used, limit, what in (
            (account.device_s, quota.device_seconds_per_day, "device seconds"),
            (account.sent_bytes, quota.bytes_per_day, "bytes"),
        ):
            if limit is not None and used >= limit:
                shortage = Shortage(of="tenant", unit=what, needed=0, free=0, limit=limit)
                reason = f"The tenant has used its {limit:,.10g} {what} of this day (UTC)"
                return QuotaUsed(reason, Scarcity(retry_after_s=DAY_S - now_s % DAY_S, shortage=shortage))
        return None

    def keep(self, tenants: Collection[str]) -> None:
        """Drop the accounts of all tenants but these and those that still have streams."""
        for tenant in [name for name, account in self._accounts.items() if name not in tenants and not account.streams]:
            del self._accounts[tenant]

    def __len__(self) -> int:
        return len(self._accounts)
