"""Caps: how much of what a user or an account may have is used. Counted when it is asked; there is no counter to drift.

The day is UTC's, by the database's clock.
"""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime, timedelta
from uuid import UUID

from django.db import connection
from django.db.models import Case, Count, DateTimeField, Func, OuterRef, QuerySet, Subquery, When
from django.db.models.functions import Coalesce

from generations.lifecycle import State, Status
from generations.models import Generation, Submission

CLOCKS_APART = timedelta(hours=1)
"""Ids carry the time of the machine that made them; no machine's clock is further from the database's."""

# One claim at a time decides about a user, whichever provider it is for; who is in another one's hands now is passed
# over, so that no two claims ever wait for each other.
TAKE_CAPPED = """
SELECT user_id, max_in_flight, pg_try_advisory_xact_lock(hashtext('darkroom.in_flight'), user_id)
  FROM accounts_usercap WHERE user_id = ANY(%s) AND max_in_flight IS NOT NULL
"""


class Today(Func):
    """When this day began, as SQL."""

    template = "date_trunc('day', statement_timestamp(), 'UTC')"
    output_field = DateTimeField()


class Tomorrow(Func):
    """When the next day begins, as SQL."""

    template = "date_trunc('day', statement_timestamp(), 'UTC') + interval '1 day'"
    output_field = DateTimeField()


def day_of(now: datetime) -> tuple[datetime, datetime]:
    """When the day of ``now`` (in UTC) began, and when the next one does."""
    start = now.replace(hour=0, minute=0, second=0, microsecond=0)
    return start, start + timedelta(days=1)


def used_today() -> Case:
    """Of an Account's daily cap (the outer row): what was sent today, and what is about to be. NULL without a cap."""
    attempts = Submission.objects.filter(account=OuterRef("pk")).order_by().values("account")
    sent = attempts.filter(sent_at__gte=Today()).annotate(number=Count("*")).values("number")
    reserved = attempts.filter(state=State.RESERVED).annotate(number=Count("*")).values("number")
    return Case(
        When(daily_cap__isnull=False, then=Coalesce(Subquery(sent), 0) + Coalesce(Subquery(reserved), 0)),
    )


def in_flight(user_ids: Collection[int]) -> QuerySet[Generation]:
    """What these users have in flight, at all providers; no more than there are slots and results to fetch."""
    return Generation.objects.filter(user__in=user_ids, status=Status.PROCESSING)


def queued(user_ids: Collection[int]) -> QuerySet[Generation]:
    """What of these users waits, due or not."""
    return Generation.objects.filter(user__in=user_ids, status=Status.PENDING)


def accepted_since(user_ids: Collection[int], start: datetime) -> QuerySet[Generation]:
    """What of these users was accepted since then, read from their newest by the index on ids."""
    return Generation.objects.filter(user__in=user_ids, pk__gte=_first_id(start - CLOCKS_APART), created_at__gte=start)


def by_user(rows: QuerySet[Generation]) -> dict[int, int]:
    """How many of these rows each user has."""
    return dict(rows.order_by().values_list("user").annotate(Count("pk")))


def allowances(user_ids: Collection[int]) -> dict[int, int]:
    """How many more Generations of these users a claim may start. Who is not in it may start any number.

    Until the caller's transaction ends, no other claim decides about them.
    """
    with connection.cursor() as cursor:
        cursor.execute(TAKE_CAPPED, [list(user_ids)])
        capped = cursor.fetchall()
    # A statement of its own: it sees what the claim that had them before has committed.
    running = by_user(in_flight([user for user, _, _ in capped])) if capped else {}
    return {user: max(0, most - running.get(user, 0)) if ours else 0 for user, most, ours in capped}


def _first_id(at: datetime) -> UUID:
    """The lowest id (version 7) of that time."""
    return UUID(int=int(at.timestamp() * 1000) << 80)
