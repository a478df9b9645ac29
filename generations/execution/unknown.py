"""Attempts whose outcome is unknown: what is learnt of them, and asking once more.

A job id comes from a callback with the attempt's own token, from the provider's own list, or from a person. It is
taken only while the state is ``unknown``; a poll then confirms it.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from typing import Any
from uuid import UUID

from django.db import IntegrityError, transaction
from django.db.models import F, Q, Value
from django.db.models.functions import Now

from generations import wakeups
from generations.conf import limits, seconds
from generations.execution import settle
from generations.lifecycle import TERMINAL, State, Status
from generations.models import Event, Generation, Incident, ProviderSetting, Submission
from providers import registry

LONGEST_JOB_ID = 255
BATCH = 200
FRESH_SECONDS = 10
"""A look counts until the next one is due and for two ticks more: with short intervals no tick would ever meet one."""


def adopt(submission: Submission, job_id: str, **changes: Any) -> bool:
    """The provider made this job of it: an ``unknown`` Submission is ``accepted``, and polled now.

    ``changes``: further columns. Gives whether it was still unknown and the job is nobody else's: a job id that
    another attempt has proves nothing.
    """
    if not 0 < len(job_id) <= LONGEST_JOB_ID:
        return False
    try:
        with transaction.atomic():
            known = Submission.objects.filter(pk=submission.pk, state=State.UNKNOWN, provider_job_id=None).update(
                state=State.ACCEPTED,
                provider_job_id=job_id,
                accepted_at=Now(),
                next_poll_at=Now(),
                error_code="",
                error_message="",
                unwritten_claims=0,
                misses=0,
                last_looks=0,
                **changes,
            )
    except IntegrityError:  # the job of another attempt
        return False
    if known:
        transaction.on_commit(wakeups.wake_poll)
    return bool(known)


def heard_of(submission: Submission, job_id: str) -> bool:
    """A callback with an attempt's own token names its job. Gives whether that was news.

    While the attempt is still ``sending`` the id is kept beside it: should the submit's own answer be lost, the job is
    known all the same. A job of an attempt that has ended without one puts it (back) into the inbox: the provider took
    it after all. A job that is not the one that we know is an Incident.
    """
    if not 0 < len(job_id) <= LONGEST_JOB_ID:
        return False
    rows = Submission.objects.filter(pk=submission.pk)
    for _ in range(2):  # it may become unknown between the two
        if adopt(submission, job_id):
            return True
        if rows.filter(state=State.SENDING, told_job_id="").update(told_job_id=job_id):
            return True
    ended = rows.filter(state__in=TERMINAL, provider_job_id=None, sent_at__isnull=False, told_job_id="")
    if ended.update(told_job_id=job_id, cost_at_risk=True, resolution=""):
        detail = f"It had ended as {submission.error_code or submission.state} when the provider told of job {job_id}."
        settle.report(Incident.Kind.COST_AT_RISK, submission, detail)
        return True
    known = rows.values_list("provider_job_id", "told_job_id").first() or (None, "")
    if any(known) and job_id not in known:
        settle.report(Incident.Kind.DUPLICATE_CHARGE, submission, f"The provider called back about job {job_id} too.")
    return False


def adopt_told(submissions: Iterable[UUID] | None = None) -> int:
    """Unknown ones whose job a callback named while they were ``sending``. Gives how many are known now."""
    rows = Submission.objects.filter(state=State.UNKNOWN, told_job_id__gt="")
    if submissions is not None:
        rows = rows.filter(pk__in=list(submissions))
    known = 0
    for row in rows[:BATCH]:
        if adopt(row, row.told_job_id):
            known += 1
        elif rows.filter(pk=row.pk).update(told_job_id=""):
            detail = f"It was called back about job {row.told_job_id}, which belongs to another attempt."
            settle.report(Incident.Kind.DUPLICATE_CHARGE, row, detail)
    return known


def looked_for() -> Q:
    """Unknown ones that were looked for as well as can be, so that time may end them. (Our own outage never does.)

    Where the provider can be asked: it was within the last interval, and answered, or did not for so many last looks.
    Elsewhere there was time for a callback. ``misses`` counts the looks that found nothing, ``last_looks`` those in a
    row that got no answer; a look that is under way has set a poll token.
    """
    able = [one.slug for one in registry.all() if one.can_find or one.lists_recent]
    asked = Q(poll_token=None, next_poll_at__gt=Now() - Value(seconds(FRESH_SECONDS))) & (
        Q(misses__gt=0, last_looks=0) | Q(last_looks__gte=limits().last_looks)
    )
    waited = Q(next_poll_at=None) | Q(next_poll_at__lte=Now())
    looked = (Q(account__provider_id__in=able) & asked) | (~Q(account__provider_id__in=able) & waited)
    return Q(looked, state=State.UNKNOWN, told_job_id="")


def resubmits_once(provider_ids: Collection[str] | None = None) -> set[str]:
    """The providers (of these) for which an operator has configured ``resubmit_once``."""
    rows = ProviderSetting.objects.filter(on_unknown=ProviderSetting.OnUnknown.RESUBMIT_ONCE)
    if provider_ids is not None:
        rows = rows.filter(provider_id__in=provider_ids)
    return set(rows.values_list("provider_id", flat=True))


def ask_again(submissions: Sequence[Submission], *, kind: Event.Kind, actor: str, data: dict[str, Any]) -> set[UUID]:
    """Abandon these unknown attempts and put their live Generations back into the queue, in the caller's transaction.

    The Generations are locked already. The old attempts keep their slots until their limit; what they may still bring
    is kept, and never charged. Gives the ids of the Submissions that were abandoned now.
    """
    left = []
    for submission in submissions:
        abandoned = Submission.objects.filter(
            pk=submission.pk,
            state=State.UNKNOWN,
            abandoned_at=None,
            told_job_id="",
            generation__status=Status.PROCESSING,
        )
        if abandoned.update(abandoned_at=Now()):
            left.append(submission)
    Generation.objects.filter(pk__in=[one.generation_id for one in left], status=Status.PROCESSING).update(
        status=Status.PENDING, deadline_at=None, not_before=None, resubmits=F("resubmits") + 1
    )
    Event.objects.bulk_create(
        Event(generation_id=one.generation_id, attempt=one.number, kind=kind, actor=actor, data=data) for one in left
    )
    for provider_id in {one.account.provider_id for one in left}:
        transaction.on_commit(lambda slug=provider_id: wakeups.wake_dispatch(slug))  # type: ignore[misc]
    return {one.pk for one in left}
