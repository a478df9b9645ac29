"""Recovery: what nobody moves on any more is moved on here, by the tick.

Whoever died is noticed by its lease. A row is taken with ``lease_until <= now()`` and its token rotated, so that a
worker that was only slow finds that it is no longer the owner.
"""

from __future__ import annotations

from collections.abc import Callable

import structlog
import uuid_utils.compat as uuid
from django.db import transaction
from django.db.models import Exists, OuterRef, Q, Value
from django.db.models.functions import Now

from generations import wakeups
from generations.conf import Limits, limits, seconds
from generations.execution import expiry, failures, process, reconcile, settle, unknown
from generations.execution.accounts import due_for_refresh
from generations.execution.claim import MATURE_BATCH, mature
from generations.execution.expiry import NotSent, QueueTtlExceeded
from generations.execution.failures import Failure
from generations.execution.settle import Ending
from generations.execution.verdicts import Budget, Verdict
from generations.lifecycle import BILLABLE, State, Status
from generations.models import Event, Generation, Incident, Submission
from providers import registry
from providers.errors import OutcomeUnknown, ProviderError

BATCH = 200

log = structlog.get_logger(__name__)


def recover() -> dict[str, int]:
    """Everything that is overdue, in batches. Gives how many of each kind were moved on.

    A kind that cannot be moved on (one bad row) keeps none of the others.
    """
    counts = {}
    for step in (not_sent, sending, resubmit, unknown_at_limit, overdue, queued_too_long, cancels):
        try:
            counts[step.__name__] = _all(step)
        except Exception:
            log.exception("recovery_failed", step=step.__name__)
    if any(counts.values()):
        log.info("recovered", **counts)
    return counts


def not_sent() -> int:
    """``reserved`` with an expired lease: failed, costs no attempt, and the Generation waits again."""
    with transaction.atomic():
        rows = _overdue(Q(state=State.RESERVED, lease_until__lte=Now()))
        failed = failures.fail(
            [Failure(row, NotSent(), _after_not_sent) for row in rows],
            guard="t.state = 'reserved' AND t.lease_until <= now()",
            params={},
            actor=process.actor(),
        )
        for row in rows:
            if row.pk in failed and row.generation.not_sent + 1 >= limits().not_sent_limit:
                settle.report(
                    Incident.Kind.NOT_SENT, row, f"Workers died {row.generation.not_sent + 1} times before sending it."
                )
    _wake(rows)
    return len(rows)


def sending() -> int:
    """``sending`` with an expired lease: the call may have left, so the outcome is unknown."""
    with transaction.atomic():
        rows = _overdue(Q(state=State.SENDING, lease_until__lte=Now()))
        changed = Submission.objects.filter(
            pk__in=[row.pk for row in rows], state=State.SENDING, lease_until__lte=Now()
        ).update(
            state=State.UNKNOWN,
            token=uuid.uuid4(),
            lease_until=None,
            next_poll_at=Now() + Value(seconds(limits().reconcile_after)),
            error_code=OutcomeUnknown.code,
            error_message="The worker died while it was sending; nobody knows whether the call arrived.",
        )
        Event.objects.bulk_create(
            Event(
                generation_id=row.generation_id,
                attempt=row.number,
                kind=Event.Kind.OUTCOME_UNKNOWN,
                actor=process.actor(),
                data={"message": "The worker died while it was sending."},
            )
            for row in rows
        )
    unknown.adopt_told(row.pk for row in rows)
    return changed


def resubmit() -> int:
    """``unknown`` where the provider bills nobody, as an operator has said: asked once more, and only once."""
    providers = unknown.resubmits_once()
    if not providers:
        return 0
    with transaction.atomic():
        rows = _overdue(
            Q(
                state=State.UNKNOWN,
                abandoned_at=None,
                account__provider_id__in=providers,
                sent_at__lte=Now() - Value(seconds(limits().resubmit_after)),
                generation__status=Status.PROCESSING,
                generation__resubmits=0,
                generation__cancel_requested_at=None,
            )
        )
        return len(unknown.ask_again(rows, kind=Event.Kind.RESUBMITTED, actor=process.actor(), data={}))


