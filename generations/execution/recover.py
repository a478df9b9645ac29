"""Recovery: what nobody moves on any more is moved on here, by the tick.

Whoever died is noticed by its lease. A row is taken with ``lease_until <= now()`` and its token rotated, so that a
worker that was only slow finds that it is no longer the owner.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any
from uuid import UUID

import structlog
import uuid_utils.compat as uuid
from django.db import transaction
from django.db.models import Exists, OuterRef, Q, QuerySet, Value
from django.db.models.functions import Now

from generations import wakeups
from generations.conf import Limits, limits, seconds
from generations.execution import (
    batches,
    deliver,
    expiry,
    exports,
    failures,
    poison,
    pressure,
    process,
    reconcile,
    settle,
    unknown,
)
from generations.execution.accounts import due_for_refresh
from generations.execution.claim import MATURE_BATCH, mature
from generations.execution.expiry import DeadlineExceeded, NotSent, QueueTtlExceeded
from generations.execution.failures import Failure
from generations.execution.leases import FREE
from generations.execution.persist import apart
from generations.execution.settle import Ending
from generations.execution.verdicts import Budget, Verdict
from generations.lifecycle import BILLABLE, State, Status
from generations.models import Event, Generation, Incident, Submission
from providers import registry
from providers.errors import AssetUnusable, OutcomeUnknown, ProviderError

BATCH = 200

log = structlog.get_logger(__name__)


def recover() -> dict[str, int]:
    """Everything that is overdue, in batches. Gives how many of each kind were moved on.

    A kind that cannot be moved on keeps none of the others, nor does one row keep those beside it.
    """
    counts = {}
    for step in STEPS:
        try:
            counts[step.__name__] = step()
        except Exception:
            log.exception("recovery_failed", step=step.__name__)
    if any(counts.values()):
        log.info("recovered", **counts)
    return counts


def not_sent() -> int:
    """``reserved`` with an expired lease: failed, costs no attempt, and the Generation waits again."""

    def move(rows: list[Submission]) -> int:
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
        return len(failed)

    return _attempts(Q(state=State.RESERVED, lease_until__lte=Now()), move)


def sending() -> int:
    """``sending`` with an expired lease: the call may have left, so the outcome is unknown."""

    def move(rows: list[Submission]) -> int:
        changed = Submission.objects.filter(
            pk__in=[row.pk for row in rows], state=State.SENDING, lease_until__lte=Now()
        ).update(
            state=State.UNKNOWN,
            token=uuid.uuid4(),
            lease_until=None,
            next_poll_at=Now() + Value(seconds(limits().reconcile_after)),
            misses=0,
            last_looks=0,
            poll_token=None,
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
        return changed

    moved = _attempts(Q(state=State.SENDING, lease_until__lte=Now()), move)
    unknown.adopt_told()
    return moved


def resubmit() -> int:
    """``unknown`` where the provider bills nobody, as an operator has said: asked once more, and only once."""
    providers = unknown.resubmits_once()
    if not providers:
        return 0

    def move(rows: list[Submission]) -> int:
        return len(unknown.ask_again(rows, kind=Event.Kind.RESUBMITTED, actor=process.actor(), data={}))

    asked_once = Q(
        unknown.looked_for(),
        abandoned_at=None,
        account__provider_id__in=providers,
        sent_at__lte=Now() - Value(seconds(limits().resubmit_after)),
        generation__status=Status.PROCESSING,
        generation__resubmits=0,
        generation__cancel_requested_at=None,
    )
    return _attempts(asked_once, move)


def unknown_at_limit() -> int:
    """``unknown`` past its limit: given up; the slot is free again, and what it cost is at risk."""

    def move(rows: list[Submission]) -> int:
        message = "Nobody knows whether the provider made a job; until its limit it was not heard of."
        failed = failures.fail(
            [Failure(row, OutcomeUnknown(message), cost_at_risk=True) for row in rows],
            guard="t.state = 'unknown' AND t.limit_at <= now() AND t.told_job_id = ''",
            params={},
            actor=process.actor(),
        )
        return len(failed)

    return _attempts(unknown.looked_for() & Q(limit_at__lte=Now()), move)


def overdue() -> int:
    """Generations past their deadline that no poller ends: the attempt is ``unknown``, or its pollers die."""

    def move(rows: list[Submission]) -> int:
        return len(expiry.expire(rows, actor=process.actor()))

    past = Q(abandoned_at=None, generation__deadline_at__lte=Now(), generation__status=Status.PROCESSING)
    return _attempts(unknown.looked_for() & past, move) + _attempts(_poison(State.ACCEPTED) & past, move)


def unpollable() -> int:
    """``accepted`` past its limit, and its pollers die: given up, as a poller would; what it cost is at risk."""

    def move(rows: list[Submission]) -> int:
        message = "The workers that asked where it stands died, again and again, until its limit was over."
        failed = failures.fail(
            [Failure(row, DeadlineExceeded(message), cost_at_risk=True) for row in rows],
            guard="t.state = 'accepted' AND t.limit_at <= now()",
            params={},
            actor=process.actor(),
        )
        return len(failed)

    return _attempts(_poison(State.ACCEPTED) & Q(limit_at__lte=Now()), move)


def uncollectable() -> int:
    """``collecting``, and its collectors die: the result is given up; it was paid for, most likely."""

    def move(rows: list[Submission]) -> int:
        failed = failures.fail(
            [
                Failure(
                    row,
                    AssetUnusable(
                        f"{row.unwritten_claims} workers in a row died while they fetched and checked the result. "
                        "It is not tried again; it may still be at the provider."
                    ),
                    cost_at_risk=True,
                )
                for row in rows
            ],
            guard="t.state = 'collecting' AND t.lease_until <= now()",
            params={},
            actor=process.actor(),
        )
        for row in rows:
            if row.pk in failed:
                settle.report(
                    Incident.Kind.POISON,
                    row,
                    f"{row.unwritten_claims} workers in a row died while they fetched and checked its result, so it "
                    f"was given up. The last to take it worked in {row.process or 'an unknown process'}.",
                )
        return len(failed)

    return _attempts(_poison(State.COLLECTING) & Q(lease_until__lte=Now()), move)


def queued_too_long() -> int:
    """Pending past ``queue_until``: fails, the credits are released."""
    error = QueueTtlExceeded()

    def move(ids: list[UUID]) -> int:
        endings = [Ending(pk, Status.FAILED, error.code, error.detail) for pk in ids]
        return len(settle.end(endings, actor=process.actor()))

    return _generations(Generation.objects.filter(status=Status.PENDING, queue_until__lte=Now()), "queue_until", move)


def cancels() -> int:
    """Cancels whose grace is over: the Generation ends, the attempt lives on until the provider is terminal."""
    under_way = Submission.objects.filter(state__in=BILLABLE - {State.COLLECTING}, abandoned_at=None)

    def move(ids: list[UUID]) -> int:
        rows = list(under_way.filter(generation__in=ids).select_related("generation", "account"))
        return len(expiry.cancel(rows, actor="system"))

    # One that is collecting has its result, which wins; it must not take a place here meanwhile.
    asked = Generation.objects.filter(
        Exists(under_way.filter(generation=OuterRef("pk"))), status=Status.PROCESSING, cancel_at__lte=Now()
    )
    return _generations(asked, "cancel_at", move)


STEPS: tuple[Callable[[], int], ...] = (
    not_sent,
    sending,
    resubmit,
    unknown_at_limit,
    overdue,
    queued_too_long,
    cancels,
    unpollable,
    uncollectable,
)
"""What recovery does, in this order."""


def _after_not_sent(_error: ProviderError, used: Generation, allowed: Limits, _jitter: Callable[[], float]) -> Verdict:
    if used.not_sent + 1 >= allowed.not_sent_limit:
        return Verdict(delay=None)
    return Verdict(delay=0, budget=Budget.NOT_SENT)


def _poison(state: State) -> Q:
    """Those whose workers died so often that the work was stopped."""
    return Q(state=state, unwritten_claims__gte=poison.most_claims())


def _attempts(condition: Q, move: Callable[[list[Submission]], int]) -> int:
    """Move on all such Submissions, a batch in each transaction, with their Generations locked first (the lock order
    of the house)."""

    def write(found: Sequence[tuple[UUID, UUID]]) -> int:
        with transaction.atomic():
            settle.lock(generation_id for _, generation_id in found)
            locked = Submission.objects.select_for_update(skip_locked=True, of=("self",), no_key=True)
            rows = list(
                locked.filter(condition, pk__in=[pk for pk, _ in found])
                .select_related("generation", "account")
                .order_by("pk")
            )
            moved = move(rows)
        for provider_id in {row.account.provider_id for row in rows}:
            wakeups.wake_dispatch(provider_id)
        return moved

    rows = Submission.objects.filter(condition)
    return _in_batches(lambda but: list(rows.exclude(pk__in=but).values_list("pk", "generation")[:BATCH]), write)


def _generations(rows: QuerySet[Generation], order: str, move: Callable[[list[UUID]], int]) -> int:
    """Move on all such Generations, a batch in each transaction."""

    def write(found: Sequence[tuple[UUID]]) -> int:
        with transaction.atomic():
            locked = rows.select_for_update(skip_locked=True, no_key=True).filter(pk__in=[pk for (pk,) in found])
            return move(list(locked.order_by("pk").values_list("pk", flat=True)))

    return _in_batches(lambda but: list(rows.exclude(pk__in=but).order_by(order).values_list("pk")[:BATCH]), write)


def _in_batches(find: Callable[[set[UUID]], list[Any]], write: Callable[[Sequence[Any]], int]) -> int:
    """Find (all but some) and write, until a batch is not full; gives how many were moved on.

    What the database refuses is written one by one, so that a bad row keeps no other from it.
    """
    total = 0
    refused: set[UUID] = set()

    def count(found: Sequence[Any]) -> None:
        nonlocal total
        total += write(found)

    while found := find(refused):
        before = total, len(refused)
        refused.update(row[0] for row, _ in apart(count, found))
        if len(found) < BATCH or (total, len(refused)) == before:
            break
    return total


def tick() -> None:
    """Recover what is overdue, then wake whoever has work: the net below every hint that was lost."""
    recover()
    pressure.look()
    batches.keep_waiting()
    while mature() == MATURE_BATCH:
        pass
    for provider in registry.all():
        if Generation.objects.filter(provider_id=provider.slug, status=Status.PENDING, not_before=None).exists():
            wakeups.wake_dispatch(provider.slug)
    if Submission.objects.filter(FREE, state=State.COLLECTING, unwritten_claims__lt=poison.most_claims()).exists():
        wakeups.wake_collect()
    if deliver.due():
        wakeups.wake_deliver()
    if exports.due():
        wakeups.wake_export()
    if due_for_refresh():
        wakeups.wake_refresh()
    if reconcile.due():
        wakeups.wake_reconcile()
    while batches.close_finished() == batches.CLOSED_AT_ONCE:
        pass
