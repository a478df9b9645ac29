"""What an operator does about work that does not move: wake it.

The database is the queue, so nothing here repairs anything: what is due is found by every look, and a hint only makes
the look come sooner. Why something waits although it was woken is told with it.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any
from uuid import UUID

from django.db.models import Count, Min, Q
from django.db.models.functions import Now
from prometheus_client import REGISTRY

from generations import wakeups
from generations.lifecycle import Status
from generations.models import Generation
from generations.models.clock import database_now
from generations.reports.waiting import wait_reasons


@dataclass(frozen=True, slots=True)
class Waiting:
    """A due Generation that waits. ``reason`` None: a slot is free, so the hint should start it."""

    id: UUID
    provider_id: str
    operation_type: str
    user_id: int
    waits_seconds: float
    reason: str | None


@dataclass(frozen=True, slots=True)
class Woken:
    """``due`` by provider, all of them; ``oldest`` the first few, with why each waits."""

    due: dict[str, int]
    oldest: list[Waiting]
    oldest_seconds: float | None
    hints_lost: int
    """Providers that could not be woken, since the broker is away: the tick finds their work when it is back."""
    dry_run: bool

    def as_dict(self) -> dict[str, Any]:
        """The JSON form."""
        return {**asdict(self), "oldest": [{**asdict(row), "id": str(row.id)} for row in self.oldest]}


def requeue(*, provider_id: str = "", limit: int = 20, dry_run: bool = False) -> Woken:
    """Wake whoever has due work that waits, and tell why it does.

    Due: pending, and not waiting for a time that is still to come. ``limit``: how many of the oldest to tell of.
    """
    now = database_now()
    due = Generation.objects.filter(Q(not_before=None) | Q(not_before__lte=Now()), status=Status.PENDING)
    if provider_id:
        due = due.filter(provider_id=provider_id)
    by_provider = {
        row["provider_id"]: (row["number"], row["oldest"])
        for row in due.order_by().values("provider_id").annotate(number=Count("pk"), oldest=Min("created_at"))
    }
    rows = list(due.order_by("queue_until")[:limit])
    for row in rows:
        row.not_before = None  # it has come: what keeps it now is told
    reasons = wait_reasons(rows)
    lost = _lost()
    if not dry_run:
        for name in by_provider:
            wakeups.wake_dispatch(name)
    oldest = min((at for _, at in by_provider.values()), default=None)
    return Woken(
        due={name: number for name, (number, _) in sorted(by_provider.items())},
        oldest=[
            Waiting(
                row.pk,
                row.provider_id,
                row.operation_type,
                row.user_id,
                round((now - row.created_at).total_seconds(), 1),
                reasons[row.pk],
            )
            for row in rows
        ],
        oldest_seconds=None if oldest is None else round((now - oldest).total_seconds(), 1),
        hints_lost=_lost() - lost,
        dry_run=dry_run,
    )


def _lost() -> int:
    """How many hints this process could not send so far."""
    return int(REGISTRY.get_sample_value("darkroom_wakeups_swallowed_total") or 0)
