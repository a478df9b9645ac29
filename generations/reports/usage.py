"""How much of their caps users have used: counted when asked, for the API, the console and "why does it wait"."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from django.db.models import QuerySet

from accounts.models import UserCap
from generations.execution import caps
from generations.models import Generation
from generations.models.clock import database_now

Name = Literal["max_in_flight", "max_queued", "max_per_day"]


@dataclass(frozen=True, slots=True)
class Use:
    """One cap of a user and how much of it is used. ``resets_at``: when it begins anew by itself, of the day's cap."""

    cap: Name
    limit: int
    used: int
    resets_at: datetime | None = None

    @property
    def is_full(self) -> bool:
        """Whether nothing is left of it."""
        return self.used >= self.limit


def usage(user_id: int) -> list[Use]:
    """The caps that a user has, with what is used; empty for most users. One query for those."""
    row = UserCap.objects.filter(pk=user_id).first()
    return usages([row])[user_id] if row else []


def usages(rows: Collection[UserCap]) -> dict[int, list[Use]]:
    """The same of many, by user: a query for each kind of cap that there is among them, and one for the time."""
    start, end = caps.day_of(database_now())
    found: dict[int, list[Use]] = {row.pk: [] for row in rows}
    running = _limits(rows, "max_in_flight")
    for pk, used in _used(running, caps.in_flight(running)):
        found[pk].append(Use("max_in_flight", running[pk], used))
    waiting = _limits(rows, "max_queued")
    for pk, used in _used(waiting, caps.queued(waiting)):
        found[pk].append(Use("max_queued", waiting[pk], used))
    daily = _limits(rows, "max_per_day")
    for pk, used in _used(daily, caps.accepted_since(daily, start)):
        found[pk].append(Use("max_per_day", daily[pk], used, end))
    return found


def in_flight(user_ids: Collection[int]) -> dict[int, Use]:
    """What those of these users have in flight who have a cap on it. One query, and one more where somebody has."""
    limits = _limits(UserCap.objects.filter(pk__in=user_ids, max_in_flight__isnull=False), "max_in_flight")
    return {pk: Use("max_in_flight", limits[pk], used) for pk, used in _used(limits, caps.in_flight(limits))}


def at_cap(user_ids: Collection[int]) -> dict[int, Use]:
    """Those of them who have as many in flight as they may."""
    return {pk: use for pk, use in in_flight(user_ids).items() if use.is_full}


def _limits(rows: Iterable[UserCap], name: Name) -> dict[int, int]:
    """The limits of those that have this cap."""
    return {row.pk: getattr(row, name) for row in rows if getattr(row, name) is not None}


def _used(limits: dict[int, int], rows: QuerySet[Generation]) -> Iterable[tuple[int, int]]:
    """(user, how many of these rows are his) of each user who has a limit; no query where nobody has."""
    used = caps.by_user(rows) if limits else {}
    return [(pk, used.get(pk, 0)) for pk in limits]
