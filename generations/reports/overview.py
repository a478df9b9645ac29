"""The state of the house in numbers: for the console's dashboard and ``/readyz``.

Every number costs the same with a hundred rows and with millions: counts read partial indexes and stop at ``CAP``,
failures are read from the newest ``FAILURES`` by the index on status. Nothing here is a total of all rows.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

from django.db.models import Q, QuerySet

from generations.lifecycle import State, Status
from generations.models import Generation, Heartbeat, HeldBack, Incident, Submission
from generations.models.clock import database_now
from generations.reports.capacity import Standing, standings
from generations.reports.waiting import wait_reasons

CAP = 10_000
FAILURES = 1000
RECENT = timedelta(hours=24)
MOST_INCIDENTS = 100
OLDEST = 5
LATE_AFTER_SECONDS = {"tick": 15, "poll": 6}
"""Three intervals of the essential periodic tasks."""


def overview() -> dict[str, Any]:
    """All of it, JSON-able (times in ISO 8601), in fourteen queries or fewer.

    Keys: ``now, counts, collecting, accounts, failures, heartbeats, incidents_unseen, held_back, oldest_waiting``;
    each is described by the function of the same name below.
    """
    now = database_now()
    return {
        "now": now.isoformat(),
        "counts": counts(),
        "collecting": collecting(),
        "accounts": [_account(standing) for standing in standings()],
        "failures": failures(now),
        "heartbeats": heartbeats(now),
        "incidents_unseen": incidents_unseen(),
        "held_back": held_back(),
        "oldest_waiting": oldest_waiting(now),
    }


def counts() -> dict[str, dict[str, Any]]:
    """How many there are of each live status, ``{"number", "capped"}``; ``scheduled`` are those not due yet."""
    pending = Q(status=Status.PENDING)
    return {
        "pending": _count(pending & Q(not_before=None)),
        "scheduled": _count(pending & Q(not_before__isnull=False)),
        "processing": _count(Q(status=Status.PROCESSING)),
    }


def collecting() -> dict[str, Any]:
    """Of how many attempts the result waits to be fetched and stored, ``{"number", "capped"}``."""
    return _capped(Submission.objects.filter(state=State.COLLECTING))


def failures(now: datetime) -> list[dict[str, Any]]:
    """What failed in the last 24 h by code, most frequent first: ``{"code", "number", "capped"}``.

    Of the newest ``FAILURES`` failed ones (by acceptance); ``capped`` where there were more.
    """
    newest = (
        Generation.objects.filter(status=Status.FAILED)
        .order_by("-pk")
        .values_list("error_code", "completed_at")[:FAILURES]
    )
    codes: dict[str, int] = {}
    seen = 0
    for code, completed_at in newest:
        seen += 1
        if completed_at is not None and completed_at > now - RECENT:
            codes[code] = codes.get(code, 0) + 1
    return [
        {"code": code, "number": number, "capped": seen == FAILURES}
        for code, number in sorted(codes.items(), key=lambda item: (-item[1], item[0]))
    ]


def heartbeats(now: datetime) -> list[dict[str, Any]]:
    """What was last seen alive: ``{"name", "at", "seconds_ago", "late", "process"}``; an essential one that was
    never seen is there too, late and without a time."""
    rows = {row.name: row for row in Heartbeat.objects.order_by("name")}
    found = []
    for name in sorted({*rows, *LATE_AFTER_SECONDS}):
        row = rows.get(name)
        ago = (now - row.at).total_seconds() if row else None
        limit = LATE_AFTER_SECONDS.get(name)
        found.append(
            {
                "name": name,
                "at": row.at.isoformat() if row else None,
                "seconds_ago": None if ago is None else round(ago, 1),
                "late": limit is not None and (ago is None or ago > limit),
                "process": row.process if row else "",
            }
        )
    return found


def incidents_unseen() -> dict[str, Any]:
    """How many incidents nobody has looked at, ``{"number", "capped"}``; counted up to ``MOST_INCIDENTS``."""
    number = Incident.objects.filter(seen_at=None).values("pk")[: MOST_INCIDENTS + 1].count()
    return {"number": min(number, MOST_INCIDENTS), "capped": number > MOST_INCIDENTS}


def oldest_waiting(now: datetime) -> list[dict[str, Any]]:
    """The few that have waited longest in the queue, with why: ``{"id", "provider_id", "wait_reason", ...}``.

    By ``queue_until``, which is acceptance (or the scheduled time) plus a constant, and has an index.
    """
    rows = list(Generation.objects.filter(status=Status.PENDING).order_by("queue_until")[:OLDEST])
    reasons = wait_reasons(rows)
    return [
        {
            "id": str(row.pk),
            "provider_id": row.provider_id,
            "operation_type": row.operation_type,
            "waits_seconds": round((now - row.created_at).total_seconds(), 1),
            "wait_reason": reasons[row.pk],
        }
        for row in rows
    ]


def held_back() -> list[dict[str, Any]]:
    """Why nothing new is sent at present, oldest first: ``{"reason", "text", "detail", "since"}``; empty: it is."""
    return [row.as_dict() for row in HeldBack.objects.active().order_by("since")]


def _count(which: Q) -> dict[str, Any]:
    return _capped(Generation.objects.filter(which))


def _capped(rows: QuerySet[Any]) -> dict[str, Any]:
    number = rows.values("pk")[: CAP + 1].count()
    return {"number": min(number, CAP), "capped": number > CAP}


def _account(standing: Standing) -> dict[str, Any]:
    return {
        "id": str(standing.id),
        "provider_id": standing.provider_id,
        "label": standing.label,
        "limit": standing.limit,
        "held": standing.held,
        "free": standing.free,
        "condition": standing.condition,
        "until": standing.until.isoformat() if standing.until else None,
        "balance": None if standing.balance is None else str(standing.balance),
        "why_not": standing.why_not(),
    }
