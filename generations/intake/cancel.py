"""Cancelling: at once where nothing billable has left, after a grace where it may have."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from uuid import UUID

import uuid_utils.compat as uuid
from django.db import transaction
from django.db.models import Value
from django.db.models.functions import Now

from generations import wakeups
from generations.conf import limits, seconds
from generations.execution import settle
from generations.execution.settle import Ending
from generations.intake.errors import Conflict
from generations.lifecycle import ENDED, State, Status
from generations.models import Event, Generation, Submission


def cancel(generation_id: UUID, *, actor: str) -> Generation:
    """Cancel a Generation, or ask for it.

    * pending, or reserved: it is cancelled when this returns.
    * sending, unknown or accepted: ``cancel_requested_at`` is set; a result within the grace still wins, otherwise
      it ends after it. Asking twice is the same as once.

    Raises:
        Conflict: ``already_ended``, or ``too_late`` (the provider is done and the result is being fetched).
    """
    with transaction.atomic():
        generation = settle.lock([generation_id]).get(generation_id)
        if generation is None:
            raise Generation.DoesNotExist
        if generation.status in ENDED:
            raise Conflict.naming(
                "already_ended", f"It is {generation.status} already; nothing is left to cancel.", generation_id
            )
        if cancel_locked([generation], actor=actor):
            raise Conflict.naming(
                "too_late", "The provider is done; the result is being fetched and will be kept.", generation_id
            )
    generation.refresh_from_db()
    if generation.status == Status.CANCELLED:
        wakeups.wake_dispatch(generation.provider_id)
    return generation


def cancel_locked(generations: Sequence[Generation], *, actor: str) -> set[UUID]:
    """Inside the caller's transaction, which has locked these live Generations: as ``cancel``, in a fixed number of
    statements.

    Returns:
        The ids of those for which it is too late.
    """
    by_id = {generation.pk: generation for generation in generations}
    reserved = Submission.objects.filter(generation__in=by_id, abandoned_at=None, state=State.RESERVED)
    reserved.update(state=State.CANCELLED, ended_at=Now(), lease_until=None, token=uuid.uuid4())
    # Those that have begun to send meanwhile are open still.
    left = Submission.objects.open().filter(generation__in=by_id, abandoned_at=None)
    attempts = {attempt.generation_id: attempt for attempt in left.only("generation_id", "number", "state")}
    settle.end([Ending(pk, Status.CANCELLED) for pk in by_id if pk not in attempts], actor=actor)
    too_late = {pk for pk, attempt in attempts.items() if attempt.state == State.COLLECTING}
    asked = [
        attempt for pk, attempt in attempts.items() if pk not in too_late and by_id[pk].cancel_requested_at is None
    ]
    _ask(asked, by_id, actor)
    return too_late


def _ask(attempts: Sequence[Submission], generations: Mapping[UUID, Generation], actor: str) -> None:
    """Begin the grace, in which the provider is asked to stop, where it can, and a result still wins."""
    if not attempts:
        return
    pictures = {attempt.generation_id for attempt in attempts if generations[attempt.generation_id].makes_image}
    videos = {attempt.generation_id for attempt in attempts} - pictures
    for ids, grace in ((pictures, limits().image_cancel_grace), (videos, limits().video_cancel_grace)):
        if ids:
            Generation.objects.filter(pk__in=ids).update(
                cancel_requested_at=Now(), cancel_at=Now() + Value(seconds(grace))
            )
    Submission.objects.filter(pk__in=[attempt.pk for attempt in attempts], state=State.ACCEPTED).update(
        next_poll_at=Now()
    )
    Event.objects.bulk_create(
        Event(
            generation_id=attempt.generation_id,
            attempt=attempt.number,
            kind=Event.Kind.CANCEL_REQUESTED,
            actor=actor,
        )
        for attempt in attempts
    )
    transaction.on_commit(wakeups.wake_poll)
