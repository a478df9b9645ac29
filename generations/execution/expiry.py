"""Generations that end while an attempt of theirs lives on: past the deadline, or cancelled after the grace."""

from __future__ import annotations

from collections.abc import Sequence
from uuid import UUID

from django.db.models.functions import Now

from generations.execution import settle
from generations.execution.settle import Ending
from generations.lifecycle import OPEN, State, Status
from generations.models import Event, Submission
from providers.errors import OutcomeUnknown, ProviderError


class DeadlineExceeded(ProviderError):
    """It took longer than its deadline allows."""

    code = "deadline_exceeded"


class QueueTtlExceeded(ProviderError):
    """It waited in the queue for longer than it may."""

    code = "queue_timeout"


class NotSent(ProviderError):
    """The worker died before anything was sent; nothing can have been billed."""

    code = "not_sent"


def expire(submissions: Sequence[Submission], *, actor: str) -> set[UUID]:
    """Fail the Generations of these Submissions for their deadline; the Submissions live on, abandoned."""
    return _leave(
        submissions,
        [
            Ending(submission.generation_id, Status.FAILED, error.code, error.detail, submission.number)
            for submission in submissions
            for error in [OutcomeUnknown() if submission.state == State.UNKNOWN else DeadlineExceeded()]
        ],
        actor=actor,
    )


def cancel(submissions: Sequence[Submission], *, actor: str) -> set[UUID]:
    """Cancel the Generations of these Submissions; the Submissions live on, abandoned."""
    endings = [Ending(one.generation_id, Status.CANCELLED, attempt=one.number) for one in submissions]
    return _leave(submissions, endings, actor=actor)


def _leave(submissions: Sequence[Submission], endings: Sequence[Ending], *, actor: str) -> set[UUID]:
    """End the Generations (which the caller has locked) and abandon their open Submissions.

    A Submission that is collecting has its result already: that wins, and its Generation is left alone.
    """
    if not submissions:
        return set()
    collecting = set(
        Submission.objects.filter(
            generation__in=[one.generation_id for one in submissions], state=State.COLLECTING, abandoned_at=None
        ).values_list("generation", flat=True)
    )
    ended = settle.end([one for one in endings if one.generation_id not in collecting], actor=actor)
    left = [one for one in submissions if one.generation_id in ended]
    Submission.objects.filter(pk__in=[one.pk for one in left], state__in=OPEN, abandoned_at=None).update(
        abandoned_at=Now()
    )
    Event.objects.bulk_create(
        Event(generation_id=one.generation_id, attempt=one.number, kind=Event.Kind.ABANDONED, actor=actor)
        for one in left
    )
    return ended
