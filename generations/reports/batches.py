"""How batches stand: counted from their items' Generations, a page of them in a few queries."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from uuid import UUID

from django.db.models import Case, CharField, Count, F, OuterRef, Q, Subquery, Sum, Value, When

from accounts.models import LedgerEntry
from generations.lifecycle import LIVE, Status
from generations.models import Batch, BatchItem, Generation

Counts = Mapping[str, int]
"""Items by the status of their Generation; one that its batch wants no more counts as cancelled."""


class BatchStatus(StrEnum):
    """Where a batch stands."""

    PENDING = "pending"
    PROCESSING = "processing"
    COMPLETED = "completed"
    PARTIAL = "partial"
    FAILED = "failed"
    CANCELLED = "cancelled"


@dataclass(frozen=True, slots=True)
class Credits:
    """What a batch has cost by what was made for it, retries included: ``charged`` for what completed, ``held`` for
    what has not ended, ``released`` of what did not complete, ``refunded`` by an operator afterwards."""

    charged: int = 0
    held: int = 0
    released: int = 0
    refunded: int = 0


@dataclass(frozen=True, slots=True)
class Standing:
    """How one batch stands. ``progress``: percent of its items that have completed."""

    counts: Counts = field(default_factory=dict)
    reused: int = 0
    status: BatchStatus = BatchStatus.PENDING
    credits: Credits = field(default_factory=Credits)

    @property
    def total(self) -> int:
        """How many items it has."""
        return sum(self.counts.values())

    @property
    def progress(self) -> int:
        """Percent."""
        return 100 * self.counts.get(Status.COMPLETED, 0) // self.total if self.total else 0


def status_of(counts: Counts, *, cancelled: bool) -> BatchStatus:
    """The status that follows from the counts; ``cancelled``: its owner has cancelled it."""
    total = sum(counts.values())
    completed, stopped = counts.get(Status.COMPLETED, 0), counts.get(Status.CANCELLED, 0)
    if any(counts.get(status, 0) for status in LIVE):
        return BatchStatus.PENDING if counts.get(Status.PENDING, 0) == total else BatchStatus.PROCESSING
    if completed == total:
        return BatchStatus.COMPLETED
    if stopped == total or (cancelled and stopped):
        return BatchStatus.CANCELLED
    return BatchStatus.PARTIAL if completed else BatchStatus.FAILED


def standings(batches: Sequence[Batch]) -> dict[UUID, Standing]:
    """How each of these batches stands. Three queries, a fourth where something was refunded."""
    ids = [batch.pk for batch in batches]
    counts: dict[UUID, dict[str, int]] = defaultdict(dict)
    reused: dict[UUID, int] = defaultdict(int)
    stands = Case(
        When(detached_at__isnull=False, then=Value(str(Status.CANCELLED))),
        default=F("generation__status"),
        output_field=CharField(),
    )
    rows = BatchItem.objects.filter(batch__in=ids).order_by().values("batch").annotate(stands=stands)
    for row in rows.annotate(number=Count("pk"), reused_here=Count("pk", filter=Q(reused=True))):
        counts[row["batch"]][row["stands"]] = row["number"]
        reused[row["batch"]] += row["reused_here"]
    spent = _credits(ids)
    return {
        batch.pk: Standing(
            counts=counts[batch.pk],
            reused=reused[batch.pk],
            status=status_of(counts[batch.pk], cancelled=batch.cancelled_at is not None),
            credits=spent.get(batch.pk, Credits()),
        )
        for batch in batches
    }


def earlier(items: Sequence[BatchItem]) -> dict[UUID, list[UUID]]:
    """What each item was answered by before, newest first."""
    found: dict[UUID, list[UUID]] = defaultdict(list)
    now = {item.generation_id for item in items}
    rows = Generation.objects.filter(batch_item__in=[item.pk for item in items]).exclude(pk__in=now)
    for pk, item in rows.order_by("-pk").values_list("pk", "batch_item"):
        if item is not None:
            found[item].append(pk)
    return found


def _credits(ids: Sequence[UUID]) -> dict[UUID, Credits]:
    made = Generation.objects.filter(batch_item__batch__in=ids, price__isnull=False).order_by()
    rows = made.values("batch_item__batch").annotate(
        charged=Sum("price", filter=Q(status=Status.COMPLETED), default=0),
        held=Sum("price", filter=Q(status__in=LIVE), default=0),
        released=Sum("price", filter=Q(status__in=[Status.FAILED, Status.CANCELLED]), default=0),
    )
    spent: dict[UUID, dict[str, int]] = {
        row["batch_item__batch"]: {"charged": row["charged"], "held": row["held"], "released": row["released"]}
        for row in rows
    }
    if not any(row["charged"] for row in spent.values()):
        return {pk: Credits(**row) for pk, row in spent.items()}
    batch = Generation.objects.filter(pk=OuterRef("reference")).values("batch_item__batch")[:1]
    refunds = LedgerEntry.objects.filter(
        kind=LedgerEntry.Kind.REFUND, reference__in=made.filter(status=Status.COMPLETED).values("pk")
    ).annotate(batch=Subquery(batch))
    back = dict(refunds.order_by().values_list("batch").annotate(Sum("available_change")))
    return {pk: Credits(**row, refunded=back.get(pk, 0)) for pk, row in spent.items()}
