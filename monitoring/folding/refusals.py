"""Which label a refusal is counted under: metrics tell apart what an operator can do something about."""

from __future__ import annotations

from longtake.core.errors import CALLER_FAULTS, Fault, Lack, Refusal

OPEN_REASONS: tuple[Refusal, ...] = (
    *(lack for lack in Lack if lack is not Lack.OBSERVERS),
    Fault.DRAINING,
    Fault.UNAVAILABLE,
    Fault.INVALID,
    Fault.INTERNAL,
)
"""Values of the label `reason` of longtake_opens_refused_total."""
CALL_REASONS: tuple[Refusal, ...] = (
    Fault.NO_CREDENTIALS,
    Fault.WRONG_CREDENTIALS,
    Fault.NOT_ALLOWED,
    Fault.UNKNOWN_TOKEN,
    Lack.QUOTA,
    Fault.UNAVAILABLE,
)
"""The same for longtake_calls_refused_total; `unavailable` means that the issuer of the caller's token did not
answer."""


def open_reason(refusal: Refusal) -> Refusal:
    """Why an Open started nothing."""
    if refusal in CALLER_FAULTS:
        return Fault.INVALID
    return refusal if refusal in OPEN_REASONS else Fault.INTERNAL


def call_reason(refusal: Refusal) -> Refusal:
    """Why a call was not let in."""
    return refusal if refusal in CALL_REASONS else Fault.UNAVAILABLE
