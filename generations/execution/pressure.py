"""Backpressure: nothing new is asked for while what was made cannot be fetched and stored.

Links to results die within an hour at some providers, so collecting outranks dispatching. The tick looks; what it
finds is a row (``HeldBack``) that every claim reads, so that all processes agree. Each reason begins at one mark and
ends at another, so that it does not flicker. Waiting for it uses up no attempt.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import dataclass

import structlog
from django.db import connection, transaction
from django.db.models.functions import Now

from generations import storage
from generations.conf import limits
from generations.execution.waves import Wave
from generations.lifecycle import State
from generations.models import HeldBack, Incident, Submission

Reason = HeldBack.Reason

ANSWER_SECONDS = 2
"""A storage that says nothing for so long (a hung network disk) counts as down; the look goes on by itself."""
MORE_FREE = 1.25
"""A full disk is well again when so many times the floor is free."""

BEGIN = """
INSERT INTO generations_heldback AS h (reason, since, ended_at, detail) VALUES (%s, now(), NULL, %s)
ON CONFLICT (reason) DO UPDATE SET since = now(), ended_at = NULL, detail = excluded.detail
      WHERE h.ended_at IS NOT NULL
"""

log = structlog.get_logger(__name__)

_looking: Wave[str, int | None] = Wave()
"""The look at the storage that is under way, if any: one that hangs is not joined by others."""
_one_looker = threading.Lock()
"""Several threads of one process take turns."""


@dataclass(frozen=True, slots=True)
class Finding:
    """Whether a reason holds, and what was measured."""

    reason: HeldBack.Reason
    holds: bool
    detail: str = ""


def look() -> None:
    """Measure, and begin or end what follows from it; a person is told once, when it begins."""
    before = set(HeldBack.objects.active().values_list("reason", flat=True))
    for finding in (_backlog(before), *_storage(before)):
        if finding.holds and finding.reason not in before:
            _begin(finding)
        elif not finding.holds and finding.reason in before:
            HeldBack.objects.active().filter(reason=finding.reason).update(ended_at=Now())
            log.info("dispatch_goes_on", reason=finding.reason.value)


def _begin(finding: Finding) -> None:
    with transaction.atomic():
        with connection.cursor() as cursor:
            cursor.execute(BEGIN, [finding.reason, finding.detail])
            if not cursor.rowcount:
                return  # another tick has
        Incident.objects.create(
            kind=Incident.Kind.HELD_BACK,
            detail=f"{finding.reason.label}: {finding.detail} Nothing new is sent until that is better; what runs "
            "goes on, and requests are accepted and wait.",
        )
    log.warning("dispatch_held_back", reason=finding.reason.value, detail=finding.detail)


def _backlog(before: set[str]) -> Finding:
    most = limits().collect_backlog
    mark = most // 2 if Reason.BACKLOG in before else most
    rows = Submission.objects.filter(state=State.COLLECTING)
    number = rows.values("pk")[: mark + 1].count()
    return Finding(Reason.BACKLOG, number > mark, f"more than {most} results wait to be fetched.")


def _storage(before: set[str]) -> Iterator[Finding]:
    """Whether something can be stored at all, and how much."""
    with _one_looker:
        if not _looking:
            _looking.start("storage", storage.room)
        arrived = _looking.arrived(timeout=ANSWER_SECONDS)
    if not arrived:
        yield Finding(Reason.STORAGE_DOWN, holds=True, detail=f"it did not answer within {ANSWER_SECONDS} s.")
        return
    [(_, free)] = arrived
    if isinstance(free, Exception):
        why = getattr(free, "strerror", None) or type(free).__name__
        yield Finding(Reason.STORAGE_DOWN, holds=True, detail=f"a small file could not be stored ({why}).")
        return
    yield Finding(Reason.STORAGE_DOWN, holds=False)
    if free is None:
        yield Finding(Reason.DISK_LOW, holds=False)
        return
    floor = limits().disk_floor
    mark = floor * MORE_FREE if Reason.DISK_LOW in before else floor
    detail = f"{free // 1024**2:,} MiB are free, and {floor // 1024**2:,} MiB must be."
    yield Finding(Reason.DISK_LOW, holds=free < mark, detail=detail)
