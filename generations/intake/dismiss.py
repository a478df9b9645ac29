"""A person says of dead letters that nothing is to be done about them, or takes that back."""

from __future__ import annotations

from collections.abc import Iterable
from uuid import UUID

from django.db import transaction

from generations.intake.errors import Conflict, Invalid
from generations.models import Event, Generation
from generations.models.bulk import update_rows

LONGEST_REASON = 300


def dismiss(generation_ids: Iterable[UUID], *, reason: str, actor: str) -> int:
    """They are no dead letters any more; their timelines say who said so and why. Gives how many were.

    Raises:
        Invalid: ``reason_required``: there is no reason, or a novel.
    """
    reason = reason.strip()
    if not 1 <= len(reason) <= LONGEST_REASON:
        raise Invalid("reason_required", f"Say why, in at most {LONGEST_REASON} characters.", field="reason")
    return _mark(
        generation_ids,
        guard="t.status = 'failed' AND t.dismissed_at IS NULL",
        change="dismissed_at = now()",
        event=Event(kind=Event.Kind.DISMISSED, actor=actor, data={"message": reason}),
    )


def restore(generation_ids: Iterable[UUID], *, actor: str) -> int:
    """Their dismissal is taken back. Gives how many were dismissed."""
    return _mark(
        generation_ids,
        guard="t.dismissed_at IS NOT NULL",
        change="dismissed_at = NULL",
        event=Event(kind=Event.Kind.RESTORED, actor=actor),
    )


def dismiss_one(generation: Generation, *, reason: str, actor: str) -> None:
    """Dismiss this one.

    Raises:
        Invalid: as ``dismiss``.
        Conflict: ``not_dead``: it has not failed, or is dismissed already.
    """
    if not dismiss([generation.pk], reason=reason, actor=actor):
        raise Conflict.naming("not_dead", "It has not failed, or was dismissed already.", generation.pk)


def restore_one(generation: Generation, *, actor: str) -> None:
    """Take its dismissal back.

    Raises:
        Conflict: ``not_dismissed``.
    """
    if not restore([generation.pk], actor=actor):
        raise Conflict.naming("not_dismissed", "It is not dismissed.", generation.pk)


def _mark(generation_ids: Iterable[UUID], *, guard: str, change: str, event: Event) -> int:
    with transaction.atomic():
        # Locked in the order of their ids, as everywhere.
        ids = sorted(generation_ids)
        list(Generation.objects.select_for_update(no_key=True).filter(pk__in=ids).order_by("pk").values_list("pk"))
        touched = update_rows(Generation, {pk: {} for pk in ids}, guard=guard, also=change)
        Event.objects.bulk_create(
            Event(generation_id=pk, kind=event.kind, actor=event.actor, data=event.data) for pk in sorted(touched)
        )
    return len(touched)
