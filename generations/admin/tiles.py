"""Results as small pictures that lead to their Generations' pages."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from django.urls import reverse

from generations.admin.history import picture_of
from generations.models import Asset, Generation


def tiles(rows: Sequence[Generation]) -> list[dict[str, Any]]:
    """Of each that has a result: URL, picture and prompt; one query."""
    assets = (
        Asset.objects.filter(submission__generation__in=[row.pk for row in rows], role=Asset.Role.OUTPUT)
        .select_related("submission")
        .defer("submission__request", "submission__response", "submission__outputs")
        .order_by("-index")
    )
    first = {asset.submission.generation_id: asset for asset in assets if asset.submission}
    return [
        {
            "url": reverse("admin:generations_generation_change", args=[row.pk]),
            "picture": picture_of(first[row.pk], "dr-tile"),
            "prompt": row.prompt or "(no prompt)",
        }
        for row in rows
        if row.pk in first
    ]
