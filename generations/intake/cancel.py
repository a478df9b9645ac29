"""Cancelling: at once where nothing billable has left, after a grace where it may have."""

from __future__ import annotations

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
        open_one = Submission.objects.open().filter(generation=generation, abandoned_at=None).first()
        if open_one is None or _stop_reserved(open_one):
            settle.end([Ending(generation_id, Status.CANCELLED)], actor=actor)
        else:
            _ask(generation, open_one, actor)
    generation.refresh_from_db()
    if generation.status == Status.CANCELLED:
        wakeups.wake_dispatch(generation.provider_id)
    return generation


def _stop_reserved(submission: Submission) -> bool:
    """Take a reserved Submission away from its dispatcher; False when it has begun to send."""
    return bool(
        Submission.objects.filter(pk=submission.pk, state=State.RESERVED).update(
            state=State.CANCELLED, ended_at=Now(), lease_until=None, token=uuid.uuid4()
        )
    )


def _ask(generation: Generation, submission: Submission, actor: str) -> None:
    state = Submission.objects.values_list("state", flat=True).get(pk=submission.pk)
    if state == State.COLLECTING:
        raise Conflict.naming(
            "too_late", "The provider is done; the result is being fetched and will be kept.", generation.pk
        )
    if generation.cancel_requested_at is not None:
        return
    grace = limits().image_cancel_grace if generation.makes_image else limits().video_cancel_grace
    Generation.objects.filter(pk=generation.pk).update(
        cancel_requested_at=Now(), cancel_at=Now() + Value(seconds(grace))
    )
    # The poller asks the provider to stop, where it can, and looks whether the result is there already.
    Submission.objects.filter(pk=submission.pk, state=State.ACCEPTED).update(next_poll_at=Now())
    Event.objects.create(
        generation=generation, attempt=submission.number, kind=Event.Kind.CANCEL_REQUESTED, actor=actor
    )
    transaction.on_commit(wakeups.wake_poll)