def unknown_at_limit() -> int:
    """``unknown`` past its limit: given up; the slot is free again, and what it cost is at risk."""
    with transaction.atomic():
        rows = _overdue(Q(state=State.UNKNOWN, limit_at__lte=Now()))
        message = "Nobody knows whether the provider made a job; until its limit it was not heard of."
        failures.fail(
            [Failure(row, OutcomeUnknown(message), cost_at_risk=True) for row in rows],
            guard="t.state = 'unknown' AND t.limit_at <= now()",
            params={},
            actor=process.actor(),
        )
    _wake(rows)
    return len(rows)


def overdue() -> int:
    """Generations past their deadline whose attempt is ``unknown`` (the poller looks at accepted ones)."""
    with transaction.atomic():
        rows = _overdue(
            Q(
                state=State.UNKNOWN,
                abandoned_at=None,
                generation__deadline_at__lte=Now(),
                generation__status=Status.PROCESSING,
            )
        )
        settle.lock(row.generation_id for row in rows)
        return len(expiry.expire(rows, actor=process.actor()))


def queued_too_long() -> int:
    """Pending past ``queue_until``: fails, the credits are released."""
    error = QueueTtlExceeded()
    with transaction.atomic():
        ids = list(
            Generation.objects.select_for_update(skip_locked=True, no_key=True)
            .filter(status=Status.PENDING, queue_until__lte=Now())
            .order_by("queue_until")
            .values_list("pk", flat=True)[:BATCH]
        )
        return len(
            settle.end([Ending(pk, Status.FAILED, error.code, error.detail) for pk in ids], actor=process.actor())
        )


def cancels() -> int:
    """Cancels whose grace is over: the Generation ends, the attempt lives on until the provider is terminal."""
    under_way = Submission.objects.filter(state__in=BILLABLE - {State.COLLECTING}, abandoned_at=None)
    with transaction.atomic():
        generations = (
            Generation.objects.select_for_update(skip_locked=True, no_key=True)
            # One that is collecting has its result, which wins; it must not take a place here meanwhile.
            .filter(Exists(under_way.filter(generation=OuterRef("pk"))), status=Status.PROCESSING, cancel_at__lte=Now())
            .order_by("cancel_at")[:BATCH]
        )
        ids = [generation.pk for generation in generations]
        rows = list(under_way.filter(generation__in=ids).select_related("generation", "account"))
        return len(expiry.cancel(rows, actor="system"))


def _after_not_sent(_error: ProviderError, used: Generation, allowed: Limits, _jitter: Callable[[], float]) -> Verdict:
    if used.not_sent + 1 >= allowed.not_sent_limit:
        return Verdict(delay=None)
    return Verdict(delay=0, budget=Budget.NOT_SENT)


def _overdue(condition: Q) -> list[Submission]:
    """Up to a batch of such Submissions, with their Generations locked first (the lock order of the house)."""
    found = dict(Submission.objects.filter(condition).values_list("pk", "generation")[:BATCH])
    settle.lock(found.values())
    return list(
        Submission.objects.select_for_update(skip_locked=True, of=("self",), no_key=True)
        .filter(condition, pk__in=found)
        .select_related("generation", "account")
        .order_by("pk")
    )


def _wake(rows: list[Submission]) -> None:
    for provider_id in {row.account.provider_id for row in rows}:
        wakeups.wake_dispatch(provider_id)


def _all(step: Callable[[], int]) -> int:
    """Repeat a step until a batch is not full."""
    total = 0
    while True:
        count = step()
        total += count
        if count < BATCH:
            return total


def tick() -> None:
    """Recover what is overdue, then wake whoever has work: the net below every hint that was lost."""
    recover()
    while mature() == MATURE_BATCH:
        pass
    for provider in registry.all():
        if Generation.objects.filter(provider_id=provider.slug, status=Status.PENDING, not_before=None).exists():
            wakeups.wake_dispatch(provider.slug)
    if (
        Submission.objects.filter(state=State.COLLECTING)
        .filter(Q(lease_until=None) | Q(lease_until__lte=Now()))
        .exists()
    ):
        wakeups.wake_collect()
    if due_for_refresh():
        wakeups.wake_refresh()
    if reconcile.due():
        wakeups.wake_reconcile()
