"""Deliveries, made in the very commit that they report (T5, T6). What they say is rendered when they are sent."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from urllib.parse import urlsplit
from uuid import UUID

from django.db import transaction
from django.db.models import Value
from django.db.models.functions import Now

from generations import wakeups
from generations.conf import limits, seconds
from generations.models import WebhookDelivery, WebhookEndpoint, WebhookEvent

LONGEST_HOST = 255


@dataclass(frozen=True, slots=True)
class News:
    """Something happened to a Generation of a user; ``at`` None: just now."""

    generation_id: UUID
    user_id: int
    event: WebhookEvent
    at: datetime | None = None


def announce(news: Sequence[News]) -> None:
    """Inside the caller's transaction: a delivery for each endpoint that wants to be told.

    One query for the endpoints of all users concerned, one bulk insert; nothing when there are none.
    """
    if not news:
        return
    users, generations = {one.user_id for one in news}, {one.generation_id for one in news}
    deliveries = [
        delivery(endpoint, one.event, one.generation_id, one.at)
        for endpoint in WebhookEndpoint.objects.concerned(users, generations)
        for one in news
        if one.event in endpoint.events
        and endpoint.user_id == one.user_id
        and endpoint.generation_id in {None, one.generation_id}
    ]
    insert(deliveries)


def delivery(
    endpoint: WebhookEndpoint, event: WebhookEvent, generation_id: UUID | None, event_at: datetime | None = None
) -> WebhookDelivery:
    """A delivery that is due now, not saved. ``event_at`` None: just now."""
    given = {} if event_at is None else {"event_at": event_at}
    return WebhookDelivery(
        user_id=endpoint.user_id,
        endpoint=endpoint,
        generation_id=generation_id,
        event=event,
        host=urlsplit(endpoint.url).netloc.lower()[:LONGEST_HOST],
        next_try_at=Now(),
        give_up_at=Now() + Value(seconds(limits().webhook_ttl)),
        **given,
    )


def insert(deliveries: Sequence[WebhookDelivery]) -> None:
    """Those that are not there yet; somebody looks at them as soon as the caller's transaction is committed."""
    if deliveries:
        WebhookDelivery.objects.bulk_create(deliveries, ignore_conflicts=True)
        transaction.on_commit(wakeups.wake_deliver)
