"""What follows an error, by its class and by the phase in which it happened. Pure.

The table is design section 5; every branch of it is tested. An operator may overrule it for a code: what is overruled
is only whether another attempt follows, never what the error means for the Account.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Protocol

from generations.backoff import retry_delay
from generations.conf import Limits
from providers.errors import (
    AuthFailed,
    ContentModerated,
    InsufficientCredits,
    InvalidParams,
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
    ``overruled``: it says what an operator wants.
    """

    delay: float | None
    budget: Budget = Budget.NONE
    exclude: bool = False
    effect: AccountEffect = AccountEffect.NONE
    cool_down: float = 0
    overruled: bool = False


FAIL = Verdict(delay=None)

OVERRULABLE: tuple[type[ProviderError], ...] = (
    InvalidParams,
    ContentModerated,
    AuthFailed,
    PermissionDenied,
    InsufficientCredits,
    ProviderBusy,
    NotDelivered,
    Refused,
    JobFailed,
)
"""Errors that leave no doubt: the provider took nothing, or its job ended without a result. A lost job, a missing
result and an unknown outcome may have been billed: no rule makes them retryable."""


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


def overruled(
    verdict: Verdict,
    error: ProviderError,
    used: Counters,
    limits: Limits,
    jitter: Callable[[], float],
    overrides: Mapping[str, bool],
) -> Verdict:
    """The verdict as the operator wants it. ``overrides``: whether another attempt follows, by code.

    What follows by the operator's word is counted among the errors, hence has an end.
    """
    wanted = overrides.get(error.code) if isinstance(error, OVERRULABLE) else None
    if wanted is None or wanted == (verdict.delay is not None):
        return verdict
    if not wanted:
        return replace(verdict, delay=None, budget=Budget.NONE, overruled=True)
    another = _another(error, used.error_retries, limits.error_retries, Budget.ERRORS, limits, jitter)
    return verdict if another.delay is None else replace(another, overruled=True)


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
