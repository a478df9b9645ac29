"""Exports are ordered: rows that wait for their maker, in the very commit that makes them wanted."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from uuid import UUID

import structlog
from django.db import transaction
from django.db.models import QuerySet
from django.db.models.functions import Now

from generations import wakeups
from generations.execution.leases import FREE
from generations.formats import Wanted
from generations.lifecycle import Status
from generations.models import Asset, BatchItem, Export

CHUNK = 500

log = structlog.get_logger(__name__)


def order(asked: Iterable[tuple[Asset, Sequence[Wanted]]]) -> int:
    """Inside the caller's transaction: an export of each output in each of its formats, unless it is there already.

    One bulk insert; the maker is woken when the transaction is committed. Gives how many were asked for.
    """
    rows = [
        Export(
            user_id=asset.user_id,
            asset=asset,
            format=wanted.format,
            fit=wanted.fit,
            colour=wanted.colour,
            next_try_at=Now(),
        )
        for asset, formats in asked
        for wanted in formats
    ]
    if rows:
        Export.objects.bulk_create(rows, ignore_conflicts=True, batch_size=CHUNK)
        transaction.on_commit(wakeups.wake_export)
    return len(rows)


def order_for_answers(outputs: Mapping[UUID, Sequence[Asset]]) -> int:
    """Inside the caller's transaction: what the batches want of these outputs, given by their Generations.

    One query, and one more where any of them answers an item of a batch with formats.
    """
    if not outputs:
        return 0
    wanted = _wanted(BatchItem.objects.filter(generation__in=outputs))
    return order((asset, wanted[pk]) for pk in wanted for asset in outputs[pk])


def order_for_batches(batch_ids: Iterable[UUID]) -> int:
    """What these batches want of everything of theirs that has completed; what is there already stays as it is.

    For a batch that is accepted and whose items were answered by what was there; and when one is closed, because an
    answer that completes while the batch is accepted sees nothing of it.
    """
    wanted = _wanted(BatchItem.objects.filter(batch__in=list(batch_ids), generation__status=Status.COMPLETED))
    if not wanted:
        return 0
    outputs: dict[UUID, list[Asset]] = defaultdict(list)
    for asset in Asset.objects.kept().results_of(wanted.keys()).select_related("submission"):
        assert asset.submission is not None  # it is an output
        outputs[asset.submission.generation_id].append(asset)
    return order((asset, wanted[pk]) for pk in wanted for asset in outputs[pk])


def due() -> bool:
    """Whether anything waits for a maker."""
    return Export.objects.filter(FREE, state=Export.State.PENDING, next_try_at__lte=Now()).exists()


def again(exports: QuerySet[Export]) -> int:
    """Make these anew, now; gives how many. Those that are pending are left alone."""
    with transaction.atomic():
        number = exports.exclude(state=Export.State.PENDING).update(
            state=Export.State.PENDING,
            next_try_at=Now(),
            asked_at=Now(),
            ended_at=None,
            tries=0,
            unwritten_claims=0,
            error_code="",
            error_message="",
        )
        if number:
            transaction.on_commit(wakeups.wake_export)
    return number


def _wanted(items: QuerySet[BatchItem]) -> dict[UUID, list[Wanted]]:
    """The formats that these items' batches want, by the Generation that answers them."""
    rows = items.filter(detached_at=None).exclude(batch__export_formats=[])
    found: dict[UUID, dict[Wanted, None]] = defaultdict(dict)
    for pk, formats in rows.values_list("generation", "batch__export_formats"):
        for facts in formats:
            try:
                found[pk][Wanted.of(facts)] = None
            except (ValueError, AttributeError):  # a format that was taken away meanwhile ends nothing else
                log.exception("format_not_known", generation=str(pk))
    return {pk: list(formats) for pk, formats in found.items()}
