"""What points at a Generation follows it: a batch's item is answered by the retry of what failed."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from uuid import UUID

from generations.execution import batches
from generations.intake.store import Accepted
from generations.models import Batch, BatchItem
from generations.models.bulk import update_rows


def follow(retries: Mapping[UUID, Accepted], *, items: Collection[UUID] | None = None) -> None:
    """Inside the caller's transaction: the items that are answered by one of these Generations (all, or of ``items``)
    are answered by what was made in its place.

    Batches that were closed are open again, and those that are paused keep it waiting. ``retries``: what was accepted,
    by the id of the Generation before.
    """
    rows = BatchItem.objects.filter(generation__in=retries, detached_at=None)
    if items is not None:
        rows = rows.filter(pk__in=items)
    found = list(rows.values_list("pk", "batch", "generation"))
    if not found:
        return
    update_rows(
        BatchItem,
        {pk: {"generation_id": retries[old].generation.pk, "reused": retries[old].reused} for pk, _, old in found},
        guard="t.generation_id = ANY(%(old)s)",
        params={"old": list(retries)},
    )
    # Written whether it was closed or not: who closes it at this moment waits, and sees what is live again.
    Batch.objects.filter(pk__in=sorted({batch for _, batch, _ in found})).update(closed_at=None)
    batches.keep_waiting({answer.generation.pk for answer in retries.values()})
