"""Attempts that ended without a result, and what becomes of their Generations (T6, or back to the queue)."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any
from uuid import UUID

from accounts.models import Account
from generations.conf import Limits, limits, seconds
from generations.execution import accounts, batches, settle
from generations.execution.settle import Ending
from generations.execution.verdicts import Budget, Verdict, overruled
from generations.lifecycle import Status
from generations.models import AccountExclusion, CodeOverride, Event, Generation, Incident, Submission
from generations.models.bulk import update_rows
from generations.models.clock import database_now
from providers.errors import ProviderError

MOST_COST = Decimal(10) ** 10
"""Submission.cost has fourteen digits, four of them behind the point."""

_ENDED = "state = 'failed', ended_at = now(), lease_until = NULL, token = gen_random_uuid()"
_INTO_INBOX = "resolution = CASE WHEN v.cost_at_risk THEN '' ELSE t.resolution END"
"""Whatever a person has said of it before: that its cost is at risk is news."""

Decide = Callable[[ProviderError, Generation, Limits, Callable[[], float]], Verdict]


@dataclass(frozen=True, slots=True)
class Failure:
    """One attempt failed with ``error``. ``decide`` says what follows; without it the Generation fails.

    ``exchanges``: the request and response to keep on the Submission, where there are new ones.
    """

    submission: Submission
    error: ProviderError
    decide: Decide | None = None
    cost_at_risk: bool = False
    changes: dict[str, Any] = field(default_factory=dict)


def fail(failures: Sequence[Failure], *, guard: str, params: dict[str, Any], actor: str) -> set[UUID]:
    """End these attempts as failed and do what follows, inside the caller's transaction.

    ``guard`` and ``params`` are the fence (see ``update_rows``). All ``changes`` have the same keys.

    Returns:
        The ids of the Submissions that failed now; the others were no longer the caller's.
    """
    if not failures:
        return set()
    generations = settle.lock(failure.submission.generation_id for failure in failures)
    touched = update_rows(
        Submission,
        {
            failure.submission.pk: {
                "error_code": failure.error.code,
                "error_message": failure.error.detail,
                "cost_at_risk": failure.cost_at_risk,
                **failure.changes,
            }
            for failure in failures
        },
        guard=guard,
        params=params,
        also=_ENDED if "resolution" in failures[0].changes else f"{_ENDED}, {_INTO_INBOX}",
    )
    ours = [failure for failure in failures if failure.submission.pk in touched]
    for failure in ours:
        if failure.cost_at_risk:
            settle.report(Incident.Kind.COST_AT_RISK, failure.submission, failure.error.detail)
    _follow(ours, generations, actor)
    settle.give_up_claims(failure.submission.generation_id for failure in ours)
    return set(touched)


def storable_cost(cost: Decimal | None) -> Decimal | None:
    """What a provider says that it took, if that is an amount that the column can hold."""
    return cost if cost is not None and cost.is_finite() and abs(cost) < MOST_COST else None


def _follow(failures: Sequence[Failure], generations: dict[UUID, Generation], actor: str) -> None:
    endings: list[Ending] = []
    again: list[tuple[Failure, Generation, Verdict]] = []
    overrides = CodeOverride.in_force() if any(failure.decide for failure in failures) else {}
    verdicts = [
        (failure, _verdict(failure, generations[failure.submission.generation_id], overrides)) for failure in failures
    ]
    AccountExclusion.objects.bulk_create(
        [
            AccountExclusion(
                generation_id=failure.submission.generation_id,
                account_id=failure.submission.account_id,
                code=failure.error.code,
            )
            for failure, verdict in verdicts
            if verdict.exclude
        ],
        ignore_conflicts=True,
    )
    # Accounts too are locked in the order of their ids.
    for failure, verdict in sorted(verdicts, key=lambda pair: pair[0].submission.account_id):
        accounts.take_effect(failure.submission.account, verdict)
        generation = generations[failure.submission.generation_id]
        if generation.is_live and failure.submission.abandoned_at is None:
            ending = _ending(failure, generation, verdict)
            if ending is None:
                again.append((failure, generation, verdict))
            else:
                endings.append(ending)
    settle.end(endings, actor=actor)
    _back_to_queue(again, actor)


def _verdict(failure: Failure, generation: Generation, overrides: Mapping[str, bool]) -> Verdict:
    if failure.decide is None:
        return Verdict(delay=None)
    verdict = failure.decide(failure.error, generation, limits(), random.random)
    return overruled(verdict, failure.error, generation, limits(), random.random, overrides)


def _ending(failure: Failure, generation: Generation, verdict: Verdict) -> Ending | None:
    """How the Generation ends by this failure; None when another attempt follows."""
    number = failure.submission.number
    if generation.cancel_requested_at is not None:
        return Ending(generation.pk, Status.CANCELLED, attempt=number)
    if verdict.delay is None:
        data = {"overruled": True} if verdict.overruled else {}
        return Ending(generation.pk, Status.FAILED, failure.error.code, failure.error.detail, number, data=data)
    waits = generation.busy_bounces + generation.not_sent + (verdict.budget in {Budget.BUSY, Budget.NOT_SENT})
    if number - waits >= limits().max_submissions:
        message = f"{limits().max_submissions} attempts were made; the last one: {failure.error.detail}"
        return Ending(generation.pk, Status.FAILED, "attempts_exhausted", message, number)
    if verdict.exclude and not _another_account(generation):
        message = f"Every account that could serve it refused. The last one: {failure.error.detail}"
        return Ending(
            generation.pk, Status.FAILED, "no_account", message, number, data={"last_error": failure.error.code}
        )
    return None


def _another_account(generation: Generation) -> bool:
    """Whether any account is left that may serve it (now or later)."""
    refused = AccountExclusion.objects.filter(generation=generation).values("account")
    left = Account.objects.of_provider(generation.provider_id).serving(generation.user_id)
    if generation.account_id is not None:
        left = left.filter(pk=generation.account_id)
    return left.filter(enabled=True, out_of_rotation_at=None).exclude(pk__in=refused).exists()


def _back_to_queue(again: Sequence[tuple[Failure, Generation, Verdict]], actor: str) -> None:
    if not again:
        return
    now = database_now()
    rows = {}
    for _, generation, verdict in again:
        rows[generation.pk] = {
            "error_retries": generation.error_retries + (verdict.budget == Budget.ERRORS),
            "moderation_retries": generation.moderation_retries + (verdict.budget == Budget.MODERATION),
            "busy_bounces": generation.busy_bounces + (verdict.budget == Budget.BUSY),
            "not_sent": generation.not_sent + (verdict.budget == Budget.NOT_SENT),
            "resubmits": generation.resubmits + (verdict.budget == Budget.RESUBMITS),
            "not_before": now + seconds(verdict.delay) if verdict.delay else None,
        }
    update_rows(Generation, rows, guard="t.status = 'processing'", also="status = 'pending', deadline_at = NULL")
    if of_batches := [generation.pk for _, generation, _ in again if generation.batch_item_id]:
        batches.keep_waiting(of_batches)
    Event.objects.bulk_create(
        Event(
            generation_id=generation.pk,
            attempt=failure.submission.number,
            kind=Event.Kind.RETRYING,
            actor=actor,
            data={
                "code": failure.error.code,
                "message": failure.error.detail,
                "delay": round(verdict.delay or 0, 1),
                "budget": verdict.budget.value,
                **({"overruled": True} if verdict.overruled else {}),
            },
        )
        for failure, generation, verdict in again
    )
