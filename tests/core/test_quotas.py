"""Quotas against a model that remembers everything: never more than granted, nothing lost by a refusal."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from longtake.core.errors import QuotaUsed
from longtake.core.quotas import DAY_S, Ledger, Quota
from longtake.core.scarcity import Shortage

NOON_S = 20_000 * DAY_S + DAY_S / 2
TENANTS = ("a", "b")


@dataclass
class Remembered:
    """Everything that one tenant was granted, with its time."""

    streams: int = 0
    prompts: list[tuple[float, int]] = field(default_factory=list)
    device: list[tuple[float, float]] = field(default_factory=list)
    sent: list[tuple[float, int]] = field(default_factory=list)

    def today(self, now_s: float) -> tuple[float, int]:
        day = now_s // DAY_S
        return (
            sum(seconds for at_s, seconds in self.device if at_s // DAY_S == day),
            sum(count for at_s, count in self.sent if at_s // DAY_S == day),
        )

    def prompts_since(self, start_s: float) -> int:
        return sum(count for at_s, count in self.prompts if at_s >= start_s)


quotas = st.builds(
    Quota,
    streams=st.none() | st.integers(1, 3),
    prompts_per_minute=st.none() | st.integers(1, 6),
    device_seconds_per_day=st.none() | st.floats(0.5, 5.0),
    bytes_per_day=st.none() | st.integers(1, 100),
)
acts = st.tuples(
    st.sampled_from(TENANTS),
    st.sampled_from(("open", "close", "ask", "device", "bytes")),
    st.integers(1, 4),
    st.sampled_from((0.0, 0.1, 3.0, 25.0, 4_000.0, 50_000.0)),
)


@given(st.tuples(quotas, quotas), st.lists(acts, max_size=60))
@settings(max_examples=300, deadline=None)
def test_nobody_gets_more_than_their_quota_and_nobody_else_pays_for_it(
    both: tuple[Quota, Quota], script: list[tuple[str, str, int, float]]
) -> None:
    ledger, now_s = Ledger(), NOON_S
    of = dict(zip(TENANTS, both, strict=True))
    seen = {tenant: Remembered() for tenant in TENANTS}
    for tenant, act, amount, pause_s in script:
        now_s += pause_s
        quota, memory = of[tenant], seen[tenant]
        device_s, sent = memory.today(now_s)
        blocked = (quota.device_seconds_per_day is not None and device_s >= quota.device_seconds_per_day) or (
            quota.bytes_per_day is not None and sent >= quota.bytes_per_day
        )
        if act == "open":
            full = quota.streams is not None and memory.streams >= quota.streams
            try:
                ledger.open(tenant, quota, amount, now_s)
            except QuotaUsed as refused:
                assert blocked or full or quota.prompts_per_minute is not None
                assert (refused.retry_after_s or 1) > 0
            else:
                assert not blocked and not full
                memory.streams += 1
                memory.prompts.append((now_s, amount))
        elif act == "close" and memory.streams:
            ledger.close(tenant)
            memory.streams -= 1
        elif act == "ask":
            try:
                ledger.ask(tenant, quota, amount, now_s)
            except QuotaUsed:
                assert quota.prompts_per_minute is not None
            else:
                memory.prompts.append((now_s, amount))
        elif act == "device":
            ledger.charge_device(tenant, float(amount), now_s)
            memory.device.append((now_s, float(amount)))
        elif act == "bytes":
            ledger.charge_bytes(tenant, amount, now_s)
            memory.sent.append((now_s, amount))
        account = ledger.account(tenant, now_s)
        assert account.streams == memory.streams
        assert (account.device_s, account.sent_bytes) == memory.today(now_s)
        check_prompts(memory, quota, now_s)


def check_prompts(memory: Remembered, quota: Quota, now_s: float) -> None:
    """What a token bucket promises: in any stretch of time one bucket and what flows in meanwhile."""
    if quota.prompts_per_minute is not None:
        for start_s, _ in memory.prompts:
            assert memory.prompts_since(start_s) <= quota.prompts_per_minute * (1 + (now_s - start_s) / 60) + 1e-3


@given(st.integers(1, 10), st.lists(st.tuples(st.integers(1, 10), st.floats(0, 30)), max_size=30))
def test_prompts_that_wait_as_long_as_they_were_told_are_granted(limit: int, script: list[tuple[int, float]]) -> None:
    ledger, quota, now_s = Ledger(), Quota(prompts_per_minute=limit), NOON_S
    for count, pause_s in script:
        now_s += pause_s
        count = min(count, limit)
        try:
            ledger.ask("a", quota, count, now_s)
        except QuotaUsed as refused:
            assert refused.retry_after_s is not None
            with pytest.raises(QuotaUsed):
                ledger.ask("a", quota, count, now_s + 0.9 * refused.retry_after_s - 0.01)
            now_s += refused.retry_after_s
            ledger.ask("a", quota, count, now_s)


def test_prompts_come_back_at_the_rate_of_the_quota() -> None:
    ledger, quota = Ledger(), Quota(prompts_per_minute=6)
    ledger.ask("a", quota, 6, NOON_S)
    with pytest.raises(QuotaUsed) as refused:
        ledger.ask("a", quota, 1, NOON_S + 9)
    assert refused.value.retry_after_s == pytest.approx(1.0)
    assert str(refused.value) == (
        "The tenant's quota of prompts is used up: 6 a minute, 0 left, 1 needed. Try again in 1 s."
    )
    ledger.ask("a", quota, 1, NOON_S + 10)
    with pytest.raises(QuotaUsed):
        ledger.ask("a", quota, 1, NOON_S + 10)


def test_more_prompts_than_the_quota_ever_grants_are_not_to_be_tried_again() -> None:
    ledger, quota = Ledger(), Quota(prompts_per_minute=6)
    with pytest.raises(QuotaUsed, match="The tenant's quota of prompts allows 6 at once, and these are 7") as refused:
        ledger.open("a", quota, 7, NOON_S)
    assert refused.value.retry_after_s is None
    assert refused.value.shortage == Shortage(of="tenant", unit="prompts", needed=7, free=6, limit=6)


def test_an_open_that_is_refused_spends_no_prompts() -> None:
    ledger, quota = Ledger(), Quota(streams=1, prompts_per_minute=2)
    ledger.open("a", quota, 1, NOON_S)
    with pytest.raises(QuotaUsed, match="quota of streams is used up: 1 of 1 are open"):
        ledger.open("a", quota, 1, NOON_S)
    ledger.ask("a", quota, 1, NOON_S)


def test_a_day_used_up_is_over_at_midnight_and_the_refusal_says_when() -> None:
    ledger, quota = Ledger(), Quota(device_seconds_per_day=10.0)
    ledger.charge_device("a", 9.5, NOON_S)
    assert ledger.used_up("a", quota, NOON_S) is None
    ledger.charge_device("a", 0.5, NOON_S)
    with pytest.raises(QuotaUsed, match="10 device seconds of this day") as refused:
        ledger.open("a", quota, 1, NOON_S + 60)
    assert refused.value.retry_after_s == DAY_S / 2 - 60
    ledger.open("b", quota, 1, NOON_S + 60)
    ledger.open("a", quota, 1, NOON_S + 60 + refused.value.retry_after_s)


def test_bytes_of_a_day() -> None:
    ledger, quota = Ledger(), Quota(bytes_per_day=100)
    ledger.charge_bytes("a", 99, NOON_S)
    ledger.open("a", quota, 1, NOON_S)
    ledger.charge_bytes("a", 1, NOON_S)
    with pytest.raises(QuotaUsed, match="100 bytes of this day"):
        ledger.open("a", quota, 1, NOON_S)
    assert ledger.account("a", NOON_S).streams == 1


def test_a_clock_set_back_grants_no_prompts_and_stops_none_for_ever() -> None:
    ledger, quota = Ledger(), Quota(prompts_per_minute=2)
    ledger.ask("a", quota, 2, NOON_S)
    with pytest.raises(QuotaUsed):
        ledger.ask("a", quota, 1, NOON_S - 3600)
    ledger.ask("a", quota, 2, NOON_S - 3600 + 60)


def test_accounts_of_tenants_that_are_gone_are_dropped_when_their_streams_are() -> None:
    ledger = Ledger()
    for tenant in ("a", "b", "c"):
        ledger.open(tenant, Quota(), 1, NOON_S)
    ledger.close("b")
    ledger.keep({"a"})
    assert len(ledger) == 2  # c has a stream
    ledger.close("c")
    ledger.keep({"a"})
    assert len(ledger) == 1
