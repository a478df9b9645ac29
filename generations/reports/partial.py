"""What completed with fewer outputs than were asked for."""

from __future__ import annotations

from collections.abc import Collection
from uuid import UUID

from generations.models import Event


def partials(completed: Collection[UUID]) -> dict[UUID, str]:
    """``3 of 4 outputs``, for each of these completed Generations of which that is true. One query for all."""
    events = Event.objects.filter(generation__in=completed, kind=Event.Kind.COMPLETED) if completed else []
    return {
        event.generation_id: f"{event.data['outputs']} of {event.data['expected']} outputs"
        for event in events
        if event.data.get("partial")
    }
