"""What follows an error: the table of the design, row by row."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from generations.conf import Limits
from generations.execution.verdicts import (
    FAIL,
    OVERRULABLE,
    AccountEffect,
    Budget,
    Verdict,
    after_job,
    after_lost,
    after_submit,
    overruled,
)
from generations.models import Generation
from providers import errors
from providers.errors import (
    AssetGone,
    AssetUnusable,
    AuthFailed,
    ConcurrencyLimit,
    ContentModerated,
    InsufficientCredits,
    InvalidParams,
    JobFailed,
    JobLost,
    NoOutput,
    NotDelivered,
    OutcomeUnknown,
    PermissionDenied,
    ProviderBusy,
    ProviderError,
    RateLimited,
    Refused,
    Unsupported,
)

LIMITS = Limits()


@dataclass
class Used:
    """What a Generation has used up so far."""

    error_retries: int = 0
    moderation_retries: int = 0
    busy_bounces: int = 0
    resubmits: int = 0


def submit(error: ProviderError, *, chance: float = 0.5, **used: int) -> Verdict:
    return after_submit(error, Used(**used), LIMITS, lambda: chance)


def job(error: ProviderError, *, chance: float = 0.5, **used: int) -> Verdict:
    return after_job(error, Used(**used), LIMITS, lambda: chance)


RETRY = Verdict(5, budget=Budget.ERRORS)
ON_SUBMIT: list[tuple[ProviderError, Verdict]] = [
    (InvalidParams(field="prompt"), FAIL),
    (ContentModerated(stage="input"), FAIL),
    (ContentModerated(stage="output"), Verdict(5, budget=Budget.MODERATION)),  # finished on submit
    (AuthFailed(), Verdict(0, exclude=True, effect=AccountEffect.CHECK_CREDENTIALS)),
    (PermissionDenied(), Verdict(0, exclude=True)),
    (InsufficientCredits(), Verdict(0, exclude=True, effect=AccountEffect.CHECK_BALANCE)),
    (ConcurrencyLimit(), Verdict(0, budget=Budget.BUSY, effect=AccountEffect.COOL_DOWN, cool_down=5)),
    (RateLimited(), Verdict(0, budget=Budget.BUSY, effect=AccountEffect.COOL_DOWN, cool_down=5)),
    (ProviderBusy(), Verdict(0, budget=Budget.BUSY, effect=AccountEffect.COOL_DOWN, cool_down=5)),
    (NotDelivered(), RETRY),
    (Refused(), RETRY),
    (JobFailed(), RETRY),
    (JobLost(), FAIL),
    (NoOutput(), FAIL),
    (AssetUnusable(), FAIL),
    (AssetGone(), FAIL),
    (Unsupported(), FAIL),
    (ProviderError(), FAIL),
]
ON_POLL: list[tuple[ProviderError, Verdict]] = [
    (ContentModerated(stage="output"), Verdict(5, budget=Budget.MODERATION)),
    (ContentModerated(stage="input"), FAIL),
    (JobFailed(), RETRY),
    (JobLost(), FAIL),
    (NoOutput(), FAIL),
    (AssetUnusable(), FAIL),
    (AssetGone(), FAIL),
    (InvalidParams(), FAIL),
]


def named(row: tuple[ProviderError, Verdict]) -> Any:
    error, verdict = row
    return pytest.param(
        error, verdict, id=f"{type(error).__name__}{'-' + error.stage if isinstance(error, ContentModerated) else ''}"
    )


@pytest.mark.parametrize(("error", "verdict"), [named(row) for row in ON_SUBMIT])
def test_follows_the_table_on_submit(error: ProviderError, verdict: Verdict) -> None:
    assert submit(error) == verdict


@pytest.mark.parametrize(("error", "verdict"), [named(row) for row in ON_POLL])
def test_follows_the_table_when_a_job_has_ended(error: ProviderError, verdict: Verdict) -> None:
    assert job(error) == verdict


def test_leaves_no_error_out() -> None:
    known = {kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, ProviderError)}

    assert known - {type(error) for error, _ in ON_SUBMIT} == {OutcomeUnknown}


def test_lets_nothing_follow_an_unknown_outcome() -> None:
    with pytest.raises(ValueError, match="unknown outcome"):
        submit(OutcomeUnknown())
    assert job(OutcomeUnknown()) == FAIL


def overrule(
    error: ProviderError, overrides: dict[str, bool], *, on_submit: bool = True, error_retries: int = 0
) -> Verdict:
    """The verdict when an operator has said so of these codes."""
    spent = Used(error_retries=error_retries)
    verdict = (after_submit if on_submit else after_job)(error, spent, LIMITS, lambda: 0.5)
    return overruled(verdict, error, spent, LIMITS, lambda: 0.5, overrides)


class TestOverrides:
    """An operator's word for a code."""

    @pytest.mark.parametrize(("error", "verdict"), [named(row) for row in ON_SUBMIT])
    def test_change_nothing_without_a_word_about_the_code(self, error: ProviderError, verdict: Verdict) -> None:
        assert overrule(error, {"some_other_code": not verdict.delay}) == verdict

    @pytest.mark.parametrize(("error", "verdict"), [named(row) for row in ON_SUBMIT if isinstance(row[0], OVERRULABLE)])
    def test_let_it_fail_at_once(self, error: ProviderError, verdict: Verdict) -> None:
        ruled = overrule(error, {error.code: False})

        assert ruled.delay is None
        assert ruled.overruled == (verdict.delay is not None)
        # What it means for the account is no matter of opinion.
        assert (ruled.effect, ruled.exclude, ruled.cool_down) == (verdict.effect, verdict.exclude, verdict.cool_down)

    @pytest.mark.parametrize(("error", "verdict"), [named(row) for row in ON_SUBMIT if isinstance(row[0], OVERRULABLE)])
    def test_let_another_attempt_follow(self, error: ProviderError, verdict: Verdict) -> None:
        wanted = Verdict(5, budget=Budget.ERRORS, overruled=True) if verdict == FAIL else verdict

        assert overrule(error, {error.code: True}) == wanted

    def test_end_with_the_errors_that_are_allowed(self) -> None:
        ruled = [overrule(InvalidParams(), {"invalid_params": True}, error_retries=used) for used in range(4)]

        assert [verdict.delay for verdict in ruled] == [5, 10, 20, None]
        assert ruled[3] == FAIL

    @pytest.mark.parametrize("error", [JobLost(), NoOutput(), AssetUnusable(), Unsupported()])
    def test_never_repeat_what_may_have_been_billed(self, error: ProviderError) -> None:
        assert overrule(error, {error.code: True}, on_submit=False) == FAIL

    def test_never_repeat_an_unknown_outcome(self) -> None:
        assert not issubclass(OutcomeUnknown, OVERRULABLE)
        assert overrule(OutcomeUnknown(), {"outcome_unknown": True}, on_submit=False) == FAIL
        with pytest.raises(ValueError, match="unknown outcome"):
            overrule(OutcomeUnknown(), {"outcome_unknown": True})


