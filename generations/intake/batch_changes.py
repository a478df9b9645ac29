"""Changing a batch that was accepted: cancel, pause, resume, retry what failed, regenerate one.

A batch says what it wants no more, or not now; a Generation that somebody else wants too goes on.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from uuid import UUID

from django.db import transaction
from django.db.models import F, Q, QuerySet
from django.db.models.functions import Now

from generations import wakeups
from generations.execution import batches, settle
from generations.intake import caps
from generations.intake.batch_items import follow
from generations.intake.cancel import cancel_locked
from generations.intake.errors import Conflict
from generations.intake.retry import again_all, note, refuse_if_billable
from generations.intake.store import store_all
from generations.lifecycle import LIVE, Status
from generations.models import Batch, BatchItem, Event, Generation, Submission

AT_ONCE = 200
"""So many Generations are cancelled in one commit."""


@dataclass(frozen=True, slots=True)
class Retried:
    """How many items are made anew, and which are left as they are since they may still be billed (by key)."""

    retried: int
    possibly_billed: tuple[str, ...]


def cancel(batch_id: UUID, *, actor: str) -> None:
    """Cancel what of it has not ended, in several commits; what was cut off goes on when it is asked again.

    Raises:
        Conflict: ``already_ended``.
    """
    if not Batch.objects.filter(pk=batch_id, closed_at=None).update(cancelled_at=Now(), paused_at=None):
        raise Conflict("already_ended", "Everything in this batch has ended; nothing is left to cancel.")
    BatchItem.objects.filter(
        ~Q(generation__in=batches.only_wanted_by(batch_id)),
        batch=batch_id,
        detached_at=None,
        generation__status__in=LIVE,
    ).update(detached_at=Now())
    tried: set[UUID] = set()
    providers: set[str] = set()
    mine = batches.only_wanted_by(batch_id)
    while ids := list(mine.exclude(pk__in=tried).order_by("pk").values_list("pk", flat=True)[:AT_ONCE]):
        tried.update(ids)
        with transaction.atomic():
            locked = settle.lock(ids)
            # Whoever has asked for one of them meanwhile is seen now that they are locked.
            still = set(mine.filter(pk__in=ids).values_list("pk", flat=True))
            rows = [row for pk, row in locked.items() if pk in still]
            cancel_locked(rows, actor=actor)
            BatchItem.objects.filter(batch=batch_id, generation__in=set(ids) - still).filter(
                generation__status__in=LIVE
            ).update(detached_at=Now())
        providers.update(row.provider_id for row in rows)
    for provider_id in sorted(providers):
        wakeups.wake_dispatch(provider_id)
    batches.close_finished()


def pause(batch_id: UUID) -> None:
    """Send nothing more of it until it is resumed; what is at the provider goes on.

    Raises:
        Conflict: ``already_ended``.
    """
    if not Batch.objects.filter(pk=batch_id, closed_at=None, cancelled_at=None).update(paused_at=Now()):
        raise Conflict("already_ended", "Everything in this batch has ended or is cancelled; nothing is left to pause.")
    batches.keep_waiting(_waiting(batch_id).values_list("pk", flat=True))


def resume(batch_id: UUID, *, actor: str) -> None:
    """Let what waits go on; a batch that is not paused stays as it is."""
    Batch.objects.filter(pk=batch_id).update(paused_at=None)
    with transaction.atomic():
        ids = list(_waiting(batch_id).filter(not_before=F("queue_until")).values_list("pk", flat=True))
        locked = settle.lock(ids)
        batches.let_go(Generation.objects.filter(pk__in=ids))
        Event.objects.bulk_create(Event(generation=row, kind=Event.Kind.WOKEN, actor=actor) for row in locked.values())
    batches.keep_waiting(ids)  # those that only other paused batches want
    for provider_id in sorted({row.provider_id for row in locked.values()}):
        wakeups.wake_dispatch(provider_id)


def retry_failed(batch_id: UUID, *, insist: bool = False, actor: str) -> Retried:
    """Make what failed anew, in one commit with the whole hold; what completed is not touched.

    ``insist``: also those of which an earlier attempt may still be billed.

    Raises:
        Conflict: ``nothing_failed``, ``batch_cancelled``, ``possibly_billed`` (all of them may be).
        PaymentRequired, CapReached, Unavailable, Invalid: nothing was changed.
    """
    with transaction.atomic():
        caps.lock(Batch.objects.get(pk=batch_id).user_id)
        failed = _items(batch_id).filter(generation__status=Status.FAILED)
        settle.lock(failed.values_list("generation", flat=True))
        _still_wanted(batch_id, "Ask for a new batch, or retry single generations of it.")
        items = {item.generation_id: item for item in failed}  # read anew: two clicks retry once
        if not items:
            raise Conflict("nothing_failed", "Nothing in this batch has failed.")
        billable = Submission.objects.billable().filter(generation__in=items)
        unsure = set() if insist else set(billable.values_list("generation", flat=True))
        left = tuple(sorted(items[pk].variation_key for pk in unsure))
        if len(unsure) == len(items):
            raise Conflict(
                "possibly_billed",
                f"Attempts of all {len(items)} may still be running (and be billed) at the provider. Wait until that "
                "is known, or insist.",
            )
        retried = [item for pk, item in items.items() if pk not in unsure]
        _anew(retried, insist=insist, actor=actor)
    return Retried(len(retried), left)


def regenerate(batch_id: UUID, variation_key: str, *, insist: bool = False, actor: str) -> Generation:
    """Make one item anew, at today's price, whatever came of it before; what it was answered by before is kept.

    Raises:
        BatchItem.DoesNotExist: there is no such item.
        Conflict: ``live_twin`` (it is under way), ``possibly_billed``, ``batch_cancelled``.
        PaymentRequired, CapReached, Unavailable, Invalid: nothing was changed.
    """
    with transaction.atomic():
        caps.lock(Batch.objects.get(pk=batch_id).user_id)
        before = BatchItem.objects.get(batch=batch_id, variation_key=variation_key).generation_id
        # Who retries it at this moment is waited for, or waits; its answer is seen then.
        settle.lock([before])
        _still_wanted(batch_id, "Ask for a new batch.")
        item = _items(batch_id).get(variation_key=variation_key)
        if item.generation.status in LIVE or item.generation_id != before:
            raise Conflict.naming("live_twin", "It is being made at this moment.", item.generation_id)
        if not insist and item.generation.status != Status.COMPLETED:
            refuse_if_billable(item.generation)
        (new,) = _anew([item], insist=True, actor=actor, only_these=True)
    return new


def _anew(items: Sequence[BatchItem], *, insist: bool, actor: str, only_these: bool = False) -> list[Generation]:
    """New Generations for these items; whatever else points at the ended ones follows, unless ``only_these`` do."""
    prepared = again_all([item.generation for item in items])
    for item, one in zip(items, prepared, strict=True):
        one.generation.batch_item, one.generation.standalone = item, False
        if item.generation.status == Status.COMPLETED:
            one.generation.retry_of = None  # it was no failure
    answers = store_all(prepared, "none" if insist else "in_flight", actor=actor)
    new = {item.generation_id: answer for item, answer in zip(items, answers, strict=True)}
    follow(new, items=[item.pk for item in items] if only_these else None)
    note(new, actor=actor)
    return [answer.generation for answer in answers]


def _still_wanted(batch_id: UUID, instead: str) -> None:
    """Inside a transaction, which has locked the Generations: it is not cancelled until the end.

    Raises:
        Conflict: ``batch_cancelled``.
    """
    if Batch.objects.select_for_update(no_key=True).get(pk=batch_id).cancelled_at is not None:
        raise Conflict("batch_cancelled", f"It was cancelled. {instead}")


def _items(batch_id: UUID) -> QuerySet[BatchItem]:
    rows = BatchItem.objects.filter(batch=batch_id, detached_at=None)
    return rows.select_related("generation__batch_item").order_by("position")


def _waiting(batch_id: UUID) -> QuerySet[Generation]:
    mine = BatchItem.objects.filter(batch=batch_id, detached_at=None).values("generation")
    return Generation.objects.filter(status=Status.PENDING, pk__in=mine)
