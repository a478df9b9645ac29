"""What webhooks say: rendered at each try, so that links to files are fresh; what happened and when stays the same."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from uuid import UUID

from django.conf import settings
from pydantic_core import to_json

from generations.models import Generation, WebhookDelivery
from generations.reports import representation

TEST = "This is a test. It tells of no generation; your endpoint is reached, and may check the signature."


def bodies(deliveries: Sequence[WebhookDelivery]) -> dict[UUID, str]:
    """The JSON of each, by its id: ``{"type", "timestamp", "data"}``.

    ``data`` is what ``GET /api/v1/generations/{id}`` tells now. Links begin with PUBLIC_URL; where that is not set
    they are paths. A number of queries that does not depend on how many there are.
    """
    rows = Generation.objects.filter(pk__in=[one.generation_id for one in deliveries if one.generation_id])
    told = {answer.id: answer for answer in representation.page(settings.PUBLIC_URL, list(rows))}
    return {one.pk: _body(one, told[one.generation_id] if one.generation_id else _test(one)) for one in deliveries}


def _body(delivery: WebhookDelivery, data: Any) -> str:
    said = {"type": delivery.event, "timestamp": delivery.event_at, "data": data}
    return to_json(said).decode()


def _test(delivery: WebhookDelivery) -> dict[str, str]:
    return {"endpoint": str(delivery.endpoint_id), "message": TEST}
