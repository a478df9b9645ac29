"""What points at a Generation follows it: a batch's item is answered by the retry of what failed."""

from __future__ import annotations

from collections.abc import Mapping
from uuid import UUID

from django.db.models import Q

from generations.models import Batch, BatchItem, Generation
from generations.models.bulk import update_rows


def follow(retries: Mapping[UUID, Generation]) -> None:
    """Inside the caller's transaction: whatever item is answered by one of these Generations is answered by its retry.

    Batches that were closed are open again. ``retries``: the new Generation of each old one's id.
    """
    items = BatchItem.objects.filter(generation__in=retries, detached_at=None).values_list("pk", "batch", "generation")
    found = list(items)
    if not found:
        return
    update_rows(
        BatchItem,
        {pk: {"generation_id": retries[old].pk, "reused": False} for pk, _, old in found},
        guard="t.generation_id = ANY(%(old)s)",
        params={"old": list(retries)},
    )
    Batch.objects.filter(~Q(closed_at=None), pk__in={batch for _, batch, _ in found}).update(closed_at=None)
