"""The one file that stands for a Generation where many are shown."""

from __future__ import annotations

from collections.abc import Iterable
from uuid import UUID

from generations.lifecycle import Status
from generations.models import Asset


def first_results(ids: Iterable[UUID]) -> dict[UUID, Asset]:
    """The first result of each of these Generations that has completed, if its file is there. One query."""
    outputs = (
        Asset.objects.kept()
        .filter(
            submission__generation__in=list(ids),
            submission__generation__status=Status.COMPLETED,
            submission__abandoned_at=None,
            role=Asset.Role.OUTPUT,
        )
        .select_related("submission")
        .only("thumbnail_key", "mime_type", "expired_at", "submission__generation_id")
        .order_by("-index")
    )
    return {output.submission.generation_id: output for output in outputs if output.submission is not None}