class TestBudgets:
    """Counted apart, and over at some point."""

    @pytest.mark.parametrize("error", [NotDelivered(), Refused(), JobFailed()], ids=lambda error: type(error).__name__)
    def test_tries_three_times_after_an_error(self, error: ProviderError) -> None:
        verdicts = [submit(error, error_retries=used, moderation_retries=9, busy_bounces=99) for used in range(5)]

        assert [verdict.delay for verdict in verdicts] == [5, 10, 20, None, None]
        assert verdicts[3] == FAIL

    def test_tries_once_more_after_moderation(self) -> None:
        error = ContentModerated(stage="output")

        assert job(error, error_retries=3).delay == 5
        assert job(error, moderation_retries=1) == FAIL

    def test_never_fails_because_a_provider_is_busy(self) -> None:
        verdicts = [submit(RateLimited(), busy_bounces=used, error_retries=3) for used in (0, 9, 10, 500)]

        assert [verdict.delay for verdict in verdicts] == [0, 0, 300, 300]
        assert {verdict.budget for verdict in verdicts} == {Budget.BUSY}

    def test_lets_an_account_cool_down_longer_each_time(self) -> None:
        assert [submit(RateLimited(), busy_bounces=used).cool_down for used in (0, 1, 2, 3, 4, 9, 99)] == [
            5,
            10,
            20,
            40,
            60,
            60,
            60,
        ]

    def test_asks_once_more_for_what_was_lost(self) -> None:
        assert after_lost(JobLost(), Used(), LIMITS, lambda: 0.5) == Verdict(0, budget=Budget.RESUBMITS)
        assert after_lost(JobLost(), Used(resubmits=1), LIMITS, lambda: 0.5) == FAIL

    @pytest.mark.parametrize("error", [AuthFailed(), PermissionDenied(), InsufficientCredits()])
    def test_asks_another_account_however_often_it_failed(self, error: ProviderError) -> None:
        verdict = submit(error, error_retries=99, busy_bounces=99, moderation_retries=99)

        assert (verdict.delay, verdict.exclude, verdict.budget) == (0, True, Budget.NONE)

    def test_names_the_columns_that_it_counts_in(self) -> None:
        columns = {field.name for field in Generation._meta.get_fields()}
        assert {budget.value for budget in Budget if budget.value} <= columns


class TestTimes:
    """How long it waits."""

    @pytest.mark.parametrize(("retry_after", "seconds"), [(1, 5), (30, 30), (900, 900), (86_400, 900), (-5, 5)])
    def test_believes_retry_after_up_to_a_quarter_of_an_hour(self, retry_after: float, seconds: float) -> None:
        assert submit(RateLimited(retry_after=retry_after)).cool_down == seconds
        assert submit(Refused(retry_after=retry_after)).delay == seconds

    @pytest.mark.parametrize(("chance", "seconds"), [(0, 2.5), (0.5, 5), (1, 7.5)])
    def test_spreads(self, chance: float, seconds: float) -> None:
        assert submit(NotDelivered(), chance=chance).delay == seconds
        assert job(JobFailed(), chance=chance).delay == seconds
        assert submit(ConcurrencyLimit(), chance=chance).cool_down == seconds

    def test_does_what_the_limits_say(self) -> None:
        scaled = Limits(backoff_base=0.1, error_retries=1, moderation_retries=0, busy_bounces=0, busy_slow_interval=2)

        assert after_submit(Refused(), Used(), scaled, lambda: 0.5).delay == pytest.approx(0.1)
        assert after_submit(Refused(), Used(error_retries=1), scaled, lambda: 0.5) == FAIL
        assert after_job(ContentModerated(stage="output"), Used(), scaled, lambda: 0.5) == FAIL
        assert after_submit(RateLimited(), Used(), scaled, lambda: 0.5).delay == 2


@given(
    error=st.sampled_from([error for error, _ in ON_SUBMIT]),
    used=st.builds(Used, st.integers(0, 30), st.integers(0, 30), st.integers(0, 30)),
    chance=st.floats(0, 1),
)
def test_never_follows_without_an_end(error: ProviderError, used: Used, chance: float) -> None:
    verdict = after_submit(error, used, LIMITS, lambda: chance)

    if verdict.delay is None:
        assert verdict == FAIL
    else:
        # Whatever follows by itself is counted, excludes the account, or lets it cool down.
        assert verdict.budget or verdict.exclude
        assert 0 <= verdict.delay <= 900
        assert 0 <= verdict.cool_down <= 900
