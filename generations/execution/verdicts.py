"""What follows an error, by its class and by the phase in which it happened. Pure.

The table is design section 5; every branch of it is tested.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

from generations.backoff import retry_delay
from generations.conf import Limits
from providers.errors import (
    AuthFailed,
    ContentModerated,
    InsufficientCredits,
    JobFailed,
    NotDelivered,
    OutcomeUnknown,
    PermissionDenied,
    ProviderBusy,
    ProviderError,
    Refused,
)


class AccountEffect(StrEnum):
    """What an error means for the Account that it happened on."""

    NONE = "none"
    COOL_DOWN = "cool_down"
    CHECK_CREDENTIALS = "check_credentials"
    CHECK_BALANCE = "check_balance"


class Budget(StrEnum):
    """Which of the Generation's counters a further attempt uses up."""

    NONE = ""
    ERRORS = "error_retries"
    MODERATION = "moderation_retries"
    BUSY = "busy_bounces"
    NOT_SENT = "not_sent"
    RESUBMITS = "resubmits"


class Counters(Protocol):
    """What a Generation has used up so far."""

    error_retries: int
    moderation_retries: int
    busy_bounces: int
    resubmits: int


@dataclass(frozen=True, slots=True)
class Verdict:
    """What follows: another attempt after ``delay`` seconds, or (``delay`` is None) the Generation fails.

    ``exclude``: this Account is not offered the Generation again. ``cool_down``: seconds for the Account.
    """

    delay: float | None
    budget: Budget = Budget.NONE
    exclude: bool = False
    effect: AccountEffect = AccountEffect.NONE
    cool_down: float = 0


FAIL = Verdict(delay=None)


def after_submit(error: ProviderError, used: Counters, limits: Limits, jitter: Callable[[], float]) -> Verdict:
    """What follows when a submit was answered with ``error`` (never OutcomeUnknown: that is a state, no error)."""
    match error:
        case OutcomeUnknown():
            raise ValueError("an unknown outcome has no verdict: nothing follows by itself")
        case AuthFailed():
            return Verdict(0, exclude=True, effect=AccountEffect.CHECK_CREDENTIALS)
        case PermissionDenied():
            return Verdict(0, exclude=True)
        case InsufficientCredits():
            return Verdict(0, exclude=True, effect=AccountEffect.CHECK_BALANCE)
        case ProviderBusy():
            return _busy(error, used, limits, jitter)
        case NotDelivered() | Refused():
            return _another(error, used.error_retries, limits.error_retries, Budget.ERRORS, limits, jitter)
        case _:
            return after_job(error, used, limits, jitter)


def after_job(error: ProviderError, used: Counters, limits: Limits, jitter: Callable[[], float]) -> Verdict:
    """What follows when the provider's job ended without a result."""
    match error:
        case ContentModerated(stage="output"):
            return _another(
                error, used.moderation_retries, limits.moderation_retries, Budget.MODERATION, limits, jitter
            )
        case JobFailed():
            return _another(error, used.error_retries, limits.error_retries, Budget.ERRORS, limits, jitter)
        case _:
            return FAIL


def after_lost(_error: ProviderError, used: Counters, _limits: Limits, _jitter: Callable[[], float]) -> Verdict:
    """What follows a job that was lost without a result, at a provider that an operator has said to ask once more."""
    return FAIL if used.resubmits else Verdict(0, budget=Budget.RESUBMITS)


def _another(
    error: ProviderError, used: int, allowed: int, budget: Budget, limits: Limits, jitter: Callable[[], float]
) -> Verdict:
    if used >= allowed:
        return FAIL
    return Verdict(_delay(error, used, limits, jitter), budget=budget)


def _busy(error: ProviderError, used: Counters, limits: Limits, jitter: Callable[[], float]) -> Verdict:
    """The Account cools down; the Generation may go to another one at once, or, after many bounces, seldom."""
    slow = used.busy_bounces >= limits.busy_bounces
    return Verdict(
        limits.busy_slow_interval if slow else 0,
        budget=Budget.BUSY,
        effect=AccountEffect.COOL_DOWN,
        cool_down=_delay(error, min(used.busy_bounces, limits.busy_bounces), limits, jitter),
    )


def _delay(error: ProviderError, n: int, limits: Limits, jitter: Callable[[], float]) -> float:
    return retry_delay(
        n,
        base=limits.backoff_base,
        cap=limits.backoff_cap,
        retry_after=error.retry_after,
        retry_after_cap=limits.retry_after_cap,
        jitter=jitter,
    )
