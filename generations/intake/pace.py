"""How fast replays start: each is planned after those that are planned already. No process waits for anything."""

from __future__ import annotations

from datetime import datetime

from django.db import connection

from generations.conf import seconds
from generations.lifecycle import Status
from generations.models import Generation
from generations.models.clock import database_now


def next_start(provider_id: str, per_minute: int) -> datetime:
    """When the next replay at this provider may start, inside the caller's transaction, which plans it.

    Until that has ended nobody else plans one there: however many people (or double clicks) replay at once, no more
    than ``per_minute`` of theirs start in a minute.
    """
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_advisory_xact_lock(hashtext('darkroom.replay'), hashtext(%s))", [provider_id])
    now, last = database_now(), last_start(provider_id)
    return now if last is None else max(now, last + seconds(60 / per_minute))


def last_start(provider_id: str) -> datetime | None:
    """When the last of the planned replays at this provider starts (or has started); cancelled ones don't count."""
    planned = Generation.objects.filter(
        provider_id=provider_id, retry_of__isnull=False, scheduled_at__isnull=False
    ).exclude(status=Status.CANCELLED)
    return planned.order_by("-scheduled_at").values_list("scheduled_at", flat=True).first()
