"""Accepting a batch: all of it in one commit, with the whole hold, or nothing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from django.db import transaction

from generations.execution import exports
from generations.intake import caps, library
from generations.intake.batch_plan import BatchRequest, Planned, plan
from generations.intake.errors import KeyReused, NotFound
from generations.intake.exports import canonical_formats
from generations.intake.idempotency import Idempotency, KeyTaken, known, remember, seen
from generations.intake.request import check_fetching
from generations.intake.store import Reuse, holders, may_answer, store_all
from generations.lifecycle import Status
from generations.models import Batch, BatchItem
from generations.models.clock import database_now
from generations.reports.eta import eta_seconds, model_of


@dataclass(frozen=True, slots=True)
class AcceptedBatch:
    """The answer: a Batch, and whether this is a replay of an answer."""

    batch: Batch
    replayed: bool = False


@dataclass(frozen=True, slots=True)
class BatchQuote:
    """What a batch would cost and do. ``price``: credits for what would be made, None where that is free; ``reused``:
    items that are answered by what is there; ``conflicts``: those that would have it refused, by key; ``cap_reached``:
    the user's cap that would refuse it, in words; ``eta_seconds``: until the last one is done.
    """

    items: tuple[str, ...]
    price: int | None
    reused: int
    conflicts: tuple[str, ...]
    cap_reached: str | None
    eta_seconds: float | None


def accept(user_id: int, wanted: BatchRequest, *, idempotency: Idempotency | None = None, actor: str) -> AcceptedBatch:
    """Accept a batch.

    Raises:
        Invalid, NotFound, Conflict, KeyReused, PaymentRequired, CapReached, Unavailable: nothing was changed.
    """
    if idempotency is not None and (answered := replay(user_id, idempotency)):
        return answered
    check_fetching(wanted.inputs)
    batch = Batch(
        user_id=user_id,
        name=wanted.name,
        mode=wanted.mode,
        provider_id=wanted.provider_id,
        operation_type=wanted.operation_type,
        params=wanted.params,
        metadata=wanted.metadata,
        export_formats=canonical_formats(wanted.export_formats),
    )
    return accept_items(batch, plan(user_id, wanted), wanted.reuse, idempotency=idempotency, actor=actor)


def accept_items(
    batch: Batch, planned: Sequence[Planned], reuse: Reuse, *, idempotency: Idempotency | None = None, actor: str
) -> AcceptedBatch:
    """Store a Batch of its owner's with these items. As ``accept``, which has looked for the key already."""
    items = [
        BatchItem(
            batch=batch,
            position=position,
            variation_key=one.variation_key,
            variation=one.variation,
            library_item_id=one.library_item,
        )
        for position, one in enumerate(planned)
    ]
    for item, one in zip(items, planned, strict=True):
        one.prepared.generation.batch_item_id, one.prepared.generation.standalone = item.pk, False
    try:
        with transaction.atomic():
            _lock_library_items(batch.user_id, planned)
            answers = store_all([one.prepared for one in planned], reuse, actor=actor)
            batch.created_at = database_now()
            batch.save(force_insert=True)
            for item, answer in zip(items, answers, strict=True):
                item.generation, item.reused = answer.generation, answer.reused
            BatchItem.objects.bulk_create(items)
            if batch.export_formats and any(answer.reused for answer in answers):
                exports.order_for_batches([batch.pk])
            if idempotency is not None:
                remember(idempotency, batch, reused=False, now=batch.created_at)
    except KeyTaken:
        assert idempotency is not None
        return seen(replay(batch.user_id, idempotency))
    return AcceptedBatch(batch)


def quote(user_id: int, wanted: BatchRequest) -> BatchQuote:
    """Look at a batch without accepting it.

    Raises:
        Invalid, NotFound: as accepting it would.
    """
    canonical_formats(wanted.export_formats)
    planned = plan(user_id, wanted)
    rows = [one.prepared.generation for one in planned]
    there = holders(rows) if wanted.reuse != "none" else {}
    now = database_now()
    new, seen, conflicts = [], set(), []
    for one, row in zip(planned, rows, strict=True):
        holder = there.get(row.fingerprint)
        if row.fingerprint in seen or (holder is not None and may_answer(holder, wanted.reuse, now)):
            continue
        if holder is not None and holder.status != Status.COMPLETED:
            conflicts.append(one.variation_key)
        new.append(row)
        if wanted.reuse != "none":
            seen.add(row.fingerprint)
    priced = [row.price for row in new if row.price is not None]
    refused = caps.would_refuse(user_id, now, new=len(new)) if new else None
    eta = None
    if new:
        model = model_of(new[0].params)
        eta = eta_seconds(
            wanted.provider_id, wanted.operation_type, model, priority=wanted.priority, user_id=user_id, many=len(new)
        )
    return BatchQuote(
        items=tuple(one.variation_key for one in planned),
        price=sum(priced) if priced else None if new else 0,
        reused=len(planned) - len(new),
        conflicts=tuple(conflicts),
        cap_reached=refused.detail if refused else None,
        eta_seconds=eta,
    )


def replay(user_id: int, idempotency: Idempotency) -> AcceptedBatch | None:
    """What the caller's key was answered with before.

    Raises:
        KeyReused: it came with another request.
    """
    row = known(user_id, idempotency)
    if row is None:
        return None
    if row.batch is None:
        raise KeyReused
    return AcceptedBatch(row.batch, replayed=True)


def _lock_library_items(user_id: int, planned: Sequence[Planned]) -> None:
    """Until the caller's transaction ends nobody deletes what the items are made from.

    Raises:
        NotFound: somebody has.
    """
    ids = {one.library_item for one in planned if one.library_item is not None}
    if ids and (gone := ids - library.usable(user_id, ids, lock=True).keys()):
        raise NotFound(
            "unknown_library_item", f"The library item {min(gone)} was deleted at this moment.", field="items"
        )
