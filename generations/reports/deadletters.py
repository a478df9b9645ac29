"""Dead letters, grouped and filtered. Derived when read, never stored.

Every look is bounded in time and in number, so that it costs the same whatever the table holds.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Literal, TypeVar
from uuid import UUID

from django.db import connection
from django.db.models import OuterRef, QuerySet, Subquery, Value
from django.db.models.functions import Now

from generations.lifecycle import Status
from generations.models import DeadLetter, Generation, Submission

G = TypeVar("G", bound=Generation)

LONGEST = timedelta(days=31)
"""The most time that one look covers, unless it is about letters that are named by their ids."""
LONG_AGO = datetime(2000, 1, 1, tzinfo=UTC)
"""Before anything failed."""
MOST = 50_000
"""The most letters that one look groups: the newest."""
MOST_GROUPS = 200


@dataclass(frozen=True, slots=True)
class Filters:
    """Which dead letters are meant: all that is given must hold. Failed from ``since`` until before ``until``.

    ``account``: the last attempt's; ``"none"``: it never had an attempt. ``ids``: only these.
    """

    since: datetime
    until: datetime
    codes: tuple[str, ...] = ()
    provider_id: str = ""
    account: UUID | Literal["none"] | None = None
    user_id: int | None = None
    ids: tuple[UUID, ...] = ()


@dataclass(frozen=True, slots=True)
class Group:
    """Dead letters of one code, provider and account. ``account`` None: they never had an attempt.

    ``price``: the credits that they would have brought. ``message``: what the newest says. ``hours``: how many failed
    in each hour that has any, by its beginning (UTC), oldest first.
    """

    code: str
    provider_id: str
    account: UUID | None
    account_label: str
    number: int
    users: int
    first_at: datetime
    last_at: datetime
    price: int
    newest: UUID
    message: str
    hours: dict[datetime, int]


@dataclass(frozen=True, slots=True)
class Groups:
    """The newest groups, at most ``MOST_GROUPS``. ``number``: of letters in all groups, also those left out.

    ``capped``: there are older letters than the newest ``MOST``, which were not looked at.
    """

    groups: list[Group]
    number: int
    capped: bool


def letters(filters: Filters) -> QuerySet[DeadLetter]:
    """The dead letters that the filters mean, with ``last_account``: the id of the last attempt's, or None."""
    return _narrowed(DeadLetter.objects.all(), filters)


def dismissed(filters: Filters) -> QuerySet[Generation]:
    """What failed and was dismissed, by the same filters."""
    return _narrowed(Generation.objects.filter(status=Status.FAILED, dismissed_at__isnull=False), filters)


def recent(most: int = 100) -> int:
    """How many died in the last 24 h; stops counting at ``most``."""
    day = Now() - Value(timedelta(days=1))
    return len(DeadLetter.objects.filter(completed_at__gt=day).values_list("pk")[:most])


def groups(filters: Filters) -> Groups:
    """The letters grouped by code, provider and account, hour by hour; whose last letter is the newest comes first.

    One query: the newest ``MOST`` by the index on the time of failure, each with a look at its retries, its request's
    answers and its last attempt.
    """
    columns = ("id", "user_id", "error_code", "provider_id", "last_account", "completed_at", "price")
    newest = letters(filters).order_by("-completed_at").values(*columns)[:MOST]
    sql, params = newest.query.sql_with_params()
    with connection.cursor() as cursor:
        cursor.execute(_GROUPS.format(letters=sql), [*params, MOST_GROUPS])
        rows = cursor.fetchall()
    number = int(rows[0][0]) if rows else 0
    return Groups([_group(row[1:]) for row in rows], number=number, capped=number >= MOST)


# Filled with the letters' own SELECT; its parameters come before the limit. Words are compared as bytes: sorting by a
# language's rules would cost more than finding the letters.
_GROUPS = """
WITH letter AS MATERIALIZED (
    SELECT id, user_id, error_code COLLATE "C" AS error_code, provider_id COLLATE "C" AS provider_id, last_account,
           completed_at, price
      FROM ({letters}) AS found
), cell AS (
    SELECT error_code, provider_id, last_account, date_trunc('hour', completed_at, 'UTC') AS hour,
           count(*) AS number, min(completed_at) AS first_at, max(completed_at) AS last_at,
           coalesce(sum(price), 0) AS price, (array_agg(id ORDER BY completed_at DESC))[1] AS newest
      FROM letter GROUP BY 1, 2, 3, 4
), people AS (
    SELECT error_code, provider_id, last_account, count(DISTINCT user_id) AS number FROM letter GROUP BY 1, 2, 3
), whole AS (
    SELECT error_code, provider_id, last_account, sum(number) AS number, min(first_at) AS first_at,
           max(last_at) AS last_at, sum(price) AS price, (array_agg(newest ORDER BY last_at DESC))[1] AS newest,
           array_agg(extract(epoch FROM hour)::bigint ORDER BY hour) AS hours,
           array_agg(number ORDER BY hour) AS numbers
      FROM cell GROUP BY 1, 2, 3
     ORDER BY max(last_at) DESC LIMIT %s
)
SELECT (SELECT count(*) FROM letter), whole.error_code, whole.provider_id, whole.last_account, account.label,
       whole.number, people.number, whole.first_at, whole.last_at, whole.price, newest.id, newest.error_message,
       whole.hours, whole.numbers
  FROM whole
  JOIN people ON people.error_code = whole.error_code AND people.provider_id = whole.provider_id
             AND people.last_account IS NOT DISTINCT FROM whole.last_account
  JOIN generations_generation newest ON newest.id = whole.newest
  LEFT JOIN accounts_account account ON account.id = whole.last_account
 ORDER BY whole.last_at DESC, newest.id DESC
"""


def _group(row: tuple[Any, ...]) -> Group:
    code, provider_id, account, label, number, users, first_at, last_at, price, newest, message, hours, numbers = row
    return Group(
        code=code,
        provider_id=provider_id,
        account=account,
        account_label=label or "",
        number=int(number),
        users=users,
        first_at=first_at,
        last_at=last_at,
        price=int(price),
        newest=newest,
        message=message,
        hours={datetime.fromtimestamp(hour, UTC): count for hour, count in zip(hours, numbers, strict=True)},
    )


def _narrowed(rows: QuerySet[G], filters: Filters) -> QuerySet[G]:
    last = Submission.objects.filter(generation=OuterRef("pk")).order_by("-number").values("account")[:1]
    found: QuerySet[Any] = rows.filter(completed_at__gte=filters.since, completed_at__lt=filters.until)
    found = found.annotate(last_account=Subquery(last))
    if filters.codes:
        found = found.filter(error_code__in=filters.codes)
    if filters.provider_id:
        found = found.filter(provider_id=filters.provider_id)
    if filters.user_id is not None:
        found = found.filter(user=filters.user_id)
    if filters.ids:
        found = found.filter(pk__in=filters.ids)
    if filters.account == "none":
        found = found.filter(last_account=None)
    elif filters.account is not None:
        found = found.filter(last_account=filters.account)
    return found
