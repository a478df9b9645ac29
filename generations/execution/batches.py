"""What the house does about batches by itself: keeps what is paused waiting, closes what is over.

Whether a Generation goes on is not one batch's matter alone: it may have been asked for by itself, or answer another
batch too.
"""

from __future__ import annotations

from collections.abc import Collection
from uuid import UUID

from django.db import transaction
from django.db.models import Case, Exists, F, OuterRef, Q, QuerySet, When
from django.db.models.functions import Now

from generations.execution import exports, settle
from generations.lifecycle import LIVE, Status
from generations.models import Batch, BatchItem, Generation

CLOSED_AT_ONCE = 20
KEPT_AT_ONCE = 500

_wanted = BatchItem.objects.filter(detached_at=None, batch__cancelled_at=None)


def only_wanted_by(batch_id: UUID) -> QuerySet[Generation]:
    """The live Generations that answer items of this batch and that nobody else has asked for."""
    others = _wanted.filter(generation=OuterRef("pk")).exclude(batch=batch_id)
    mine = BatchItem.objects.filter(batch=batch_id, detached_at=None).values("generation")
    return Generation.objects.live().filter(~Exists(others), standalone=False, pk__in=mine)


def kept_waiting() -> QuerySet[Generation]:
    """Those that are to wait: pending, and all who want them are batches that are paused."""
    going = _wanted.filter(generation=OuterRef("pk"), batch__paused_at=None)
    paused = _wanted.filter(batch__paused_at__isnull=False, batch__closed_at=None).values("generation")
    early = Q(not_before=None) | Q(not_before__lt=F("queue_until"))
    return Generation.objects.filter(early, ~Exists(going), status=Status.PENDING, standalone=False, pk__in=paused)


def keep_waiting(generation_ids: Collection[UUID] | None = None) -> int:
    """Keep paused ones (of these, or all) from being sent: until they have waited too long, or are let go.

    Returns:
        How many were not kept before.
    """
    rows = kept_waiting() if generation_ids is None else kept_waiting().filter(pk__in=generation_ids)
    total = 0
    while ids := list(rows.values_list("pk", flat=True)[:KEPT_AT_ONCE]):
        with transaction.atomic():
            settle.lock(ids)
            kept = rows.filter(pk__in=ids).update(not_before=F("queue_until"))
        total += kept
        if len(ids) < KEPT_AT_ONCE or not kept:
            break
    return total


def let_go(rows: QuerySet[Generation]) -> int:
    """What was kept waiting waits for its own time only. The caller has locked the rows."""
    own = Case(When(scheduled_at__gt=Now(), then=F("scheduled_at")))
    return rows.filter(status=Status.PENDING, not_before=F("queue_until")).update(not_before=own)


def close_finished() -> int:
    """Close the batches of which nothing is live any more; how many were closed."""
    live = BatchItem.objects.filter(batch=OuterRef("pk"), detached_at=None, generation__status__in=LIVE)
    over = Batch.objects.filter(~Exists(live), closed_at=None)
    with transaction.atomic():
        # Locked first, and looked at again below: one that a retry opens at this moment is passed over.
        found = over.select_for_update(skip_locked=True, no_key=True, of=("self",))[:CLOSED_AT_ONCE]
        ids = [batch.pk for batch in found.only("pk")]
        if not ids:
            return 0
        # An answer that completed while its batch was being accepted has seen nothing of it.
        exports.order_for_batches(ids)
        return over.filter(pk__in=ids).update(closed_at=Now())
