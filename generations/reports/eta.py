"""When it will be done: the median of our own history, plus the queue ahead. An estimate, or None; never a guess.

How long one takes is the median (p50) of ``started_at`` to ``completed_at``, retries included, of the last
``ENOUGH`` completed Generations of the same provider, operation and model, found among the newest ``WINDOW`` that
ended (by the index on ``completed_at``, so the cost is bounded however long the history is). What the window does
not show has no history: None.

The queue ahead: those due at the provider that go first (higher priority, or the same and older), counted up to
``MOST_AHEAD`` in the claim's own index. With ``free`` slots the first ``free`` of them start at once; beyond that a
slot comes free every ``p50 / slots`` seconds. Fairness between users can only make the wait of a user with little
in flight shorter than that; a cap on what he may have in flight can make it longer, and is counted alike. Where no
account is usable but one comes back by itself, its return is waited for.
"""

from __future__ import annotations

from datetime import datetime
from statistics import median

from django.db import connection
from django.db.models import Q

from generations.lifecycle import Status
from generations.models import Generation
from generations.models.clock import database_now
from generations.reports.capacity import Standing, standings
from generations.reports.usage import Use, in_flight

WINDOW = 500
ENOUGH = 100
MOST_AHEAD = 10_000

HISTORY = """
WITH ended AS MATERIALIZED (
    SELECT provider_id, operation_type, status, params, started_at, completed_at
      FROM generations_generation
     WHERE completed_at IS NOT NULL
     ORDER BY completed_at DESC LIMIT %(window)s
)
SELECT extract(epoch FROM completed_at - started_at)::float8
  FROM ended
 WHERE status = 'completed' AND provider_id = %(provider)s AND operation_type = %(operation)s
   AND started_at IS NOT NULL AND coalesce(params->>'model', params->>'model_id', '') = %(model)s
 ORDER BY completed_at DESC LIMIT %(enough)s
"""


def model_of(params: dict[str, object]) -> str:
    """The provider's model that canonical params name; empty where the operation has no choice."""
    return str(params.get("model") or params.get("model_id") or "")


def eta_seconds(
    provider_id: str,
    operation_type: str,
    model: str,
    *,
    priority: int = 5,
    user_id: int | None = None,
    many: int = 1,
) -> float | None:
    """Seconds until a request made now would be done (the last of ``many`` equal ones); None without history or
    without any account to come.

    With ``user_id`` that user's own accounts count too; else the shared ones. Four queries.
    """
    takes = history(provider_id, operation_type, model)
    if not takes:
        return None
    users = () if user_id is None else (user_id,)
    accounts = [
        account for account in standings(providers=[provider_id], users=users) if account.owner_id in {None, user_id}
    ]
    ahead = _count_ahead(Q(provider_id=provider_id, account=None, priority__gte=priority))
    return _estimate(median(takes), ahead + many - 1, accounts, database_now())


def eta_of(generation: Generation, *, now: datetime | None = None) -> float | None:
    """Seconds until this Generation is done; None when it has ended, or without history.

    One that runs: the median of those that took longer than it has taken so far, less that.
    """
    if not generation.is_live:
        return None
    takes = history(generation.provider_id, generation.operation_type, model_of(generation.params))
    if not takes:
        return None
    now = now or database_now()
    if generation.status == Status.PROCESSING:
        so_far = (now - (generation.started_at or now)).total_seconds()
        longer = [taken for taken in takes if taken > so_far]
        return median(longer) - so_far if longer else None
    accounts = [
        account
        for account in standings(
            providers=[generation.provider_id], users=[generation.user_id], generations=[generation]
        )
        if account.serves(generation)
    ]
    rest = max(0.0, (generation.not_before - now).total_seconds()) if generation.not_before else 0.0
    estimate = _estimate(median(takes), count_ahead(generation), accounts, now)
    use = in_flight([generation.user_id]).get(generation.user_id)
    if estimate is None or (use is not None and use.limit == 0):
        return None
    return rest + max(estimate, _under_cap(generation, use, median(takes)) if use else 0)


def history(provider_id: str, operation_type: str, model: str) -> list[float]:
    """How many seconds each of the last completed ones took, newest first."""
    with connection.cursor() as cursor:
        cursor.execute(
            HISTORY,
            {
                "window": WINDOW,
                "provider": provider_id,
                "operation": operation_type,
                "model": model,
                "enough": ENOUGH,
            },
        )
        return [taken for (taken,) in cursor.fetchall()]


def count_ahead(generation: Generation) -> int:
    """How many due ones go before this pending one if users counted alike; at most ``MOST_AHEAD``."""
    first = Q(priority__gt=generation.priority) | Q(priority=generation.priority, pk__lt=generation.pk)
    return _count_ahead(first & Q(provider_id=generation.provider_id, account=generation.account_id))


def _under_cap(generation: Generation, use: Use, takes: float) -> float:
    """How long it takes by its user's cap alone: his own that go first, in as many lanes as he may have in flight."""
    first = Q(priority__gt=generation.priority) | Q(priority=generation.priority, pk__lt=generation.pk)
    ahead = _count_ahead(first & Q(provider_id=generation.provider_id, user=generation.user_id))
    return max(0, ahead - max(0, use.limit - use.used) + 1) * takes / use.limit + takes


def _count_ahead(which: Q) -> int:
    due = Generation.objects.filter(which, status=Status.PENDING, not_before=None)
    return due.values("pk")[:MOST_AHEAD].count()


def _estimate(takes: float, ahead: int, accounts: list[Standing], now: datetime) -> float | None:
    usable = [account for account in accounts if account.usable]
    returns_in = 0.0
    if not usable:
        usable = [account for account in accounts if account.comes_back]
        if not usable:
            return None
        returns_in = min(max(0.0, (account.until - now).total_seconds()) for account in usable if account.until)
    slots = sum(1 if account.probing else account.limit for account in usable)
    free = sum(account.free for account in usable)
    waiting = max(0, ahead - free + 1) * takes / slots
    return returns_in + waiting + takes
